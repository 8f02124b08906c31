"""A clock that stands still until a test moves it."""

from __future__ import annotations

NOON = 1_790_078_400.0


class SandboxClock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += seconds
