"""Who may start an action next: the largest image first, at the moment the rate budget allows."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

from tasks.digitalocean.rate_limiter import Permit, RateLimiter

# An admission counts from when it is given, so none is given to those who would only wait for the processor.
MOST_AT_ONCE = 16
# All that is under way when a limit is hit is refused, and the limit may be lower than is known. So only a part of what
# is proven to be let through within a minute is under way at once; but nobody waits longer than this for the others.
PART_AT_ONCE = 0.05
PATIENCE_SECONDS = 1.0

Priority: TypeAlias = tuple[float, ...]


class StartQueue:
    """Gives the budget's admissions to those who wait for one, in order of priority.

    Waiting here instead of in the budget keeps a task run from being created before its request can go, and lets a
    large image that was just converted overtake small ones that have waited longer.

    Args:
        budget: What decides when the next request may go.
    """

    def __init__(self, rate_limiter: RateLimiter) -> None:
        self._rate_limiter = rate_limiter
        self._numbers = itertools.count()
        self._waiting: list[tuple[Priority, int, asyncio.Future[Permit]]] = []
        self._somebody_waits = asyncio.Event()
        self._busy = 0
        self._done = asyncio.Event()

    @asynccontextmanager
    async def turn(self, priority: Priority) -> AsyncIterator[None]:
        """Wait for an admission, and let the next request of the block go on it.

        Args:
            priority: Lowest goes first.
        """
        turn: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._numbers), turn))
        self._somebody_waits.set()
        try:
            permit = await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release(turn.result())
            raise
        try:
            with self._rate_limiter.holding(permit):
                yield
        finally:
            self._leave()

    async def serve(self) -> None:
        """Hand out admissions until cancelled."""
        while True:
            await self._somebody_waits.wait()
            await self._until_room()
            permit = await self._rate_limiter.acquire()
            while self._waiting:
                _, _, turn = heapq.heappop(self._waiting)
                if not turn.done():
                    turn.set_result(permit)
                    break
            else:
                self._somebody_waits.clear()
                self._release(permit)

    async def _until_room(self) -> None:
        while self._busy >= MOST_AT_ONCE:
            await self._until_one_is_done()
        if self._busy >= max(1, PART_AT_ONCE * self._rate_limiter.proven):
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._until_one_is_done()
        self._busy += 1

    async def _until_one_is_done(self) -> None:
        self._done.clear()
        await self._done.wait()

    def _leave(self) -> None:
        self._busy -= 1
        self._done.set()

    def _release(self, permit: Permit) -> None:
        self._leave()
        self._rate_limiter.release(permit)
