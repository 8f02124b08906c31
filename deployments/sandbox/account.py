"""The state of one account. Time passes only in `Account.advance`, so call it before reading the account."""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from typing import Literal, Self

from deployments.sandbox.backup_policies import BackupPolicy
from deployments.sandbox.behavior import Behavior
from deployments.sandbox.firewalls import Firewall, firewall_id
from deployments.sandbox.regions import REGIONS, Region, Size
from deployments.sandbox.ssh_keys import make_ssh_keys
from deployments.sandbox.volumes import Volume, VolumeSnapshot
from deployments.sandbox.vpcs import Vpc, make_vpcs

ImageType = Literal["base", "snapshot", "backup", "custom"]
ImageStatus = Literal["NEW", "available", "pending", "deleted", "retired"]
ActionStatus = Literal["in-progress", "completed", "errored"]
Outcome = Literal["completed", "errored"]
DropletStatus = Literal["new", "active", "off", "archive"]

BACKUPS_KEPT_SECONDS = 7 * 86400.0
"""How long daily backups are kept."""
LOOPBACK = "127.0.0.1"
PUBLIC_PREFIXES = ("198.51.100", "192.0.2", *(f"198.18.{third}" for third in range(256)))
"""The first three octets of new public addresses: reserved for documentation, and then for benchmarks."""
SNAPSHOT_SECONDS_PER_GIGABYTE = (50, 70)
"""What 98 % of a million snapshots took: https://snapshooter.io/blog/how-long-does-a-digitalocean-snapshot-take"""
FIREWALL_SECONDS = 5.0
"""How long it takes until a firewall's change is in effect."""


@dataclass(frozen=True, slots=True)
class Fate:
    """How a new action will end, if it ends, and whether the lists of actions show it."""

    outcome: Outcome = "completed"
    ends: bool = True
    listed: bool = True


@dataclass(slots=True)
class Action:
    """An action on a resource; `ends_at` is set when it starts, and is infinite if it never ends."""

    id: int
    type: str
    resource_id: int
    resource_type: Literal["image", "droplet"]
    region: str
    started_at: float
    ends_at: float
    listed_at: float
    fate: Fate = Fate()
    status: ActionStatus = "in-progress"
    snapshot: Image | None = None
    """The snapshot that it takes, which is in the account once it has completed."""

    @property
    def completed_at(self) -> float | None:
        """When it ended, or None while it is in progress."""
        return None if self.status == "in-progress" else self.ends_at


@dataclass(slots=True)
class Image:
    """An image; `regions` maps each region to the time since when the API shows the image there."""

    id: int
    name: str
    type: ImageType
    regions: dict[str, float]
    created_at: float
    min_disk_size: int
    size_gigabytes: float
    distribution: str = "Ubuntu"
    slug: str | None = None
    public: bool = False
    application: bool = False
    description: str = ""
    droplet_id: int | None = None
    tags: list[str] = field(default_factory=list)
    status: ImageStatus = "available"
    actions: list[Action] = field(default_factory=list)
    shown_as_backup_until: float = -math.inf
    locked_until: float = -math.inf

    def shown_type(self, now: float) -> ImageType:
        """The type that the API shows, which may lag behind the actual one."""
        return "backup" if now < self.shown_as_backup_until else self.type

    def shown_regions(self, now: float) -> list[str]:
        """The regions that the API shows, which may lag behind the actual ones."""
        return [slug for slug, since in self.regions.items() if since <= now]

    def pending(self) -> list[Action]:
        """The actions on this image that are in progress."""
        return [action for action in self.actions if action.status == "in-progress"]


