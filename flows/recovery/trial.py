"""Rebuilds Droplets for a drill, and finds out whether they work."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime

from flows.recovery.creation import Created, Creation
from flows.recovery.markers import DRILL
from flows.recovery.preflight import RestorePlan, Step
from flows.recovery.probe import seconds_until_answer
from flows.recovery.proofs import Proof
from flows.reporting.drill_report import DrillOutcome, DrillRow
from flows.waiting import waiting_for
from tasks.api_task import run_blocking
from tasks.digitalocean import Connection, Droplet
from tasks.digitalocean.deadline import Deadline

NOT_IN_TIME = "it was not active within the time limit"
INTERRUPTED = "the run was interrupted"
LIMIT_REACHED = "the account's Droplet limit is reached"


class Trial:
    """The Droplets of one drill.

    Args:
        plan: What to create.
        probe_port: The TCP port that has to answer; None for none.
        connection: The API.
    """

    def __init__(self, plan: RestorePlan, probe_port: int | None, connection: Connection) -> None:
        self._plan = plan
        self._port = probe_port
        self._connection = connection
        self._creation = Creation(plan, connection, DRILL)
        self._answered: dict[str, float | None] = {}
        self.interrupted = False

    @property
    def droplets(self) -> list[Droplet]:
        """The Droplets that are known to be created."""
        return [each.droplet for each in self._creation.created.values() if each.droplet]

    def run(self, limit: Deadline) -> None:
        """Create the Droplets and probe them; blocks this thread. Ctrl-C ends it early.

        Args:
            limit: The time limit.
        """
        self._creation.run_to_end(limit.seconds_left)
        self.interrupted = self._creation.interrupted
        if self._port is None or self.interrupted:
            return
        try:
            with waiting_for(f"Waiting for port {self._port}", self._connection):
                run_blocking(self._probe_all(self._port, limit.seconds_left))
        except KeyboardInterrupt:
            self.interrupted = True

    async def _probe_all(self, port: int, seconds: float) -> None:
        async def probe(marker: str, address: str) -> None:
            self._answered[marker] = await seconds_until_answer(address, port, seconds)

        addresses = {
            marker: created.droplet.public_ip
            for marker, created in self._creation.created.items()
            if created.active and created.droplet and created.droplet.public_ip
        }
        await asyncio.gather(*(probe(marker, address) for marker, address in addresses.items()))

    def rows(self, destroyed_at: Mapping[int, datetime]) -> tuple[DrillRow, ...]:
        """Make the report's rows.

        Args:
            destroyed_at: When each Droplet was found gone, by ID.
        """
        return tuple(self._row(step, destroyed_at) for step in self._plan.steps)

    def proofs(self, at: datetime) -> list[Proof]:
        """List what is proven.

        Args:
            at: The present time.
        """
        return [
            Proof(at, row.droplet_id, row.region, row.image_id, round(row.seconds_to_active or 0))
            for row in self.rows({})
            if row.outcome == DrillOutcome.PROVEN and row.droplet_id and row.image_id
        ]

    def _row(self, step: Step, destroyed_at: Mapping[int, datetime]) -> DrillRow:
        created = self._creation.created.get(step.marker, Created())
        error = step.problem or created.error or self._why_not_proven(step, created)
        return drill_row(step, DrillOutcome.FAILED if error else DrillOutcome.PROVEN, error).model_copy(
            update={
                "new_droplet_id": created.droplet.id if created.droplet else None,
                "seconds_to_active": created.seconds,
                "seconds_to_probe": self._answered.get(step.marker),
                "destroyed_at": destroyed_at.get(created.droplet.id) if created.droplet else None,
            }
        )

    def _why_not_proven(self, step: Step, created: Created) -> str:
        if step.left:
            return LIMIT_REACHED
        if not created.active:
            return INTERRUPTED if self.interrupted else NOT_IN_TIME
        if self._port is None or self._answered.get(step.marker) is not None:
            return ""
        if self.interrupted:
            return INTERRUPTED
        if created.droplet and not created.droplet.public_ip:
            return "it has no public address to probe"
        return f"it was active, but port {self._port} did not answer within the time limit"


def drill_row(step: Step, outcome: DrillOutcome, error: str = "") -> DrillRow:
    """Make the row of a Droplet of which nothing is created."""
    image = step.source.image
    return DrillRow(
        droplet=step.source.label,
        droplet_id=step.source.droplet_id,
        image_id=image.id if image else None,
        image_created_at=image.created_at if image else None,
        region=step.source.region,
        size=step.size.slug if step.size else "",
        price_hourly=step.size.price_hourly if step.size else 0.0,
        outcome=outcome,
        error=error,
    )


def planned_rows(plan: RestorePlan) -> tuple[DrillRow, ...]:
    """Make the rows of a plan of which nothing is created."""
    reasons = [step.problem or (LIMIT_REACHED if step.left else "") for step in plan.steps]
    return tuple(
        drill_row(step, DrillOutcome.FAILED if reason else DrillOutcome.PLANNED, reason)
        for step, reason in zip(plan.steps, reasons, strict=True)
    )
