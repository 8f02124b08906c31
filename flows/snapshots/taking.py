"""Takes the snapshots of a plan: starts the actions, waits for them, finds the snapshots and tags them."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from flows.actions import Started, describe_error
from flows.replication.refusals import Refusals
from flows.reporting.report import Outcome, SnapshotRow, count
from flows.snapshots.finding import SnapshotFinder
from flows.snapshots.planning import FINISH_WITHIN, SnapshotPlan, SnapshotStep, made_by, run_time_of
from flows.snapshots.rows import planned_row, row_of
from tasks.api_task import LONGEST_ENDING_SECONDS, run_blocking
from tasks.digitalocean import (
    ActedOn,
    Action,
    APIError,
    Connection,
    Forbidden,
    Image,
    NotFound,
    ScopeMissing,
    Unauthorized,
    UnexpectedStatus,
    UnprocessableEntity,
)
from tasks.digitalocean.errors import MOST_REFUSALS
from tasks.digitalocean.rate_limiter import Priority
from tasks.droplet_actions import list_droplet_actions, list_snapshots_of_droplet, take_snapshot
from tasks.tags import tag_images

# As with conversions, transfers wait for them.
SNAPSHOT_PRIORITY: Priority = (0.0,)
# In the message of a 422 while another action on the Droplet is pending, even if no action is listed.
PENDING = "pending"
MOST_TAGGING_TRIES = 5
# In longest poll intervals: an hour by default. Until then, pruning leaves them alone, but a restore can use them.
INTERVALS_BETWEEN_TAGGINGS = 30

logger = logging.getLogger(__name__)


class DropletDeleted(Exception):
    """A Droplet was deleted during the run."""

    def __init__(self, droplet_id: int) -> None:
        super().__init__(f"Droplet {droplet_id} was deleted during the run")


class SnapshotFailed(Exception):
    """A snapshot could not be taken, or not be found."""


class Taking:
    """Takes the missing snapshots of one plan. Each is started as a Prefect task run.

    Args:
        plan: What to take.
        connection: The API.
        listed: How many snapshots the account has.
        wait: Whether to wait until the snapshots have been taken.

    Attributes:
        rows: The outcomes so far, by Droplet ID.
        interrupted: Whether Ctrl-C ended it.
    """

    def __init__(self, plan: SnapshotPlan, connection: Connection, listed: int, *, wait: bool = True) -> None:
        self.plan = plan
        self.rows: dict[int, SnapshotRow] = {}
        self.interrupted = False
        self._connection = connection
        self._settings = connection.settings
        self._wait = wait
        self._refusals = Refusals()
        self._actions: dict[int, Action] = {}
        self._awaited: set[int] = set()
        self._finder = SnapshotFinder(connection, listed, lambda: len(self._awaited))
        self._taken: asyncio.Queue[tuple[SnapshotStep, Image] | None] = asyncio.Queue()
        self._untagged = list(plan.untagged)
        self._all_known = asyncio.Event()
        self._ended = threading.Event()

    @property
    def left(self) -> int:
        """Number of snapshots whose outcome is unknown."""
        return len(self.plan.missing) - len(self.rows)

    def run_to_end(self, timeout_seconds: float) -> None:
        """Take the snapshots, and block this thread until that is done; after Ctrl-C, only what has begun is finished.

        Args:
            timeout_seconds: When to stop. Actions that are in progress by then continue at DigitalOcean.
        """

        async def run() -> None:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    await self.run()

        try:
            run_blocking(run())
        except KeyboardInterrupt:
            self.interrupted = True
            self._ended.wait(LONGEST_ENDING_SECONDS)

    async def run(self) -> None:
        """Take the snapshots until all outcomes are known; if cancelled, tag those that were found."""
        self._awaited = {step.droplet.id for step in self.plan.missing}
        if not self._awaited:
            self._all_known.set()
        try:
            async with self._finding(), asyncio.TaskGroup() as steps:
                for step in self.plan.missing:
                    steps.create_task(self._take(step))
                steps.create_task(self._tag_until_done())
        finally:
            self._taken.put_nowait(None)
            await self._tag_found()
            self._ended.set()

    async def taken(self) -> AsyncIterator[tuple[SnapshotStep, Image]]:
        """Yield the snapshots as they are found, until `run` ends."""
        while item := await self._taken.get():
            yield item

    def planned_rows(self) -> tuple[SnapshotRow, ...]:
        """What would be done about each Droplet, for a dry run."""
        return tuple(map(planned_row, self.plan.steps))

    def all_rows(self) -> tuple[SnapshotRow, ...]:
        """The outcome of each Droplet, in the plan's order; timed out if it is unknown."""
        return tuple(self.rows.get(step.droplet.id) or self._known_row(step) for step in self.plan.steps)

    @asynccontextmanager
    async def _finding(self) -> AsyncIterator[None]:
        finding = asyncio.create_task(self._finder.run())
        try:
            yield
        finally:
            finding.cancel()
            await asyncio.gather(finding, return_exceptions=True)

    async def _take(self, step: SnapshotStep) -> None:
        """Take one snapshot and record its outcome; a failure never stops the others."""
        began = self._now()
        try:
            started = Started(step.running, adopted=True) if step.running else await self._start(step)
            if not self._wait:
                self._record(step, Outcome.STARTED, action=started.action)
                return
            for starts_left in reversed(range(self._settings.action_restart_max + 1)):
                if image := await self._snapshot_of(step, started):
                    outcome = Outcome.ADOPTED if image.name != step.name else Outcome.TAKEN
                    self._record(step, outcome, image=image, seconds=round(self._now() - began, 1))
                    self._untagged.append(image.id)
                    self._taken.put_nowait((step, image))
                    return
                if starts_left:
                    started = await self._start(step)
            attempts = self._settings.action_restart_max + 1
            self._record(step, Outcome.FAILED, error=f"no snapshot of this run after {count(attempts, 'attempt')}")
        except Exception as error:  # noqa: BLE001  # reported in the row
            self._record(step, Outcome.FAILED, error=describe_error(error, DropletDeleted, SnapshotFailed))
        finally:
            self._awaited.discard(step.droplet.id)
            self._finder.note_end()
            if not self.left:
                self._all_known.set()

    async def _snapshot_of(self, step: SnapshotStep, started: Started) -> Image | None:
        """Wait for an action and find its snapshot; None if the action failed.

        If the action turns out to be someone else's, start another one.

        Raises:
            SnapshotFailed: The action completed, but its snapshot is not listed.
            DropletDeleted: The Droplet was deleted, and its snapshot is not listed.
        """
        action, droplet_id = started.action, step.droplet.id
        deleted: DropletDeleted | None = None
        if action:
            self._actions[droplet_id] = action
            try:
                action = await self._end_of(action, droplet_id)
            except DropletDeleted as error:
                deleted = error  # its snapshots stay
            else:
                if not action.completed:
                    return None
        self._awaited.discard(droplet_id)

        def choose(snapshots: list[Image]) -> Image | None:
            named = next((each for each in snapshots if each.name == step.name), None)
            others = (each for each in snapshots if action and started.adopted and made_by(each, action))
            return named or next(others, None)

        image = await self._finder.find(droplet_id, choose)
        if image is None and deleted:
            raise deleted
        if image is not None and (image.name == step.name or self._is_recent(image)):
            return image
        if image is not None:
            logger.info("Droplet %s: snapshot %r was taken by someone else", step.source, image.name)
        elif started.action and started.action == step.running and started.action.completed:
            logger.info("Droplet %s: a snapshot that was just taken is not listed, perhaps deleted", step.source)
        else:
            raise SnapshotFailed(f"the action completed, but the API lists no snapshot named {step.name!r}")
        self._awaited.add(droplet_id)
        return await self._snapshot_of(step, await self._start(step))

    def _is_recent(self, image: Image) -> bool:
        """Whether this project took a snapshot, so recently that this run may adopt it."""
        time = run_time_of(image.name)
        return time is not None and self.plan.run_time - time < FINISH_WITHIN

    async def _end_of(self, action: Action, droplet_id: int) -> Action:
        """Wait for the end of an action on a Droplet, of which the size is not known until then.

        Raises:
            DropletDeleted: The Droplet was deleted.
        """
        try:
            return await self._connection.poller.wait(ActedOn("droplet", droplet_id), action)
        except NotFound as error:
            if await self._connection.client.find_droplet(droplet_id) is None:
                raise DropletDeleted(droplet_id) from error
            raise

    async def _start(self, step: SnapshotStep) -> Started:
        """Start the action; waits as long as another one on the Droplet is pending.

        Raises:
            DropletDeleted: The Droplet was deleted.
            APIError: The action was not started, or it is unknown whether it was.
        """
        droplet_id, sent = step.droplet.id, self._now()
        forbidden, refused = itertools.count(1), itertools.count(1)
        self._refusals.want(droplet_id)
        try:
            while True:
                try:
                    async with self._connection.client.rate_limiter.permit(SNAPSHOT_PRIORITY) as permit:
                        self._refusals.raise_if_token_refused(f"/v2/droplets/{droplet_id}/actions")
                        sent = self._now()
                        started = await take_snapshot.run(
                            droplet_id, step.request, credentials=self._connection, permit=permit
                        )
                    self._refusals.accepted()
                    return Started(started.action, adopted=started.found)
                except Unauthorized as error:
                    self._refusals.token_refused = error
                    raise
                except Forbidden as error:
                    tries = next(forbidden)
                    self._refusals.note_forbidden(droplet_id, error, sent, self._now(), tries)
                    logger.warning("%s; trying again after other Droplets", error)
                    await asyncio.sleep(self._settings.pause_after(tries))
                except (UnprocessableEntity, NotFound, UnexpectedStatus) as refusal:
                    if found := await self._after_refusal(step, refusal, next(refused)):
                        return found
        finally:
            self._refusals.done(droplet_id)

    async def _after_refusal(self, step: SnapshotStep, refusal: APIError, tries: int) -> Started | None:
        """Find out why a start was refused, and wait as long as another action on the Droplet is pending.

        Returns:
            An action in progress that takes a snapshot, or none if the snapshot is listed; None to try again.

        Raises:
            DropletDeleted: The Droplet was deleted.
            APIError: The refusal is final.
        """
        if refusal.ambiguous:
            raise refusal
        droplet_id = step.droplet.id
        if await self._connection.client.find_droplet(droplet_id) is None:
            raise DropletDeleted(droplet_id) from refusal
        actions = await list_droplet_actions.run(droplet_id, credentials=self._connection)
        running = [each for each in actions if each.in_progress]
        if snapshot := next((each for each in running if step.request.matches(each)), None):
            return Started(snapshot, adopted=True)
        if running:
            logger.info("Droplet %s: waiting for its pending action: %s", step.source, running[0].type)
            await self._end_of(running[0], droplet_id)
            return None
        passes = PENDING in refusal.message.lower() or (isinstance(refusal, NotFound) and tries < MOST_REFUSALS)
        if not passes:
            raise refusal
        await asyncio.sleep(self._settings.pause_after(tries))
        # What is pending may be an earlier request of this run, whose response was lost and which no list shows.
        snapshots = await list_snapshots_of_droplet.run(droplet_id, credentials=self._connection)
        return Started(None) if any(each.name == step.name for each in snapshots) else None

    async def _tag_until_done(self) -> None:
        """Tag snapshots as they are found, many with one request, so that pruning and reports recognize them."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVALS_BETWEEN_TAGGINGS * self._settings.poll_interval_max_seconds):
                    await self._all_known.wait()
            await self._tag_found()
            if self._all_known.is_set():
                return

    async def _tag_found(self) -> None:
        if found := list(self._untagged):
            await self._tag(found)
            # Not before: if this is cancelled, the end of the run tags them.
            del self._untagged[: len(found)]

    async def _tag(self, image_ids: list[int]) -> None:
        tag, left = self._settings.managed_tag, image_ids
        for tries in range(1, MOST_TAGGING_TRIES + 1):
            try:
                left = sorted(await tag_images.run(tag, left, credentials=self._connection))
            except Exception as error:  # noqa: BLE001  # copies continue
                logger.error("Could not tag snapshots: %s", describe_error(error, DropletDeleted, SnapshotFailed))  # noqa: TRY400
                if isinstance(error, (Unauthorized, ScopeMissing)):
                    break
            if not left:
                return
            await asyncio.sleep(self._settings.pause_after(tries))
        logger.error("Snapshots %s have no tag %s, so pruning leaves them alone; the next run tags them", left, tag)

    def _record(
        self,
        step: SnapshotStep,
        outcome: Outcome,
        *,
        image: Image | None = None,
        action: Action | None = None,
        seconds: float | None = None,
        error: str = "",
    ) -> None:
        action = action or self._actions.get(step.droplet.id)
        self.rows[step.droplet.id] = row_of(step, outcome, image=image, action=action, seconds=seconds, error=error)

    def _known_row(self, step: SnapshotStep) -> SnapshotRow:
        if not step.missing:
            return planned_row(step)
        action = self._actions.get(step.droplet.id)
        why = "still in progress: the next run adopts it" if action else "not started: the next run starts it"
        return row_of(step, Outcome.TIMED_OUT, action=action, error=why)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
