"""The tags by which Droplets that this project creates are recognized, in later runs too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

RESTORE_FIRST = "prefect:restore-first"


@dataclass(frozen=True)
class Purpose:
    """Why a Droplet was created.

    Attributes:
        tag: The tag of all Droplets created for it. One request lists up to 200 of them.
        by_image: Whether markers name the image, and not the original Droplet.
    """

    tag: str
    by_image: bool = False

    def original_of(self, tags: Iterable[str]) -> int | None:
        """The ID of the Droplet that one with these tags was created from; None if it has no such marker."""
        start = f"{self.tag}:"
        ids = [tag[len(start) :] for tag in tags if tag.lower().startswith(start)]
        return next((int(each) for each in ids if each.isdecimal()), None)

    def marker(self, droplet_id: int | None, image_id: int) -> str:
        """The tag that tells what a Droplet was created from: no two in a region have the same.

        Args:
            droplet_id: The original Droplet; None if unknown.
            image_id: The image.
        """
        return f"{self.tag}:image-{image_id}" if droplet_id is None or self.by_image else f"{self.tag}:{droplet_id}"


RESTORE = Purpose("prefect:restored")
DRILL = Purpose("prefect:drill", by_image=True)


def is_marker(tag: str) -> bool:
    """Whether a tag says why a Droplet was created."""
    lowered = tag.lower()
    return any(lowered == each.tag or lowered.startswith(f"{each.tag}:") for each in (RESTORE, DRILL))
