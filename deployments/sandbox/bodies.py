"""The JSON of each resource: https://docs.digitalocean.com/reference/api/digitalocean/."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from deployments.sandbox.account import Account, Action, Droplet, Image, Tag
from deployments.sandbox.backup_policies import WINDOW_HOURS
from deployments.sandbox.firewalls import Firewall
from deployments.sandbox.regions import Region, Size
from deployments.sandbox.ssh_keys import SshKey
from deployments.sandbox.volumes import Volume, VolumeSnapshot
from deployments.sandbox.vpcs import Vpc

Body = dict[str, object]


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


def volume_snapshot_body(snapshot: VolumeSnapshot) -> Body:
    """A snapshot of a volume, as `/v2/snapshots` lists it."""
    return {
        "id": snapshot.id,
        "name": snapshot.name,
        "created_at": timestamp(snapshot.created_at),
        "regions": [snapshot.region],
        "resource_id": snapshot.volume_id,
        "resource_type": "volume",
        "min_disk_size": snapshot.min_disk_size,
        "size_gigabytes": snapshot.size_gigabytes,
        "tags": snapshot.tags,
    }


def volume_body(volume: Volume, account: Account) -> Body:
    """A volume."""
    return {
        "id": volume.id,
        "name": volume.name,
        "created_at": timestamp(volume.created_at),
        "description": volume.description,
        "droplet_ids": volume.droplet_ids,
        "region": region_body(account.regions[volume.region]),
        "size_gigabytes": volume.size_gigabytes,
        "filesystem_type": "ext4",
        "filesystem_label": "",
        "tags": volume.tags,
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
        "status": droplet.status,
        "kernel": None,
        "created_at": timestamp(droplet.created_at),
        "features": [
            *_backups_feature(droplet),
            "private_networking",
            *droplet.options,
        ],
        "backup_ids": [image_id for image_id, kind in types.items() if kind == "backup"],
        "next_backup_window": _next_backup_window(droplet, now),
        "snapshot_ids": [image_id for image_id, kind in types.items() if kind == "snapshot"],
        "image": image_body(droplet.base_image, now),
        "volume_ids": droplet.volume_ids,
        "size": size_body(size, account),
        "size_slug": size.slug,
        "networks": _networks(droplet) if droplet.status != "new" else {"v4": [], "v6": []},
        "region": region_body(account.regions[droplet.region]),
        "tags": droplet.tags,
        "vpc_uuid": droplet.vpc_uuid,
    }
    return body | _gpu(size)


def backup_policy_record(droplet: Droplet, now: float) -> Body:
    """The backup policy of a Droplet."""
    policy = droplet.backup_policy
    if policy is None:
        return {"droplet_id": droplet.id, "backup_enabled": False}
    weekday: Body = {"weekday": policy.weekday} if policy.weekday else {}
    return {
        "droplet_id": droplet.id,
        "backup_enabled": True,
        "backup_policy": {
            "plan": policy.plan,
            **weekday,
            "hour": policy.hour,
            "window_length_hours": WINDOW_HOURS,
            "retention_period_days": policy.retention_days,
        },
        "next_backup_window": _next_backup_window(droplet, now),
    }


def tag_body(tag: Tag, base_url: str) -> Body:
    """A tag, with the number of resources that have it."""
    counts = Counter(kind for kind, _ in tag.resources)
    resources: Body = _tagged(tag.resources, base_url)
    for kind in ("droplet", "image", "volume", "volume_snapshot", "database"):
        of_this_kind = [resource for resource in tag.resources if resource[0] == kind] if counts[kind] else []
        resources[f"{kind}s"] = _tagged(of_this_kind, base_url)
    return {"name": tag.name, "resources": resources}


def account_body(account: Account) -> Body:
    """The account itself."""
    return {
        "droplet_limit": account.droplet_limit,
        "floating_ip_limit": 5,
        "email": "sammy@example.com",
        "name": "Sammy the Shark",
        "uuid": "b6fr89dbf6d9156cace5f3c78dc9851d957381ef",
        "email_verified": True,
        "status": "active",
        "status_message": "",
        "team": {"uuid": "5df3e3004a17e242b7c20ca6c9fc25b701a47ece", "name": "Sandbox"},
    }


def action_link(action: Action, rel: str, base_url: str) -> Body:
    """A link to an action."""
    return {"id": action.id, "rel": rel, "href": f"{base_url}/v2/actions/{action.id}"}


def vpc_body(vpc: Vpc) -> Body:
    """A VPC network."""
    return {
        "id": vpc.id,
        "urn": f"do:vpc:{vpc.id}",
        "name": vpc.name,
        "description": vpc.description,
        "region": vpc.region,
        "ip_range": vpc.ip_range,
        "created_at": timestamp(vpc.created_at),
        "default": vpc.default,
    }


def ssh_key_body(key: SshKey) -> Body:
    """An SSH key."""
    return {"id": key.id, "fingerprint": key.fingerprint, "public_key": key.public_key, "name": key.name}


def firewall_body(firewall: Firewall, now: float) -> Body:
    """A firewall."""
    waiting = now < firewall.applied_at
    pending = [{"droplet_id": number, "removing": False, "status": "waiting"} for number in firewall.droplet_ids]
    return {
        "id": firewall.id,
        "name": firewall.name,
        "status": "waiting" if waiting else "succeeded",
        "inbound_rules": firewall.inbound_rules,
        "outbound_rules": firewall.outbound_rules,
        "created_at": timestamp(firewall.created_at),
        "droplet_ids": firewall.droplet_ids,
        "tags": firewall.tags,
        "pending_changes": pending if waiting else [],
    }


def _tagged(resources: Iterable[tuple[str, int]], base_url: str) -> Body:
    found = list(resources)
    if not found:
        return {"count": 0}
    kind, last = found[-1]
    return {"count": len(found), "last_tagged_uri": f"{base_url}/v2/{kind}s/{last}"}


def size_body(size: Size, account: Account) -> Body:
    """A Droplet size, and where it is available."""
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
    if droplet.public_ip is None:
        return {"v4": [private], "v6": []}
    gateway = f"{droplet.public_ip.rpartition('.')[0]}.1"
    public = {
        "ip_address": droplet.public_ip,
        "netmask": "255.255.255.0",
        "gateway": gateway,
        "type": "public",
    }
    return {"v4": [private, public], "v6": [_ipv6(droplet)] if "ipv6" in droplet.options else []}


def _ipv6(droplet: Droplet) -> Body:
    network = "2001:db8:0:1010"
    address = f"{network}::{droplet.id >> 16:x}:{droplet.id & 0xFFFF:x}"
    return {"ip_address": address, "netmask": 64, "gateway": f"{network}::1", "type": "public"}


def _next_backup_window(droplet: Droplet, now: float) -> Body | None:
    if droplet.backup_policy is None or droplet.status == "new":
        return None
    start, end = droplet.backup_policy.next_window(now)
    return {"start": timestamp(start), "end": timestamp(end)}


def _backups_feature(droplet: Droplet) -> list[str]:
    """`backups`, except on usage-based plans: https://github.com/digitalocean/terraform-provider-digitalocean/issues/1525."""
    return ["backups"] if droplet.backup_policy and not droplet.backup_policy.is_usage_based else []