@dataclass(slots=True)
class Droplet:
    """A virtual machine; `image_ids` holds its backups and its snapshots."""

    id: int
    name: str
    region: str
    size: Size
    created_at: float
    base_image: Image
    public_ip: str | None
    private_ip: str
    vpc_uuid: str
    backup_policy: BackupPolicy | None = None
    """None if backups are not enabled."""
    tags: list[str] = field(default_factory=list)
    image_ids: list[int] = field(default_factory=list)
    volume_ids: list[str] = field(default_factory=list)
    status: DropletStatus = "active"
    options: tuple[str, ...] = ()
    """Features that were asked for when it was created, such as `ipv6`."""
    ssh_key_ids: tuple[int, ...] = ()
    user_data: str = ""
    actions: list[Action] = field(default_factory=list)
    answers_on: frozenset[int] = frozenset()
    """The ports that it answers on while it is active and reachable."""
    leaves_at: float = math.inf
    """When a destroyed Droplet disappears."""

    @property
    def backup_hour(self) -> int | None:
        """The hour when a window for backups starts; None if backups are not enabled."""
        return self.backup_policy.hour if self.backup_policy else None

    def is_busy(self) -> bool:
        """Whether an action on it is in progress, or it is being destroyed."""
        return self.leaves_at < math.inf or any(action.status == "in-progress" for action in self.actions)

    def backup_name(self, created_at: float) -> str:
        """The name of a backup made at that time."""
        return f"{self.name} {datetime.fromtimestamp(created_at, UTC):%Y-%m-%d}"

    def draw_image_size(self, draw: Random) -> float:
        """Draw the size of an image of this Droplet, in gigabytes."""
        return round(draw.uniform(1, min(30, self.size.disk)), 2)


@dataclass(frozen=True, slots=True)
class DropletPlan:
    """What one or more new Droplets will be like."""

    size: Size
    image: Image
    region: str
    vpc: Vpc
    tags: tuple[str, ...] = ()
    backup_policy: BackupPolicy | None = None
    options: tuple[str, ...] = ()
    public: bool = True
    ssh_key_ids: tuple[int, ...] = ()
    user_data: str = ""


@dataclass(frozen=True, slots=True)
class Deletion:
    """An image that the client deleted, as it was then."""

    at: float
    image_id: int
    name: str
    droplet_id: int | None
    created_at: float
    regions: tuple[str, ...]
    tags: tuple[str, ...]

    @classmethod
    def of(cls, image: Image, now: float) -> Self:
        """Copy what the log needs of an image about to be deleted."""
        regions, tags = tuple(image.regions), tuple(image.tags)
        return cls(now, image.id, image.name, image.droplet_id, image.created_at, regions, tags)


@dataclass(frozen=True, slots=True)
class DropletRecord:
    """A Droplet that the client created or destroyed, as it was then."""

    at: float
    droplet_id: int
    name: str
    image_id: int
    region: str
    size: str
    tags: tuple[str, ...]

    @classmethod
    def of(cls, droplet: Droplet, now: float) -> Self:
        """Copy what the log needs of a Droplet."""
        return cls(
            now,
            droplet.id,
            droplet.name,
            droplet.base_image.id,
            droplet.region,
            droplet.size.slug,
            tuple(droplet.tags),
        )


@dataclass(frozen=True, slots=True)
class FirewallRecord:
    """A firewall that the client created or deleted, as it was then."""

    at: float
    firewall_id: str
    name: str
    tags: tuple[str, ...]
    droplet_ids: tuple[int, ...]

    @classmethod
    def of(cls, firewall: Firewall, now: float) -> Self:
        """Copy what the log needs of a firewall."""
        return cls(now, firewall.id, firewall.name, tuple(firewall.tags), tuple(firewall.droplet_ids))


@dataclass(slots=True)
class Tag:
    """A tag, and the resources that have it: pairs of type and ID, the last tagged one last."""

    name: str
    resources: dict[tuple[str, int], None] = field(default_factory=dict)


