"""Who may start an action next: the largest image first, at the moment the rate budget allows."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

from tasks.digitalocean.budget import Admission, RateBudget

# An admission counts from when it is given, so none is given to those who would only wait for the processor.
MOST_AT_ONCE = 16

Priority: TypeAlias = tuple[float, ...]


class StartQueue:
    """Gives the budget's admissions to those who wait for one, in order of priority.

    Waiting here instead of in the budget keeps a task run from being created before its request can go, and lets a
    large image that was just converted overtake small ones that have waited longer.

    Args:
        budget: What decides when the next request may go.
    """

    def __init__(self, budget: RateBudget) -> None:
        self._budget = budget
        self._numbers = itertools.count()
        self._waiting: list[tuple[Priority, int, asyncio.Future[Admission]]] = []
        self._somebody_waits = asyncio.Event()
        self._room = asyncio.Semaphore(MOST_AT_ONCE)

    @asynccontextmanager
    async def turn(self, priority: Priority) -> AsyncIterator[None]:
        """Wait for an admission, and let the next request of the block go on it.

        Args:
            priority: Lowest goes first.
        """
        turn: asyncio.Future[Admission] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._numbers), turn))
        self._somebody_waits.set()
        try:
            admission = await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(turn.result())
            raise
        try:
            with self._budget.holding(admission):
                yield
        finally:
            self._room.release()

    async def serve(self) -> None:
        """Hand out admissions until cancelled."""
        while True:
            await self._somebody_waits.wait()
            await self._room.acquire()
            admission = await self._budget.admit()
            while self._waiting:
                _, _, turn = heapq.heappop(self._waiting)
                if not turn.done():
                    turn.set_result(admission)
                    break
            else:
                self._somebody_waits.clear()
                self._give_back(admission)

    def _give_back(self, admission: Admission) -> None:
        self._room.release()
        self._budget.give_back(admission)
