"""Which images to copy, and where: pure functions on what the API lists."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks.digitalocean import Droplet, Image, InvalidArgument, Region, Snapshot

if TYPE_CHECKING:
    from flows.snapshots.planning import SnapshotChoice


@dataclass(frozen=True)
class Candidate:
    """An image that should be in every region.

    Attributes:
        source: Name and ID of its Droplet, or the name of the image.
        droplet_id: ID of its Droplet; None if unknown.
    """

    image: Image
    source: str
    droplet_id: int | None = None


@dataclass(frozen=True)
class Selection:
    """The chosen images.

    Attributes:
        candidates: The images to copy.
        without_backups: Names and IDs of Droplets without backups.
        missing: Why images do not exist or cannot be read, by ID.
        volumes: Number of attached volumes by Droplet name and ID. Images do not include volumes.
        snapshots: The Droplets of which snapshots are to be taken and copied; None to only copy images.
    """

    candidates: tuple[Candidate, ...]
    without_backups: tuple[str, ...] = ()
    missing: Mapping[int, str] = field(default_factory=dict)
    volumes: Mapping[str, int] = field(default_factory=dict)
    snapshots: SnapshotChoice | None = None

    def __add__(self, other: Selection) -> Selection:
        """Combine two selections."""
        return Selection(
            self.candidates + other.candidates,
            self.without_backups + other.without_backups,
            {**self.missing, **other.missing},
            {**self.volumes, **other.volumes},
            self.snapshots or other.snapshots,
        )


def target_regions(known: Sequence[Region], wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Choose the regions to copy to.

    A region's `available` only says whether Droplets can be created there. Regions closed for Droplets have accepted
    images (https://github.com/hashicorp/packer/issues/5948). So the API decides about the regions that the user names.

    Args:
        known: The regions that the API lists.
        wanted: Slugs; None for all available regions with the feature `image_transfer`.

    Returns:
        The slugs, sorted.

    Raises:
        InvalidArgument: The list of slugs is empty, or no region is available.
    """
    if wanted is not None:
        if not wanted:
            raise InvalidArgument("the list of regions is empty: name at least one, or leave it out for all regions")
        return tuple(sorted(set(wanted)))
    if not (taking := _taking_images(known)):
        raise InvalidArgument("no region is listed as available for image transfers: name the regions to try")
    return tuple(sorted(taking))


def doubtful_regions(known: Sequence[Region], targets: Iterable[str]) -> tuple[str, ...]:
    """List the targets that the API does not list as available for image transfers."""
    return tuple(sorted(set(targets) - _taking_images(known)))


def _taking_images(regions: Iterable[Region]) -> set[str]:
    return {region.slug for region in regions if region.takes_images}


def attached_volumes(droplets: Iterable[Droplet]) -> dict[str, int]:
    """Count the volumes of each Droplet that has any, by Droplet name and ID."""
    return {name_of(droplet): len(droplet.volume_ids) for droplet in _by_name(droplets) if droplet.volume_ids}


def name_of(droplet: Droplet) -> str:
    """Such as `web-01 (448000739)`; names are not unique."""
    return f"{droplet.name} ({droplet.id})"


def _by_name(droplets: Iterable[Droplet]) -> list[Droplet]:
    return sorted(droplets, key=lambda each: (each.name, each.id))


def choose_recovery_points(
    droplets: Iterable[Droplet],
    images: Iterable[Image],
    *,
    managed_tag: str,
    newest: int,
    converted: Collection[int | None] = (),
) -> Selection:
    """Choose each Droplet's newest recovery points.

    A recovery point is an available backup, or an available snapshot that this project converted from one: it has the
    managed tag, or its conversion is among the account's actions. Other snapshots are ignored.

    Args:
        droplets: The Droplets to protect.
        images: The account's images.
        managed_tag: The tag on snapshots that this project made.
        newest: How many recovery points per Droplet, at least 1.
        converted: IDs of images that were converted from backups, tagged or not.
    """
    known = {image.id: image for image in images}
    candidates: list[Candidate] = []
    without: list[str] = []
    for droplet in _by_name(droplets):
        points = [
            image
            for image in _images_of(droplet, known)
            if image.available and (image.type == "backup" or image.id in converted or is_tagged(image, managed_tag))
        ]
        points.sort(key=lambda image: (image.created_at, image.id), reverse=True)
        source = name_of(droplet)
        candidates += [Candidate(image, source, droplet.id) for image in points[:newest]]
        if not points:
            without.append(source)
    return Selection(tuple(candidates), tuple(without))


def newer_snapshots(
    droplets: Iterable[Droplet], images: Iterable[Image], selection: Selection, *, managed_tag: str
) -> list[Image]:
    """List untagged snapshots that may be newer recovery points than the chosen ones; their actions decide.

    A run that dies between the conversion and the tagging of an image leaves such a snapshot behind.

    Args:
        droplets: The Droplets to protect.
        images: The account's images.
        selection: The recovery points chosen by tag alone.
        managed_tag: The tag on snapshots that this project made.
    """
    known = {image.id: image for image in images}
    chosen = {candidate.image.id: candidate.image for candidate in selection.candidates}
    unclear = []
    for droplet in droplets:
        oldest = min((point.created_at for point in _images_of(droplet, chosen)), default=None)
        unclear += [
            each
            for each in _images_of(droplet, known)
            if each.type != "backup"
            and each.available
            and not is_tagged(each, managed_tag)
            and (oldest is None or each.created_at > oldest)
        ]
    return unclear


def _images_of(droplet: Droplet, images: Mapping[int, Image]) -> list[Image]:
    """List a Droplet's images; a backup may have become a snapshot between the two lists that were read."""
    return [images[each] for each in {*droplet.backup_ids, *droplet.snapshot_ids} if each in images]


def is_tagged(image: Image | Snapshot, tag: str) -> bool:
    """Whether an image has a tag; case does not matter, as in the API."""
    return tag.lower() in map(str.lower, image.tags)
