"""Carrying out a plan: start what is missing, wait for it, and note for each image and region what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field

from flows.replication.action_runner import ActionRunner, Ending, describe, largest_first
from flows.replication.operations import Operations
from flows.replication.planning import ImagePlan, ReplicationPlan
from flows.reporting.report import Outcome, Row
from tasks.digitalocean import Action, Connection, ConvertImage, TransferImage

OUTCOMES = {
    Ending.NOTHING_TO_DO: Outcome.ALREADY_THERE,
    Ending.STARTED: Outcome.STARTED,
    Ending.DONE: Outcome.TRANSFERRED,
    Ending.ADOPTED: Outcome.ADOPTED,
}


@dataclass
class Progress:
    """How far a run has got; changes while it runs.

    Attributes:
        total: Copies to account for.
        rows: Those whose outcome is known, by image and region.
        transfers: The latest transfer of each copy that was started or adopted.
        conversions_left: Images that have still to become snapshots.
        smallest_gigabytes: Size of the smallest image, whose transfers start last.
    """

    total: int = 0
    rows: dict[tuple[int, str], Row] = field(default_factory=dict)
    transfers: dict[tuple[int, str], Action] = field(default_factory=dict)
    conversions_left: int = 0
    smallest_gigabytes: float = 0.0

    @property
    def percent(self) -> float:
        """How many of the copies are accounted for."""
        return 100.0 * len(self.rows) / self.total if self.total else 0.0

    @property
    def running(self) -> int:
        """Transfers in flight."""
        return len(self.transfers.keys() - self.rows.keys())

    @property
    def unstarted(self) -> int:
        """Transfers still to be started."""
        return self.total - len(self.rows) - self.running


class Execution:
    """One plan being carried out.

    Args:
        plan: What is missing.
        connection: The API.
        progress: Where to note what has happened.
        wait: Whether to wait until the transfers are done.
        tag: The tag on images that this project converts.
        tag_once_converted: Images that could not be tagged as backups, so have to be as snapshots.
        operations: How the API is asked; None for task runs of Prefect.
    """

    def __init__(
        self,
        plan: ReplicationPlan,
        connection: Connection,
        progress: Progress,
        *,
        wait: bool,
        tag: str,
        tag_once_converted: Collection[int] = (),
        operations: Operations | None = None,
    ) -> None:
        self._plan = plan
        self._runner = ActionRunner(connection, operations)
        self._progress = progress
        self._wait = wait
        self._tag = tag
        self._tag_once_converted = tag_once_converted

    async def run(self, timeout_seconds: float) -> tuple[Row, ...]:
        """Do what the plan says.

        Args:
            timeout_seconds: When to stop starting and waiting. What runs by then goes on by itself.

        Returns:
            One row per image and region, in the plan's order.
        """
        self._note_what_needs_nothing()
        serving = asyncio.create_task(self._runner.queue.serve())
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds), asyncio.TaskGroup() as images:
                    for plan in self._plan.images:
                        images.create_task(self._replicate(plan))
        finally:
            serving.cancel()
        return self.rows_so_far()

    def rows_so_far(self) -> tuple[Row, ...]:
        """Say what has come of each copy, in the plan's order; what has not arrived is timed out."""
        return tuple(
            self._progress.rows.get((plan.image.id, region)) or self._timed_out(plan, region)
            for plan in self._plan.images
            for region in self._plan.regions
        )

    def _note_what_needs_nothing(self) -> None:
        self._progress.total = len(self._plan.images) * len(self._plan.regions)
        self._progress.conversions_left = self._plan.conversions
        self._progress.smallest_gigabytes = min(
            (each.image.size_gigabytes or 0.0 for each in self._plan.images), default=0.0
        )
        for plan in self._plan.images:
            for region in self._plan.regions:
                if plan.refusal:
                    self._note(plan, region, Outcome.FAILED, error=plan.refusal)
            for region in plan.there:
                self._note(plan, region, Outcome.ALREADY_THERE)

    async def _replicate(self, plan: ImagePlan) -> None:
        """Bring one image to all its regions, as a snapshot."""
        async with asyncio.TaskGroup() as copies:
            for region in plan.under_way:
                copies.create_task(self._copy(plan, region))
            try:
                await self._make_snapshot(plan)
                if plan.image.id in self._tag_once_converted:
                    copies.create_task(self._runner.tag_converted(plan.image.id, self._tag))
            except Exception as error:  # noqa: BLE001  # one image never stops the others
                self._progress.conversions_left -= plan.convert
                for region in plan.transfer_to:
                    self._note(plan, region, Outcome.FAILED, error=f"not converted: {describe(error)}")
                return
            scout = asyncio.Event()
            for region in plan.transfer_to:
                copies.create_task(self._copy(plan, region, scout))
                if plan.convert or plan.converting:
                    # It may still be locked: one finds out, so that the others are not refused as well.
                    await scout.wait()

    async def _make_snapshot(self, plan: ImagePlan) -> None:
        if not plan.convert and plan.converting is None:
            return
        # Before the transfers, because each conversion makes transfers possible.
        await self._runner.see_through(plan.image, ConvertImage(), (0.0, largest_first(plan.image)), plan.converting)
        await asyncio.sleep(self._runner.settling_seconds)
        self._progress.conversions_left -= plan.convert

    async def _copy(self, plan: ImagePlan, region: str, scout: asyncio.Event | None = None) -> None:
        """Bring an image to one region, and note what came of it."""
        clock = asyncio.get_running_loop()
        began = clock.time()

        def note_start(action: Action) -> None:
            nonlocal began
            began = clock.time()
            self._progress.transfers[plan.image.id, region] = action
            if scout:
                scout.set()

        request = TransferImage(region=region)
        priority = (1.0, largest_first(plan.image))
        running = plan.under_way.get(region)
        try:
            ending = await self._runner.see_through(plan.image, request, priority, running, note_start, wait=self._wait)
        except Exception as error:  # noqa: BLE001  # one image never stops the others
            self._note(plan, region, Outcome.FAILED, error=describe(error))
        else:
            waited = ending in {Ending.DONE, Ending.ADOPTED}
            self._note(plan, region, OUTCOMES[ending], seconds=round(clock.time() - began, 1) if waited else None)
        finally:
            if scout:
                scout.set()

    def _timed_out(self, plan: ImagePlan, region: str) -> Row:
        action = self._progress.transfers.get((plan.image.id, region))
        error = "still in progress: the next run takes it up" if action else "not started: the next run will"
        return self._row(plan, region, Outcome.TIMED_OUT, error=error)

    def _note(
        self, plan: ImagePlan, region: str, outcome: Outcome, *, seconds: float | None = None, error: str = ""
    ) -> None:
        self._progress.rows[plan.image.id, region] = self._row(plan, region, outcome, seconds=seconds, error=error)

    def _row(
        self, plan: ImagePlan, region: str, outcome: Outcome, *, seconds: float | None = None, error: str = ""
    ) -> Row:
        action = self._progress.transfers.get((plan.image.id, region))
        return Row(
            source=plan.candidate.source,
            droplet_id=plan.candidate.droplet_id,
            image_id=plan.image.id,
            image_name=plan.image.name,
            region=region,
            outcome=outcome,
            action_id=action.id if action else None,
            seconds=seconds,
            error=error,
            needs_conversion=plan.convert,
        )
