"""The one place that time comes from; sleeping is asyncio's, which a test's event loop can hurry along."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Protocol

from tasks.digitalocean.headers import server_time

SAME_TIME_SECONDS = 5.0


class Clock(Protocol):
    """Two ways to tell the time."""

    def monotonic(self) -> float:
        """Seconds that only grow, for measuring spans."""
        ...

    def unix(self) -> float:
        """Seconds since 1970, for talking to others about moments."""
        ...


class SystemClock:
    """This machine's time."""

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()

    def unix(self) -> float:
        """Seconds since 1970."""
        return time.time()


class ServerClock:
    """The server's time, as far as the `date` of its answers tells; ours may be minutes off.

    Args:
        clock: This machine's time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead = 0.0

    def hear(self, headers: Mapping[str, str]) -> None:
        """Set the clock by an answer's headers."""
        if (date := server_time(headers, self._clock.unix())) is not None:
            self._ahead = date - self._clock.unix()

    def now(self) -> datetime:
        """What time it is there."""
        # The header has whole seconds and is a moment old, so a difference this small means nothing.
        ahead = self._ahead if abs(self._ahead) > SAME_TIME_SECONDS else 0.0
        return datetime.fromtimestamp(self._clock.unix() + ahead, UTC)
