"""Decides whether a 403 for an action is temporary, or the token lacks the scope."""

from __future__ import annotations

from collections import Counter

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
