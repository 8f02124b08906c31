"""What is missing: a pure function from the account's state to a plan.

A dry run prints the plan. A crash loses nothing, because the next run computes the plan again from the API's state.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import fsum

from flows.actions import BELIEVE_ACTIONS_FOR
from flows.replication.recovery_points import Candidate
from tasks.digitalocean import Action, ConvertImage, Image, ImageActionRequest, TransferImage


@dataclass(frozen=True)
class ImagePlan:
    """What is missing for one image.

    Attributes:
        there: Regions it is in.
        under_way: Transfers in progress, by region.
        transfer_to: Regions to transfer it to.
        convert: Whether to convert it to a snapshot first.
        converting: The conversion in progress.
        refusal: Why it cannot be copied; empty if it can.
    """

    candidate: Candidate
    there: tuple[str, ...] = ()
    under_way: Mapping[str, Action] = field(default_factory=dict)
    transfer_to: tuple[str, ...] = ()
    convert: bool = False
    converting: Action | None = None
    refusal: str = ""

    @property
    def image(self) -> Image:
        """The image as the API listed it."""
        return self.candidate.image

    @property
    def converts(self) -> bool:
        """Whether it is being converted, by this run or by a conversion in progress."""
        return self.convert or self.converting is not None


@dataclass(frozen=True)
class ReplicationPlan:
    """What is missing for all images.

    Attributes:
        images: What is missing for each image, largest first; without regions, in the given order.
        regions: Slugs of the target regions; empty to convert only.
    """

    images: tuple[ImagePlan, ...]
    regions: tuple[str, ...]

    @property
    def conversions(self) -> int:
        """Number of conversions to start."""
        return sum(image.convert for image in self.images)

    @property
    def transfers(self) -> int:
        """Number of transfers to start."""
        return sum(len(image.transfer_to) for image in self.images)

    @property
    def added_gb(self) -> float:
        """Size that the conversions add to the account's snapshots, in GB; copies of a snapshot cost nothing."""
        return fsum(each.image.size_gigabytes or 0.0 for each in self.images if each.convert)

    def only(self, image_ids: Collection[int | None]) -> ReplicationPlan:
        """The plan of some of the images."""
        return replace(self, images=tuple(each for each in self.images if each.image.id in image_ids))

    @property
    def unsized_conversions(self) -> int:
        """Number of images to convert that have no size, and are not in `added_gb`."""
        return sum(each.convert and each.image.size_gigabytes is None for each in self.images)


def images_to_change(candidates: Iterable[Candidate], regions: Iterable[str]) -> list[Image]:
    """List the images that may be missing in a region, or without regions the backups: their actions matter."""
    wanted = set(regions)
    images = [each.image for each in candidates if not each.image.public]
    if not wanted:
        return [image for image in images if image.type == "backup"]
    return [image for image in images if not (image.available and wanted <= set(image.regions))]


def plan_replication(
    candidates: Iterable[Candidate],
    regions: Sequence[str],
    actions: Iterable[Action],
    now: datetime,
    unread: Mapping[int, str] | None = None,
) -> ReplicationPlan:
    """Compute what to do so that every image is a snapshot in every region.

    Args:
        candidates: The images.
        regions: Slugs of the regions; none to only convert backups to snapshots.
        actions: The known actions on these images.
        now: The time, to find actions that have just completed.
        unread: Why the actions of some images are unknown, by image ID. Nothing is planned for these images, because
            their actions may be in progress.
    """
    by_image: dict[int, list[Action]] = {}
    for action in actions:
        if action.resource_id is not None:
            by_image.setdefault(action.resource_id, []).append(action)
    chosen = {candidate.image.id: candidate for candidate in candidates}.values()
    plans = [
        _plan_unread(each, tuple(regions), unread[each.image.id])
        if unread and each.image.id in unread
        else _plan_image(each, tuple(regions), by_image.get(each.image.id, ()), now)
        for each in chosen
    ]
    if regions:
        plans.sort(key=lambda plan: (-(plan.image.size_gigabytes or 0), plan.image.id))
    return ReplicationPlan(tuple(plans), tuple(regions))


def _plan_unread(candidate: Candidate, regions: tuple[str, ...], why: str) -> ImagePlan:
    return ImagePlan(candidate, there=tuple(each for each in regions if each in candidate.image.regions), refusal=why)


def _plan_image(candidate: Candidate, regions: tuple[str, ...], actions: Sequence[Action], now: datetime) -> ImagePlan:
    image = candidate.image
    if refusal := refusal_of(image, actions, to_copy=bool(regions)):
        return ImagePlan(candidate, refusal=refusal)
    current = [action for action in actions if action.in_progress or just_done(action, now)]
    done = {action.region_slug for action in current if action.completed and action.type == "transfer"}
    there = tuple(region for region in regions if region in {*image.regions, *done})
    under_way = {
        region: action
        for region in regions
        if region not in there
        for action in [running(current, TransferImage(region=region))]
        if action is not None
    }
    transfer_to = tuple(region for region in regions if region not in there and region not in under_way)
    is_backup = image.type == "backup" and not any(
        action.completed and ConvertImage().matches(action) for action in current
    )
    converting = running(current, ConvertImage()) if is_backup else None
    return ImagePlan(
        candidate,
        there=there,
        under_way=under_way,
        transfer_to=transfer_to,
        convert=is_backup and converting is None and bool(transfer_to or not regions),
        converting=converting if transfer_to or not regions else None,
    )


def refusal_of(image: Image, actions: Iterable[Action] = (), *, to_copy: bool = True) -> str:
    """Say why an image cannot be copied, or become a snapshot; empty if that is up to the API.

    Args:
        image: A backup, a snapshot or a custom image can be copied.
        actions: Actions on it, because its status may differ while one is in progress.
        to_copy: Whether to copy it; only to convert it if not.
    """
    if image.public:
        return "it is a public image, which DigitalOcean keeps in every region"
    if not to_copy and image.type == "snapshot":
        return ""
    if not to_copy and image.type != "backup":
        return f"it is a {image.type} image: only backups can be converted to snapshots"
    if not image.available and not any(action.in_progress for action in actions):
        return f"its status is {image.status}: try again once it is available"
    return ""


def running(actions: Iterable[Action], request: ImageActionRequest) -> Action | None:
    """Find the action in progress that matches a request."""
    return next((action for action in actions if action.in_progress and request.matches(action)), None)


def just_done(action: Action, now: datetime) -> bool:
    """Whether an action completed so recently that the image may not show it yet."""
    finished = action.completed_at or action.started_at
    return action.completed and abs(now - finished) <= BELIEVE_ACTIONS_FOR
