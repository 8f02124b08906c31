"""From a plan to a report: what all flows that copy images have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from prefect import get_run_logger
from prefect.context import AsyncClientContext

from flows.endings import Incomplete
from flows.replication.execution import Execution, Progress
from flows.replication.planning import ReplicationPlan
from flows.replication.progress import ProgressReporter
from tasks.digitalocean import Connection, Image, Tally, run_blocking
from tasks.reporting.artifacts import publish_or_log
from tasks.reporting.report import Outcome, ReplicationReport, Row, count
from tasks.reporting.tables import LEGEND, coverage_table, escaped
from tasks.tags import tag_images

COVERAGE_KEY = "replication-coverage"


def replicate(
    plan: ReplicationPlan, connection: Connection, *, wait: bool, timeout_minutes: float, dry_run: bool
) -> tuple[Row, ...]:
    """Do what a plan says, or only say it.

    Args:
        plan: What is missing.
        connection: The API.
        wait: Whether to wait until the transfers are done.
        timeout_minutes: When to stop waiting.
        dry_run: Whether to change nothing.

    Returns:
        A row an image and region.
    """
    get_run_logger().info(
        "%s, %s: %d conversions and %d transfers to start",
        count(len(plan.images), "image"),
        count(len(plan.regions), "region"),
        plan.conversions,
        plan.transfers,
    )
    if dry_run:
        return planned_rows(plan)
    to_mark = [each.image for each in plan.images if each.convert or each.converting]
    untagged = mark_images(to_mark, connection.settings.managed_tag)
    return _carry_out(plan, connection, wait=wait, timeout_seconds=timeout_minutes * 60, untagged=untagged)


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


def _carry_out(
    plan: ReplicationPlan, connection: Connection, *, wait: bool, timeout_seconds: float, untagged: frozenset[int]
) -> tuple[Row, ...]:
    """Start what is missing, wait for it, and report progress meanwhile."""

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
            if each.refusal:
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
                    image_id=each.image.id,
                    image_name=each.image.name,
                    region=region,
                    outcome=outcome,
                    action_id=each.under_way[region].id if region in each.under_way else None,
                    error=each.refusal,
                    needs_conversion=each.convert,
                )
            )
    return tuple(rows)


def conclude(
    rows: tuple[Row, ...],
    regions: tuple[str, ...],
    tally: Tally,
    *,
    dry_run: bool,
    without_backups: Sequence[str] = (),
) -> ReplicationReport:
    """Publish the report and judge the run by it.

    Args:
        rows: What came of each image and region.
        regions: Where the images should be.
        tally: The requests that were sent.
        dry_run: Whether nothing was to be changed.
        without_backups: Droplets that have nothing to copy.

    Returns:
        The report.

    Raises:
        Incomplete: Something did not arrive.
    """
    report = ReplicationReport(
        rows=rows,
        regions=regions,
        without_backups=tuple(without_backups),
        dry_run=dry_run,
        api_requests=tally.requests,
        too_many_requests=tally.too_many,
        seconds=tally.seconds,
    )
    publish_or_log(COVERAGE_KEY, escaped(coverage_table(report)), f"**{report.summary}**\n\n{LEGEND}")
    get_run_logger().info(report.summary)
    for row in report.bad_rows:
        get_run_logger().error("%s: image %d to %s: %s", row.source, row.image_id, row.region, row.error)
    if report.bad_rows:
        raise Incomplete(report)
    return report
