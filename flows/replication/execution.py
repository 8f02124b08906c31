"""Carries out a plan: starts the missing actions, waits for them, and records the outcomes."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import threading
from asyncio import Event
from collections import defaultdict
from collections.abc import Collection, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress

from flows.actions import Started, describe_error
from flows.replication.planning import ImagePlan, ReplicationPlan, plan_replication
from flows.replication.progress import Progress
from flows.replication.recovery_points import Candidate
from flows.replication.refusals import ImageState, Refusals
from flows.replication.rows import row_of
from flows.reporting.report import Outcome, Row
from flows.snapshots.taking import Taking
from tasks.digitalocean import (
    ActedOn,
    Action,
    APIError,
    Connection,
    ConvertImage,
    Forbidden,
    ImageActionRequest,
    NotFound,
    TransferImage,
    Unauthorized,
    UnexpectedStatus,
    UnprocessableEntity,
)
from tasks.digitalocean.errors import MOST_REFUSALS
from tasks.digitalocean.rate_limiter import Priority
from tasks.image_actions import list_image_actions, post_image_action
from tasks.images import get_image
from tasks.tags import tag_images

# An image stays locked for an unknown time after its conversion. Pauses between tries double, from the shortest to the
# longest poll interval: about five minutes in total with the defaults.
MOST_TRIES_WHILE_LOCKED = 7
# Conversions come first, because transfers wait for them.
CONVERSION, TRANSFER = 0.0, 1.0
LAST: Priority = (math.inf,)

logger = logging.getLogger(__name__)


class ImageDeleted(Exception):
    """An image was deleted during the run."""

    def __init__(self, image_id: int) -> None:
        super().__init__(f"image {image_id} was deleted during the run")


class Execution:
    """Carries out one plan. Each action starts as a Prefect task run, when the rate limiter permits it.

    Args:
        plan: What is missing.
        connection: The API.
        wait: Whether to wait until the actions have ended. Conversions followed by transfers are always waited for.
        untagged: IDs of images that could not be tagged as backups, and are tagged once they are snapshots.
        taking: Takes snapshots, which are copied as soon as they are found; None if there are none to take.

    Attributes:
        progress: The outcomes so far.
        ended: Set at the end of the run.
    """

    def __init__(
        self,
        plan: ReplicationPlan,
        connection: Connection,
        *,
        wait: bool,
        untagged: Collection[int] = (),
        taking: Taking | None = None,
    ) -> None:
        self._plan = plan
        self._images = list(plan.images)
        self._taking = taking
        self._connection = connection
        self._settings = connection.settings
        self.progress = Progress()
        self._wait = wait
        self._untagged = untagged
        self._refusals = Refusals()
        self._unlocked: set[int] = set()
        self._converted: dict[int, Event] = defaultdict(Event)
        self._first_tried: dict[int, Event] = defaultdict(Event)
        # How long to wait for a converted image to be unlocked; learned from refusals.
        self._settling_seconds = connection.settings.poll_interval_seconds
        self.ended = threading.Event()

    async def run(self, timeout_seconds: float, reporting: AbstractAsyncContextManager[object] = nullcontext()) -> None:  # noqa: B008  # it holds no state
        """Carry out the plan.

        Args:
            timeout_seconds: When to stop. Actions that are in progress by then continue at DigitalOcean.
            reporting: Reports progress.
        """
        self._prepare_progress()
        try:
            async with reporting:
                with suppress(TimeoutError):
                    async with asyncio.timeout(timeout_seconds), asyncio.TaskGroup() as steps:
                        for plan in self._images:
                            self._begin(plan, steps)
                        if self._taking:
                            steps.create_task(self._taking.run())
                            await self._copy_taken(self._taking, steps)
        finally:
            self.ended.set()

    def _begin(self, plan: ImagePlan, steps: asyncio.TaskGroup) -> None:
        """Begin with all steps of an image."""
        self._record_known_outcomes(plan)
        if plan.converts:
            steps.create_task(self._convert(plan))
        for region in (*plan.under_way, *plan.transfer_to):
            steps.create_task(self._step(plan, region))

    async def _copy_taken(self, taking: Taking, steps: asyncio.TaskGroup) -> None:
        """Copy snapshots as they are found."""
        async for step, image in taking.taken():
            candidate = Candidate(image, step.source, step.droplet.id)
            now = self._connection.client.server_clock.now()
            (plan,) = plan_replication([candidate], self._plan.regions, (), now).images
            self._images.append(plan)
            self._begin(plan, steps)
        self.progress.total = len(self._images) * len(self._plan.regions)

    def rows(self) -> tuple[Row, ...]:
        """The outcome of each copy and of each conversion, in the plan's order; timed out if it has not completed."""
        copies = [(plan, region) for plan in self._images for region in self._plan.regions]
        # Without regions, the conversions are what the run is for.
        conversions = [(plan, None) for plan in self._images if plan.converts or not self._plan.regions]
        return tuple(self._row(plan, region) for plan, region in (*copies, *conversions))

    def _prepare_progress(self) -> None:
        plans, regions = self._images, self._plan.regions
        to_take = len(self._taking.plan.missing) if self._taking else 0
        self.progress.counts_conversions = not regions
        self.progress.total = (len(plans) + to_take) * len(regions or (None,))
        self.progress.conversions_left = self._plan.conversions
        self.progress.smallest_gigabytes = min((each.image.size_gigabytes or 0.0 for each in plans), default=0.0)
        if taking := self._taking:
            self.progress.snapshots_left = lambda: taking.left

    def _record_known_outcomes(self, plan: ImagePlan) -> None:
        regions = self._plan.regions
        if plan.refusal:
            self._record(plan, regions or (None,), Outcome.FAILED, error=plan.refusal)
        elif not regions and not plan.converts:
            self._record(plan, [None], Outcome.ALREADY_THERE)
        self._record(plan, plan.there, Outcome.ALREADY_THERE)

    async def _convert(self, plan: ImagePlan) -> None:
        """Convert a backup to a snapshot, and tag it if it could not be tagged before."""
        await self._step(plan, None)
        self.progress.conversions_left -= plan.convert
        row = self.progress.rows[plan.image.id, None]
        if row.outcome == Outcome.FAILED:
            self._record(plan, plan.transfer_to, Outcome.FAILED, error=f"not converted: {row.error}")
        self._converted[plan.image.id].set()
        if plan.image.id in self._untagged and row.outcome not in (Outcome.FAILED, Outcome.STARTED):
            await self._tag_converted(plan.image.id)

    async def _becomes_transferable(self, plan: ImagePlan, region: str) -> bool:
        """Wait until an image is a snapshot; returns whether it is one.

        After a conversion, the image may still be locked. Try one region first, so that not all are refused.
        """
        if plan.converts:
            await self._converted[plan.image.id].wait()
            if (plan.image.id, region) in self.progress.rows:
                return False
            if region == plan.transfer_to[0]:
                await asyncio.sleep(self._settling_seconds)
            else:
                await self._first_tried[plan.image.id].wait()
        return True

    async def _step(self, plan: ImagePlan, region: str | None) -> None:
        """Carry out one step of the plan and record its outcome; a failure never stops the other steps.

        Args:
            plan: The image's part of the plan.
            region: Where to copy the image; None to convert it.
        """
        if region in plan.transfer_to and not await self._becomes_transferable(plan, region):
            return None
        tried = self._first_tried[plan.image.id] if region in plan.transfer_to[:1] else Event()
        clock = asyncio.get_running_loop()
        request: ImageActionRequest = ConvertImage() if region is None else TransferImage(region=region)
        running = plan.converting if region is None else plan.under_way.get(region)
        try:
            # The largest images take longest, so they start first.
            priority = (CONVERSION if region is None else TRANSFER, -(plan.image.size_gigabytes or 0.0))
            started = Started(running, adopted=True) if running else await self._start(plan, request, priority)
            for starts_left in reversed(range(self._settings.action_restart_max + 1)):
                if started.action is None:
                    return self._record(plan, [region], Outcome.ALREADY_THERE)
                began = clock.time()
                self.progress.actions[plan.image.id, region] = started.action
                tried.set()
                if not self._wait and not (region is None and plan.transfer_to):
                    return self._record(plan, [region], Outcome.STARTED)
                if await self._completes(plan, request, started.action):
                    break
                if not starts_left:
                    return self._record(plan, [region], Outcome.FAILED, error=self._failed_each_time())
                started = await self._start(plan, request, priority)
        except Exception as error:  # noqa: BLE001  # reported in the row
            self._record(plan, [region], Outcome.FAILED, error=describe_error(error, ImageDeleted))
        else:
            done = Outcome.CONVERTED if region is None else Outcome.TRANSFERRED
            outcome = Outcome.ADOPTED if started.adopted else done
            self._record(plan, [region], outcome, seconds=round(clock.time() - began, 1))
        finally:
            tried.set()

    async def _start(self, plan: ImagePlan, request: ImageActionRequest, priority: Priority) -> Started:
        """Start an action, unless it is in progress or completed already.

        Raises:
            ImageDeleted: The image was deleted.
            APIError: The action was not started, or it is unknown whether it was.
        """
        image_id, turn, sent = plan.image.id, priority, self._now()
        refused, locked = itertools.count(1), itertools.count(1)
        self._refusals.want(image_id)
        try:
            while True:
                unlocked_before = image_id in self._unlocked
                try:
                    async with self._connection.client.rate_limiter.permit(turn) as permit:
                        if turn == priority and self._refusals.should_go_last(image_id):
                            turn = LAST
                            continue
                        self._refusals.raise_if_token_refused(f"/v2/images/{image_id}/actions")
                        sent = self._now()
                        action = await post_image_action.run(
                            image_id, request, credentials=self._connection, permit=permit
                        )
                    self._refusals.accepted()
                    if isinstance(request, TransferImage):
                        # Transfers of one image run in parallel, so an accepted one shows that the image is unlocked.
                        self._unlocked.add(image_id)
                    return Started(action)
                except Unauthorized as error:
                    self._refusals.token_refused = error
                    raise
                except Forbidden as error:
                    tries = next(refused)
                    self._refusals.note_forbidden(image_id, error, sent, self._now(), tries)
                    logger.warning("%s; trying again after other images", error)
                    await asyncio.sleep(self._settings.pause_after(tries))
                    turn = priority
                except (UnprocessableEntity, NotFound, UnexpectedStatus) as refusal:
                    found = await self._after_refusal(
                        plan, request, refusal, next(locked), unlocked_before=unlocked_before
                    )
                    if found:
                        return found
                    turn = priority
        finally:
            self._refusals.done(image_id)

    async def _after_refusal(
        self, plan: ImagePlan, request: ImageActionRequest, refusal: APIError, tries: int, *, unlocked_before: bool
    ) -> Started | None:
        """Find out why a start was refused. If the reason may be temporary, wait and return None.

        Raises:
            ImageDeleted: The image was deleted.
            APIError: The refusal is final.
        """
        if refusal.ambiguous:
            raise refusal
        state = await self._state_of(plan.image.id)
        if state.image is None:
            raise ImageDeleted(plan.image.id) from refusal
        if found := state.already(request):
            return found
        locked = not unlocked_before and state.is_locked()
        # A 404 for an image that exists may be temporary; other refusals only while the image is locked.
        passes = isinstance(refusal, NotFound) and tries < MOST_REFUSALS
        if tries == MOST_TRIES_WHILE_LOCKED or not (locked or passes):
            raise refusal
        logger.info("%s of image %d was refused, trying again: %s", request, plan.image.id, refusal.message)
        await asyncio.sleep(self._settings.pause_after(tries))
        if locked:
            self._settling_seconds = max(self._settling_seconds, self._settings.pause_after(tries + 1))
        return None

    async def _state_of(self, image_id: int) -> ImageState:
        image = await get_image.run(image_id, credentials=self._connection)
        actions = await list_image_actions.run(image_id, credentials=self._connection) if image else []
        return ImageState(image, tuple(actions), self._connection.client.server_clock.now())

    async def _completes(self, plan: ImagePlan, request: ImageActionRequest, action: Action) -> bool:
        """Wait for the end of an action; returns whether it completed."""
        # Transfers wait for a conversion. Its duration does not depend on the image's size.
        converting = isinstance(request, ConvertImage)
        gigabytes = None if converting else plan.image.size_gigabytes
        try:
            ended = await self._connection.poller.wait(
                ActedOn("image", plan.image.id), action, gigabytes, blocking=converting
            )
        except NotFound as error:
            # Either the action or the image is gone: the image's own state decides.
            image = await get_image.run(plan.image.id, credentials=self._connection)
            if image is None:
                raise ImageDeleted(plan.image.id) from error
            if request.shown_by(image):
                return True
            raise
        return ended.completed

    async def _tag_converted(self, image_id: int) -> None:
        """Tag an image that was just converted; retry while the API still treats it as a backup."""
        tag = self._settings.managed_tag
        for tries in range(1, MOST_TRIES_WHILE_LOCKED + 1):
            try:
                if not await tag_images.run(tag, [image_id], credentials=self._connection):
                    return
                if await get_image.run(image_id, credentials=self._connection) is None:
                    return  # reported in the rows of the copies
            except Exception as error:  # noqa: BLE001  # copies continue
                logger.error("Image %d was converted but not tagged: %s", image_id, describe_error(error, ImageDeleted))  # noqa: TRY400
                return
            await asyncio.sleep(self._settings.pause_after(tries))
        logger.error("Image %d was converted, but could not be tagged %s", image_id, tag)

    def _failed_each_time(self) -> str:
        starts = self._settings.action_restart_max + 1
        return f"the action failed on all {starts} attempts" if starts > 1 else "the action failed"

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _record(
        self,
        plan: ImagePlan,
        regions: Iterable[str | None],
        outcome: Outcome,
        *,
        seconds: float | None = None,
        error: str = "",
    ) -> None:
        for region in regions:
            action = self.progress.actions.get((plan.image.id, region))
            row = row_of(plan, region, outcome, action=action, seconds=seconds, error=error)
            self.progress.rows[plan.image.id, region] = row

    def _row(self, plan: ImagePlan, region: str | None) -> Row:
        action = self.progress.actions.get((plan.image.id, region))
        why = "still in progress: the next run adopts it" if action else "not started: the next run starts it"
        timed_out = row_of(plan, region, Outcome.TIMED_OUT, action=action, error=why)
        return self.progress.rows.get((plan.image.id, region), timed_out)
