"""The source of time. Sleeping is asyncio's, so that a test's event loop can skip it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime

from tasks.digitalocean.headers import server_time

SAME_TIME_SECONDS = 5.0


class Clock:
    """This machine's time."""

    def monotonic(self) -> float:
        """Monotonic seconds, for measuring durations."""
        return time.monotonic()

    def unix(self) -> float:
        """Unix seconds, for points in time."""
        return time.time()


class ServerClock:
    """The server's time, from the `date` header of its responses; this machine's may be minutes off.

    Args:
        clock: This machine's time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead = 0.0

    def update(self, headers: Mapping[str, str]) -> None:
        """Set the clock from a response's headers."""
        if (date := server_time(headers, self._clock.unix())) is not None:
            self._ahead = date - self._clock.unix()

    def now(self) -> datetime:
        """The server's time."""
        # Small differences are ignored: the header has whole seconds and is slightly old.
        ahead = self._ahead if abs(self._ahead) > SAME_TIME_SECONDS else 0.0
        return datetime.fromtimestamp(self._clock.unix() + ahead, UTC)
