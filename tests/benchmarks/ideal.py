"""The best possible makespan: with every duration known and no request but for the work."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """One image: how long its conversion takes, and each of its transfers.

    Attributes:
        conversion: Seconds, None where it is a snapshot already.
        transfers: Seconds, one per region.
    """

    conversion: float | None
    transfers: tuple[float, ...]


def best_makespan(jobs: Iterable[Job], limits: Sequence[tuple[int, float]]) -> float:
    """Compute when the last transfer would be done.

    Each POST goes as early as all windows allow. Conversions come first, those of the images with the longest
    transfers before others; of the transfers that are possible the longest goes first.

    Args:
        jobs: The images.
        limits: Sliding windows, each so many requests in so many seconds.

    Returns:
        Seconds from the first POST to the end of the last transfer.
    """
    slots = _Slots(limits)
    waiting: list[float] = []
    converting: list[tuple[float, tuple[float, ...]]] = []
    last_end = 0.0
    to_convert = deque(
        sorted((job for job in jobs if job.conversion is not None), key=lambda job: -max(job.transfers, default=0))
    )
    for job in jobs:
        for seconds in job.transfers if job.conversion is None else ():
            heapq.heappush(waiting, -seconds)
    while to_convert or converting or waiting:
        now = slots.next()
        if not to_convert and not waiting:
            now = max(now, converting[0][0])
        while converting and converting[0][0] <= now:
            for seconds in heapq.heappop(converting)[1]:
                heapq.heappush(waiting, -seconds)
        if to_convert:
            job = to_convert.popleft()
            end = now + (job.conversion or 0.0)
            heapq.heappush(converting, (end, job.transfers))
        elif waiting:
            end = now - heapq.heappop(waiting)
        else:
            continue
        slots.take(now)
        last_end = max(last_end, end)
    return last_end


class _Slots:
    """When POSTs may go."""

    def __init__(self, limits: Sequence[tuple[int, float]]) -> None:
        self._limits = limits
        self._taken: list[float] = []

    def next(self) -> float:
        """The earliest moment at which one more fits into every window."""
        earliest = self._taken[-1] if self._taken else 0.0
        for most, seconds in self._limits:
            if len(self._taken) >= most:
                earliest = max(earliest, self._taken[-most] + seconds)
        return earliest

    def take(self, moment: float) -> None:
        """Note that one goes at this moment."""
        self._taken.append(moment)
