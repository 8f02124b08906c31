"""The rows of a report on snapshots: one per Droplet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flows.reporting.report import BAD_OUTCOMES, Outcome, Row, SnapshotRow
from flows.snapshots.planning import SnapshotChoice, SnapshotStep
from tasks.digitalocean import Action, Image


def planned_row(step: SnapshotStep) -> SnapshotRow:
    """Make the row of a Droplet from the plan alone."""
    if step.refusal:
        return row_of(step, Outcome.FAILED, error=step.refusal)
    if step.there:
        return row_of(step, Outcome.ALREADY_THERE, image=step.there)
    outcome = Outcome.ADOPTED if step.running else Outcome.PLANNED
    return row_of(step, outcome, action=step.running)


def row_of(
    step: SnapshotStep,
    outcome: Outcome,
    *,
    image: Image | None = None,
    action: Action | None = None,
    seconds: float | None = None,
    error: str = "",
) -> SnapshotRow:
    """Make the row of a Droplet.

    Args:
        step: What was to be done.
        outcome: The outcome.
        image: The snapshot, if it is known.
        action: The action, if there was one.
        seconds: From the beginning until the snapshot was found; None if the run did not wait for it.
        error: What went wrong.
    """
    return SnapshotRow(
        source=step.source,
        droplet_id=step.droplet.id,
        image_id=image.id if image else None,
        image_name=image.name if image else step.name,
        size_gigabytes=image.size_gigabytes if image else step.estimated_gb,
        outcome=outcome,
        action_id=action.id if action else None,
        seconds=seconds,
        error=error,
        note=step.note,
    )


def rows_of_gone(choice: SnapshotChoice) -> tuple[SnapshotRow, ...]:
    """Make failed rows for Droplets that were named but do not exist."""
    return tuple(
        SnapshotRow(source=str(droplet_id), droplet_id=droplet_id, outcome=Outcome.FAILED, error=why)
        for droplet_id, why in choice.gone.items()
    )


def rows_of_copies_not_begun(
    snapshots: Iterable[SnapshotRow], copies: Iterable[Row], regions: Sequence[str]
) -> tuple[Row, ...]:
    """Make the rows of copies that did not begin, because their snapshot was not taken, or not in time.

    Args:
        snapshots: The snapshots.
        copies: The copies that began, or were planned.
        regions: Slugs of the target regions.
    """
    begun = {row.image_id for row in copies}
    rows = []
    for each in snapshots:
        if each.image_id is None or each.image_id not in begun:
            outcome, error = _outcome_without_snapshot(each)
            rows += [
                Row(
                    source=each.source,
                    droplet_id=each.droplet_id,
                    image_id=each.image_id,
                    image_name=each.image_name,
                    region=region,
                    outcome=outcome,
                    error=error,
                )
                for region in regions
            ]
    return tuple(rows)


def _outcome_without_snapshot(snapshot: SnapshotRow) -> tuple[Outcome, str]:
    if snapshot.outcome in (Outcome.PLANNED, Outcome.ADOPTED) and snapshot.image_id is None:
        return Outcome.PLANNED, ""
    if snapshot.outcome in BAD_OUTCOMES:
        return snapshot.outcome, f"no snapshot: {snapshot.error}"
    return Outcome.TIMED_OUT, "not started: the next run starts it"
