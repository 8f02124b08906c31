"""How long actions take: the chance that one has finished, learnt from those that have.

A transfer takes the longer the larger its image is, so what is learnt is seconds a gigabyte. Before anything has
finished nothing is known of the scale, but it is taken to be one scale for all: where small images are still being
copied, large ones that started with them are not expected to be done.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from dataclasses import dataclass, field

# What is assumed counts as much as so many finished actions.
WEIGHT_OF_ASSUMPTION = 2.0
# How fast an action that takes longer than all others is expected to finish: a fifth of its like within 3 % of its age.
SHARPEST = 8.0
# Images without a known size, and tiny ones, are taken for this.
SMALLEST_GIGABYTES = 1.0


@dataclass
class DurationEstimate:
    """How fast actions of each type have finished, in seconds a gigabyte."""

    _finished: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _survived: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def learn(self, action_type: str, gigabytes: float | None, seconds: float) -> None:
        """Take note of an action that has finished.

        Args:
            action_type: Such as `transfer`; each type has a pace of its own.
            gigabytes: Size of its image, None where unknown.
            seconds: How long it took.
        """
        insort(self._finished[action_type], seconds / _size(gigabytes))

    def note_unfinished(self, action_type: str, gigabytes: float | None, seconds: float) -> None:
        """Take note of an action that is still in progress.

        Args:
            action_type: Such as `transfer`.
            gigabytes: Size of its image, None where unknown.
            seconds: Its age.
        """
        self._survived[action_type] = max(self._survived[action_type], seconds / _size(gigabytes))

    def chance(self, action_type: str, gigabytes: float | None, seen: float, age: float) -> float:
        """Estimate the chance that an action has finished since it was last seen in progress.

        Args:
            action_type: Such as `transfer`.
            gigabytes: Size of its image, None where unknown.
            seen: Its age in seconds when it was last seen in progress, more than 0.
            age: Its age now.

        Returns:
            The chance, from 0 to 1; it grows with the age.
        """
        if age <= seen:
            return 0.0
        size = _size(gigabytes)
        finished = self._finished[action_type]
        before = bisect_right(finished, seen / size)
        since = bisect_right(finished, age / size) - before
        comparable = len(finished) - before
        if not finished:
            # One scale for all: what others have survived a gigabyte, this one survives, too.
            assumed = max(0.0, 1.0 - max(seen, self._survived[action_type] * size) / age)
        elif not comparable:
            # It takes longer than all others; the more those are, the less will it leave them far behind.
            assumed = 1.0 - (seen / age) ** min(1.0 + len(finished) / 2, SHARPEST)
        else:
            assumed = 1.0 - seen / age
        return (assumed * WEIGHT_OF_ASSUMPTION + since) / (WEIGHT_OF_ASSUMPTION + comparable)

    def typical(self, action_type: str, gigabytes: float | None) -> float | None:
        """Estimate how long an action takes at most, as nine of ten like it did.

        Args:
            action_type: Such as `transfer`.
            gigabytes: Size of its image, None where unknown.

        Returns:
            Seconds; None as long as nothing of the type has finished.
        """
        finished = self._finished[action_type]
        return finished[len(finished) * 9 // 10] * _size(gigabytes) if finished else None


def _size(gigabytes: float | None) -> float:
    return max(gigabytes or 0.0, SMALLEST_GIGABYTES)
