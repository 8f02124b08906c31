"""Decides what a refused action means: after a 403 from the refusals so far, otherwise from the image's state."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from flows.replication.planning import just_done
from tasks.digitalocean import Action, Image, ImageActionRequest
from tasks.digitalocean.errors import MOST_REFUSALS


class Refusals:
    """The refused starts of a run."""

    def __init__(self) -> None:
        self._in_a_row: list[int] = []
        self._last_at = 0.0
        self._wanted: Counter[int] = Counter()
        self._ever_accepted = False

    def want(self, image_id: int) -> None:
        """Note that an action on an image is to be started."""
        self._wanted[image_id] += 1

    def done(self, image_id: int) -> None:
        """Note that it was started, or that the run gave up."""
        self._wanted -= Counter([image_id])

    def accepted(self) -> None:
        """Note that a start was accepted."""
        self._in_a_row = []
        self._ever_accepted = True

    def should_go_last(self, image_id: int) -> bool:
        """Whether to try other images before an image that was refused recently."""
        return image_id in self._in_a_row and not self._wanted.keys() <= set(self._in_a_row)

    def refused(self, image_id: int, sent: float, now: float) -> bool:
        """Note that a start was refused.

        Concurrent refusals count once, because they may have the same temporary cause.

        Args:
            image_id: ID of the image.
            sent: When the request was sent.
            now: The time.

        Returns:
            Whether the token lacks the scope: three starts in a row were refused, on three images, or on all of them if
            there are fewer and no start was ever accepted.
        """
        if sent < self._last_at:
            return False
        self._in_a_row.append(image_id)
        self._last_at = now
        images = MOST_REFUSALS if self._ever_accepted else min(MOST_REFUSALS, len(self._wanted))
        return len(self._in_a_row) >= MOST_REFUSALS and len(set(self._in_a_row)) >= images


@dataclass(frozen=True)
class Started:
    """The result of starting an action.

    Attributes:
        action: The action; None if it is not needed any more.
        adopted: Whether it was in progress already.
    """

    action: Action | None
    adopted: bool = False


@dataclass(frozen=True)
class ImageState:
    """An image, or None if it was deleted, and its actions."""

    image: Image | None
    actions: tuple[Action, ...]
    now: datetime

    def already(self, request: ImageActionRequest) -> Started | None:
        """Find out whether the requested action is completed or in progress; None if it is neither."""
        if self.image is not None and request.shown_by(self.image):
            return Started(None)
        matching = [action for action in self.actions if request.matches(action)]
        for action in matching:
            if action.in_progress:
                return Started(action, adopted=True)
        # The image may show a completed action only seconds later.
        return Started(None) if any(just_done(action, self.now) for action in matching) else None

    def is_locked(self) -> bool:
        """Whether an action in progress, or one that has just completed, may lock the image."""
        return any(action.in_progress or just_done(action, self.now) for action in self.actions)
