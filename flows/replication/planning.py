"""What is missing: a pure function from what is to a plan.

A plan is a value. A dry run prints it, and a crash loses nothing, because the next run computes it again from what
the API says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from flows.replication.selection import Candidate
from tasks.digitalocean import Action, ConvertImage, Image, TransferImage

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
        closed: Regions it should be in, but which take no images now.
        convert: Whether it has to become a snapshot first.
        converting: The conversion that runs already.
        refusal: Why it cannot be copied at all; empty if it can.
    """

    candidate: Candidate
    there: tuple[str, ...] = ()
    under_way: Mapping[str, Action] = field(default_factory=dict)
    transfer_to: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    convert: bool = False
    converting: Action | None = None
    refusal: str = ""

    @property
    def image(self) -> Image:
        """The image as the API listed it."""
        return self.candidate.image

    def refusal_in(self, region: str) -> str:
        """Say why it cannot be copied to a region; empty if it can, or need not be."""
        return self.refusal or (f"region {region} takes no images at present" if region in self.closed else "")


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


def lacking(candidates: Iterable[Candidate], regions: Iterable[str]) -> list[Image]:
    """List the images that are not known to be everywhere, so that their actions have to be looked at."""
    wanted = set(regions)
    return [each.image for each in candidates if not wanted <= set(each.image.regions) and not refusal_of(each.image)]


def plan_replication(
    candidates: Iterable[Candidate],
    regions: Sequence[str],
    actions: Iterable[Action],
    now: datetime,
    closed: Collection[str] = (),
) -> ReplicationPlan:
    """Compute what has to be done so that every image is in every region.

    Args:
        candidates: The images.
        regions: Slugs of the regions.
        actions: Actions on these images, as far as they are known.
        now: The time, to tell actions that have just finished.
        closed: Slugs of regions that take no images.

    Returns:
        The plan, largest images first, because they take longest.
    """
    by_image: dict[int, list[Action]] = {}
    for action in actions:
        if action.resource_id is not None:
            by_image.setdefault(action.resource_id, []).append(action)
    chosen = {candidate.image.id: candidate for candidate in candidates}.values()
    plans = [_plan_image(each, tuple(regions), by_image.get(each.image.id, ()), now, closed) for each in chosen]
    plans.sort(key=lambda plan: (-(plan.image.size_gigabytes or 0), plan.image.id))
    return ReplicationPlan(tuple(plans), tuple(regions))


def _plan_image(
    candidate: Candidate, regions: tuple[str, ...], actions: Iterable[Action], now: datetime, closed: Collection[str]
) -> ImagePlan:
    image = candidate.image
    if refusal := refusal_of(image):
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
    missing = [region for region in regions if region not in there and region not in under_way]
    transfer_to = tuple(region for region in missing if region not in closed)
    is_backup = image.type == "backup" and not any(
        action.completed and ConvertImage().matches(action) for action in current
    )
    converting = running(current, ConvertImage()) if is_backup else None
    return ImagePlan(
        candidate,
        there=there,
        under_way=under_way,
        transfer_to=transfer_to,
        closed=tuple(region for region in missing if region in closed),
        convert=is_backup and bool(transfer_to) and converting is None,
        converting=converting if transfer_to else None,
    )


def refusal_of(image: Image) -> str:
    """Say why an image can be neither converted nor copied; empty if it can."""
    if image.public:
        return "it is a public image, which is in every region by itself"
    if image.type not in {"backup", "snapshot"}:
        return f"it is a {image.type} image; only backups and snapshots can be copied"
    return ""


def running(actions: Iterable[Action], request: ConvertImage | TransferImage) -> Action | None:
    """Find the action that does what a request asks for, if one runs."""
    return next((action for action in actions if action.in_progress and request.matches(action)), None)


def just_done(action: Action, now: datetime) -> bool:
    """Whether an action completed so lately that the image may not show it yet."""
    finished = action.completed_at or action.started_at
    return action.completed and abs(now - finished) <= BELIEVE_ACTIONS_FOR
