"""A limit that is lower than documented, learned from 429s.

The limit per minute is in no header, and some tokens have a lower one than documented. A client that relies on the
documented limit sends the same burst after each pause, and gets a 429 each time. So this module counts the requests in
the window at a 429. After two 429s, it allows no more than that. Requests of other clients count too, as far as
responses show them. After ten windows it raises the limit step by step, as the two 429s may have had another cause.
"""

from __future__ import annotations

import math
from collections import deque

from tasks.digitalocean.settings import RateLimit

# This many 429s show a lower limit: one directly after the other, or each at the end of a burst.
REFUSALS_TO_LEARN = 2
# A higher part of the documented limit is not learned: requests of others may explain the difference.
LARGEST_PART_LEARNED = 0.6
# A learned limit is valid for this many windows; each later window raises it, by 25%, 50%, ...
WINDOWS_VALID = 10
FIRST_RAISE = 0.25


class LearnedLimit:
    """The actual limit of a window; pure, as the time is an argument.

    Args:
        documented: The documented limit.

    Attributes:
        most_accepted: The largest number of requests accepted in one window so far.
    """

    def __init__(self, documented: RateLimit) -> None:
        self._documented = documented
        self._learned: int | None = None
        self._raises = 0
        self._valid_until = 0.0
        self._accepted: deque[tuple[float, float]] = deque()
        self.most_accepted = 0
        self._refusals = 0
        self._accepted_at_refusal: int | None = None

    def current(self, now: float) -> int:
        """The limit, raised if it is due."""
        while self._learned is not None and now >= self._valid_until:
            self._learned = math.ceil(self._learned * (1 + FIRST_RAISE * 2.0**self._raises))
            self._raises += 1
            self._valid_until += self._documented.seconds
            if self._learned >= self._documented.requests:
                self._forget()
        return self._documented.requests if self._learned is None else self._learned

    def refused(self, now: float, *, after_backoff: bool, others: int) -> None:
        """Record a 429 that this window may have caused.

        Args:
            now: The time.
            after_backoff: Whether it follows another 429 and a pause that the API had not prescribed.
            others: How many requests of others are known to be in the window.
        """
        accepted = self._count(now)
        if not accepted:
            return  # the cause was not the requests of this process
        self._refusals += 1
        self._accepted_at_refusal = accepted
        if after_backoff or self._learned is not None:
            # The next attempt waits until an accepted request expires.
            self._learn(accepted + others, now)

    def accepted(self, sent: float, now: float, *, others: int, before_refusal: bool) -> None:
        """Record a request that was not refused.

        Args:
            sent: When it was sent.
            now: When its response arrived.
            others: How many requests of others are known to be in the window.
            before_refusal: Whether it was sent before a 429, and its response arrived after that.
        """
        if self._accepted_at_refusal is not None and before_refusal:
            self._accepted_at_refusal += 1
        elif self._accepted_at_refusal is not None:
            surely = 1 + sum(each + self._documented.seconds > now for each, _ in self._accepted)
            if surely > self._accepted_at_refusal + others:
                self._forget()  # the limit is higher
            elif self._refusals >= REFUSALS_TO_LEARN:
                self._learn(self._accepted_at_refusal + others, now)
            self._accepted_at_refusal = None
        self._accepted.append((sent, now))
        self.most_accepted = max(self.most_accepted, self._count(now))

    def _count(self, now: float) -> int:
        while self._accepted and self._accepted[0][1] + self._documented.seconds <= now:
            self._accepted.popleft()
        return len(self._accepted)

    def _learn(self, requests: int, now: float) -> None:
        if requests >= LARGEST_PART_LEARNED * self._documented.requests:
            self._forget()
            return
        self._learned = max(1, requests)
        self._raises = 0
        self._valid_until = now + WINDOWS_VALID * self._documented.seconds

    def _forget(self) -> None:
        self._learned, self._refusals, self._raises = None, 0, 0
