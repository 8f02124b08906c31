"""The cheapest way to look at many actions at once: a pure decision.

One request can show a single action, all actions of one image, or a page of the account's feed, newest first. Each
costs the same, so the best look is the one that shows the most of what is due.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

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
    """

    place: Place
    shows: frozenset[Subject]


@dataclass
class Feed:
    """What is known of the account's feed: the ids that are in it, so that an action's page can be guessed.

    Args:
        page_size: Actions on a page.
    """

    page_size: int
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


def choose_look(due: Iterable[Subject], feed: Feed, taken: Container[Place] = ()) -> Look | None:
    """Choose the look that shows the most.

    Args:
        due: The actions to look at.
        feed: What is known of the account's feed.
        taken: Looks that were taken already and did not show what is still due.

    Returns:
        The look, None when there is none left. On a draw a single action is preferred to an image's list, because
        its answer is short, and an image's list to a page of the feed.
    """
    shown: dict[Place, set[Subject]] = defaultdict(set)
    for subject in due:
        shown["action", subject.action_id].add(subject)
        shown["image", subject.image_id].add(subject)
        shown["page", feed.page_of(subject.action_id)].add(subject)
    left = [(len(subjects), PREFERENCE[place[0]], place) for place, subjects in shown.items() if place not in taken]
    if not left:
        return None
    _, _, place = max(left)
    return Look(place, frozenset(shown[place]))
