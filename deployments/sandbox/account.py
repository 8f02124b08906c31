"""The state of one account. Time passes only in `Account.advance`, so call it before reading the account."""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Literal, Self

from deployments.sandbox.behavior import Behavior
from deployments.sandbox.regions import REGIONS, Region, Size

ImageType = Literal["base", "snapshot", "backup", "custom"]
ImageStatus = Literal["NEW", "available", "pending", "deleted", "retired"]
ActionStatus = Literal["in-progress", "completed", "errored"]
Outcome = Literal["completed", "errored"]

BACKUPS_KEPT_SECONDS = 7 * 86400.0
"""How long daily backups are kept."""


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
    public_ip: str
    private_ip: str
    vpc_uuid: str
    backup_hour: int | None = None
    tags: list[str] = field(default_factory=list)
    image_ids: list[int] = field(default_factory=list)
    volume_ids: list[str] = field(default_factory=list)

    def backup_name(self, created_at: float) -> str:
        """The name of a backup made at that time."""
        return f"{self.name} {datetime.fromtimestamp(created_at, UTC):%Y-%m-%d}"

    def draw_image_size(self, draw: Random) -> float:
        """Draw the size of an image of this Droplet, in gigabytes."""
        return round(draw.uniform(1, min(30, self.size.disk)), 2)


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
        self.actions: dict[int, Action] = {}
        self.started: list[Action] = []
        """Every action that the client started, oldest first."""
        self.deleted: list[Deletion] = []
        """Every image that the client deleted, oldest deletion first."""
        self._feed: list[Action] = []
        self._running: list[tuple[float, int, Action]] = []
        self._last_action_id = 2_048_000_000
        self._last_image_id = 0
        self._advancing = threading.Lock()

    def advance(self, now: float) -> None:
        """Finish every action that is due.

        Args:
            now: The time, in Unix seconds.
        """
        with self._advancing:
            while self._running and self._running[0][0] <= now:
                self._finish(heapq.heappop(self._running)[2])

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
        fate = fate or Fate()
        ends_at = now + self._seconds_for(image, kind, region) / self.speed if fate.ends else math.inf
        action = self._add_action(kind, image.id, "image", region, started_at=now, ends_at=ends_at, fate=fate)
        image.actions.append(action)
        self.started.append(action)
        if fate.ends:
            with self._advancing:
                heapq.heappush(self._running, (ends_at, action.id, action))
        return action

    def add_past_action(self, kind: str, droplet: Droplet, started_at: float, ended_at: float) -> None:
        """Add an action on a Droplet from before the client's first request to the feed."""
        action = self._add_action(
            kind, droplet.id, "droplet", droplet.region, started_at=started_at, ends_at=ended_at, fate=Fate()
        )
        action.status = "completed"

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
        if image.droplet_id is not None:
            self.droplets[image.droplet_id].image_ids.append(image.id)

    def delete_image(self, image: Image) -> None:
        """Delete an image; its actions stay."""
        for name in list(image.tags):
            self.untag(self.tags[name], "image", image)
        droplet = self.droplets.get(image.droplet_id) if image.droplet_id is not None else None
        if droplet is not None:
            droplet.image_ids.remove(image.id)
        del self.images[image.id]

    def delete_droplet(self, droplet: Droplet) -> None:
        """Destroy a Droplet and its backups between two requests; its snapshots stay."""
        for image in self._images_of(droplet, "backup"):
            self.delete_image(image)
        for name in list(droplet.tags):
            self.untag(self.tags[name], "droplet", droplet)
        del self.droplets[droplet.id]

    def back_up_droplets(self, now: float) -> list[Image]:
        """Create a night's backups between two requests, and delete those older than a week.

        Args:
            now: The time, in Unix seconds.

        Returns:
            The new backups, one per Droplet with backups enabled.
        """
        self.advance(now)
        backed_up = [droplet for droplet in self.droplets.values() if droplet.backup_hour is not None]
        for droplet in backed_up:
            for image in self._images_of(droplet, "backup"):
                if now - image.created_at >= BACKUPS_KEPT_SECONDS and not image.pending():
                    self.delete_image(image)
        return [self._back_up(droplet, now) for droplet in backed_up]

    def _back_up(self, droplet: Droplet, now: float) -> Image:
        backup = Image(
            id=self._last_image_id + 1,
            name=droplet.backup_name(now),
            type="backup",
            regions={droplet.region: 0.0},
            created_at=now,
            min_disk_size=droplet.size.disk,
            size_gigabytes=droplet.draw_image_size(Random(f"{self.seed}/{droplet.id}/{now}")),  # noqa: S311
            distribution=droplet.base_image.distribution,
            droplet_id=droplet.id,
        )
        self.add_image(backup)
        return backup

    def _images_of(self, droplet: Droplet, kind: ImageType) -> list[Image]:
        return [self.images[image_id] for image_id in droplet.image_ids if self.images[image_id].type == kind]

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

    def _finish(self, action: Action) -> None:
        action.status = action.fate.outcome
        image = self.images.get(action.resource_id)
        if image is None or action.status == "errored":
            return
        shown_at = action.ends_at + self.behavior.lag_seconds / self.speed
        if action.type == "transfer":
            image.regions.setdefault(action.region, shown_at)
        else:
            image.type = "snapshot"
            image.shown_as_backup_until = shown_at
            image.locked_until = action.ends_at + self.behavior.lock_seconds / self.speed
