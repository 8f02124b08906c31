"""A limit that is lower than documented, learnt from being refused.

The limit of requests in a minute is in no header, and tokens were seen that have a lower one than documented. Whoever
believes the documented one sends the same burst after each pause, and is refused each time. So it is counted how many
requests the window held when one was refused. After two refusals no more than that are sent; others who use the same
token are counted in, as far as the answers tell of them. What was learnt is tried again after a while, with a few
requests more at first, as two odd answers can teach the same.
"""

from __future__ import annotations

import math
from collections import deque

from tasks.digitalocean.settings import RateLimit

# This many refusals tell a limit from an odd response: one after the other, or each at the end of a burst.
REFUSALS_THAT_TEACH = 2
# A little less may be others whom no answer has told of yet; that is refused too rarely to matter.
PART_WORTH_LEARNING = 0.6
# A learnt limit holds for this many windows; each later window raises it: by a quarter, by a half, ...
WINDOWS_BELIEVED = 10
FIRST_RAISE = 0.25


class LearnedLimit:
    """What a window really holds; pure: the caller passes the time.

    Args:
        documented: What it should hold.
    """

    def __init__(self, documented: RateLimit) -> None:
        self._documented = documented
        self._learned: int | None = None
        self._raises = 0
        self._believed_until = 0.0
        self._let_through: deque[tuple[float, float]] = deque()
        self._most_let_through = 0
        self._refusals = 0
        self._held: int | None = None

    def now(self, now: float) -> int:
        """How many requests the window holds, as far as is known."""
        while self._learned is not None and now >= self._believed_until:
            self._learned = math.ceil(self._learned * (1 + FIRST_RAISE * 2.0**self._raises))
            self._raises += 1
            self._believed_until += self._documented.seconds
            if self._learned >= self._documented.requests:
                self._forget()
        return self._documented.requests if self._learned is None else self._learned

    @property
    def proven(self) -> int:
        """How many requests have been let through in one window, at most."""
        return self._most_let_through

    def refused(self, now: float, *, again: bool, others: int) -> None:
        """Note that a request was refused, for all that is known by this window.

        Args:
            now: The time.
            again: Whether it was a retry after another refusal, at a time that the API had not named.
            others: How many requests of others are known to be in the window.
        """
        held = self._count(now)
        if not held:
            return  # whatever it was, it was not these requests
        self._refusals += 1
        self._held = held
        if again or self._learned is not None:
            # The next attempt waits until one of those that fit no longer counts.
            self._learn(held + others, now)

    def let_through(self, sent: float, now: float, *, others: int, before_refusal: bool) -> None:
        """Note that a request was not refused.

        Args:
            sent: When it was sent.
            now: When it was answered.
            others: How many requests of others are known to be in the window.
            before_refusal: Whether it was sent before a request was refused and answered after that.
        """
        if self._held is not None and before_refusal:
            self._held += 1
        elif self._held is not None:
            surely = 1 + sum(each + self._documented.seconds > now for each, _ in self._let_through)
            if surely > self._held + others:
                self._forget()  # the window holds more than that
            elif self._refusals >= REFUSALS_THAT_TEACH:
                self._learn(self._held + others, now)
            self._held = None
        self._let_through.append((sent, now))
        self._most_let_through = max(self._most_let_through, self._count(now))

    def _count(self, now: float) -> int:
        while self._let_through and self._let_through[0][1] + self._documented.seconds <= now:
            self._let_through.popleft()
        return len(self._let_through)

    def _learn(self, requests: int, now: float) -> None:
        if requests >= PART_WORTH_LEARNING * self._documented.requests:
            self._forget()
            return
        self._learned = max(1, requests)
        self._raises = 0
        self._believed_until = now + WINDOWS_BELIEVED * self._documented.seconds

    def _forget(self) -> None:
        self._learned, self._refusals, self._raises = None, 0, 0
