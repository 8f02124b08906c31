"""What an account has: its Droplets, and the images made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prefect import get_run_logger

from flows.waiting import waiting_for
from tasks.digitalocean import APIError, Connection, Droplet, Image, InvalidArgument, ScopeMissing, Unauthorized
from tasks.droplets import list_droplets
from tasks.images import get_image, list_private_images


@dataclass(frozen=True)
class ImagesRead:
    """The result of reading some images one by one.

    Attributes:
        images: The images, by id.
        gone: Ids of images that do not exist.
        unread: Why the others cannot be read, by ID.
    """

    images: Mapping[int, Image] = field(default_factory=dict)
    gone: tuple[int, ...] = ()
    unread: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Inventory:
    """What an account has, as far as a run is concerned with it.

    Attributes:
        droplet_tag: The tag that the Droplets have; None for all Droplets, and for snapshots of those that are gone.
        droplets: The Droplets.
        images: The account's own images, of whatever Droplet.
        unread: Why backups of these Droplets cannot be read, by ID.
    """

    droplet_tag: str | None
    droplets: Sequence[Droplet]
    images: Sequence[Image]
    unread: Mapping[int, str] = field(default_factory=dict)


def take_inventory(droplet_tag: str | None, connection: Connection) -> Inventory:
    """Read the account's Droplets and images.

    Args:
        droplet_tag: Only Droplets with this tag; None for all.
        connection: The API.

    Returns:
        The inventory.

    Raises:
        InvalidArgument: No Droplet has the tag.
    """
    with waiting_for("Reading Droplets and images", connection):
        # Images first: without the scope to read them, Droplets come without the IDs of their backups.
        images = list_private_images(connection=connection)
        droplets = list_droplets(droplet_tag, connection=connection)
        if droplet_tag and not droplets:
            raise InvalidArgument(f"no Droplet has the tag {droplet_tag!r}")
        # The list of images may change while it is read; the Droplets name their backups.
        others = read_each(unlisted_images(droplets, images), connection)
    return Inventory(droplet_tag, droplets, [*images, *others.images.values()], others.unread)


def unlisted_images(droplets: Iterable[Droplet], images: Iterable[Image]) -> list[int]:
    """Name the backups that Droplets have but the list of images does not."""
    listed = {image.id for image in images}
    return sorted({each for droplet in droplets for each in droplet.backup_ids if each not in listed})


def read_each(image_ids: Iterable[int], connection: Connection) -> ImagesRead:
    """Read images one by one; one that cannot be read does not hide the others.

    Args:
        image_ids: Their IDs.
        connection: The API.

    Returns:
        The images, and which of them could not be read.

    Raises:
        Unauthorized: The token is wrong.
        ScopeMissing: The token may not read images.
    """
    images: dict[int, Image] = {}
    unread: dict[int, str] = {}
    gone: list[int] = []
    for image_id in image_ids:
        try:
            image = get_image(image_id, connection=connection)
        except (Unauthorized, ScopeMissing):
            raise
        except APIError as error:
            get_run_logger().warning("Image %d cannot be read: %s", image_id, error)
            unread[image_id] = str(error)
            continue
        if image is None:
            gone.append(image_id)
        else:
            images[image_id] = image
    return ImagesRead(images, tuple(gone), unread)
