"""The rows of a report: one per image and region, and one per conversion."""

from __future__ import annotations

from flows.replication.planning import ImagePlan, ReplicationPlan
from flows.replication.recovery_points import Selection
from flows.reporting.report import Outcome, Row
from tasks.digitalocean import Action


def row_of(
    plan: ImagePlan,
    region: str | None,
    outcome: Outcome,
    *,
    action: Action | None = None,
    seconds: float | None = None,
    error: str = "",
) -> Row:
    """Make the row of one step of a plan.

    Args:
        plan: The image's part of the plan.
        region: Slug of the target region; None for the conversion.
        outcome: The outcome.
        action: The action, if there was one.
        seconds: From its start until it was found completed; None if the run did not wait for it.
        error: What went wrong.
    """
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


def planned_rows(plan: ReplicationPlan) -> tuple[Row, ...]:
    """Make the rows of a plan's copies and conversions, for a dry run."""
    conversions = (
        row_of(each, None, Outcome.PLANNED if each.convert else Outcome.ADOPTED, action=each.converting)
        for each in plan.images
        if each.converts
    )
    return (*(_planned(each, region) for each in plan.images for region in plan.regions), *conversions)


def _planned(plan: ImagePlan, region: str) -> Row:
    if plan.refusal:
        return row_of(plan, region, Outcome.FAILED, error=plan.refusal)
    if region in plan.there:
        return row_of(plan, region, Outcome.ALREADY_THERE)
    if region in plan.under_way:
        return row_of(plan, region, Outcome.ADOPTED, action=plan.under_way[region])
    return row_of(plan, region, Outcome.PLANNED)


def rows_of_missing(selection: Selection, regions: tuple[str, ...]) -> tuple[Row, ...]:
    """Make failed rows for images that do not exist or cannot be read; without regions, one per image."""
    return tuple(
        Row(source=str(image_id), image_id=image_id, region=region, outcome=Outcome.FAILED, error=why)
        for image_id, why in selection.missing.items()
        for region in regions or (None,)
    )
