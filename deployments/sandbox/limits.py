"""The rate limits of one token: two sliding windows, in which each request counts until its own timer runs out.

A refused request counts in neither window. SSH keys have a window of their own.
https://docs.digitalocean.com/reference/api/digitalocean/#section/Introduction/Rate-Limit
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

RESET_IN_PAST_SECONDS = 60
KEYS_PER_MINUTE = 10


class Window:
    """A sliding window: at most `limit` requests in any `seconds`."""

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
        """When the oldest counted request expires; None without one."""
        return self._times[0] + self.seconds if self._times else None

    def expire(self, now: float) -> None:
        """Remove the expired requests."""
        while self._times and self._times[0] + self.seconds <= now:
            self._times.popleft()

    def count(self, times: Sequence[float]) -> None:
        """Count requests, given in order of time; they may be older than those already counted."""
        late = bool(times and self._times) and times[0] < self._times[-1]
        self._times.extend(times)
        if late:
            self._times = deque(sorted(self._times))


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a token's limits: the values of the headers, and whether the next request is refused."""

    limit: int
    remaining: int
    reset: int
    refused_by: Literal["burst", "hour"] | None = None
    retry_after: int | None = None

    def headers(self) -> dict[str, str]:
        """The headers of every response."""
        return {
            "ratelimit-limit": str(self.limit),
            "ratelimit-remaining": str(self.remaining),
            "ratelimit-reset": str(self.reset),
        }

    def refusal_headers(self) -> dict[str, str]:
        """The headers of a 429; only the burst limit sends `retry-after`."""
        headers = self.headers() | {"ratelimit-remaining": "0"}
        return headers if self.retry_after is None else headers | {"retry-after": str(self.retry_after)}


class Limits:
    """The windows of a token, and a neighbour who uses the same token.

    Args:
        per_minute: The burst limit.
        per_hour: The hourly limit.
        speed: Divides the lengths of the windows.
        refusals_say_when: Whether the 429 of the burst limit has `retry-after`; if not, its `ratelimit-reset` lies in
            the past, as observed in production.
    """

    def __init__(
        self, per_minute: int = 250, per_hour: int = 5000, speed: float = 1.0, *, refusals_say_when: bool = True
    ) -> None:
        self.burst = Window(per_minute, 60 / speed)
        self.hour = Window(per_hour, 3600 / speed)
        self.keys = Window(KEYS_PER_MINUTE, 60 / speed)
        self._refusals_say_when = refusals_say_when
        self._neighbour_interval = math.inf
        self._neighbour_next = math.inf
        self._lock = threading.RLock()

    def standing(self, now: float) -> Standing:
        """Read the state of the limits.

        Args:
            now: The time, in Unix seconds.

        Returns:
            The state; `refused_by` names the full window, the hourly one if both are full.
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
        """Count requests, as many as fit into the windows.

        Args:
            now: The time, in Unix seconds.
            requests: How many were sent.
            over_seconds: The time before now over which they were spread evenly.

        Returns:
            How many were counted.
        """
        with self._lock:
            self._let_neighbour_catch_up(now)
            return self._spend([now - over_seconds * i / requests for i in reversed(range(requests))], now)

    def keys_retry_after(self, now: float) -> int | None:
        """Check whether a request for SSH keys is refused.

        Args:
            now: The time, in Unix seconds.

        Returns:
            How many seconds to wait; None if it is not refused.
        """
        with self._lock:
            self.keys.expire(now)
            if self.keys.remaining:
                return None
            return max(1, math.ceil((self.keys.next_expiry or now) - now))

    def spend_on_keys(self, now: float) -> None:
        """Count a request for SSH keys."""
        with self._lock:
            self.keys.count([now])

    def set_neighbour(self, per_minute: float, now: float) -> None:
        """Set how many requests per minute, by the sped-up clock, the neighbour sends from now on."""
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
        # Requests from more than an hour ago no longer count.
        self._neighbour_next = max(self._neighbour_next, now - self.hour.seconds)
        while self._neighbour_next <= now:
            self._spend([self._neighbour_next], self._neighbour_next)
            self._neighbour_next += self._neighbour_interval

    def _expire(self, now: float) -> None:
        self.burst.expire(now)
        self.hour.expire(now)
