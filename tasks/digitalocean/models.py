"""The API's objects, as far as this project uses them: https://docs.digitalocean.com/reference/api/digitalocean/.

Unknown attributes are ignored, and region slugs are plain text, because the documentation does not list all regions. A
missing attribute that this project needs is an error.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

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
MOMENT: TypeAdapter[datetime] = TypeAdapter(Moment)


def _moment_or_none(value: object) -> datetime | None:
    try:
        return MOMENT.validate_python(value)
    except ValidationError:
        return None


# Only reported, so an odd one counts as unknown.
MomentIfKnown: TypeAlias = Annotated[datetime | None, BeforeValidator(_moment_or_none)]
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
WholeGigabytes: TypeAlias = Annotated[
    int, BeforeValidator(lambda value: value if isinstance(value, int) and 0 <= value <= LARGEST_ID else 0)
]
# Only compared, so anything but a list counts as empty.
Rules: TypeAlias = Annotated[
    tuple[Any, ...], BeforeValidator(lambda value: tuple(value) if isinstance(value, (list, tuple)) else ())
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


class ActedOn(NamedTuple):
    """What an action runs on.

    Attributes:
        type: As in an action's `resource_type`.
        id: Its ID; those of images and Droplets may be equal.
    """

    type: Literal["image", "droplet"]
    id: int

    @property
    def path(self) -> str:
        """Its path, such as `/v2/images/7`."""
        return f"/v2/{self.type}s/{self.id}"

    @property
    def name(self) -> str:
        """Such as `image 7` or `Droplet 7`."""
        return f"{'image' if self.type == 'image' else 'Droplet'} {self.id}"


class Image(Resource):
    """A backup, snapshot, custom or base image.

    Attributes:
        status: `NEW`, `available`, `pending`, `deleted` or `retired`:
            https://docs.digitalocean.com/reference/api/digitalocean/#tag/Images.
        min_disk_size: The smallest disk of a Droplet created from it, in GB; 0 if unknown.
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
    min_disk_size: WholeGigabytes = 0

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


class BackupWindow(Resource):
    """The time in which a backup of a Droplet begins."""

    start: Moment
    end: Moment


def _window_or_none(value: object) -> BackupWindow | None:
    try:
        return BackupWindow.model_validate(value)
    except ValidationError:
        return None


# Only reported, so an odd one counts as unknown.
NextWindow: TypeAlias = Annotated[BackupWindow | None, BeforeValidator(_window_or_none)]


class BackupPolicy(Resource):
    """When a Droplet is backed up: https://docs.digitalocean.com/reference/api/digitalocean/#operation/droplets_list_backup_policies.

    Attributes:
        enabled: Whether backups are enabled.
        plan: `daily`, `weekly` or another name, such as that of a usage-based plan; empty if unknown.
        weekday: Such as `SUN`; empty unless the plan is weekly.
        hour: When the window begins, in UTC; None if unknown.
        window_length_hours: Length of the window; None if unknown.
        next_window: The next window; None if unknown.
    """

    droplet_id: Id
    enabled: bool = Field(validation_alias=AliasChoices("backup_enabled", "enabled"))
    plan: Text = ""
    weekday: Text = ""
    hour: int | None = Field(default=None, ge=0, le=23)
    window_length_hours: int | None = Field(default=None, ge=1, le=24)
    next_window: NextWindow = Field(default=None, validation_alias=AliasChoices("next_backup_window", "next_window"))

    @model_validator(mode="before")
    @classmethod
    def _flattened(cls, data: Any) -> Any:
        policy = data.get("backup_policy") if isinstance(data, dict) else None
        return {"enabled": True, **policy, **data} if isinstance(policy, dict) else data


class Volume(Resource):
    """A block storage volume.

    Attributes:
        size_gigabytes: Its size in GiB; 0 if unknown.
        droplet_ids: The Droplet that it is attached to.
    """

    id: str
    name: Text
    size_gigabytes: WholeGigabytes = 0
    droplet_ids: Ids = ()


