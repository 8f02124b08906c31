"""The rows of a restore's report: one per Droplet."""

from __future__ import annotations

from collections.abc import Mapping

from flows.recovery.creation import Created
from flows.recovery.preflight import RestorePlan, Step
from flows.reporting.restore_report import RestoreOutcome, RestoreRow
from tasks.digitalocean import Droplet

NOT_REQUESTED = "the run ended before it was requested: the next run requests it"
UNKNOWN = "the run ended while it was being requested: the next run finds it if it was created"
STILL_CREATED = "it was still being created when the run ended: the next run picks it up"


def planned_rows(plan: RestorePlan) -> tuple[RestoreRow, ...]:
    """Make the rows of a plan of which nothing is created."""
    return tuple(_planned_row(step) for step in plan.steps)


def created_rows(plan: RestorePlan, created: Mapping[str, Created], *, waited: bool) -> tuple[RestoreRow, ...]:
    """Make the rows of a plan that was carried out.

    Args:
        plan: The plan.
        created: The state of each Droplet that was created, or found, by its step's marker.
        waited: Whether the run waited until Droplets are active.
    """
    return tuple(
        _created_row(step, created[step.marker], waited=waited) if step.marker in created else _planned_row(step)
        for step in plan.steps
    )


def _planned_row(step: Step) -> RestoreRow:
    if step.problem:
        return _row(step, RestoreOutcome.FAILED, error=step.problem)
    if not step.source.needed:
        return _row(step, RestoreOutcome.NOT_NEEDED)
    if step.existing:
        return _row(step, RestoreOutcome.ALREADY_RESTORED, droplet=step.existing)
    if step.left:
        error = "the account's Droplet limit is reached: ask DigitalOcean to raise it, then run again"
        return _row(step, RestoreOutcome.LEFT, error=error)
    return _row(step, RestoreOutcome.PLANNED)


def _created_row(step: Step, created: Created, *, waited: bool) -> RestoreRow:
    done = RestoreOutcome.ALREADY_RESTORED if step.existing and not created.requested else RestoreOutcome.RESTORED
    if created.error:
        return _row(step, RestoreOutcome.FAILED, droplet=created.droplet, error=created.error)
    if created.active:
        return _row(step, done, droplet=created.droplet, seconds=created.seconds)
    if created.droplet is None:
        return _row(step, RestoreOutcome.TIMED_OUT, error=UNKNOWN if created.requested else NOT_REQUESTED)
    if not waited:
        outcome = RestoreOutcome.STARTED if created.requested else RestoreOutcome.ALREADY_RESTORED
        return _row(step, outcome, droplet=created.droplet)
    return _row(step, RestoreOutcome.TIMED_OUT, droplet=created.droplet, error=STILL_CREATED)


def _row(
    step: Step,
    outcome: RestoreOutcome,
    *,
    droplet: Droplet | None = None,
    seconds: float | None = None,
    error: str = "",
) -> RestoreRow:
    image, size = step.source.image, step.size
    return RestoreRow(
        droplet=step.source.label,
        droplet_id=step.source.droplet_id,
        name=droplet.name if droplet else step.request.name if step.request else "",
        image_id=image.id if image else None,
        image_name=image.name if image else "",
        image_created_at=image.created_at if image else None,
        region=step.source.region,
        size=size.slug if size else "",
        why_size=step.why_size,
        price_hourly=size.price_hourly if size else 0.0,
        price_monthly=size.price_monthly if size else 0.0,
        outcome=outcome,
        new_droplet_id=droplet.id if droplet else None,
        public_ip=droplet.public_ip if droplet else "",
        private_ip=droplet.private_ip if droplet else "",
        seconds=seconds,
        error=error,
    )
