"""What a rebuild needs and the API forgets when a Droplet is destroyed, kept in the names of tags.

A tag exists until it is deleted, even if nothing has it, and does not depend on a region, on Prefect's database or on
the Droplet. A record costs one request, when something changes. A tag has at most 255 letters, digits, colons, dashes
and underscores (https://docs.digitalocean.com/reference/api/digitalocean/#tag/Tags), so one holds about three Droplets:
`prefect:droplets:202611260300:448000739:web-01:s-1vcpu-1gb:nyc3:5a4981aa:bm:dr:env_cprod`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from flows.recovery.markers import is_marker
from tasks.digitalocean import Droplet

PREFIX = "prefect:droplets:"
LONGEST_TAG = 255
TIME_FORMAT = "%Y%m%d%H%M"
# A tag may not contain dots, and colons separate the fields.
ESCAPES = {"_": "_u", ".": "_d", ":": "_c"}
BETWEEN_DROPLETS = "_n"
UNESCAPED = {escape: character for character, escape in ESCAPES.items()}
# Features that can be requested when a Droplet is created.
FEATURES = {"b": "backups", "m": "monitoring", "i": "ipv6"}
# Enough to find the VPC among the account's; the whole UUID would take most of a tag.
VPC_CHARACTERS = 8
FIELDS = 6


@dataclass(frozen=True)
class DropletRecord:
    """What a Droplet was created with.

    Attributes:
        droplet_id: Its ID.
        name: Its name.
        size: Slug of its size; empty if unknown.
        region: Slug of its region; empty if unknown.
        vpc: The beginning of the UUID of its private network.
        features: Of `backups`, `monitoring` and `ipv6`, those that it has.
        tags: Its tags, sorted, without those that say why this project created it.
    """

    droplet_id: int
    name: str
    size: str = ""
    region: str = ""
    vpc: str = ""
    features: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The record as a part of a tag."""
        letters = "".join(letter for letter, feature in FEATURES.items() if feature in self.features)
        fields = [str(self.droplet_id), self.name, self.size, self.region, self.vpc, letters, *self.tags]
        return ":".join(map(_escaped, fields))


def record_of(droplet: Droplet) -> DropletRecord:
    """Make the record of a Droplet."""
    return DropletRecord(
        droplet_id=droplet.id,
        name=droplet.name,
        size=droplet.size_slug,
        region=droplet.region,
        vpc=droplet.vpc_uuid[:VPC_CHARACTERS],
        features=tuple(feature for feature in FEATURES.values() if _has(droplet, feature)),
        tags=tuple(sorted(tag for tag in droplet.tags if not is_marker(tag))),
    )


def _has(droplet: Droplet, feature: str) -> bool:
    """Whether a Droplet has a feature; with usage-based backups, its `features` may lack `backups`.

    https://github.com/digitalocean/terraform-provider-digitalocean/issues/1525
    """
    backed_up = feature == "backups" and bool(droplet.backup_ids or droplet.next_backup_window)
    return backed_up or feature in droplet.features


def read_records(tags: Iterable[str]) -> dict[int, DropletRecord]:
    """Read the newest record of each Droplet from the names of an account's tags; other tags are ignored."""
    newest: dict[int, tuple[datetime, DropletRecord]] = {}
    for tag in tags:
        for at, record in _parsed(tag):
            known = newest.get(record.droplet_id)
            if known is None or at >= known[0]:
                newest[record.droplet_id] = at, record
    return {droplet_id: record for droplet_id, (_, record) in newest.items()}


def missing_records(droplets: Iterable[Droplet], known: Mapping[int, DropletRecord]) -> list[DropletRecord]:
    """List the records that are missing or out of date."""
    current = [record_of(droplet) for droplet in droplets]
    # Compared as texts: what a tag cannot hold would never be equal.
    written = {droplet_id: record.text for droplet_id, record in known.items()}
    return [record for record in current if _fitting(record).text != written.get(record.droplet_id)]


def tags_for(records: Iterable[DropletRecord], now: datetime) -> list[str]:
    """Make the names of the tags that hold these records, as many in each as fit.

    A Droplet whose record does not fit into one tag is recorded without its last tags.
    """
    start = f"{PREFIX}{now.astimezone(UTC):{TIME_FORMAT}}:"
    tags: list[str] = []
    for record in records:
        text = _fitting(record).text
        if tags and len(tags[-1]) + len(BETWEEN_DROPLETS) + len(text) <= LONGEST_TAG:
            tags[-1] += BETWEEN_DROPLETS + text
        else:
            tags.append(start + text)
    return tags


def _fitting(record: DropletRecord) -> DropletRecord:
    """The record with as many of its tags, and of its name, as fit into a tag; of other fields only if they are odd."""
    room = LONGEST_TAG - len(PREFIX) - len(datetime(2000, 1, 1, tzinfo=UTC).strftime(TIME_FORMAT)) - 1
    while len(record.text) > room:
        field = next(each for each in ("tags", "name", "size", "region") if getattr(record, each))
        record = DropletRecord(**{**record.__dict__, field: getattr(record, field)[:-1]})
    return record


def _parsed(tag: str) -> list[tuple[datetime, DropletRecord]]:
    """Read the records of one tag; nothing from other tags."""
    if not tag.lower().startswith(PREFIX):
        return []
    time, _, rest = tag[len(PREFIX) :].partition(":")
    try:
        at = datetime.strptime(time, TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return []
    records = []
    for text in rest.split(BETWEEN_DROPLETS):
        droplet_id, *fields = map(_unescaped, text.split(":"))
        if droplet_id.isdecimal() and len(fields) >= FIELDS - 1:
            name, size, region, vpc, letters, *tags = fields
            features = tuple(feature for letter, feature in FEATURES.items() if letter in letters)
            records.append((at, DropletRecord(int(droplet_id), name, size, region, vpc, features, tuple(tags))))
    return records


def _escaped(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", lambda found: ESCAPES.get(found[0], "-"), text)


def _unescaped(text: str) -> str:
    return re.sub("|".join(UNESCAPED), lambda found: UNESCAPED[found[0]], text)
