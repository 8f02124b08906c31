"""The API's objects, as far as this project uses them.

Unknown attributes are ignored and region slugs are plain text: the API grows, and its description's list of
slugs is older than its regions. A missing attribute that the project needs is an error.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

TAG_PATTERN = re.compile(r"[A-Za-z0-9_:-]{1,255}")
SLUG_PATTERN = re.compile(r"[a-z0-9-]{1,32}")


# What databases and Prefect's JSON hold of a whole number.
LARGEST_ID = 2**63 - 1


def _in_utc(moment: datetime) -> datetime:
    try:
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("beyond the calendar") from error
    if not EARLIEST <= moment <= LATEST:
        # Nor could anything be computed with it.
        raise ValueError("not a time of this API")
    return moment


EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)

Moment: TypeAlias = Annotated[datetime, AfterValidator(_in_utc)]
ResourceId: TypeAlias = Annotated[int, Field(ge=1)]
Id: TypeAlias = Annotated[int, Field(ge=0, le=LARGEST_ID)]
Gigabytes: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
RegionSlug: TypeAlias = Annotated[str, StringConstraints(pattern=f"^{SLUG_PATTERN.pattern}$")]
TagName: TypeAlias = Annotated[str, StringConstraints(pattern=f"^{TAG_PATTERN.pattern}$")]
# An answer may say null where a list or a text is empty.
Text: TypeAlias = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
Texts: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(lambda value: () if value is None else value)]
Ids: TypeAlias = Annotated[tuple[Id, ...], BeforeValidator(lambda value: () if value is None else value)]
# Only counted: what cannot be read as a list is as good as none.
VolumeIds: TypeAlias = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: tuple(map(str, value)) if isinstance(value, (list, tuple)) else ())
]
AVAILABLE = "available"
# Older answers have no status.
Status: TypeAlias = Annotated[str, BeforeValidator(lambda value: AVAILABLE if value is None else value)]


class Resource(BaseModel):
    """Base of everything the API returns."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Action(Resource):
    """Something that was asked of an image, and how far it has got."""

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
        """Whether the outcome is still open; a status unknown to us counts as open."""
        return not (self.completed or self.errored)

    @property
    def completed(self) -> bool:
        """Whether it worked."""
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
        """Whether it can be used: only then does it count as a copy."""
        return self.status == AVAILABLE


class Snapshot(Resource):
    """A snapshot of a Droplet, as the list of snapshots shows it; the ids are text there.

    Attributes:
        resource_id: The Droplet it was made of, which may be gone.
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
    """A virtual machine, with the ids of the images made of it.

    Attributes:
        volume_ids: Volumes attached to it, which are in none of those images.
    """

    id: Id
    name: Text
    backup_ids: Ids
    snapshot_ids: Ids
    tags: Texts = ()
    volume_ids: VolumeIds = ()


class ConvertImage(BaseModel):
    """Ask for a backup to become a snapshot."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["convert"] = "convert"

    def matches(self, action: Action) -> bool:
        """Whether an action is what this request asks for."""
        return action.type == self.type

    def shown_by(self, image: Image) -> bool:
        """Whether an image is as it is once this has worked."""
        return image.type == "snapshot"

    def __str__(self) -> str:
        return "convert"


class TransferImage(BaseModel):
    """Ask for a snapshot to be copied to a region."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["transfer"] = "transfer"
    region: RegionSlug

    def matches(self, action: Action) -> bool:
        """Whether an action is what this request asks for."""
        return action.type == self.type and action.region_slug == self.region

    def shown_by(self, image: Image) -> bool:
        """Whether an image is as it is once this has worked."""
        return self.region in image.regions

    def __str__(self) -> str:
        return f"transfer to {self.region}"


ImageActionRequest: TypeAlias = Annotated[ConvertImage | TransferImage, Field(discriminator="type")]
