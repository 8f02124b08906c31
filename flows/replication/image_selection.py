"""Reads the account and chooses images and target regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from prefect import get_run_logger

from flows.inventory import Inventory, read_each
from flows.replication.recovery_points import (
    Candidate,
    Selection,
    attached_volumes,
    choose_recovery_points,
    doubtful_regions,
    newer_snapshots,
    target_regions,
)
from flows.waiting import waiting_for
from tasks.account_actions import list_actions_on
from tasks.digitalocean import APIError, Connection, ConvertImage, InvalidArgument, Unauthorized
from tasks.images import list_private_images
from tasks.regions import list_regions

# One request lists up to 200 images, but the number of pages is unknown; so a few images are read one by one.
MOST_SINGLE_READS = 10


@dataclass(frozen=True)
class Targets:
    """The regions to copy to.

    Attributes:
        regions: Their slugs, doubtful ones last: if the first transfer of a converted image is refused, that should be
            because of the image's lock, not because of the region.
        doubtful: Regions that the API does not list as available for image transfers.
    """

    regions: tuple[str, ...]
    doubtful: tuple[str, ...] = ()


def choose_targets(wanted: Sequence[str] | None, connection: Connection) -> Targets:
    """Choose the regions to copy to.

    Args:
        wanted: Slugs, which are used as they are; None for all available regions with the feature `image_transfer`.
        connection: The API.

    Raises:
        InvalidArgument: The list of slugs is empty, or no region is available.
        APIError: The regions cannot be listed, and `wanted` is None.
    """
    try:
        with waiting_for("Reading the regions", connection):
            known = list_regions(credentials=connection)
    except APIError as error:
        if not wanted or isinstance(error, Unauthorized):
            raise
        get_run_logger().warning("Could not list the regions; trying the ones you named: %s", error)
        return Targets(target_regions((), wanted))
    regions = target_regions(known, wanted)
    doubtful = doubtful_regions(known, regions)
    return Targets((*(each for each in regions if each not in doubtful), *doubtful), doubtful)


def newest_backups(inventory: Inventory, connection: Connection, newest: int = 1) -> Selection:
    """Choose the newest recovery points of Droplets.

    Args:
        inventory: The account's Droplets and images.
        connection: The API.
        newest: How many per Droplet, at least 1.

    Raises:
        InvalidArgument: There are no Droplets, or none has a backup.
    """
    managed_tag = connection.settings.managed_tag
    droplets, images = inventory.droplets, inventory.images
    if not droplets:
        raise InvalidArgument("the account has no Droplets")
    selection = choose_recovery_points(droplets, images, managed_tag=managed_tag, newest=newest)
    if unclear := newer_snapshots(droplets, images, selection, managed_tag=managed_tag):
        actions = list_actions_on(unclear, credentials=connection).actions
        conversions = [each for each in actions if ConvertImage().matches(each) and not each.errored]
        converted = {each.resource_id for each in conversions}
        selection = choose_recovery_points(
            droplets, images, managed_tag=managed_tag, newest=newest, converted=converted
        )
    if not selection.candidates and not inventory.unread:
        raise InvalidArgument(
            f"none of {len(droplets)} Droplets has an available backup: "
            "enable backups in DigitalOcean's control panel, or choose the source snapshots"
        )
    for source in selection.without_backups:
        get_run_logger().warning("Droplet %s has no available backup", source)
    return replace(selection, volumes=attached_volumes(droplets), missing=inventory.unread)


def named_images(image_ids: Sequence[int], connection: Connection) -> Selection:
    """Choose images by ID; those that do not exist or cannot be read are in `missing`.

    Raises:
        InvalidArgument: `image_ids` is empty.
    """
    wanted = list(dict.fromkeys(image_ids))
    if not wanted:
        raise InvalidArgument("the list of images is empty: name at least one image ID")
    with waiting_for("Reading the named images", connection):
        listed = (
            {image.id: image for image in list_private_images(credentials=connection)}
            if len(wanted) > MOST_SINGLE_READS
            else {}
        )
        singles = read_each([each for each in wanted if each not in listed], connection)
    found = {**listed, **singles.images}
    gone = {each: f"image {each} does not exist or was deleted" for each, image in singles.images.items() if not image}
    return Selection(
        candidates=tuple(Candidate(image, image.name or str(each)) for each in wanted if (image := found.get(each))),
        missing={**gone, **singles.unread},
    )
