"""Hours in milliseconds: an event loop whose time jumps to the next timer as soon as nothing else is left to do.

For code that sleeps with asyncio and does no true input or output; a test's server is called within the process.

Example:
    ```python
    async def wait_a_day() -> float:
        await asyncio.sleep(86400)
        return VirtualClock().monotonic()

    assert run(wait_a_day()) == 86400
    ```
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from tasks.digitalocean.clock import Clock

EPOCH = 1_790_078_400.0
"""The Unix time at which every run begins: noon, 2026-09-22, UTC."""
LONGEST_RUN_SECONDS = 30 * 86400.0
MOST_TURNS_AT_ONE_MOMENT = 200_000

ResultT = TypeVar("ResultT")


class Endless(AssertionError):
    """The run would not have come to an end."""


class VirtualClock(Clock):
    """The running loop's time."""

    def monotonic(self) -> float:
        """Seconds since the run began."""
        return asyncio.get_running_loop().time()

    def unix(self) -> float:
        """Seconds since 1970."""
        return EPOCH + self.monotonic()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits.

    Args:
        longest: Seconds of virtual time after which a run counts as endless.
    """

    def __init__(self, longest: float = LONGEST_RUN_SECONDS) -> None:
        self._now = 0.0
        self.longest = longest
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Seconds since the run began."""
        return self._now

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds
        if self._now > self.longest:
            raise Endless(f"still running after {self.longest:.0f} s of virtual time")


class _JumpingSelector(selectors.SelectSelector):
    """Jumps where another would block."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            self._turns = 0
            self._loop.jump(timeout)
            return []
        ready = super().select(0)
        if timeout is None and not ready:
            raise Endless("everything waits, and nothing is left that could end it")
        self._turns += 1
        if self._turns > MOST_TURNS_AT_ONE_MOMENT:
            self._turns = 0  # what is left to do now is to end what goes round
            raise Endless("it goes round and round without any time passing")
        return ready


def run(work: Coroutine[Any, Any, ResultT], *, longest: float = LONGEST_RUN_SECONDS) -> ResultT:
    """Run a coroutine to its end on virtual time that begins at 0.

    Args:
        work: The coroutine.
        longest: Seconds of virtual time after which it counts as endless.

    Returns:
        Its result.

    Raises:
        Endless: It waits for something that never comes, or goes on for too long.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(longest)) as runner:
        return runner.run(work)
