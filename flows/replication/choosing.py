"""Choosing images by what the account has now."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import get_run_logger

from flows.inventory import Inventory
from flows.replication.selection import Candidate, Selection, choose_recovery_points, newer_snapshots
from tasks.account_actions import list_actions_on
from tasks.connection import connect
from tasks.digitalocean import ConvertImage, InvalidArgument
from tasks.images import get_image, list_private_images

# A list shows up to 200 images a request, but nobody knows how many pages it has; a few images are asked for singly.
MOST_SINGLE_LOOKS = 10


def newest_backups(inventory: Inventory, newest: int = 1) -> Selection:
    """Choose the newest recovery points of Droplets.

    Args:
        inventory: What there is.
        newest: How many of each Droplet.

    Returns:
        The recovery points, and the Droplets that have none.

    Raises:
        InvalidArgument: There is nothing to protect: no Droplet, or none with a backup.
    """
    managed_tag = connect().settings.managed_tag
    droplets, images = inventory.droplets, inventory.images
    if not droplets:
        raise InvalidArgument("the account has no Droplets")
    selection = choose_recovery_points(droplets, images, managed_tag=managed_tag, newest=newest)
    if unclear := newer_snapshots(droplets, images, selection, managed_tag=managed_tag):
        conversions = [each for each in list_actions_on(unclear) if ConvertImage().matches(each) and not each.errored]
        converted = {each.resource_id for each in conversions}
        selection = choose_recovery_points(
            droplets, images, managed_tag=managed_tag, newest=newest, converted=converted
        )
    if not selection.candidates:
        raise InvalidArgument(
            f"none of {len(droplets)} Droplets has a backup; turn backups on in DigitalOcean's control panel"
        )
    for source in selection.without_backups:
        get_run_logger().warning("Droplet %s has no backup", source)
    return selection


def named_images(image_ids: Sequence[int]) -> Selection:
    """Choose images by their ids.

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
    return Selection(
        candidates=tuple(Candidate(image, image.name or str(image.id)) for image in found.values() if image),
        gone=tuple(each for each, image in found.items() if not image),
    )
