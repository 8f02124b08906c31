"""What an image and its actions say after an action on it was refused; pure decisions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flows.replication.planning import just_done
from tasks.digitalocean import Action, Image, ImageActionRequest


@dataclass(frozen=True)
class Started:
    """The result of asking for an action.

    Attributes:
        action: The action; None if there is nothing left to do.
        adopted: Whether somebody else had started it.
    """

    action: Action | None
    adopted: bool = False


@dataclass(frozen=True)
class ImageState:
    """An image and its actions.

    Attributes:
        image: The image, None if it was deleted.
        actions: Its actions.
        now: The time.
    """

    image: Image | None
    actions: tuple[Action, ...]
    now: datetime

    def already(self, request: ImageActionRequest) -> Started | None:
        """Find what was asked for, done or under way."""
        if self.image is not None and request.shown_by(self.image):
            return Started(None)
        matching = [action for action in self.actions if request.matches(action)]
        for action in matching:
            if action.in_progress:
                return Started(action, adopted=True)
        # The action may be done some seconds before the image shows it.
        return Started(None) if any(just_done(action, self.now) for action in matching) else None

    def is_locked(self) -> bool:
        """Whether another action, or one that has just ended, may be what is in the way."""
        return any(action.in_progress or just_done(action, self.now) for action in self.actions)
