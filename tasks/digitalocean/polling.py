"""The cheapest way to look at many actions at once, and whether it is worth a request: pure decisions.

One request can show a single action, all actions of one image, or a page of the account's feed, newest first. Each
costs the same, so the best look is the one that is expected to find the most actions finished.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

# A look that finds so many actions finished is a good look at any time ...
WORTHWHILE_FINDS = 16.0
# ... or so many, while requests that start something are waiting for the rate limit.
WORTHWHILE_FINDS_WHEN_CONTENDED = 40.0
# ... or so many, when nothing has been looked at for long.
WORTHWHILE_FINDS_WHEN_OVERDUE = 0.5
# Where others wait for what finishes, it is looked for earlier: when this part of it is expected to have finished.
PART_OF_BLOCKING = 0.3
# Nothing is left but to find out when it is this likely that everything has finished.
CHANCE_OF_ALL = 0.2

Place: TypeAlias = tuple[Literal["page", "image", "action"], int]
PREFERENCE = {"action": 2, "image": 1, "page": 0}


@dataclass(frozen=True)
class Subject:
    """An action to look at."""

    action_id: int
    image_id: int


@dataclass(frozen=True)
class Look:
    """One request, and what it is expected to show.

    Attributes:
        place: A `page` of the account's feed by its number, the list of one `image`, or one `action`, by their ids.
        shows: What it should show of that which was asked for.
        finds: How many of those are expected to have finished.
    """

    place: Place
    shows: frozenset[Subject]
    finds: float


@dataclass(frozen=True)
class Situation:
    """What is waited for, and what a request is worth.

    Attributes:
        chances: The actions, and for each the chance that it has finished since it was last seen in progress.
        blocking: Those whose end other work waits for.
        unlisted: Those that no list shows, so that each has to be looked at alone.
        contended: Whether requests that start something are waiting for the rate limit.
        overdue: Whether nothing has been looked at for long.
        forgotten: Whether nothing has been looked at for so long that what is expected no longer counts.
    """

    chances: Mapping[Subject, float]
    blocking: frozenset[Subject] = frozenset()
    unlisted: frozenset[Subject] = frozenset()
    contended: bool = False
    overdue: bool = False
    forgotten: bool = False

    def sought(self) -> Mapping[Subject, float]:
        """Choose what should be found now, at whatever price; empty if nothing presses."""
        if self.contended:
            return {}
        if self.forgotten:
            return self.chances
        blocking = {subject: self.chances[subject] for subject in self.blocking if subject in self.chances}
        if blocking and sum(blocking.values()) >= PART_OF_BLOCKING * len(blocking):
            return blocking
        return self.chances if math.prod(self.chances.values()) >= CHANCE_OF_ALL else {}

    def finds_wanted(self) -> float:
        """How many actions a look has to find so that it is worth a request."""
        if self.contended:
            return WORTHWHILE_FINDS_WHEN_CONTENDED
        return WORTHWHILE_FINDS_WHEN_OVERDUE if self.overdue else WORTHWHILE_FINDS


@dataclass
class Feed:
    """What is known of the account's feed: the ids that are in it, so that an action's page can be guessed.

    Args:
        page_size: Actions on a page.
        readable: Whether the API lets us read it.
    """

    page_size: int
    readable: bool = True
    _ids: list[int] = field(default_factory=list)

    def note(self, action_ids: Iterable[int]) -> None:
        """Remember that these actions are in the feed, ours or others'."""
        for action_id in action_ids:
            place = bisect_right(self._ids, action_id)
            if place == 0 or self._ids[place - 1] != action_id:
                insort(self._ids, action_id)

    def page_of(self, action_id: int) -> int:
        """Guess the page an action is on, from the number of newer ones known."""
        newer = len(self._ids) - bisect_right(self._ids, action_id)
        return newer // self.page_size + 1


def next_look(
    situation: Situation,
    feed: Feed,
    taken: Container[Place] = (),
) -> Look | None:
    """Decide whether a look is worth a request now, and which.

    Args:
        situation: What is waited for.
        feed: What is known of the account's feed.
        taken: Looks that were taken just now.

    Returns:
        The look; None where it is better to wait until there is more to find.
    """
    if sought := situation.sought():
        return choose_look(sought, situation.unlisted, feed, taken)
    enough = situation.finds_wanted()
    if sum(situation.chances.values()) < enough:
        return None
    look = choose_look(situation.chances, situation.unlisted, feed, taken)
    return look if look and look.finds >= enough else None


def choose_look(
    chances: Mapping[Subject, float], unlisted: Container[Subject], feed: Feed, taken: Container[Place] = ()
) -> Look | None:
    """Choose the look that is expected to find the most.

    Args:
        chances: The actions to look at, and for each the chance that it has finished.
        unlisted: Those that only a look at them alone will show.
        feed: What is known of the account's feed.
        taken: Looks that were taken just now.

    Returns:
        The look, None when there is none left. On a draw a single action is preferred to an image's list, because its
        answer is short, and an image's list to a page of the feed.
    """
    shown: dict[Place, list[Subject]] = defaultdict(list)
    finds: dict[Place, float] = defaultdict(float)
    for subject, chance in chances.items():
        places: list[Place] = [("action", subject.action_id)]
        if subject not in unlisted:
            places.append(("image", subject.image_id))
            if feed.readable:
                places.append(("page", feed.page_of(subject.action_id)))
        for place in places:
            shown[place].append(subject)
            finds[place] += chance
    left = [(round(finds[place], 6), PREFERENCE[place[0]], place) for place in shown if place not in taken]
    if not left:
        return None
    _, _, place = max(left)
    return Look(place, frozenset(shown[place]), finds[place])
