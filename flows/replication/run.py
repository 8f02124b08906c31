"""From a plan to a report: what the flows that copy and convert images have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from prefect import get_run_logger

from flows.image_locks import locked
from flows.replication.execution import Execution, Progress
from flows.replication.image_selection import choose_targets
from flows.replication.planning import ReplicationPlan, incomplete_images, plan_replication
from flows.replication.progress import LONGEST_REPORT_SECONDS, reported
from flows.replication.recovery_points import Selection
from flows.replication.rows import planned_conversions, planned_rows, rows_of_missing
from flows.reporting.report import ReplicationReport, Row, added_snapshots, count
from flows.results import finish
from flows.waiting import waiting_for
from tasks.account_actions import KnownActions, list_actions_on
from tasks.api_task import LONGEST_ENDING_SECONDS
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


def replicate(
    choose: Callable[[Connection], Selection],
    regions: Sequence[str] | None,
    *,
    wait: bool,
    timeout_minutes: float,
    dry_run: bool,
) -> ReplicationReport:
    """Bring images to regions: find what is missing, start it, wait for it, and report.

    Args:
        choose: Reads the account and chooses the images.
        regions: Slugs of the regions; None for every region that takes images.
        wait: Whether to wait until the transfers are done.
        timeout_minutes: How long the run may take, reading and waiting for other runs included.
        dry_run: Whether to change nothing.

    Returns:
        The report, with one row per image and region.

    Raises:
        Incomplete: Something did not arrive.
        DeadlineExceeded: The time was over before there was a plan.
    """
    connection = connect()
    with track_usage() as counter, deadline(timeout_minutes * 60) as limit:
        targets = choose_targets(wanted=regions, connection=connection)

        def to_change(selection: Selection) -> list[int]:
            return [image.id for image in incomplete_images(selection.candidates, targets.regions)]

        with nullcontext(choose(connection)) if dry_run else locked(lambda: choose(connection), to_change) as selection:
            known = actions_on(incomplete_images(selection.candidates, targets.regions), connection)
            now = connection.client.server_clock.now()
            plan = plan_replication(selection.candidates, targets.regions, known.actions, now, unread=known.unread)
            announce_plan(plan, connection)
            result = planned(plan) if dry_run else carry_out(plan, connection, limit, wait=wait)
    report = ReplicationReport(
        rows=result.copies + rows_of_missing(selection, targets.regions),
        conversions=result.conversions,
        regions=targets.regions,
        doubtful_regions=targets.doubtful,
        without_backups=selection.without_backups,
        volumes=dict(selection.volumes),
        dry_run=dry_run,
        added_gib=plan.added_gib,
        added_unsized=plan.unsized_conversions,
        price_per_gib_month=connection.settings.snapshot_price_per_gib_month,
        usage=counter.usage,
        interrupted=result.interrupted,
    )
    return finish(report, COVERAGE_KEY)


@dataclass(frozen=True)
class PlanResult:
    """What a plan has led to.

    Attributes:
        copies: One row per image and region.
        conversions: One row per conversion.
        interrupted: Whether Ctrl-C has ended it early.
    """

    copies: tuple[Row, ...]
    conversions: tuple[Row, ...]
    interrupted: bool = False


def planned(plan: ReplicationPlan) -> PlanResult:
    """Say what a plan would lead to."""
    return PlanResult(planned_rows(plan), planned_conversions(plan))


def announce_plan(plan: ReplicationPlan, connection: Connection) -> None:
    """Log what a plan starts, and what that costs."""
    price = connection.settings.snapshot_price_per_gib_month
    starts = [count(plan.conversions, "conversion")]
    if plan.regions:
        starts.append(count(plan.transfers, "transfer"))
    get_run_logger().info(
        "%s%s: %s to start; adds %s",
        count(len(plan.images), "image"),
        f", {count(len(plan.regions), 'region')}" if plan.regions else "",
        " and ".join(starts),
        added_snapshots(plan.added_gib, price, plan.unsized_conversions),
    )


def actions_on(images: Sequence[Image], connection: Connection) -> KnownActions:
    """List the actions on images, as far as they can be known."""
    with waiting_for("Reading the actions on images", connection):
        return list_actions_on(images, connection=connection) if images else KnownActions()


def tag_before_conversion(images: Iterable[Image], connection: Connection) -> frozenset[int]:
    """Tag what is about to be converted, so that the next run knows it for a recovery point.

    Args:
        images: What is about to be converted.
        connection: The API.

    Returns:
        Images that could not be tagged as backups; they have to be once they are snapshots.

    Raises:
        Unauthorized: The token is wrong.
        Forbidden: The token may not tag images.
    """
    tag = connection.settings.managed_tag
    untagged = [image.id for image in images if tag not in image.tags]
    try:
        with waiting_for("Tagging images", connection):
            return tag_images(tag, untagged, connection=connection) if untagged else frozenset()
    except (Unauthorized, Forbidden):
        raise
    except (APIError, DeadlineExceeded) as error:
        get_run_logger().warning("%s cannot be tagged before conversion: %s", count(len(untagged), "image"), error)
        return frozenset(untagged)


def carry_out(plan: ReplicationPlan, connection: Connection, limit: Deadline, *, wait: bool) -> PlanResult:
    """Start what is missing, wait for it, and report progress meanwhile."""
    untagged = tag_before_conversion([each.image for each in plan.images if each.converts], connection)
    limit.lift()
    progress, interrupted = Progress(), False
    execution = Execution(plan, connection, progress, wait=wait, untagged=untagged)
    try:
        run_blocking(execution.run(limit.seconds_left, reported(progress, connection)))
    except KeyboardInterrupt:
        execution.ended.wait(LONGEST_INTERRUPTION_SECONDS)
        interrupted = True
    return PlanResult(execution.copies(), execution.conversions(), interrupted)
