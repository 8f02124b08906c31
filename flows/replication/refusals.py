"""What a 403 to the start of an action means: that the token may start none, or that it passes."""

from __future__ import annotations

from collections import Counter

from tasks.digitalocean.errors import MOST_REFUSALS


class Refusals:
    """Refusals of starts; pure, as it is told what time it is."""

    def __init__(self) -> None:
        self._in_a_row: list[int] = []
        self._last_at = 0.0
        self._wanted: Counter[int] = Counter()
        self._ever_accepted = False

    def want(self, image_id: int) -> None:
        """Note that an action on an image is to be started."""
        self._wanted[image_id] += 1

    def done(self, image_id: int) -> None:
        """Note that it was started, or given up."""
        self._wanted -= Counter([image_id])

    def accepted(self) -> None:
        """Note that a start was not refused."""
        self._in_a_row = []
        self._ever_accepted = True

    def should_go_last(self, image_id: int) -> bool:
        """Whether others should be tried before an image whose start was the last to be refused, or one of the last."""
        return image_id in self._in_a_row and not self._wanted.keys() <= set(self._in_a_row)

    def refused(self, image_id: int, sent: float, now: float) -> bool:
        """Note that a start was refused.

        Args:
            image_id: The image.
            sent: When it was asked for.
            now: The time.

        Returns:
            Whether the token may start no actions, as three in a row were refused, on different images where there are
            so many. Of refusals that came side by side one counts: what is over in a moment refuses all of them. Once a
            start has been accepted, refusals of fewer images are those images' own.
        """
        if sent < self._last_at:
            return False
        self._in_a_row.append(image_id)
        self._last_at = now
        images = MOST_REFUSALS if self._ever_accepted else min(MOST_REFUSALS, len(self._wanted))
        return len(self._in_a_row) >= MOST_REFUSALS and len(set(self._in_a_row)) >= images
