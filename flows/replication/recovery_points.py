"""Which images are to be copied, and where to: pure decisions on what the API has listed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

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
        without_backups: Droplets that have none, by name and id.
        missing: Images that cannot be copied because they are not there or cannot be looked at, by id, and why.
        volumes: How many volumes are attached to each Droplet that has any, by its name and id. No image holds them.
    """

    candidates: tuple[Candidate, ...]
    without_backups: tuple[str, ...] = ()
    missing: Mapping[int, str] = field(default_factory=dict)
    volumes: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Selection) -> Selection:
        """Both of two selections."""
        return Selection(
            self.candidates + other.candidates,
            self.without_backups + other.without_backups,
            {**self.missing, **other.missing},
            {**self.volumes, **other.volumes},
        )

    @property
    def images(self) -> list[Image]:
        """The images to copy."""
        return [candidate.image for candidate in self.candidates]

    @property
    def image_ids(self) -> list[int]:
        """Their ids."""
        return [image.id for image in self.images]


def target_regions(known: Sequence[Region], wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Choose the regions to copy to.

    `available` of a region only says whether Droplets can be created there, and regions closed for Droplets have taken
    images (https://github.com/hashicorp/packer/issues/5948). So what the user names is for the API to accept or refuse.

    Args:
        known: The regions that the API lists.
        wanted: Slugs asked for; None for every region that is available and has the feature `image_transfer`.

    Returns:
        The slugs, sorted.

    Raises:
        InvalidArgument: The list of slugs is empty, or no region is available.
    """
    if wanted is not None:
        if not wanted:
            raise InvalidArgument("the list of regions is empty: name at least one, or leave it out for all")
        return tuple(sorted(set(wanted)))
    if not (taking := _taking_images(known)):
        raise InvalidArgument("no region is available for image transfers at present; name the regions to try")
    return tuple(sorted(taking))


def doubtful_regions(known: Sequence[Region], targets: Iterable[str]) -> tuple[str, ...]:
    """Name the targets that, by the API's list of regions, are not available for image transfers."""
    return tuple(sorted(set(targets) - _taking_images(known)))


def _taking_images(regions: Iterable[Region]) -> set[str]:
    return {region.slug for region in regions if region.takes_images}


def attached_volumes(droplets: Iterable[Droplet]) -> dict[str, int]:
    """Count the volumes of each Droplet that has any, by its name and id."""
    return {name_of(droplet): len(droplet.volume_ids) for droplet in _by_name(droplets) if droplet.volume_ids}


def name_of(droplet: Droplet) -> str:
    """Such as `web-01 (448000739)`, because names are not unique."""
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

    A recovery point is an available backup, or an available snapshot that this project made of one: it has the managed
    tag, or its conversion was seen in the account's actions. Snapshots that people made are theirs.

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
    for droplet in _by_name(droplets):
        own = (known[each] for each in {*droplet.backup_ids, *droplet.snapshot_ids} if each in known)
        points = [
            image
            for image in own
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
            and each.available
            and not is_tagged(each, managed_tag)
            and (oldest is None or each.created_at > oldest)
        ]
    return unclear


def is_tagged(image: Image | Snapshot, tag: str) -> bool:
    """Whether an image bears a tag."""
    # Tags are case stable: the API finds them in any capitals.
    return tag.lower() in map(str.lower, image.tags)
