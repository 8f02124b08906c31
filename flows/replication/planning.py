"""What is missing: a pure function from what is to a plan.

A plan is a value. A dry run prints it, and a crash loses nothing, because the next run computes it again from what
the API says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import fsum

from flows.replication.recovery_points import Candidate
from tasks.digitalocean import Action, ConvertImage, Image, ImageActionRequest, TransferImage

# A finished action may show in the image only seconds later; it is believed for longer than that, so that nothing
# is ever started twice, but not for good, so that an image that is really missing is copied again.
BELIEVE_ACTIONS_FOR = timedelta(minutes=15)


@dataclass(frozen=True)
class ImagePlan:
    """What one image lacks.

    Attributes:
        candidate: The image.
        there: Regions it is in.
        under_way: Transfers that run already, by region.
        transfer_to: Regions it has to be sent to.
        convert: Whether it has to become a snapshot first.
        converting: The conversion that runs already.
        refusal: Why it cannot be copied at all; empty if it can.
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
        """Whether it becomes a snapshot, by this run or by a conversion that runs already."""
        return self.convert or self.converting is not None


@dataclass(frozen=True)
class ReplicationPlan:
    """What all images lack, the largest first.

    Attributes:
        images: What each image lacks.
        regions: Where each of them should be.
    """

    images: tuple[ImagePlan, ...]
    regions: tuple[str, ...]

    @property
    def conversions(self) -> int:
        """How many conversions are to be started."""
        return sum(image.convert for image in self.images)

    @property
    def transfers(self) -> int:
        """How many transfers are to be started."""
        return sum(len(image.transfer_to) for image in self.images)

    @property
    def added_gib(self) -> float:
        """What the conversions add to the account's snapshots; further regions of a snapshot cost nothing."""
        return fsum(each.image.size_gigabytes or 0.0 for each in self.images if each.convert)

    @property
    def unsized_conversions(self) -> int:
        """How many of the images to convert have no size, so that more is added than `added_gib` says."""
        return sum(each.convert and each.image.size_gigabytes is None for each in self.images)


def incomplete_images(candidates: Iterable[Candidate], regions: Iterable[str]) -> list[Image]:
    """List the images that are not known to be everywhere, so that their actions have to be looked at."""
    wanted = set(regions)
    return [
        each.image
        for each in candidates
        if not each.image.public and not (each.image.available and wanted <= set(each.image.regions))
    ]


def plan_replication(
    candidates: Iterable[Candidate],
    regions: Sequence[str],
    actions: Iterable[Action],
    now: datetime,
    unread: Mapping[int, str] | None = None,
) -> ReplicationPlan:
    """Compute what has to be done so that every image is in every region.

    Args:
        candidates: The images.
        regions: Slugs of the regions.
        actions: Actions on these images, as far as they are known.
        now: The time, to tell actions that have just finished.
        unread: Images whose actions cannot be known, by id, and why: whatever they lack may be under way.

    Returns:
        The plan, largest images first, because they take longest.
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
    plans.sort(key=lambda plan: (-(plan.image.size_gigabytes or 0), plan.image.id))
    return ReplicationPlan(tuple(plans), tuple(regions))


def plan_conversions(
    candidates: Iterable[Candidate], actions: Iterable[Action], unread: Mapping[int, str]
) -> ReplicationPlan:
    """Compute what has to be done so that every image is a snapshot, wherever it is.

    Args:
        candidates: The images.
        actions: Actions on these images, as far as they are known.
        unread: Images whose actions cannot be known, by ID, and why.

    Returns:
        The plan, which has no regions.
    """
    known = list(actions)
    plans = []
    for each in candidates:
        own = [action for action in known if action.resource_id == each.image.id]
        if each.image.type == "snapshot" and not each.image.public:
            plans.append(ImagePlan(each))
        elif refusal := conversion_refusal_of(each.image, own) or unread.get(each.image.id, ""):
            plans.append(ImagePlan(each, refusal=refusal))
        else:
            converting = running(own, ConvertImage())
            plans.append(ImagePlan(each, convert=converting is None, converting=converting))
    return ReplicationPlan(tuple(plans), ())


def _plan_unread(candidate: Candidate, regions: tuple[str, ...], why: str) -> ImagePlan:
    return ImagePlan(candidate, there=tuple(each for each in regions if each in candidate.image.regions), refusal=why)


def _plan_image(candidate: Candidate, regions: tuple[str, ...], actions: Sequence[Action], now: datetime) -> ImagePlan:
    image = candidate.image
    if refusal := refusal_of(image, actions):
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
        convert=is_backup and bool(transfer_to) and converting is None,
        converting=converting if transfer_to else None,
    )


def refusal_of(image: Image, actions: Iterable[Action] = ()) -> str:
    """Say why an image is not copied; empty if it is for the API to decide.

    Args:
        image: The image; a backup, a snapshot and a custom image can all be copied.
        actions: Actions on it. While one is in progress, the image may show that in its status.

    Returns:
        The reason.
    """
    if image.public:
        return "it is a public image, which DigitalOcean itself keeps in every region"
    if not image.available and not any(action.in_progress for action in actions):
        return f"its status is {image.status}: an image can be used once its status is available"
    return ""


def conversion_refusal_of(image: Image, actions: Iterable[Action] = ()) -> str:
    """Say why an image is not converted; empty if it is for the API to decide."""
    if image.type != "backup" and not image.public:
        return f"it is a {image.type} image: only backups can be converted to snapshots"
    return refusal_of(image, actions)


def running(actions: Iterable[Action], request: ImageActionRequest) -> Action | None:
    """Find the action that does what a request asks for, if one runs."""
    return next((action for action in actions if action.in_progress and request.matches(action)), None)


def just_done(action: Action, now: datetime) -> bool:
    """Whether an action completed so lately that the image may not show it yet."""
    finished = action.completed_at or action.started_at
    return action.completed and abs(now - finished) <= BELIEVE_ACTIONS_FOR
