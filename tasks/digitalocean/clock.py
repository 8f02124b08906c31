"""The one place that time comes from; sleeping is asyncio's, which a test's event loop can hurry along."""

from __future__ import annotations

import time
from typing import Protocol


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
