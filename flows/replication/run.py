"""From a plan to a report: what all flows that copy images have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from threading import Event
from typing import TypeVar

from prefect import get_run_logger
from prefect.context import AsyncClientContext

from flows.image_locks import locked
from flows.replication.execution import Execution, Progress
from flows.replication.image_selection import choose_targets
from flows.replication.operations import LONGEST_ENDING_SECONDS
from flows.replication.planning import ReplicationPlan, lacking, plan_replication
from flows.replication.progress import LONGEST_REPORT_SECONDS, ProgressReporter
from flows.replication.progress_bar import progress_bar
from flows.replication.recovery_points import Selection
from flows.reporting.artifacts import publish_or_log
from flows.reporting.report import Outcome, ReplicationReport, Row, added_snapshots, count
from flows.reporting.tables import coverage_description, coverage_markdown
from flows.results import Incomplete, Interrupted
from flows.waiting import says_what_it_waits_for
from tasks.account_actions import KnownActions, list_actions_on
from tasks.connection import connect
from tasks.digitalocean import (
    APIError,
    Connection,
    Deadline,
    DeadlineExceeded,
    Forbidden,
    Image,
    Unauthorized,
    deadline,
    run_blocking,
    track_usage,
)
from tasks.tags import tag_images

# A start that is under way ends first, and takes one more report.
LONGEST_INTERRUPTION_SECONDS = LONGEST_ENDING_SECONDS + LONGEST_REPORT_SECONDS
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
        timeout_minutes: How long the run may take, looking and waiting for other runs included.
        dry_run: Whether to change nothing.

    Returns:
        The report, with one row per image and region.

    Raises:
        Incomplete: Something did not arrive.
        DeadlineExceeded: The time was over before there was a plan.
    """
    connection = connect()
    with track_usage() as usage, deadline(timeout_minutes * 60) as limit:
        targets = choose_targets(regions)

        def to_change(selection: Selection) -> list[int]:
            return [image.id for image in lacking(selection.candidates, targets.regions)]

        with nullcontext(choose()) if dry_run else locked(choose, to_change) as selection:
            missing = lacking(selection.candidates, targets.regions)
            known = actions_on(missing)
            now = connection.client.server_clock.now()
            plan = plan_replication(selection.candidates, targets.regions, known.actions, now, unread=known.unread)
            price = connection.settings.snapshot_price_per_gib_month
            _announce_plan(plan, price)
            rows, interrupted = (
                (planned_rows(plan), False) if dry_run else _carry_out(plan, connection, limit, wait=wait)
            )
    return conclude(
        ReplicationReport(
            rows=rows + rows_of_missing(selection, targets.regions),
            regions=targets.regions,
            doubtful_regions=targets.doubtful,
            without_backups=selection.without_backups,
            volumes=dict(selection.volumes),
            dry_run=dry_run,
            added_gib=plan.added_gib,
            added_unsized=plan.unsized_conversions,
            price_per_gib_month=price,
            api_requests=usage.requests,
            too_many_requests=usage.too_many,
            seconds=usage.seconds,
            interrupted=interrupted,
        )
    )


def _announce_plan(plan: ReplicationPlan, price_per_gib_month: float | None) -> None:
    get_run_logger().info(
        "%s, %s: %s and %s to start; adds %s",
        count(len(plan.images), "image"),
        count(len(plan.regions), "region"),
        count(plan.conversions, "conversion"),
        count(plan.transfers, "transfer"),
        added_snapshots(plan.added_gib, price_per_gib_month, plan.unsized_conversions),
    )


@says_what_it_waits_for("Reading the actions on images")
def actions_on(images: Sequence[Image]) -> KnownActions:
    """List the actions on images, as far as they can be known."""
    return list_actions_on(images) if images else KnownActions()


@says_what_it_waits_for("Tagging images")
def mark_images(images: Iterable[Image], tag: str) -> frozenset[int]:
    """Tag what is about to be converted, so that the next run knows it for a recovery point.

    Args:
        images: What is about to be converted.
        tag: The tag.

    Returns:
        Images that could not be tagged as backups; they have to be once they are snapshots.

    Raises:
        Unauthorized: The token is wrong.
        Forbidden: The token may not tag images.
    """
    unmarked = [image.id for image in images if tag not in image.tags]
    try:
        return tag_images(tag, unmarked) if unmarked else frozenset()
    except (Unauthorized, Forbidden):
        raise
    except (APIError, DeadlineExceeded) as error:
        get_run_logger().warning("%s cannot be tagged before conversion: %s", count(len(unmarked), "image"), error)
        return frozenset(unmarked)


def _carry_out(
    plan: ReplicationPlan, connection: Connection, limit: Deadline, *, wait: bool
) -> tuple[tuple[Row, ...], bool]:
    """Start what is missing, wait for it, and report progress meanwhile; returns also whether Ctrl-C has ended it."""
    to_mark = [each.image for each in plan.images if each.convert or each.converting]
    untagged = mark_images(to_mark, connection.settings.managed_tag)
    limit.lift()

    progress = Progress()
    execution = Execution(
        plan,
        connection,
        progress,
        wait=wait,
        tag=connection.settings.managed_tag,
        tag_once_converted=untagged,
    )

    ended = Event()

    async def execute() -> tuple[Row, ...]:
        # One client of Prefect for all task runs; without it, each would open its own.
        async with AsyncClientContext.get_or_create():
            reporter = ProgressReporter(progress, connection, show)
            reporting = asyncio.create_task(reporter.run())
            try:
                return await execution.run(limit.seconds_left)
            finally:
                reporting.cancel()
                await asyncio.gather(reporting, return_exceptions=True)
                await reporter.report()
                ended.set()

    with progress_bar() as show:
        try:
            return run_blocking(execute()), False
        except KeyboardInterrupt:
            ended.wait(LONGEST_INTERRUPTION_SECONDS)
            return execution.rows_so_far(), True


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
                    droplet_id=each.candidate.droplet_id,
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


def rows_of_missing(selection: Selection, regions: tuple[str, ...]) -> tuple[Row, ...]:
    """Say of images that are not there, or cannot be looked at, that they are in no region."""
    return tuple(
        Row(source=str(image_id), image_id=image_id, region=region, outcome=Outcome.FAILED, error=why)
        for image_id, why in selection.missing.items()
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
    for note in report.notes:
        get_run_logger().warning(note)
    if report.interrupted and report.failure:
        raise Interrupted(report)
    for problem in report.problems:
        get_run_logger().error("%s in %s: %s", problem.image, problem.where, problem.error)
    if report.failure:
        raise Incomplete(report)
    return report
