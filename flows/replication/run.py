"""What the flows that copy and convert images have in common."""

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

# After Ctrl-C, a start in progress ends first, then there is one more report.
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
    """Copy images to regions: find what is missing, start it, wait for it, and report.

    Args:
        choose: Reads the account and chooses the images.
        regions: Slugs of the regions; None for all that are available for image transfers.
        wait: Whether to wait until the transfers have completed.
        timeout_minutes: Time limit of the run, including the time it reads and waits for other runs.
        dry_run: Whether to change nothing.

    Raises:
        Incomplete: Some copies did not arrive.
        DeadlineExceeded: The time limit was reached before there was a plan.
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
            result = (
                PlanResult(planned_rows(plan), planned_conversions(plan))
                if dry_run
                else carry_out(plan, connection, limit, wait=wait)
            )
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
    """The outcomes of a plan.

    Attributes:
        copies: One row per image and region.
        conversions: One row per conversion.
        interrupted: Whether Ctrl-C ended the run early.
    """

    copies: tuple[Row, ...]
    conversions: tuple[Row, ...]
    interrupted: bool = False


def announce_plan(plan: ReplicationPlan, connection: Connection) -> None:
    """Log what a plan will start, and its monthly cost."""
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
    """List the known actions on images."""
    with waiting_for("Reading the actions on images", connection):
        return list_actions_on(images, connection=connection) if images else KnownActions()


def tag_before_conversion(images: Iterable[Image], connection: Connection) -> frozenset[int]:
    """Tag images before their conversion, so that the next run recognizes them as recovery points.

    Returns:
        IDs of images that could not be tagged as backups, and must be tagged once they are snapshots.

    Raises:
        Unauthorized: The token is not valid.
        Forbidden: The token is not allowed to tag images.
    """
    tag = connection.settings.managed_tag
    untagged = [image.id for image in images if tag not in image.tags]
    try:
        with waiting_for("Tagging images", connection):
            return tag_images(tag, untagged, connection=connection) if untagged else frozenset()
    except (Unauthorized, Forbidden):
        raise
    except (APIError, DeadlineExceeded) as error:
        get_run_logger().warning("Could not tag %s before conversion: %s", count(len(untagged), "image"), error)
        return frozenset(untagged)


def carry_out(plan: ReplicationPlan, connection: Connection, limit: Deadline, *, wait: bool) -> PlanResult:
    """Carry out a plan, and report progress."""
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
