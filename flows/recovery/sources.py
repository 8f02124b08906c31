"""What Droplets are rebuilt from: pure functions on what the API lists."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from flows.recovery.markers import DRILL, RESTORE
from flows.recovery.proofs import Proof
from flows.recovery.records import DropletRecord, record_of
from flows.reporting.report import listed
from tasks.digitalocean import Droplet, Image, Snapshot


@dataclass(frozen=True)
class Source:
    """A Droplet to rebuild.

    Attributes:
        region: Slug of the region to rebuild it in.
        original: What is known of the Droplet, or of the image if it never had one.
        image: The newest recovery point that can be used, or None.
        exists: Whether the original Droplet still exists.
        needed: Whether to rebuild it; not if it still is in the region.
        problem: Why it cannot be rebuilt; empty if nothing is known against it.
    """

    region: str
    original: DropletRecord
    image: Image | None = None
    exists: bool = False
    needed: bool = True
    problem: str = ""

    @property
    def droplet_id(self) -> int | None:
        """The original Droplet; None if unknown."""
        return self.original.droplet_id or None

    @property
    def label(self) -> str:
        """Such as `web-01 (448000739)`."""
        return f"{self.original.name} ({self.droplet_id})" if self.droplet_id else self.original.name


@dataclass(frozen=True)
class Holdings:
    """The Droplets, images and records of an account.

    Attributes:
        droplets: All Droplets.
        images: All private images.
        snapshots: The snapshots of Droplets, including deleted Droplets.
        records: What is recorded of Droplets, by ID.
        proofs: Earlier drills that succeeded.
    """

    droplets: Sequence[Droplet]
    images: Collection[Image]
    snapshots: Collection[Snapshot]
    records: Mapping[int, DropletRecord]
    proofs: Sequence[Proof] = ()

    def droplet_of_image(self) -> dict[int, int]:
        """The ID of each image's Droplet, by ID of the image."""
        owners = {each.id: each.resource_id for each in self.snapshots}
        return owners | {
            image_id: droplet.id
            for droplet in self.droplets
            for image_id in (*droplet.backup_ids, *droplet.snapshot_ids)
        }


def choose_sources(
    holdings: Holdings,
    region: str,
    *,
    from_region: str | None = None,
    droplet_tag: str | None = None,
    droplet_ids: Collection[int] | None = None,
    image_ids: Collection[int] | None = None,
) -> list[Source]:
    """Choose what to rebuild in a region, and from which images.

    Args:
        holdings: What there is.
        region: Slug of the region.
        from_region: Only Droplets that are or were in this region, and those of which that is unknown; None for all.
        droplet_tag: Only Droplets with this tag; None for all.
        droplet_ids: Only these Droplets; None for all. They are rebuilt even if they are in the region already.
        image_ids: These images instead of the newest recovery points of Droplets.

    Returns:
        The sources, by name. Droplets without a recovery point in the region have a problem. Of a restored Droplet and
        its original, only one is a source: the restored one as soon as it has a recovery point of its own. Drills are
        not sources.
    """
    owners = holdings.droplet_of_image()
    living = {droplet.id: droplet for droplet in holdings.droplets}
    images = {image.id: image for image in holdings.images}
    if image_ids is not None:
        return [_named(each, images.get(each), region, owners, holdings) for each in dict.fromkeys(image_ids)]
    points: dict[int, list[Image]] = {}
    for image_id, owner in owners.items():
        if image := images.get(image_id):
            points.setdefault(owner, []).append(image)
    if droplet_ids is not None:
        chosen = [_source(each, points.get(each, ()), region, holdings) for each in dict.fromkeys(droplet_ids)]
    else:
        drills = {droplet.id for droplet in holdings.droplets if DRILL.tag in droplet.tags}
        everything = {
            each: _source(each, points.get(each, ()), region, holdings) for each in {*living, *points} - drills
        }
        replaced = _replaced(holdings.droplets, everything)
        chosen = [
            replace(source, needed=not (source.exists and source.original.region == region))
            for droplet_id, source in everything.items()
            if droplet_id not in replaced
        ]
    wanted = [
        each
        for each in chosen
        if (droplet_tag is None or droplet_tag.lower() in map(str.lower, each.original.tags))
        and (from_region is None or each.original.region in (from_region, ""))
    ]
    return sorted(wanted, key=lambda each: (each.original.name, each.original.droplet_id))


def _replaced(droplets: Iterable[Droplet], sources: Mapping[int, Source]) -> set[int]:
    """Of each restored Droplet and its original, find the ID of the one that the other one stands for.

    An original may have been restored itself.
    """
    originals = {
        droplet.id: original
        for droplet in droplets
        if (original := RESTORE.original_of(droplet.tags)) and {original, droplet.id} <= sources.keys()
        if original != droplet.id
    }
    replaced: set[int] = set()
    for restored, direct in originals.items():
        original = direct if sources[restored].image else None
        while original is not None and original not in replaced:
            replaced.add(original)
            original = originals.get(original)
    return replaced | {restored for restored in originals if not sources[restored].image}


def _source(droplet_id: int, images: Iterable[Image], region: str, holdings: Holdings) -> Source:
    droplet = next((each for each in holdings.droplets if each.id == droplet_id), None)
    usable = [image for image in images if image.available and region in image.regions]
    image = max(usable, key=lambda each: (each.created_at, each.id), default=None)
    original = (
        record_of(droplet)
        if droplet
        else holdings.records.get(droplet_id) or DropletRecord(droplet_id, name=_name_from(image, droplet_id))
    )
    problem = "" if image else _why_no_image(images, region)
    return Source(region, original, image, exists=droplet is not None, problem=problem)


def _why_no_image(images: Iterable[Image], region: str) -> str:
    newest = max((image for image in images if image.available), key=lambda each: each.created_at, default=None)
    elsewhere = f"; the newest is in {listed(sorted(newest.regions))}" if newest and newest.regions else ""
    return f"it has no available backup or snapshot in {region}{elsewhere}"


def _named(image_id: int, image: Image | None, region: str, owners: Mapping[int, int], holdings: Holdings) -> Source:
    """The source for an image that the user names."""
    if image is None:
        return Source(
            region, DropletRecord(0, f"image {image_id}"), problem=f"image {image_id} does not exist or was deleted"
        )
    owner = owners.get(image_id)
    if owner is None:
        return Source(
            region, DropletRecord(0, _name_from(image, image_id)), image, problem=_why_unusable(image, region)
        )
    source = _source(owner, (), region, holdings)
    return replace(source, image=image, problem=_why_unusable(image, region))


def _why_unusable(image: Image, region: str) -> str:
    if not image.available:
        return f"image {image.id} is not available: its status is {image.status}"
    return "" if region in image.regions else f"image {image.id} is not in {region}"


def _name_from(image: Image | None, number: int) -> str:
    """A name for a Droplet of which only an image is left: the first word of the image's name, if that is one."""
    words = image.name.split() if image else []
    first = "".join(each for each in words[0] if each.isascii() and (each.isalnum() or each in ".-")) if words else ""
    return first.strip(".-") or f"droplet-{number}"
