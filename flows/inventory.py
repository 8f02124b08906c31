"""What an account has: its Droplets, and the images made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tasks.digitalocean import Droplet, Image, InvalidArgument
from tasks.droplets import list_droplets
from tasks.images import get_image, list_private_images


@dataclass(frozen=True)
class Inventory:
    """What an account has, as far as a run is concerned with it.

    Attributes:
        droplet_tag: The tag that the Droplets bear; None for all Droplets, and for snapshots of those that are gone.
        droplets: The Droplets.
        images: The account's own images, of whatever Droplet.
    """

    droplet_tag: str | None
    droplets: Sequence[Droplet]
    images: Sequence[Image]


def take_inventory(droplet_tag: str | None) -> Inventory:
    """Look at the account's Droplets and images.

    Args:
        droplet_tag: Only Droplets that bear this tag; None for all.

    Returns:
        What there is.

    Raises:
        InvalidArgument: No Droplet bears the tag.
    """
    droplets = list_droplets(droplet_tag)
    if droplet_tag and not droplets:
        raise InvalidArgument(f"no Droplet bears the tag {droplet_tag!r}")
    images = list_private_images()
    # The list of images may change while it is read; the Droplets name their backups.
    unlisted = (get_image(image_id) for image_id in unlisted_images(droplets, images))
    return Inventory(droplet_tag, droplets, [*images, *(image for image in unlisted if image is not None)])


def unlisted_images(droplets: Iterable[Droplet], images: Iterable[Image]) -> list[int]:
    """Name the backups that Droplets have but the list of images does not."""
    listed = {image.id for image in images}
    return sorted({each for droplet in droplets for each in droplet.backup_ids if each not in listed})