class Droplet(Resource):
    """A virtual machine, with the IDs of its backups and snapshots.

    Attributes:
        created_at: None if unknown.
        next_backup_window: None if it has no backups, or if unknown.
        volume_ids: Attached volumes, which backups and snapshots do not contain.
        status: `new`, `active`, `off` or `archive`:
            https://docs.digitalocean.com/reference/api/digitalocean/#tag/Droplets.
        region: Slug of its region; empty if unknown.
        image_id: The image it was created from; None if unknown.
        public_ip: Its public IPv4 address; empty until it is active.
    """

    id: Id
    name: Text
    backup_ids: Ids
    snapshot_ids: Ids
    tags: Texts = ()
    volume_ids: VolumeIds = ()
    status: Text = ""
    region: Text = ""
    size_slug: Text = ""
    vpc_uuid: Text = ""
    features: Texts = ()
    image_id: Id | None = None
    public_ip: Text = ""
    private_ip: Text = ""
    created_at: MomentIfKnown = None
    next_backup_window: NextWindow = None

    @model_validator(mode="before")
    @classmethod
    def _flattened(cls, data: Any) -> Any:
        """Take what this project needs of nested objects; it is missing if they are odd."""
        if not isinstance(data, dict):
            return data
        region, image, networks = (data.get(name) for name in ("region", "image", "networks"))
        addresses = networks.get("v4") if isinstance(networks, dict) else None
        flat = {name: _text_or_empty(data.get(name)) for name in ("status", "size_slug", "vpc_uuid")}
        if isinstance(region, dict):
            flat["region"] = _text_or_empty(region.get("slug"))
        if isinstance(image, dict) and isinstance(image.get("id"), int) and 0 < image["id"] <= LARGEST_ID:
            flat["image_id"] = image["id"]
        for each in addresses if isinstance(addresses, list) else ():
            if isinstance(each, dict) and each.get("type") in ("public", "private"):
                flat.setdefault(f"{each['type']}_ip", _text_or_empty(each.get("ip_address")))
        return {**data, **flat}

    @property
    def active(self) -> bool:
        """Whether it has been created completely and is running."""
        return self.status == "active"

    @property
    def being_created(self) -> bool:
        """Whether it is still being created, or its creation has failed."""
        return self.status == "new"


def _text_or_empty(value: object) -> str:
    return value if isinstance(value, str) else ""


class Size(Resource):
    """A size of Droplets.

    Attributes:
        disk: Size of the disk, in GB.
        memory: In MB.
        price_hourly: In US dollars.
        price_monthly: In US dollars.
        regions: Slugs of the regions in which Droplets of this size can be created.
        available: Whether Droplets of this size can be created at all.
    """

    slug: str
    disk: int
    memory: int
    vcpus: int
    price_hourly: Gigabytes
    price_monthly: Gigabytes
    regions: Texts
    available: bool = True


class Vpc(Resource):
    """A private network in one region."""

    id: str
    name: Text = ""
    region: Text


class SshKey(Resource):
    """An SSH key of the team."""

    id: Id
    fingerprint: Text
    name: Text = ""


class AccountInfo(Resource):
    """The account itself.

    Attributes:
        droplet_limit: How many Droplets it may have.
    """

    droplet_limit: int


class Firewall(Resource):
    """A cloud firewall; it applies to all Droplets with one of its tags."""

    id: str
    name: Text
    tags: Texts = ()
    inbound_rules: Rules = ()
    outbound_rules: Rules = ()


class Tag(Resource):
    """A tag; it exists until it is deleted, even if nothing has it."""

    name: str


class CreateDroplet(BaseModel):
    """Create a Droplet from an image.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/droplets_create

    Attributes:
        tags: One of them must tell this Droplet from all others: see `idempotency.create_droplet_once`.
        vpc_uuid: A network of the same region; None for the region's default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    region: RegionSlug
    size: str
    image: ResourceId
    tags: tuple[TagName, ...]
    ssh_keys: tuple[int | str, ...] = ()
    vpc_uuid: str | None = None
    monitoring: bool = False
    ipv6: bool = False
    backups: bool = False


class TakeSnapshot(BaseModel):
    """Take a snapshot of a Droplet.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/dropletActions_post

    Attributes:
        name: The snapshot's name. The action does not tell the snapshot's ID, so the name must tell it from all others
            of its Droplet: https://github.com/digitalocean/api-v2/issues/98
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["snapshot"] = "snapshot"
    name: Annotated[str, StringConstraints(min_length=1)]

    def matches(self, action: Action) -> bool:
        """Whether an action takes a snapshot; it does not tell the name."""
        return action.type == self.type


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
