"""Decides what a refused action means: after a 403 from the refusals so far, otherwise from the image's state."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from flows.actions import Started
from flows.replication.planning import just_done
from tasks.digitalocean import Action, APIError, Forbidden, Image, ImageActionRequest, ScopeMissing
from tasks.digitalocean.errors import MOST_REFUSALS


class Refusals:
    """The refused starts of a run.

    Attributes:
        token_refused: The error that shows that the token cannot start anything; None as long as it may.
    """

    def __init__(self) -> None:
        self.token_refused: APIError | None = None
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

    def raise_if_token_refused(self, path: str) -> None:
        """Raise the error that a start would get, without sending it."""
        if self.token_refused:
            raise self.token_refused.for_request("POST", path)

    def note_forbidden(self, image_id: int, error: Forbidden, sent: float, now: float, tries: int) -> None:
        """Note that a start was refused with a 403, which may be temporary.

        Args:
            image_id: ID of the image or Droplet.
            error: The refusal.
            sent: When the request was sent.
            now: The time.
            tries: How often starts on it have been refused.

        Raises:
            ScopeMissing: The token is not allowed to start actions.
            Forbidden: The number of tries is used up.
        """
        if isinstance(error, ScopeMissing):
            raise error
        if self.refused(image_id, sent, now):
            missing = ScopeMissing(error.method, error.path, error.status, error.error_id, error.message)
            self.token_refused = missing
            raise missing from error
        if tries == MOST_REFUSALS:
            raise error

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
