"""The state of one account: what there is, what is under way, and what has become of it.

Time passes only in `Account.advance`: whoever looks at the account first tells it what time it is.
"""

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
    """What will become of an action that is about to start, and who will see it."""

    outcome: Outcome = "completed"
    ends: bool = True
    listed: bool = True


@dataclass(slots=True)
class Action:
    """Something done to a resource; `ends_at` is decided at its start and is infinite if it never ends."""

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
    """An image; `regions` says since when the API shows the image in each of them."""

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
        """The type the API shows, which may lag behind the true one."""
        return "backup" if now < self.shown_as_backup_until else self.type

    def shown_regions(self, now: float) -> list[str]:
        """The regions the API shows, which may lag behind the true ones."""
        return [slug for slug, since in self.regions.items() if since <= now]

    def pending(self) -> list[Action]:
        """The actions on this image that are in progress."""
        return [action for action in self.actions if action.status == "in-progress"]


@dataclass(slots=True)
class Droplet:
    """A virtual machine; which of its images are backups, the images know."""

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
        """What a backup of that moment is called."""
        return f"{self.name} {datetime.fromtimestamp(created_at, UTC):%Y-%m-%d}"

    def draw_image_size(self, draw: Random) -> float:
        """A size that an image of it may have, in gigabytes."""
        return round(draw.uniform(1, min(30, self.size.disk)), 2)


@dataclass(frozen=True, slots=True)
class Deletion:
    """An image the client deleted, as it was at that moment."""

    at: float
    image_id: int
    name: str
    droplet_id: int | None
    created_at: float
    regions: tuple[str, ...]
    tags: tuple[str, ...]

    @classmethod
    def of(cls, image: Image, now: float) -> Self:
        """What is to be remembered of an image that is about to be deleted."""
        return cls(
            at=now,
            image_id=image.id,
            name=image.name,
            droplet_id=image.droplet_id,
            created_at=image.created_at,
            regions=tuple(image.regions),
            tags=tuple(image.tags),
        )


@dataclass(slots=True)
class Tag:
    """A tag and its resources: pairs of type and ID, the last one tagged last."""

    name: str
    resources: dict[tuple[str, int], None] = field(default_factory=dict)


class Account:
    """Everything one API token can see."""

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
        """Every action the client started, oldest first."""
        self.deleted: list[Deletion] = []
        """Every image the client deleted, in the order in which it did."""
        self._feed: list[Action] = []
        self._running: list[tuple[float, int, Action]] = []
        self._last_action_id = 2_048_000_000
        self._last_image_id = 0
        self._advancing = threading.Lock()

    def advance(self, now: float) -> None:
        """Let everything happen that is due.

        Args:
            now: The time, in Unix seconds.
        """
        with self._advancing:
            while self._running and self._running[0][0] <= now:
                self._finish(heapq.heappop(self._running)[2])

    def newest_actions(self, now: float) -> list[Action]:
        """The account's feed, newest first, without what it does not show yet."""
        shown = len(self._feed)
        # Only the last few can be too new, as all of them appear equally late.
        while shown and self._feed[shown - 1].listed_at > now:
            shown -= 1
        return self._feed[:shown][::-1]

    def start(self, image: Image, kind: str, region: str, now: float, fate: Fate | None = None) -> Action:
        """Start an action on an image that may have it.

        Args:
            image: The image.
            kind: `convert` or `transfer`.
            region: Where to transfer it, or where it is converted.
            now: The time, in Unix seconds.
            fate: What will become of it.

        Returns:
            The action, in progress.
        """
        fate = fate or Fate()
        ends_at = now + self._seconds_for(image, kind, region) / self.speed if fate.ends else math.inf
        action = self._remember(kind, image.id, "image", region=region, started_at=now, ends_at=ends_at, fate=fate)
        image.actions.append(action)
        self.started.append(action)
        if fate.ends:
            with self._advancing:
                heapq.heappush(self._running, (ends_at, action.id, action))
        return action

    def add_past_action(self, kind: str, droplet: Droplet, started_at: float, ended_at: float) -> None:
        """Put something into the feed that was done to a Droplet before the client came."""
        action = self._remember(
            kind,
            droplet.id,
            "droplet",
            region=droplet.region,
            started_at=started_at,
            ends_at=ended_at,
            fate=Fate(),
        )
        action.status = "completed"

    def tag(self, tag: Tag, kind: str, resource: Image | Droplet) -> None:
        """Put a tag on a resource."""
        tag.resources.pop((kind, resource.id), None)
        tag.resources[kind, resource.id] = None
        if tag.name not in resource.tags:
            resource.tags.append(tag.name)

    def untag(self, tag: Tag, kind: str, resource: Image | Droplet) -> None:
        """Take a tag off a resource."""
        tag.resources.pop((kind, resource.id), None)
        if tag.name in resource.tags:
            resource.tags.remove(tag.name)

    def add_image(self, image: Image) -> None:
        """Put an image into the account, and on the lists of its Droplet."""
        self.images[image.id] = image
        self._last_image_id = max(self._last_image_id, image.id)
        if image.droplet_id is not None:
            self.droplets[image.droplet_id].image_ids.append(image.id)

    def delete_image(self, image: Image) -> None:
        """Forget an image, but not what was done to it."""
        for name in list(image.tags):
            self.untag(self.tags[name], "image", image)
        droplet = self.droplets.get(image.droplet_id) if image.droplet_id is not None else None
        if droplet is not None:
            droplet.image_ids.remove(image.id)
        del self.images[image.id]

    def delete_droplet(self, droplet: Droplet) -> None:
        """Destroy a Droplet between two requests: its backups go with it, its snapshots stay."""
        for image in self._images_of(droplet, "backup"):
            self.delete_image(image)
        for name in list(droplet.tags):
            self.untag(self.tags[name], "droplet", droplet)
        del self.droplets[droplet.id]

    def back_up_droplets(self, now: float) -> list[Image]:
        """Let a night's backups be made between two requests, and those of a week ago rotate away.

        Args:
            now: The time, in Unix seconds.

        Returns:
            The new backups, one of each Droplet that has backups on.
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

    def _remember(
        self,
        kind: str,
        resource_id: int,
        resource_type: Literal["image", "droplet"],
        *,
        region: str,
        started_at: float,
        ends_at: float,
        fate: Fate,
    ) -> Action:
        self._last_action_id += 1
        listed_at = started_at + self.behavior.feed_lag_seconds / self.speed
        action = Action(
            self._last_action_id,
            kind,
            resource_id,
            resource_type,
            region,
            started_at,
            ends_at,
            listed_at,
            fate,
        )
        self.actions[action.id] = action
        if fate.listed:
            self._feed.append(action)
        return action

    def _seconds_for(self, image: Image, kind: str, region: str) -> float:
        # Seeded by what is done and not by when, so that a run's order does not change its durations.
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
