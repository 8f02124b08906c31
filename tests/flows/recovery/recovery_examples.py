"""Droplets, sizes and sources of a rebuild, with only what a test is about."""

from __future__ import annotations

from typing import Any

from flows.recovery.records import DropletRecord
from flows.recovery.sources import Holdings, Source
from tasks.digitalocean import Droplet, Image, Size, Snapshot
from tests.flows.images import image

SMALL, MEDIUM, LARGE = "s-1vcpu-1gb", "s-2vcpu-4gb", "s-8vcpu-16gb"


def droplet(
    droplet_id: int = 1,
    name: str = "web",
    region: str = "nyc3",
    tags: tuple[str, ...] = (),
    images: tuple[int, ...] = (),
    **other: Any,
) -> Droplet:
    body = {"id": droplet_id, "name": name, "region": {"slug": region}, "tags": tags, "backup_ids": images}
    return Droplet.model_validate(body | {"snapshot_ids": (), "size_slug": SMALL, "status": "active"} | other)


def size(slug: str = SMALL, disk: int = 25, monthly: float = 6, *regions: str, **other: Any) -> Size:
    wanted = {"memory": 1024, "vcpus": 1, "price_monthly": monthly, "price_hourly": monthly / 672} | other
    return Size(slug=slug, disk=disk, regions=regions or ("fra1",), **wanted)


SIZES = (
    size(SMALL, 25, 6, "fra1", "nyc3"),
    size(MEDIUM, 80, 24, "fra1", memory=4096),
    size(LARGE, 320, 96, "fra1", memory=16384),
    size("c-2", 50, 42, "nyc3", memory=4096),
)


def record(droplet_id: int = 1, name: str = "web", **other: Any) -> DropletRecord:
    return DropletRecord(droplet_id, name, **{"size": SMALL, "region": "nyc3", **other})


def source(droplet_id: int = 1, name: str = "web", disk: int = 25, **other: Any) -> Source:
    """A Droplet of nyc3 that is to be rebuilt in fra1."""
    of_source: dict[str, Any] = {"image": image(100 + droplet_id, min_disk_size=disk), "exists": True}
    of_source |= {key: other.pop(key) for key in ("image", "exists", "needed", "problem") if key in other}
    return Source("fra1", record(droplet_id, name, **other), **of_source)


def holdings(
    *droplets: Droplet,
    images: tuple[Image, ...] = (),
    snapshots: tuple[Snapshot, ...] = (),
    records: tuple[DropletRecord, ...] = (),
) -> Holdings:
    return Holdings(droplets, images, snapshots, {each.droplet_id: each for each in records})
