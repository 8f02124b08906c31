"""Who may start an action next: the largest image first, at the moment the rate budget allows."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import TypeAlias

from tasks.digitalocean.budget import Admission, RateBudget

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

    async def turn(self, priority: Priority) -> Admission:
        """Wait for an admission.

        Args:
            priority: Lowest goes first.

        Returns:
            The admission, to be used with `RateBudget.holding`.
        """
        turn: asyncio.Future[Admission] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._numbers), turn))
        self._somebody_waits.set()
        return await turn

    async def serve(self) -> None:
        """Hand out admissions until cancelled."""
        while True:
            self._drop_those_gone()
            if not self._waiting:
                self._somebody_waits.clear()
                await self._somebody_waits.wait()
                continue
            admission = await self._budget.admit()
            self._drop_those_gone()
            if self._waiting:
                heapq.heappop(self._waiting)[2].set_result(admission)
            else:
                with self._budget.holding(admission):
                    pass  # nobody wants it any more: leaving gives it back

    def _drop_those_gone(self) -> None:
        while self._waiting and self._waiting[0][2].done():
            heapq.heappop(self._waiting)
