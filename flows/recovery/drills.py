"""Which Droplets a drill rebuilds, and where: pure functions on what the API lists."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from flows.recovery.markers import DRILL
from flows.recovery.proofs import Proof, last_proven
from flows.recovery.records import record_of
from flows.recovery.sources import Holdings, Source
from tasks.digitalocean import Droplet, Image

NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Choice:
    """What a drill rebuilds.

    Attributes:
        sources: The Droplets, those proven longest ago first.
        unprotected: Names and IDs of Droplets that have no copy in the regions, so that nothing can be proven.
    """

    sources: tuple[Source, ...]
    unprotected: tuple[str, ...] = ()


def choose_drills(
    holdings: Holdings,
    *,
    droplet_tag: str | None,
    regions: Collection[str] | None,
    sample: int,
) -> Choice:
    """Choose the Droplets that were proven longest ago, and for each a region that holds a copy, away from home.

    Args:
        holdings: What there is.
        droplet_tag: Only Droplets with this tag; None for all.
        regions: Slugs of the regions to choose from; None for all.
        sample: How many Droplets.
    """
    proven, copies = last_proven(holdings.proofs), _usable_images(holdings)
    found, unprotected = [], []
    for droplet in holdings.droplets:
        if DRILL.tag in droplet.tags or (droplet_tag and droplet_tag.lower() not in map(str.lower, droplet.tags)):
            continue
        source = _source(droplet, copies.get(droplet.id, ()), regions, holdings.proofs)
        if source:
            found.append(source)
        else:
            unprotected.append(f"{droplet.name} ({droplet.id})")
    found.sort(key=lambda each: (proven.get(each.original.droplet_id, NEVER), each.original.name, each.label))
    return Choice(tuple(found[:sample]), tuple(sorted(unprotected)))


def _usable_images(holdings: Holdings) -> dict[int, list[Image]]:
    """The available images of each Droplet, by its ID."""
    images = {image.id: image for image in holdings.images if image.available}
    found: dict[int, list[Image]] = {}
    for image_id, droplet_id in holdings.droplet_of_image().items():
        if image_id in images:
            found.setdefault(droplet_id, []).append(images[image_id])
    return found


def _source(
    droplet: Droplet, images: Iterable[Image], regions: Collection[str] | None, proofs: Iterable[Proof]
) -> Source | None:
    """The newest image with a copy away from home, in the region where the Droplet was proven longest ago."""
    newest: Image | None = None
    away: list[str] = []
    for image in sorted(images, key=lambda each: (each.created_at, each.id)):
        elsewhere = [each for each in image.regions if each != droplet.region and (regions is None or each in regions)]
        newest, away = (image, elsewhere) if elsewhere else (newest, away)
    if newest is None:
        return None
    proven = {
        proof.region: proof.at for proof in sorted(proofs, key=lambda each: each.at) if proof.droplet_id == droplet.id
    }
    region = min(away, key=lambda each: (proven.get(each, NEVER), each))
    return Source(region, record_of(droplet), newest, exists=True)
