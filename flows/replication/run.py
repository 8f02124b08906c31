"""From a plan to a report: what all flows that copy images have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import TypeVar

from prefect import get_run_logger
from prefect.context import AsyncClientContext

from flows.endings import Incomplete
from flows.image_locks import locked
from flows.replication.execution import Execution, Progress
from flows.replication.planning import ReplicationPlan, lacking, plan_replication
from flows.replication.progress import ProgressReporter
from flows.replication.selection import Selection, closed_regions, target_regions
from tasks.account_actions import list_actions_on
from tasks.connection import connect
from tasks.digitalocean import Connection, Image, run_blocking, tally_requests
from tasks.regions import list_regions
from tasks.reporting.artifacts import publish_or_log
from tasks.reporting.report import Outcome, ReplicationReport, Row, count
from tasks.reporting.tables import coverage_description, coverage_markdown
from tasks.tags import tag_images

COVERAGE_KEY = "replication-coverage"
ReportT = TypeVar("ReportT", bound=ReplicationReport)


def replicate(
    choose: Callable[[], Selection],
    regions: Sequence[str] | None,
    *,
    wait: bool,
    timeout_minutes: float,
    dry_run: bool,
) -> ReplicationReport:
    """Bring images to regions: look what is missing, start it, wait for it, and report.

    Args:
        choose: Looks at the account and chooses the images.
        regions: Slugs of the regions; None for every region that takes images.
        wait: Whether to wait until the transfers are done.
        timeout_minutes: When to stop waiting.
        dry_run: Whether to change nothing.

    Returns:
        The report, with a row an image and region.

    Raises:
        Incomplete: Something did not arrive.
    """
    connection = connect()
    with tally_requests() as tally:
        known = list_regions()
        targets, closed = target_regions(known, regions), closed_regions(known)
        open_targets = set(targets) - closed

        def to_change(selection: Selection) -> list[int]:
            return [image.id for image in lacking(selection.candidates, open_targets)]

        with nullcontext(choose()) if dry_run else locked(choose, to_change) as selection:
            missing = lacking(selection.candidates, open_targets)
            actions = list_actions_on(missing) if missing else []
            now = connection.client.server_clock.now()
            plan = plan_replication(selection.candidates, targets, actions, now, closed)
            _announce_plan(plan)
            if dry_run:
                rows = planned_rows(plan)
            else:
                rows = _carry_out(plan, connection, wait=wait, timeout_seconds=timeout_minutes * 60)
    return conclude(
        ReplicationReport(
            rows=rows + _rows_of_gone(selection, targets),
            regions=targets,
            without_backups=selection.without_backups,
            dry_run=dry_run,
            api_requests=tally.requests,
            too_many_requests=tally.too_many,
            seconds=tally.seconds,
        )
    )


def _announce_plan(plan: ReplicationPlan) -> None:
    get_run_logger().info(
        "%s, %s: %s and %s to start",
        count(len(plan.images), "image"),
        count(len(plan.regions), "region"),
        count(plan.conversions, "conversion"),
        count(plan.transfers, "transfer"),
    )


def mark_images(images: Iterable[Image], tag: str) -> frozenset[int]:
    """Tag what is about to be converted, so that the next run knows it for a recovery point.

    Args:
        images: What is about to be converted.
        tag: The tag.

    Returns:
        Images that could not be tagged as backups; they have to be once they are snapshots.
    """
    unmarked = [image.id for image in images if tag not in image.tags]
    return tag_images(tag, unmarked) if unmarked else frozenset()


def _carry_out(plan: ReplicationPlan, connection: Connection, *, wait: bool, timeout_seconds: float) -> tuple[Row, ...]:
    """Start what is missing, wait for it, and report progress meanwhile."""
    to_mark = [each.image for each in plan.images if each.convert or each.converting]
    untagged = mark_images(to_mark, connection.settings.managed_tag)

    async def execute() -> tuple[Row, ...]:
        progress = Progress()
        execution = Execution(
            plan,
            connection,
            progress,
            wait=wait,
            tag=connection.settings.managed_tag,
            tag_once_converted=untagged,
        )
        # One client of Prefect for all task runs; without it, each would open its own.
        async with AsyncClientContext.get_or_create():
            reporter = ProgressReporter(progress, connection)
            reporting = asyncio.create_task(reporter.run())
            try:
                return await execution.run(timeout_seconds)
            finally:
                reporting.cancel()
                await asyncio.gather(reporting, return_exceptions=True)
                await reporter.report()

    return run_blocking(execute())


def planned_rows(plan: ReplicationPlan) -> tuple[Row, ...]:
    """Say what a plan would do, without doing it."""
    rows = []
    for each in plan.images:
        for region in plan.regions:
            if each.refusal_in(region):
                outcome = Outcome.FAILED
            elif region in each.there:
                outcome = Outcome.ALREADY_THERE
            elif region in each.under_way:
                outcome = Outcome.ADOPTED
            else:
                outcome = Outcome.PLANNED
            rows.append(
                Row(
                    source=each.candidate.source,
                    droplet_id=each.candidate.droplet_id,
                    image_id=each.image.id,
                    image_name=each.image.name,
                    region=region,
                    outcome=outcome,
                    action_id=each.under_way[region].id if region in each.under_way else None,
                    error=each.refusal_in(region),
                    needs_conversion=each.convert,
                )
            )
    return tuple(rows)


def _rows_of_gone(selection: Selection, regions: tuple[str, ...]) -> tuple[Row, ...]:
    return tuple(
        Row(
            source=str(image_id),
            image_id=image_id,
            region=region,
            outcome=Outcome.FAILED,
            error=f"there is no image {image_id}, or it was deleted",
        )
        for image_id in selection.gone
        for region in regions
    )


def conclude(report: ReportT) -> ReportT:
    """Publish a report and judge the run by it.

    Args:
        report: What came of each image and region.

    Returns:
        The report.

    Raises:
        Incomplete: Something is not as it should be.
    """
    publish_or_log(COVERAGE_KEY, coverage_markdown(report), coverage_description(report))
    get_run_logger().info(report.summary)
    for row in report.bad_rows:
        get_run_logger().error("%s: image %d to %s: %s", row.source, row.image_id, row.region, row.error)
    if report.failure:
        raise Incomplete(report)
    return report
