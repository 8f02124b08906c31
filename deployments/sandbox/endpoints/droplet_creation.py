"""Creating Droplets: `POST /v2/droplets`."""

from __future__ import annotations

import re

from deployments.sandbox.account import DropletPlan, Image
from deployments.sandbox.backup_policies import USAGE_BASED_INTERVALS, WEEKDAYS, WINDOW_STARTS, BackupPolicy
from deployments.sandbox.bodies import action_link, droplet_body
from deployments.sandbox.endpoints.call import Call
from deployments.sandbox.endpoints.ssh_keys import ssh_key_named
from deployments.sandbox.endpoints.tags import TAG_NAME
from deployments.sandbox.errors import unprocessable
from deployments.sandbox.regions import ALL_SIZES, Region, Size
from deployments.sandbox.responses import ResponseBody, json_response
from deployments.sandbox.rules import why_not_create
from deployments.sandbox.vpcs import Vpc

NAME = re.compile(r"[A-Za-z0-9]?[A-Za-z0-9.-]{0,253}[A-Za-z0-9]")
MOST_AT_ONCE = 10
MOST_USER_DATA = 64 * 1024
OPTIONS = {"ipv6": "ipv6", "monitoring": "monitoring", "with_droplet_agent": "droplet_agent"}
"""The fields that ask for a feature, and its name."""


def create_droplets(call: Call) -> ResponseBody:
    """`POST /v2/droplets`: one Droplet for a `name`, several for `names`; all of them, or none if one is refused."""
    names, plan = _names(call), _plan(call)
    if reason := why_not_create(call.account, plan, len(names)):
        raise unprocessable(reason)
    droplets = [call.account.create_droplet(name, plan, call.now, call.fate) for name in names]
    bodies = [droplet_body(droplet, call.account, call.now) for droplet in droplets]
    links = {"actions": [action_link(droplet.actions[0], "create", call.base_url) for droplet in droplets]}
    shown = {"droplet": bodies[0]} if call.body_field("names") is None else {"droplets": bodies}
    return json_response(202, {**shown, "links": links})


def _names(call: Call) -> list[str]:
    several = call.body_field("names")
    names = [call.body_field("name")] if several is None else several
    if not isinstance(names, list) or not names or names == [None]:
        raise unprocessable("Name is required.")
    if len(names) > MOST_AT_ONCE:
        raise unprocessable(f"You can only create up to {MOST_AT_ONCE} Droplets at once.")
    if not all(isinstance(name, str) and NAME.fullmatch(name) for name in names):
        raise unprocessable("Name Only valid hostnames are allowed. (a-z, A-Z, 0-9, . and -)")
    return names


def _plan(call: Call) -> DropletPlan:
    size, image, region = _size(call), _image(call), _region(call)
    return DropletPlan(
        size=size,
        image=image,
        region=region.slug,
        vpc=_vpc(call, region),
        tags=_tags(call),
        backup_policy=_backup_policy(call),
        options=tuple(feature for field, feature in OPTIONS.items() if call.body_field(field) is True),
        public=call.body_field("public_networking") is not False,
        ssh_key_ids=_ssh_keys(call),
        user_data=_user_data(call),
    )


def _size(call: Call) -> Size:
    slug = call.body_field("size")
    if slug is None:
        raise unprocessable("Size is required.")
    if not isinstance(slug, str) or slug not in ALL_SIZES:
        raise unprocessable("You specified an invalid size for Droplet creation.")
    return ALL_SIZES[slug]


def _image(call: Call) -> Image:
    name = call.body_field("image")
    if name is None:
        raise unprocessable("Image is required.")
    for image in call.account.images.values():
        if str(name) == str(image.id) or (image.public and name == image.slug):
            return image
    raise unprocessable("You specified an invalid image for Droplet creation.")


def _region(call: Call) -> Region:
    slug = call.body_field("region")
    if slug is None:
        raise unprocessable("Region is required.")
    if not isinstance(slug, str) or slug not in call.account.regions:
        raise unprocessable("You specified an invalid region for Droplet creation.")
    return call.account.regions[slug]


def _vpc(call: Call, region: Region) -> Vpc:
    vpc_id = call.body_field("vpc_uuid")
    if vpc_id in (None, ""):
        return call.account.default_vpc(region.slug)
    vpc = call.account.vpcs.get(str(vpc_id))
    if vpc is None:
        raise unprocessable("Failed to resolve VPC.")
    if vpc.region != region.slug:
        raise unprocessable(f"VPC {vpc.id} is not in region {region.slug}.")
    return vpc


def _tags(call: Call) -> tuple[str, ...]:
    tags = _list(call, "tags")
    if not all(isinstance(tag, str) and TAG_NAME.fullmatch(tag) for tag in tags):
        raise unprocessable("Tags contain invalid characters.")
    return tuple(map(str, tags))


def _ssh_keys(call: Call) -> tuple[int, ...]:
    named = [(name, ssh_key_named(call, str(name))) for name in _list(call, "ssh_keys")]
    unknown = [str(name) for name, key in named if key is None]
    if unknown:
        raise unprocessable(f"{', '.join(unknown)} are invalid key identifiers for Droplet creation.")
    return tuple(key.id for _, key in named if key)


def _backup_policy(call: Call) -> BackupPolicy | None:
    if call.body_field("backups") is not True:
        return None
    field = call.body_field("backup_policy")
    asked = field if isinstance(field, dict) else {}
    plan, hour = asked.get("plan", "daily"), asked.get("hour", 0)
    weekday, retention = asked.get("weekday", "SUN"), asked.get("retention_period_days", 7)
    if not isinstance(hour, int) or hour not in WINDOW_STARTS:
        raise unprocessable("Backup policy hour is invalid.")
    if plan == "weekly" and weekday not in WEEKDAYS:
        raise unprocessable("Backup policy weekday is invalid.")
    if not isinstance(retention, int) or retention < 1:
        raise unprocessable("Backup policy retention period is invalid.")
    usage_based = [BackupPolicy.usage_based(interval, retention, hour) for interval in USAGE_BASED_INTERVALS]
    known = [BackupPolicy.daily(hour), BackupPolicy.weekly(hour, weekday), *usage_based]
    policy = next((each for each in known if each.plan == plan), None)
    if policy is None:
        raise unprocessable("Backup policy plan is invalid.")
    return policy


def _user_data(call: Call) -> str:
    text = call.body_field("user_data") or ""
    if not isinstance(text, str) or len(text.encode()) > MOST_USER_DATA:
        raise unprocessable("User data must be a string of at most 64 KiB.")
    return text


def _list(call: Call, field: str) -> list[object]:
    value = call.body_field(field)
    if value is None:
        return []
    if not isinstance(value, list):
        raise unprocessable(f"{field} must be a list.")
    return value
