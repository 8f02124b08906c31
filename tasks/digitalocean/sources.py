"""Which of the sources that tell of actions can be relied on: those that keep failing are left for others for a while.

An action can be looked at in the account's feed, in the list of its image, and by itself. Each of the three has been
seen to fail while the others work, for all images or for a single one.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from tasks.digitalocean.polling import Place

# A source that has failed so often in a row is left for others; until then, it is only given a pause.
FAILURES_UNTIL_LEFT = 3
# For so many of the longest poll intervals is it left at first. That grows with each failure, up to the most.
INTERVALS_LEFT, MOST_INTERVALS_LEFT = 1.0, 3.0
# Where the token lacks the scope, it may get it, but hardly during this run.
INTERVALS_WITHOUT_SCOPE = 30.0


@dataclass(frozen=True)
class Left:
    """What is left now, as a container of places.

    Attributes:
        sources: Kinds of places, and single places.
    """

    sources: frozenset[str | Place] = frozenset()

    def __contains__(self, place: object) -> bool:
        return place in self.sources or (isinstance(place, tuple) and place[0] in self.sources)


@dataclass(frozen=True)
class Either:
    """Two containers as one."""

    first: Container[Place]
    second: Container[Place]

    def __contains__(self, place: object) -> bool:
        return place in self.first or place in self.second


@dataclass
class Sources:
    """What has failed lately; pure, as it is told what time it is.

    Args:
        shortest: The shortest poll interval, in seconds.
        longest: The longest.
    """

    shortest: float
    longest: float
    _failures: dict[str | Place, int] = field(default_factory=dict)
    _left_until: dict[str | Place, float] = field(default_factory=dict)

    def note_success(self, place: Place) -> None:
        """Note that a place could be looked at."""
        for source in _sources_of(place):
            self._failures.pop(source, None)
            self._left_until.pop(source, None)

    def note_failure(self, place: Place, now: float, *, out_of_scope: bool = False) -> float:
        """Note that a place could not be looked at.

        Args:
            place: The place.
            now: The time.
            out_of_scope: Whether the token may not look at anything of its kind.

        Returns:
            For how many seconds to leave alone what it should have shown: 0 where that is to be found elsewhere now.
        """
        for source in _sources_of(place):
            failures = self._failures[source] = self._failures.get(source, 0) + 1
            if failures >= FAILURES_UNTIL_LEFT:
                intervals = min(INTERVALS_LEFT * (1 + failures - FAILURES_UNTIL_LEFT), MOST_INTERVALS_LEFT)
                self._left_until[source] = now + intervals * self.longest
        if out_of_scope:
            self._left_until[place[0]] = now + INTERVALS_WITHOUT_SCOPE * self.longest
        if place in self.left(now):
            return 0.0
        return min(self.shortest * 2.0 ** max(self._failures[source] for source in _sources_of(place)), self.longest)

    def left(self, now: float) -> Left:
        """What is left for other sources now."""
        return Left(frozenset(source for source, until in self._left_until.items() if now < until))


def _sources_of(place: Place) -> tuple[str | Place, ...]:
    # The pages of the feed fail together.
    return (place[0],) if place[0] == "page" else (place[0], place)
