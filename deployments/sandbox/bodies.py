"""The JSON of each resource: https://docs.digitalocean.com/reference/api/digitalocean/."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from deployments.sandbox.account import Account, Action, Droplet, Image, Tag
from deployments.sandbox.regions import Region, Size

Body = dict[str, object]

DAY = 24 * 3600


def timestamp(seconds: float) -> str:
    """Format a time as the API does, in whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def region_body(region: Region) -> Body:
    """A region."""
    return {
        "name": region.name,
        "slug": region.slug,
        "features": region.features,
        "available": region.available,
        "sizes": region.sizes,
    }


def action_body(action: Action, account: Account) -> Body:
    """An action."""
    ended_at = action.completed_at
    return {
        "id": action.id,
        "status": action.status,
        "type": action.type,
        "started_at": timestamp(action.started_at),
        "completed_at": None if ended_at is None else timestamp(ended_at),
        "resource_id": action.resource_id,
        "resource_type": action.resource_type,
        "region": region_body(account.regions[action.region]),
        "region_slug": action.region,
    }


def image_body(image: Image, now: float) -> Body:
    """An image."""
    return {
        "id": image.id,
        "name": image.name,
        "type": image.shown_type(now),
        "distribution": image.distribution,
        "slug": image.slug,
        "public": image.public,
        "regions": image.shown_regions(now),
        "created_at": timestamp(image.created_at),
        "min_disk_size": image.min_disk_size,
        "size_gigabytes": image.size_gigabytes,
        "description": image.description,
        "tags": image.tags,
        "status": image.status,
        "error_message": "",
    }


def droplet_image_body(image: Image, now: float) -> Body:
    """A backup or snapshot, as its Droplet lists it."""
    whole = image_body(image, now)
    return {name: whole[name] for name in whole if name not in ("tags", "description", "error_message", "status")}


def snapshot_body(image: Image, now: float) -> Body:
    """A snapshot, as `/v2/snapshots` lists it: with IDs as strings."""
    return {
        "id": str(image.id),
        "name": image.name,
        "created_at": timestamp(image.created_at),
        "regions": image.shown_regions(now),
        "resource_id": str(image.droplet_id),
        "resource_type": "droplet",
        "min_disk_size": image.min_disk_size,
        "size_gigabytes": image.size_gigabytes,
        "tags": image.tags,
    }


def droplet_body(droplet: Droplet, account: Account, now: float) -> Body:
    """A Droplet."""
    size = droplet.size
    types = {image_id: account.images[image_id].shown_type(now) for image_id in droplet.image_ids}
    body: Body = {
        "id": droplet.id,
        "name": droplet.name,
        "memory": size.memory,
        "vcpus": size.vcpus,
        "disk": size.disk,
        "disk_info": _disk_info(size),
        "locked": False,
        "status": "active",
        "kernel": None,
        "created_at": timestamp(droplet.created_at),
        "features": [*(["backups"] if droplet.backup_hour is not None else []), "private_networking"],
        "backup_ids": [image_id for image_id, kind in types.items() if kind == "backup"],
        "next_backup_window": _next_backup_window(droplet.backup_hour, now),
        "snapshot_ids": [image_id for image_id, kind in types.items() if kind == "snapshot"],
        "image": image_body(droplet.base_image, now),
        "volume_ids": droplet.volume_ids,
        "size": _size_body(size, account),
        "size_slug": size.slug,
        "networks": _networks(droplet),
        "region": region_body(account.regions[droplet.region]),
        "tags": droplet.tags,
        "vpc_uuid": droplet.vpc_uuid,
    }
    return body | _gpu(size)


def tag_body(tag: Tag, base_url: str) -> Body:
    """A tag, with the number of resources that have it."""
    counts = Counter(kind for kind, _ in tag.resources)
    resources: Body = _tagged(tag.resources, base_url)
    for kind in ("droplet", "image", "volume", "volume_snapshot", "database"):
        of_this_kind = [resource for resource in tag.resources if resource[0] == kind] if counts[kind] else []
        resources[f"{kind}s"] = _tagged(of_this_kind, base_url)
    return {"name": tag.name, "resources": resources}


def account_body() -> Body:
    """The account itself."""
    return {
        "droplet_limit": 2000,
        "floating_ip_limit": 5,
        "email": "sammy@example.com",
        "name": "Sammy the Shark",
        "uuid": "b6fr89dbf6d9156cace5f3c78dc9851d957381ef",
        "email_verified": True,
        "status": "active",
        "status_message": "",
        "team": {"uuid": "5df3e3004a17e242b7c20ca6c9fc25b701a47ece", "name": "Sandbox"},
    }


def _tagged(resources: Iterable[tuple[str, int]], base_url: str) -> Body:
    found = list(resources)
    if not found:
        return {"count": 0}
    kind, last = found[-1]
    return {"count": len(found), "last_tagged_uri": f"{base_url}/v2/{kind}s/{last}"}


def _size_body(size: Size, account: Account) -> Body:
    body: Body = {
        "slug": size.slug,
        "memory": size.memory,
        "vcpus": size.vcpus,
        "disk": size.disk,
        "transfer": float(size.vcpus),
        "price_monthly": size.price_monthly,
        "price_hourly": round(size.price_monthly / 672, 5),
        "regions": [region.slug for region in account.regions.values() if size.slug in region.sizes],
        "available": True,
        "description": size.description,
        "disk_info": _disk_info(size),
    }
    return body | _gpu(size)


def _disk_info(size: Size) -> list[Body]:
    return [{"type": "local", "size": {"amount": size.disk, "unit": "gib"}}]


def _gpu(size: Size) -> Body:
    if size.gpu_model is None:
        return {}
    return {"gpu_info": {"count": 1, "vram": {"amount": 80, "unit": "gib"}, "model": size.gpu_model}}


def _networks(droplet: Droplet) -> Body:
    private = {"ip_address": droplet.private_ip, "netmask": "255.255.0.0", "gateway": "nil", "type": "private"}
    public = {"ip_address": droplet.public_ip, "netmask": "255.255.255.0", "gateway": "203.0.113.1", "type": "public"}
    return {"v4": [private, public], "v6": []}


def _next_backup_window(hour: int | None, now: float) -> Body | None:
    if hour is None:
        return None
    start = now - now % DAY + hour * 3600
    if start <= now:
        start += DAY
    return {"start": timestamp(start), "end": timestamp(start + 23 * 3600)}