class Account:
    """Everything that one API token has access to."""

    def __init__(
        self,
        *,
        seed: int = 1,
        speed: float = 1.0,
        behavior: Behavior | None = None,
        regions: Iterable[Region] = REGIONS,
    ) -> None:
        self.seed = seed
        self.speed = speed
        self.behavior = behavior or Behavior()
        self.regions = {region.slug: region for region in regions}
        self.images: dict[int, Image] = {}
        self.droplets: dict[int, Droplet] = {}
        self.tags: dict[str, Tag] = {}
        self.vpcs = {vpc.id: vpc for vpc in make_vpcs(seed, self.regions)}
        self.ssh_keys = {key.id: key for key in make_ssh_keys(seed)}
        self.firewalls: dict[str, Firewall] = {}
        self.volumes: dict[str, Volume] = {}
        self.volume_snapshots: dict[str, VolumeSnapshot] = {}
        self.droplet_limit = 2000
        """How many Droplets there may be."""
        self.full_regions: set[str] = set()
        """Regions where there is no capacity for new Droplets."""
        self.answering_ports: set[int] = set()
        """Ports that Droplets answer on which are created from now on, if they are reachable."""
        self.actions: dict[int, Action] = {}
        self.started: list[Action] = []
        """Every action that the client started, oldest first."""
        self.deleted: list[Deletion] = []
        """Every image that the client deleted, oldest deletion first."""
        self.created: list[DropletRecord] = []
        """Every Droplet that the client created, oldest first."""
        self.destroyed: list[DropletRecord] = []
        """Every Droplet that the client destroyed, oldest destruction first."""
        self.firewalls_created: list[FirewallRecord] = []
        """Every firewall that the client created, oldest first."""
        self.firewalls_deleted: list[FirewallRecord] = []
        """Every firewall that the client deleted, oldest deletion first."""
        self._feed: list[Action] = []
        self._running: list[tuple[float, int, Action]] = []
        self._appearing: list[tuple[float, int, Image]] = []
        self._last_action_id = 2_048_000_000
        self._last_image_id = 0
        self._last_droplet_id = 0
        self._firewalls = 0
        self._leaving: list[Droplet] = []
        self._advancing = threading.Lock()

    def advance(self, now: float) -> None:
        """Finish every action, show every snapshot, and remove every destroyed Droplet whose time has come.

        Args:
            now: The time, in Unix seconds.
        """
        with self._advancing:
            while self._running and self._running[0][0] <= now:
                self._finish(heapq.heappop(self._running)[2])
            while self._appearing and self._appearing[0][0] <= now:
                self.add_image(heapq.heappop(self._appearing)[2])
            for droplet in [droplet for droplet in self._leaving if droplet.leaves_at <= now]:
                self._leaving.remove(droplet)
                self.delete_droplet(droplet)

    def newest_actions(self, now: float) -> list[Action]:
        """The account's feed, newest first, without the actions that it does not show yet."""
        shown = len(self._feed)
        # All actions appear with the same delay, so only the last few can be too new.
        while shown and self._feed[shown - 1].listed_at > now:
            shown -= 1
        return self._feed[:shown][::-1]

    def start(self, image: Image, kind: str, region: str, now: float, fate: Fate | None = None) -> Action:
        """Start an action that the API's rules allow.

        Args:
            image: The image.
            kind: `convert` or `transfer`.
            region: The target of a transfer, or where the image is converted.
            now: The time, in Unix seconds.
            fate: How it will end.

        Returns:
            The action, in progress.
        """
        seconds = self._seconds_for(image, kind, region)
        return self._start(image, kind, region, now=now, seconds=seconds, fate=fate)

    def take_snapshot(self, droplet: Droplet, name: str, now: float, fate: Fate | None = None) -> Action:
        """Start to take a snapshot of a Droplet that the API's rules allow.

        Args:
            droplet: The Droplet.
            name: The name of the snapshot.
            now: The time, in Unix seconds.
            fate: How the action will end.

        Returns:
            The action, in progress.
        """
        attempt = sum(1 for action in droplet.actions if action.type == "snapshot")
        draw = Random(f"{self.seed}/{droplet.id}/snapshot/{attempt}")  # noqa: S311
        # The example of https://docs.digitalocean.com/reference/api/digitalocean/#operation/snapshots_get was created
        # two seconds after the time in its name: `created_at` is when the action started, not when it completed.
        snapshot = self._new_image_of(droplet, name, "snapshot", now, draw)
        seconds = snapshot.size_gigabytes * draw.uniform(*SNAPSHOT_SECONDS_PER_GIGABYTE)
        return self._start(droplet, "snapshot", droplet.region, now=now, seconds=seconds, fate=fate, snapshot=snapshot)

    def keep_busy(self, droplet: Droplet, now: float, seconds: float, kind: str = "backup") -> Action:
        """Start an action on a Droplet that is not the client's: while it is in progress, others are refused.

        Args:
            droplet: The Droplet.
            now: The time, in Unix seconds.
            seconds: How long it takes, divided by the speed.
            kind: Its type, such as `backup`, `resize` or `power_off`; it changes nothing about the Droplet.

        Returns:
            The action, in progress.
        """
        return self._start(droplet, kind, droplet.region, now=now, seconds=seconds, fate=None, by_client=False)

    def create_droplet(self, name: str, plan: DropletPlan, now: float, fate: Fate | None = None) -> Droplet:
        """Create a Droplet that the API's rules allow.

        Args:
            name: Its name.
            plan: What it will be like.
            now: The time, in Unix seconds.
            fate: How its create action, the first of its actions, will end.

        Returns:
            The Droplet, which is new.
        """
        droplet = Droplet(
            id=self._last_droplet_id + 1,
            name=name,
            region=plan.region,
            size=plan.size,
            created_at=now,
            base_image=plan.image,
            public_ip=self._public_address() if plan.public else None,
            private_ip=self._private_address(plan.vpc),
            vpc_uuid=plan.vpc.id,
            backup_policy=plan.backup_policy,
            status="new",
            options=plan.options,
            ssh_key_ids=plan.ssh_key_ids,
            user_data=plan.user_data,
            answers_on=frozenset(self.answering_ports),
        )
        self.add_droplet(droplet)
        for tag in plan.tags:
            self.tag(self.tag_named(tag), "droplet", droplet)
        seconds = self._creation_seconds(name, plan.region)
        self._start(droplet, "create", plan.region, now=now, seconds=seconds, fate=fate)
        self.created.append(DropletRecord.of(droplet, now))
        return droplet

    def destroy_droplet(self, droplet: Droplet, now: float, lag: float = 0.0) -> None:
        """Destroy a Droplet as the client asks.

        Args:
            droplet: The Droplet.
            now: The time, in Unix seconds.
            lag: How long it is still listed.
        """
        self.destroyed.append(DropletRecord.of(droplet, now))
        if not lag:
            self.delete_droplet(droplet)
            return
        droplet.leaves_at = now + lag
        with self._advancing:
            self._leaving.append(droplet)

    def lose_region(self, slug: str) -> None:
        """Let a region go dark: images are gone from it, actions there end in error, its Droplets are still listed."""
        self.regions[slug] = replace(self.regions[slug], available=False, sizes=())
        for image in (*self.images.values(), *(image for _, _, image in self._appearing)):
            image.regions.pop(slug, None)
        nowhere = {image.id for image in self.images.values() if not image.regions}
        for _, _, action in self._running:
            if action.region == slug or (action.resource_type == "image" and action.resource_id in nowhere):
                action.fate = replace(action.fate, outcome="errored")

    def open_ports(self) -> set[int]:
        """The ports of 127.0.0.1 that some active Droplet answers on."""
        reachable = [one for one in self.droplets.values() if one.public_ip == LOOPBACK and one.status == "active"]
        return {port for droplet in reachable for port in droplet.answers_on}

    def default_vpc(self, region: str) -> Vpc:
        """The network of Droplets that are created without another."""
        return next(vpc for vpc in self.vpcs.values() if vpc.region == region and vpc.default)

    def add_firewall(self, firewall: Firewall) -> None:
        """Add a firewall to the account."""
        self.firewalls[firewall.id] = firewall

    def new_firewall_id(self) -> str:
        """The ID of the next firewall."""
        self._firewalls += 1
        return firewall_id(self.seed, self._firewalls)

    def add_past_action(self, kind: str, droplet: Droplet, started_at: float, ended_at: float) -> None:
        """Add an action on a Droplet from before the client's first request to the feed."""
        action = self._add_action(
            kind, droplet.id, "droplet", droplet.region, started_at=started_at, ends_at=ended_at, fate=Fate()
        )
        action.status = "completed"
        droplet.actions.append(action)

    def tag_named(self, name: str) -> Tag:
        """The tag of that name, in whatever case; created if it is missing."""
        known = {tag.lower(): tag for tag in self.tags}
        return self.tags.setdefault(known.get(name.lower(), name), Tag(name))

    def delete_tag(self, tag: Tag) -> None:
        """Delete a tag, and remove it from all resources."""
        for kind, resource_id in list(tag.resources):
            self.untag(tag, kind, self.images[resource_id] if kind == "image" else self.droplets[resource_id])
        for firewall in self.firewalls.values():
            firewall.tags = [name for name in firewall.tags if name != tag.name]
        del self.tags[tag.name]

    def tag(self, tag: Tag, kind: str, resource: Image | Droplet) -> None:
        """Tag a resource."""
        tag.resources.pop((kind, resource.id), None)
        tag.resources[kind, resource.id] = None
        if tag.name not in resource.tags:
            resource.tags.append(tag.name)

    def untag(self, tag: Tag, kind: str, resource: Image | Droplet) -> None:
        """Remove a tag from a resource."""
        tag.resources.pop((kind, resource.id), None)
        if tag.name in resource.tags:
            resource.tags.remove(tag.name)

    def add_image(self, image: Image) -> None:
        """Add an image to the account and to its Droplet."""
        self.images[image.id] = image
        self._last_image_id = max(self._last_image_id, image.id)
        # The Droplet of a snapshot that was slow to appear may be gone.
        if image.droplet_id in self.droplets:
            self.droplets[image.droplet_id].image_ids.append(image.id)

    def add_droplet(self, droplet: Droplet) -> None:
        """Add a Droplet to the account."""
        self.droplets[droplet.id] = droplet
        self._last_droplet_id = max(self._last_droplet_id, droplet.id)

    def delete_image(self, image: Image) -> None:
        """Delete an image; its actions stay."""
        for name in list(image.tags):
            self.untag(self.tags[name], "image", image)
        droplet = self.droplets.get(image.droplet_id) if image.droplet_id is not None else None
        if droplet is not None:
            droplet.image_ids.remove(image.id)
        del self.images[image.id]

    def delete_droplet(self, droplet: Droplet) -> None:
        """Destroy a Droplet and its backups between two requests; its snapshots and volumes stay."""
        for image in self._images_of(droplet, "backup"):
            self.delete_image(image)
        for name in list(droplet.tags):
            self.untag(self.tags[name], "droplet", droplet)
        for firewall in self.firewalls.values():
            firewall.droplet_ids = [number for number in firewall.droplet_ids if number != droplet.id]
        for volume in self.volumes.values():
            volume.droplet_ids = [number for number in volume.droplet_ids if number != droplet.id]
        del self.droplets[droplet.id]

    def back_up_droplets(self, now: float) -> list[Image]:
        """Create a night's backups between two requests, and delete those older than a week.

        Args:
            now: The time, in Unix seconds.

        Returns:
            The new backups, one per Droplet with backups enabled.
        """
        self.advance(now)
        backed_up = [
            droplet
            for droplet in self.droplets.values()
            if droplet.backup_policy and droplet.status != "new" and self.regions[droplet.region].available
        ]
        for droplet in backed_up:
            for image in self._images_of(droplet, "backup"):
                if now - image.created_at >= BACKUPS_KEPT_SECONDS and not image.pending():
                    self.delete_image(image)
        return [self._back_up(droplet, now) for droplet in backed_up]

    def _back_up(self, droplet: Droplet, now: float) -> Image:
        draw = Random(f"{self.seed}/{droplet.id}/{now}")  # noqa: S311
        image = self._new_image_of(droplet, droplet.backup_name(now), "backup", now, draw)
        self.add_image(image)
        return image

    def _new_image_of(self, droplet: Droplet, name: str, kind: ImageType, now: float, draw: Random) -> Image:
        self._last_image_id += 1
        return Image(
            id=self._last_image_id,
            name=name,
            type=kind,
            regions={droplet.region: 0.0},
            created_at=now,
            min_disk_size=droplet.size.disk,
            size_gigabytes=droplet.draw_image_size(draw),
            distribution=droplet.base_image.distribution,
            droplet_id=droplet.id,
        )

    def _images_of(self, droplet: Droplet, kind: ImageType) -> list[Image]:
        return [self.images[image_id] for image_id in droplet.image_ids if self.images[image_id].type == kind]

    def _public_address(self) -> str:
        if self.behavior.reachable_droplets:
            return LOOPBACK
        taken = {droplet.public_ip for droplet in self.droplets.values()}
        addresses = (f"{prefix}.{last}" for prefix in PUBLIC_PREFIXES for last in range(2, 255))
        return next(address for address in addresses if address not in taken)

    def _private_address(self, vpc: Vpc) -> str:
        taken = {droplet.private_ip for droplet in self.droplets.values()}
        addresses = (f"{vpc.prefix}.{third}.{last}" for third in range(256) for last in range(2, 255))
        return next(address for address in addresses if address not in taken)

    def _start(
        self,
        resource: Image | Droplet,
        kind: str,
        region: str,
        *,
        now: float,
        seconds: float,
        fate: Fate | None,
        snapshot: Image | None = None,
        by_client: bool = True,
    ) -> Action:
        fate = fate or Fate()
        ends_at = now + seconds / self.speed if fate.ends else math.inf
        resource_type: Literal["image", "droplet"] = "image" if isinstance(resource, Image) else "droplet"
        action = self._add_action(kind, resource.id, resource_type, region, started_at=now, ends_at=ends_at, fate=fate)
        action.snapshot = snapshot
        resource.actions.append(action)
        if by_client:
            self.started.append(action)
        if fate.ends:
            with self._advancing:
                heapq.heappush(self._running, (ends_at, action.id, action))
        return action

    def _add_action(
        self,
        kind: str,
        resource_id: int,
        resource_type: Literal["image", "droplet"],
        region: str,
        *,
        started_at: float,
        ends_at: float,
        fate: Fate,
    ) -> Action:
        self._last_action_id += 1
        number, listed_at = self._last_action_id, started_at + self.behavior.feed_lag_seconds / self.speed
        action = Action(number, kind, resource_id, resource_type, region, started_at, ends_at, listed_at, fate)
        self.actions[action.id] = action
        if fate.listed:
            self._feed.append(action)
        return action

    def _seconds_for(self, image: Image, kind: str, region: str) -> float:
        # Seeded by what is done, not by when, so that the order of a run does not change its durations.
        attempt = sum(1 for action in image.actions if (action.type, action.region) == (kind, region))
        draw = Random(f"{self.seed}/{image.id}/{kind}/{region}/{attempt}")  # noqa: S311
        if kind == "convert":
            return draw.uniform(20, 60)
        return image.size_gigabytes * draw.uniform(60, 120)

    def _creation_seconds(self, name: str, region: str) -> float:
        attempt = sum(1 for record in self.created if (record.name, record.region) == (name, region))
        return Random(f"{self.seed}/create/{name}/{region}/{attempt}").uniform(20, 60)  # noqa: S311

    def _finish(self, action: Action) -> None:
        action.status = action.fate.outcome
        if action.status == "errored":
            return
        if action.resource_type == "droplet":
            self._finish_on_droplet(action)
        else:
            self._finish_on_image(action)

    def _finish_on_image(self, action: Action) -> None:
        image = self.images.get(action.resource_id)
        if image is None:
            return
        shown_at = action.ends_at + self.behavior.lag_seconds / self.speed
        if action.type == "transfer":
            image.regions.setdefault(action.region, shown_at)
        else:
            image.type = "snapshot"
            image.shown_as_backup_until = shown_at
            image.locked_until = action.ends_at + self.behavior.lock_seconds / self.speed

    def _finish_on_droplet(self, action: Action) -> None:
        droplet = self.droplets.get(action.resource_id)
        if droplet is None:
            return
        if action.type == "create":
            droplet.status = "active"
        if action.snapshot:
            shown_at = action.ends_at + self.behavior.lag_seconds / self.speed
            heapq.heappush(self._appearing, (shown_at, action.id, action.snapshot))
