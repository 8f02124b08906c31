"""The API's objects, as far as this project uses them: https://docs.digitalocean.com/reference/api/digitalocean/.

Unknown attributes are ignored, and region slugs are plain text, because the documentation does not list all regions. A
missing attribute that this project needs is an error.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

TAG_PATTERN = re.compile(r"[A-Za-z0-9_:-]{1,255}")
SLUG_PATTERN = re.compile(r"[a-z0-9-]{1,32}")


# The largest 64-bit integer, as in databases and Prefect's JSON.
LARGEST_ID = 2**63 - 1


def _in_utc(moment: datetime) -> datetime:
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    if not EARLIEST <= moment <= LATEST:
        raise ValueError("not a valid time")
    return moment.astimezone(UTC)


EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)

Moment: TypeAlias = Annotated[datetime, AfterValidator(_in_utc)]
ResourceId: TypeAlias = Annotated[int, Field(ge=1)]
Id: TypeAlias = Annotated[int, Field(ge=0, le=LARGEST_ID)]
Gigabytes: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
RegionSlug: TypeAlias = Annotated[str, StringConstraints(pattern=f"^{SLUG_PATTERN.pattern}$")]
TagName: TypeAlias = Annotated[str, StringConstraints(pattern=f"^{TAG_PATTERN.pattern}$")]
# A response may contain null instead of an empty list or string.
Text: TypeAlias = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
Texts: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(lambda value: () if value is None else value)]
Ids: TypeAlias = Annotated[tuple[Id, ...], BeforeValidator(lambda value: () if value is None else value)]
# Only counted, so anything but a list counts as empty.
VolumeIds: TypeAlias = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: tuple(map(str, value)) if isinstance(value, (list, tuple)) else ())
]
AVAILABLE = "available"
# Older responses have no status.
Status: TypeAlias = Annotated[str, BeforeValidator(lambda value: AVAILABLE if value is None else value)]


class Resource(BaseModel):
    """Base of all objects that the API returns."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Action(Resource):
    """An action on a resource, and its status."""

    id: Id
    status: str
    type: str
    started_at: Moment
    completed_at: Moment | None = None
    resource_id: Id | None = None
    resource_type: Text = ""
    region_slug: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _slug_from_region(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("region_slug") and isinstance(data.get("region"), dict):
            return {**data, "region_slug": data["region"].get("slug")}
        return data

    @property
    def in_progress(self) -> bool:
        """Whether it has not ended; an unknown status counts as in progress."""
        return not (self.completed or self.errored)

    @property
    def completed(self) -> bool:
        """Whether it succeeded."""
        return self.status == "completed"

    @property
    def errored(self) -> bool:
        """Whether it failed; an errored action never recovers."""
        return self.status == "errored"


class Image(Resource):
    """A backup, snapshot, custom or base image.

    Attributes:
        status: `NEW`, `available`, `pending`, `deleted` or `retired`:
            https://docs.digitalocean.com/reference/api/digitalocean/#tag/Images.
    """

    id: Id
    type: str
    regions: Texts
    created_at: Moment
    name: Text = ""
    size_gigabytes: Gigabytes | None = None
    tags: Texts = ()
    public: bool = False
    status: Status = AVAILABLE

    @property
    def available(self) -> bool:
        """Whether it can be used and counts as a copy."""
        return self.status == AVAILABLE


class Snapshot(Resource):
    """A snapshot of a Droplet, as in the list of snapshots, where IDs are strings.

    Attributes:
        resource_id: Its Droplet, which may have been deleted.
    """

    id: Id
    name: Text
    created_at: Moment
    regions: Texts
    size_gigabytes: Gigabytes
    resource_id: Id
    tags: Texts = ()


class Region(Resource):
    """A datacenter."""

    slug: str
    name: str
    available: bool
    features: Texts

    @property
    def takes_images(self) -> bool:
        """Whether images can be transferred to it."""
        return self.available and "image_transfer" in self.features


class Droplet(Resource):
    """A virtual machine, with the IDs of its backups and snapshots.

    Attributes:
        volume_ids: Attached volumes, which backups and snapshots do not contain.
    """

    id: Id
    name: Text
    backup_ids: Ids
    snapshot_ids: Ids
    tags: Texts = ()
    volume_ids: VolumeIds = ()


class ConvertImage(BaseModel):
    """Convert a backup to a snapshot."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["convert"] = "convert"

    def matches(self, action: Action) -> bool:
        """Whether an action does what this request asks for."""
        return action.type == self.type

    def shown_by(self, image: Image) -> bool:
        """Whether an image shows that this has been done."""
        return image.type == "snapshot"

    def __str__(self) -> str:
        return "convert"


class TransferImage(BaseModel):
    """Copy a snapshot to a region."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["transfer"] = "transfer"
    region: RegionSlug

    def matches(self, action: Action) -> bool:
        """Whether an action does what this request asks for."""
        return action.type == self.type and action.region_slug == self.region

    def shown_by(self, image: Image) -> bool:
        """Whether an image shows that this has been done."""
        return self.region in image.regions

    def __str__(self) -> str:
        return f"transfer to {self.region}"


ImageActionRequest: TypeAlias = Annotated[ConvertImage | TransferImage, Field(discriminator="type")]
