"""Which images are to be copied, and where to: pure decisions on what the API has listed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from tasks.digitalocean import Droplet, Image, InvalidArgument, Region, Snapshot


@dataclass(frozen=True)
class Candidate:
    """An image that should be in every region.

    Attributes:
        image: The image.
        source: What it is a copy of, for people.
        droplet_id: The Droplet it is a copy of, where that is known.
    """

    image: Image
    source: str
    droplet_id: int | None = None


@dataclass(frozen=True)
class Selection:
    """What was chosen.

    Attributes:
        candidates: The images to copy.
        without_backups: Droplets that have none, for people.
        gone: Ids that were asked for, but of which there is no image.
    """

    candidates: tuple[Candidate, ...]
    without_backups: tuple[str, ...] = ()
    gone: tuple[int, ...] = ()

    def __add__(self, other: Selection) -> Selection:
        """Both of two selections."""
        return Selection(
            self.candidates + other.candidates, self.without_backups + other.without_backups, self.gone + other.gone
        )

    @property
    def images(self) -> list[Image]:
        """The images to copy."""
        return [candidate.image for candidate in self.candidates]

    @property
    def image_ids(self) -> list[int]:
        """Their ids."""
        return [image.id for image in self.images]


def target_regions(regions: Sequence[Region], wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Choose the regions to copy to.

    Args:
        regions: All regions the API knows.
        wanted: Slugs asked for; None for every region that takes images.

    Returns:
        The slugs, sorted. Those asked for are among them even if they take no images now (see `closed_regions`), so
        that somebody hears of it.

    Raises:
        InvalidArgument: No region was asked for, one is unknown, or none takes images.
    """
    taking = {region.slug for region in regions if region.takes_images}
    if wanted is None:
        chosen = taking
    else:
        if not wanted:
            raise InvalidArgument(f"the list of regions is empty; leave it out for all, or choose from {_list(taking)}")
        unknown = set(wanted) - {region.slug for region in regions}
        if unknown:
            raise InvalidArgument(f"no such region: {_list(unknown)}; regions that take images are {_list(taking)}")
        chosen = set(wanted)
    if not chosen & taking:
        raise InvalidArgument(f"none of these regions takes images; those that do are {_list(taking)}")
    return tuple(sorted(chosen))


def closed_regions(regions: Iterable[Region]) -> frozenset[str]:
    """Name the regions that take no images now."""
    return frozenset(region.slug for region in regions if not region.takes_images)


def choose_recovery_points(
    droplets: Iterable[Droplet],
    images: Iterable[Image],
    *,
    managed_tag: str,
    newest: int,
    converted: Collection[int | None] = (),
) -> Selection:
    """Choose each Droplet's newest recovery points.

    A recovery point is a backup, or a snapshot that this project made of one: it bears the managed tag, or its
    conversion was seen in the account's actions. Snapshots that people made are theirs.

    Args:
        droplets: The Droplets to protect.
        images: The account's images.
        managed_tag: The tag on snapshots that this project made.
        newest: How many recovery points a Droplet, from 1 on.
        converted: Ids of images known to have been backups, tagged or not.

    Returns:
        The newest recovery points, and the Droplets that have none.
    """
    known = {image.id: image for image in images}
    candidates: list[Candidate] = []
    without: list[str] = []
    for droplet in sorted(droplets, key=lambda each: (each.name, each.id)):
        own = (known[each] for each in {*droplet.backup_ids, *droplet.snapshot_ids} if each in known)
        points = [
            image for image in own if image.type == "backup" or image.id in converted or is_tagged(image, managed_tag)
        ]
        points.sort(key=lambda image: (image.created_at, image.id), reverse=True)
        source = f"{droplet.name} ({droplet.id})"
        candidates += [Candidate(image, source, droplet.id) for image in points[:newest]]
        if not points:
            without.append(source)
    return Selection(tuple(candidates), tuple(without))


def newer_snapshots(
    droplets: Iterable[Droplet], images: Iterable[Image], selection: Selection, *, managed_tag: str
) -> list[Image]:
    """List untagged snapshots that may be newer recovery points than those chosen, or the only ones.

    A run that died after it converted a backup that could not be tagged as such leaves one behind.

    Args:
        droplets: The Droplets to protect.
        images: The account's images.
        selection: What was chosen by the tag alone.
        managed_tag: The tag on snapshots that this project made.

    Returns:
        The snapshots whose actions will tell.
    """
    known = {image.id: image for image in images}
    chosen = {candidate.image.id: candidate.image for candidate in selection.candidates}
    unclear = []
    for droplet in droplets:
        points = [chosen[each] for each in {*droplet.backup_ids, *droplet.snapshot_ids} if each in chosen]
        oldest = min((point.created_at for point in points), default=None)
        # One that was listed as the Droplet's backup may be a snapshot by the time the images are listed.
        own = (known[each] for each in {*droplet.backup_ids, *droplet.snapshot_ids} if each in known)
        unclear += [
            each
            for each in own
            if each.type != "backup"
            and not is_tagged(each, managed_tag)
            and (oldest is None or each.created_at > oldest)
        ]
    return unclear


def is_tagged(image: Image | Snapshot, tag: str) -> bool:
    """Whether an image bears a tag."""
    # Tags are case stable: the API finds them in any capitals.
    return tag.lower() in map(str.lower, image.tags)


def _list(slugs: Iterable[str]) -> str:
    return ", ".join(sorted(slugs)) or "none"
