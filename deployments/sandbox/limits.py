"""The rate limits of one token: two sliding windows in which every request has a timer of its own.

A request that is refused does not count, neither in the window that refused it nor in the other.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

RESET_IN_PAST_SECONDS = 60


class Window:
    """At most N requests in any span of S seconds."""

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit = limit
        self.seconds = seconds
        self._times: deque[float] = deque()

    @property
    def remaining(self) -> int:
        """How many requests still fit."""
        return max(0, self.limit - len(self._times))

    @property
    def next_expiry(self) -> float | None:
        """When the oldest counted request stops counting, or None if none is counted."""
        return self._times[0] + self.seconds if self._times else None

    def expire(self, now: float) -> None:
        """Forget the requests whose timers have run out."""
        while self._times and self._times[0] + self.seconds <= now:
            self._times.popleft()

    def count(self, times: Sequence[float]) -> None:
        """Count requests, given in the order of time; they may be older than those counted already."""
        late = bool(times and self._times) and times[0] < self._times[-1]
        self._times.extend(times)
        if late:
            self._times = deque(sorted(self._times))


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a token stands: what the headers of an answer say, and whether there may be a next request."""

    limit: int
    remaining: int
    reset: int
    refused_by: Literal["burst", "hour"] | None = None
    retry_after: int | None = None

    def headers(self) -> dict[str, str]:
        """The headers that every answer carries."""
        return {
            "ratelimit-limit": str(self.limit),
            "ratelimit-remaining": str(self.remaining),
            "ratelimit-reset": str(self.reset),
        }

    def refusal_headers(self) -> dict[str, str]:
        """The headers of a 429, of which only that of the burst limit says when to come back."""
        headers = self.headers() | {"ratelimit-remaining": "0"}
        return headers if self.retry_after is None else headers | {"retry-after": str(self.retry_after)}


class Limits:
    """The windows of a token, and the neighbour who uses the same one.

    Args:
        per_minute: Requests the burst window holds.
        per_hour: Requests the hour's window holds.
        speed: What minute and hour are divided by.
        refusals_say_when: Whether a refusal by the burst limit says when to come back; if not, it has no `retry-after`,
            and its `ratelimit-reset` lies in the past, as was seen in the field.
    """

    def __init__(
        self, per_minute: int = 250, per_hour: int = 5000, speed: float = 1.0, *, refusals_say_when: bool = True
    ) -> None:
        self.burst = Window(per_minute, 60 / speed)
        self.hour = Window(per_hour, 3600 / speed)
        self._refusals_say_when = refusals_say_when
        self._neighbour_interval = math.inf
        self._neighbour_next = math.inf
        self._lock = threading.RLock()

    def standing(self, now: float) -> Standing:
        """Where the token stands at this moment.

        Args:
            now: The time, in Unix seconds.

        Returns:
            The standing; `refused_by` names the window that is full, the hour's if both are.
        """
        with self._lock:
            self._let_neighbour_catch_up(now)
            self._expire(now)
            reset = math.ceil(self.hour.next_expiry or now)
            if not self.hour.remaining:
                return Standing(self.hour.limit, 0, reset, "hour")
            if not self.burst.remaining and not self._refusals_say_when:
                past = math.floor(now) - RESET_IN_PAST_SECONDS
                return Standing(self.hour.limit, self.hour.remaining, past, "burst")
            if not self.burst.remaining:
                wait = (self.burst.next_expiry or now) - now
                return Standing(self.hour.limit, self.hour.remaining, reset, "burst", max(1, math.ceil(wait)))
            return Standing(self.hour.limit, self.hour.remaining, reset)

    def spend(self, now: float, requests: int = 1, over_seconds: float = 0.0) -> int:
        """Count requests, as many of them as the windows have room for.

        Args:
            now: The time, in Unix seconds.
            requests: How many were made.
            over_seconds: Over how long a time before now they were spread evenly.

        Returns:
            How many were counted.
        """
        with self._lock:
            self._let_neighbour_catch_up(now)
            return self._spend([now - over_seconds * i / requests for i in reversed(range(requests))], now)

    def set_neighbour(self, per_minute: float, now: float) -> None:
        """Simulate another user of the token, with N requests per minute of the sped-up clock."""
        with self._lock:
            self._let_neighbour_catch_up(now)
            self._neighbour_interval = self.burst.seconds / per_minute if per_minute > 0 else math.inf
            self._neighbour_next = now + self._neighbour_interval

    def _spend(self, times: Sequence[float], now: float) -> int:
        self._expire(now)
        counted = [time for time in times if time + self.hour.seconds > now][: self.hour.remaining]
        recent = [time for time in counted if time + self.burst.seconds > now]
        surplus = max(0, len(recent) - self.burst.remaining)
        if surplus:
            counted, recent = counted[:-surplus], recent[:-surplus]
        self.hour.count(counted)
        self.burst.count(recent)
        return len(counted)

    def _let_neighbour_catch_up(self, now: float) -> None:
        # What he did more than an hour ago counts no longer and need not be gone through.
        self._neighbour_next = max(self._neighbour_next, now - self.hour.seconds)
        while self._neighbour_next <= now:
            self._spend([self._neighbour_next], self._neighbour_next)
            self._neighbour_next += self._neighbour_interval

    def _expire(self, now: float) -> None:
        self.burst.expire(now)
        self.hour.expire(now)
