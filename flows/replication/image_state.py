"""Decides from the state of an image what to do after an action on it was refused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flows.replication.planning import just_done
from tasks.digitalocean import Action, Image, ImageActionRequest


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
