"""When pending actions are polled, and by which requests: pure decisions.

A request shows a page of the account's feed, all actions of one image or Droplet, or one action; each costs one request
of the rate limit. So actions are polled in rounds. A round starts once half the actions are due, and uses as few
requests as possible. The older an action, the longer its interval, until it has lasted as long as others of its size.

Measured by `python -m tests.benchmarks.polling`: 20 Droplets (240 actions, an hour) cost 1.15 to 1.18 requests per
action and 1.00 to 1.03 times the best possible makespan with 20 seeds, 1,000 Droplets (12,000 actions, 2.2 hours) 1.03
and 1.03. To choose each request by the estimated probability that actions have finished cost 1.17 to 1.20 and 1.00 to
1.03, with 1,000 Droplets 1.02 and 1.03, and half as much code again.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeAlias, TypeVar

from tasks.digitalocean.models import ActedOn, Action

# An action that other work waits for is polled again once its age has grown by this part, ...
BLOCKING_PART_OF_AGE = 0.25
# ... and one that has lasted longer than 90% of similar ones by this part, so that the last one is noticed in time.
OVERDUE_PART_OF_AGE = 0.03
# The longest that a due action waits for a round, in longest intervals.
MOST_INTERVALS_LATE = 3
# After this many polls in a row that did not show an action, each after a longer pause, try another endpoint. The first
# one is tried again after at most this many longest intervals.
MOST_MISSES = 3
MOST_INTERVALS_SKIPPED = 3
MOST_DOUBLINGS = 10
# Assumed for tiny images and those without a known size.
SMALLEST_GIGABYTES = 1.0

Source: TypeAlias = Literal["page", "resource", "action"]
# The one with the largest response first.
SOURCES: tuple[Source, ...] = ("page", "resource", "action")


@dataclass(eq=False)
class PendingAction:
    """An action in progress; all times are by the monotonic clock.

    Attributes:
        action: The action as last seen.
        resource: What it runs on.
        gigabytes: Size of the image; None if unknown.
        started: When it started.
        last_seen: When it was last seen in progress.
        blocking: Whether other work waits for its end.
        not_before: When it may be polled again after a poll that missed it.
        misses: How many polls in a row missed it, by source.
        skip_until: When each source may be used again for it.
        not_found: The number of 404s in a row.
    """

    action: Action
    resource: ActedOn
    gigabytes: float | None
    started: float
    last_seen: float
    blocking: bool = False
    not_before: float = -math.inf
    misses: Counter[Source] = field(default_factory=Counter)
    skip_until: dict[Source, float] = field(default_factory=dict)
    not_found: int = 0

    def sources(self, now: float) -> list[Source]:
        """The sources that may be used now."""
        return [source for source in SOURCES if now >= self.skip_until.get(source, -math.inf)]


PendingT = TypeVar("PendingT", bound=PendingAction)


@dataclass(frozen=True)
class PollRequest(Generic[PendingT]):
    """One request.

    Attributes:
        source: The source.
        key: Number of the page, image or Droplet, or ID of the action.
        shows: The pending actions that it should show.
    """

    source: Source
    key: int | ActedOn
    shows: tuple[PendingT, ...]


@dataclass
class Feed:
    """The IDs known to be in the account's feed, which tell the page of an action.

    Args:
        page_size: Actions on a page.
    """

    page_size: int
    _newest_first: list[int] = field(default_factory=list)

    def note(self, action_ids: Iterable[int]) -> None:
        """Note that these actions are in the feed."""
        for action_id in action_ids:
            place = self._place(action_id)
            if self._newest_first[place : place + 1] != [action_id]:
                self._newest_first.insert(place, action_id)

    def page_of(self, action_id: int) -> int:
        """Estimate the number of the page that an action is on, at least 1, from the newer ones that are known."""
        return self._place(action_id) // self.page_size + 1

    def _place(self, action_id: int) -> int:
        return bisect_left(self._newest_first, -action_id, key=lambda each: -each)


@dataclass
class Cadence:
    """How often actions are polled; all times are by the monotonic clock.

    Args:
        shortest: The shortest interval between two polls of an action, in seconds.
        longest: The longest interval, in seconds, until an action is as old as that; then it grows further.
    """

    shortest: float
    longest: float
    _finished: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def learn(self, pending: PendingAction, seconds: float) -> None:
        """Note how long a finished action took."""
        insort(self._finished[pending.action.type], seconds / _size(pending.gigabytes))

    def typical(self, action_type: str, gigabytes: float | None) -> float | None:
        """Estimate how long an action takes: longer than 90% of its type, in proportion to the image's size.

        Args:
            action_type: Such as `transfer`.
            gigabytes: Size of its image; None if unknown.

        Returns:
            Seconds; None until an action of this type has finished.
        """
        finished = self._finished[action_type]
        return finished[len(finished) * 9 // 10] * _size(gigabytes) if finished else None

    def due_at(self, pending: PendingAction, now: float) -> float:
        """Compute when to poll an action again.

        Args:
            pending: The action.
            now: The time.

        Returns:
            The time; in the future if no source can be used now.
        """
        sources = pending.sources(now)
        if not sources:
            return min(pending.skip_until.values())
        age = pending.last_seen - pending.started
        if "page" not in sources:
            interval = age  # other requests show fewer actions
        else:
            # The geometric mean: 63% of the age after five minutes, 18% after an hour.
            interval = math.sqrt(self.longest * age)
            if pending.blocking:
                interval = min(interval, BLOCKING_PART_OF_AGE * age)
        # Without a known size, those that have finished say little about the others.
        typical = self.typical(pending.action.type, pending.gigabytes) if pending.gigabytes is not None else None
        if typical is not None and not pending.blocking:
            interval = min(interval, max(typical - age, OVERDUE_PART_OF_AGE * age))
        return max(pending.last_seen + max(interval, self.shortest), pending.not_before)

    def due(self, pending: Iterable[PendingT], now: float) -> set[PendingT]:
        """Choose the actions to poll now."""
        return {each for each in pending if self.due_at(each, now) <= now}

    def next_round(self, pending: Iterable[PendingAction], now: float) -> float:
        """Compute when to poll: as soon as half of the actions are due, or half of the blocking ones.

        Args:
            pending: The actions.
            now: The time.

        Returns:
            The time, which may have passed; infinity if nothing is pending.
        """
        due = sorted((self.due_at(each, now), each.blocking) for each in pending)
        blocking = [moment for moment in due if moment[1]]
        halves = [group[(len(group) - 1) // 2][0] for group in (due, blocking) if group]
        return min(*halves, due[0][0] + MOST_INTERVALS_LATE * self.longest) if due else math.inf

    def note_miss(self, pending: PendingAction, source: Source, now: float) -> None:
        """Delay an action that a poll missed; after several misses, try another source.

        Args:
            pending: The action.
            source: The source that was polled.
            now: The time.
        """
        pending.misses[source] += 1
        pause = self.shortest * 2.0 ** min(pending.misses[source], MOST_DOUBLINGS)
        if pending.misses[source] < MOST_MISSES:
            pending.not_before = now + min(pause, self.longest)
        else:
            most = 1 if source == "action" else MOST_INTERVALS_SKIPPED
            pending.skip_until[source] = now + min(pause, most * self.longest)


def choose_request(
    due: Collection[PendingT], pending: Iterable[PendingT], feed: Feed, now: float
) -> PollRequest[PendingT] | None:
    """Choose the request that shows the most due actions; break ties by the most others, then the smallest response.

    Args:
        due: The actions to poll.
        pending: All pending actions.
        feed: Tells the page of an action.
        now: The time.

    Returns:
        The request; None if nothing is due.
    """
    if not due:
        return None
    shown: dict[tuple[Source, int | ActedOn], list[PendingT]] = defaultdict(list)
    for each in pending:
        action_id = each.action.id
        keys: dict[Source, int | ActedOn] = {
            "page": feed.page_of(action_id),
            "resource": each.resource,
            "action": action_id,
        }
        for source in each.sources(now):
            shown[source, keys[source]].append(each)

    def value(place: tuple[Source, int | ActedOn]) -> tuple[int, int, int]:
        return sum(each in due for each in shown[place]), len(shown[place]), SOURCES.index(place[0])

    best = max(shown, key=value)
    return PollRequest(*best, tuple(shown[best]))


def _size(gigabytes: float | None) -> float:
    return max(gigabytes or 0.0, SMALLEST_GIGABYTES)
