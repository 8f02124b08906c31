"""Finding images by their ids."""

from __future__ import annotations

from collections.abc import Sequence

from flows.replication.selection import unlisted_images
from tasks.digitalocean import Droplet, Image, InvalidArgument
from tasks.images import get_image, list_private_images

# A list shows up to 200 images a request, but nobody knows how many pages it has; a few images are asked for singly.
MOST_SINGLE_LOOKS = 10


def look_up(image_ids: Sequence[int]) -> tuple[list[Image], list[int]]:
    """Find images by their ids.

    Args:
        image_ids: The ids.

    Returns:
        The images, and the ids of which there is none.

    Raises:
        InvalidArgument: No id was given.
    """
    wanted = list(dict.fromkeys(image_ids))
    if not wanted:
        raise InvalidArgument("the list of images is empty: name at least one image id")
    listed = {image.id: image for image in list_private_images()} if len(wanted) > MOST_SINGLE_LOOKS else {}
    found = {each: listed.get(each) or get_image(each) for each in wanted}
    return [image for image in found.values() if image], [each for each, image in found.items() if not image]


def with_unlisted(droplets: Sequence[Droplet], images: Sequence[Image]) -> list[Image]:
    """Add the backups that Droplets name but the list of images, which may change while it is read, does not."""
    found = (get_image(image_id) for image_id in unlisted_images(droplets, images))
    return [*images, *(image for image in found if image is not None)]
