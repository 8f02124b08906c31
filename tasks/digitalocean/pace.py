"""When to look at an action again: a pure decision, learnt from the actions that have already finished.

A transfer takes as long as its image is large, one to two minutes a gigabyte as a rule, but that differs between
regions and hours. So nothing is assumed: before anything has finished, the pauses grow with an action's age;
afterwards an action is first looked at when the quickest known pace would have finished it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

# Each pause is this part of the time the action has already taken: who has waited long can wait a little longer.
PART_OF_AGE = 0.3
# Images without a known size are taken for the smallest that are billed.
SMALLEST_GIGABYTES = 1.0


@dataclass
class Pace:
    """How fast actions of each type finish, in seconds a gigabyte.

    Args:
        shortest: Seconds; the shortest pause between two looks at the same action.
        longest: Seconds; the longest.
    """

    shortest: float
    longest: float
    _quickest: dict[str, float] = field(default_factory=lambda: defaultdict(lambda: float("inf")))

    def learn(self, action_type: str, gigabytes: float | None, seconds: float) -> None:
        """Take note of an action that has finished.

        Args:
            action_type: Such as `transfer`; each type has a pace of its own.
            gigabytes: Size of its image, None where unknown.
            seconds: How long it took, at most: from its start to the look that found it finished.
        """
        self._quickest[action_type] = min(self._quickest[action_type], seconds / _size(gigabytes))

    def pause(self, action_type: str, gigabytes: float | None, age: float) -> float:
        """Decide how long to wait before an action is looked at again.

        Args:
            action_type: Such as `transfer`.
            gigabytes: Size of its image, None where unknown.
            age: Seconds since it started.

        Returns:
            Seconds, between the shortest and the longest.
        """
        pause = age * PART_OF_AGE
        if action_type in self._quickest:
            pause = max(pause, self._quickest[action_type] * _size(gigabytes) - age)
        return min(max(pause, self.shortest), self.longest)


def _size(gigabytes: float | None) -> float:
    return max(gigabytes or 0.0, SMALLEST_GIGABYTES)
