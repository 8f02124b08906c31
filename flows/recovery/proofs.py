"""When Droplets were last rebuilt in a drill, kept in the names of tags, as the records of Droplets are.

A proof is a tag such as `prefect:proven:202611260300:448000739:fra1:167003119:41`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from flows.recovery.records import TIME_FORMAT

PREFIX = "prefect:proven:"
FIELDS = 5


@dataclass(frozen=True)
class Proof:
    """A drill that succeeded.

    Attributes:
        at: When, to the minute.
        droplet_id: The original Droplet.
        region: Slug of the region in which it was rebuilt.
        image_id: The image that it was rebuilt from.
        seconds: From the request until it was active.
    """

    at: datetime
    droplet_id: int
    region: str
    image_id: int
    seconds: int

    @property
    def tag(self) -> str:
        """The name of its tag."""
        at = self.at.astimezone(UTC)
        return f"{PREFIX}{at:{TIME_FORMAT}}:{self.droplet_id}:{self.region}:{self.image_id}:{self.seconds}"


def read_proofs(tags: Iterable[str]) -> list[Proof]:
    """Read the proofs from the names of an account's tags; other tags are ignored."""
    return [proof for tag in tags if (proof := _parsed(tag))]


def last_proven(proofs: Iterable[Proof]) -> dict[int, datetime]:
    """Tell when each Droplet was last proven, by ID."""
    return {proof.droplet_id: proof.at for proof in sorted(proofs, key=lambda each: each.at)}


def _parsed(tag: str) -> Proof | None:
    fields = tag[len(PREFIX) :].split(":")
    if not tag.lower().startswith(PREFIX) or len(fields) != FIELDS:
        return None
    time, droplet_id, region, image_id, seconds = fields
    if not all(each.isdecimal() for each in (droplet_id, image_id, seconds)):
        return None
    try:
        at = datetime.strptime(time, TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None
    return Proof(at, int(droplet_id), region, int(image_id), int(seconds))
