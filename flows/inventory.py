"""Reads the account's Droplets and images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prefect import get_run_logger

from flows.waiting import waiting_for
from tasks.digitalocean import APIError, Connection, Droplet, Image, InvalidArgument, ScopeMissing, Unauthorized
from tasks.droplets import list_droplets
from tasks.images import get_image, list_private_images


@dataclass(frozen=True)
class Inventory:
    """The Droplets and images of an account.

    Attributes:
        droplet_tag: The tag of the Droplets; None for all Droplets, and for snapshots of deleted ones.
        images: The account's private images, of any Droplet.
        unread: Why some backups of these Droplets cannot be read, by ID.
    """

    droplet_tag: str | None
    droplets: Sequence[Droplet]
    images: Sequence[Image]
    unread: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SingleReads:
    """Images that were read one by one.

    Attributes:
        images: The images by ID; None for those that do not exist.
        unread: Why the others cannot be read, by ID.
    """

    images: Mapping[int, Image | None]
    unread: Mapping[int, str]


def take_inventory(droplet_tag: str | None, connection: Connection) -> Inventory:
    """Read all images, and the Droplets with a tag; without a tag, all Droplets.

    Raises:
        InvalidArgument: No Droplet has the tag.
    """
    with waiting_for("Reading Droplets and images", connection):
        # Images first: without the scope to read them, Droplets are listed without the IDs of their backups.
        images = list_private_images(credentials=connection)
        droplets = list_droplets(droplet_tag, credentials=connection)
        if droplet_tag and not droplets:
            raise InvalidArgument(f"no Droplet has the tag {droplet_tag!r}")
        return with_unlisted_images(droplet_tag, droplets, images, connection)


def with_unlisted_images(
    droplet_tag: str | None, droplets: Sequence[Droplet], images: Sequence[Image], connection: Connection
) -> Inventory:
    """Read the backups of Droplets that the list of images lacks: it may have changed between its pages."""
    others = read_each(unlisted_images(droplets, images), connection)
    return Inventory(droplet_tag, droplets, [*images, *filter(None, others.images.values())], others.unread)


def unlisted_images(droplets: Iterable[Droplet], images: Iterable[Image]) -> list[int]:
    """List the IDs of the Droplets' backups that are not among the images."""
    listed = {image.id for image in images}
    return sorted({each for droplet in droplets for each in droplet.backup_ids if each not in listed})


def read_each(image_ids: Iterable[int], connection: Connection) -> SingleReads:
    """Read images one by one.

    Raises:
        Unauthorized: The token is not valid.
        ScopeMissing: The token is not allowed to read images.
    """
    images: dict[int, Image | None] = {}
    unread: dict[int, str] = {}
    for image_id in image_ids:
        try:
            images[image_id] = get_image(image_id, credentials=connection)
        except (Unauthorized, ScopeMissing):
            raise
        except APIError as error:
            get_run_logger().warning("Image %d cannot be read: %s", image_id, error)
            unread[image_id] = str(error)
    return SingleReads(images, unread)
