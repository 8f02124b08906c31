"""Images, actions, Droplets and regions as the API lists them, with only what a test is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tasks.digitalocean import Action, Droplet, Image, Region, Snapshot

NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)


def image(image_id: int = 1, kind: str = "snapshot", *regions: str, days_old: float = 0, **other: Any) -> Image:
    created_at = NOW - timedelta(days=days_old)
    return Image(id=image_id, type=kind, regions=regions or ("fra1",), created_at=created_at, **other)


def snapshot(image_id: int = 1, *regions: str, days_old: float = 0, droplet_id: int = 1, **other: Any) -> Snapshot:
    """A snapshot that this project made, unless its tags say otherwise."""
    wanted = {"name": "", "size_gigabytes": 2.5, "tags": ("prefect:replicated",)} | other
    created_at = NOW - timedelta(days=days_old)
    return Snapshot(id=image_id, resource_id=droplet_id, regions=regions or ("fra1",), created_at=created_at, **wanted)


def action(
    kind: str = "transfer", status: str = "in-progress", region: str = "nyc3", *, minutes_ago: float = 1, **other: Any
) -> Action:
    """An action that was started, or has ended, so many minutes ago."""
    moment = NOW - timedelta(minutes=minutes_ago)
    ended = None if status == "in-progress" else moment
    started = moment if ended is None else moment - timedelta(hours=1)
    wanted = {"id": 1, "resource_id": 1, "resource_type": "image"} | other
    return Action(status=status, type=kind, started_at=started, completed_at=ended, region_slug=region, **wanted)


def droplet(
    droplet_id: int = 1,
    name: str = "web",
    backups: tuple[int, ...] = (),
    snapshots: tuple[int, ...] = (),
    volumes: tuple[str, ...] = (),
) -> Droplet:
    return Droplet(id=droplet_id, name=name, backup_ids=backups, snapshot_ids=snapshots, volume_ids=volumes)


def region(slug: str, *features: str, available: bool = True) -> Region:
    return Region(slug=slug, name=slug, available=available, features=features or ("backups", "image_transfer"))
