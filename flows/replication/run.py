"""What the flows that copy and convert images have in common."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

from prefect import get_run_logger

from flows.image_locks import LockKey, copies_key, locked
from flows.replication.execution import Execution
from flows.replication.image_selection import Targets
from flows.replication.planning import ReplicationPlan, images_to_change, plan_replication
from flows.replication.progress_report import LONGEST_REPORT_SECONDS, reported
from flows.replication.recovery_points import Selection
from flows.replication.rows import planned_rows, rows_of_missing
from flows.reporting.report import BAD_OUTCOMES, ReplicationReport, added_snapshots, count
from flows.reporting.snapshot_report import number_unsized, size_of_added
from flows.results import finish
from flows.snapshots.choosing import announce_snapshots, keys_to_lock
from flows.snapshots.earlier_runs import note_run_time
from flows.snapshots.rows import rows_of_copies_not_begun
from flows.snapshots.taking import Taking
from flows.waiting import waiting_for
from tasks.account_actions import KnownActions, list_actions_on
from tasks.api_task import LONGEST_ENDING_SECONDS, run_blocking
from tasks.connection import connect
from tasks.credentials import Credentials
from tasks.digitalocean import APIError, Connection, DeadlineExceeded, Forbidden, Unauthorized, deadline, track_usage
from tasks.tags import tag_images

# After Ctrl-C, a start in progress ends first, then there is one more report.
LONGEST_INTERRUPTION_SECONDS = LONGEST_ENDING_SECONDS + LONGEST_REPORT_SECONDS
COVERAGE_KEY = "replication-coverage"
CONVERSIONS_KEY = "conversions"


def replicate(
    choose_images: Callable[[Connection, Targets], Selection],
    choose_regions: Callable[[Connection], Targets],
    *,
    credentials: Credentials,
    wait: bool,
    timeout_minutes: float,
    dry_run: bool = False,
) -> ReplicationReport:
    """Copy images to regions: find what is missing, start it, wait for it, and report.

    Args:
        choose_images: Reads the account and chooses the images, and the Droplets of which to take snapshots first.
        choose_regions: Chooses the regions; none to only convert backups to snapshots.
        credentials: The account; None for the token in the environment.
        wait: Whether to wait until the actions have completed.
        timeout_minutes: Time limit of the run, including the time it reads and waits for other runs.
        dry_run: Whether to change nothing.

    Raises:
        Incomplete: Some copies did not arrive.
        DeadlineExceeded: The time limit was reached before there was a plan.
    """
    connection, interrupted = connect(credentials), False
    with track_usage() as counter, deadline(timeout_minutes * 60) as limit:
        targets = choose_regions(connection)

        def choose() -> Selection:
            return choose_images(connection, targets)

        with (
            nullcontext(choose())
            if dry_run
            else locked(choose, partial(_to_lock, targets), connection.account) as selection
        ):
            plan = _make_plan(selection, targets.regions, connection)
            taking = _announce_plan(plan, selection, connection)
            if dry_run:
                rows = planned_rows(plan)
                snapshots = taking.planned_rows() if taking else ()
            else:
                untagged = _tag_before_conversion(plan, connection)
                if choice := selection.snapshots:
                    note_run_time(choice.plan.run_time, choice.job, connection.account)
                limit.lift()
                execution = Execution(plan, connection, wait=wait, untagged=untagged, taking=taking)
                try:
                    run_blocking(execution.run(limit.seconds_left, reported(execution.progress, connection)))
                except KeyboardInterrupt:
                    interrupted = True
                    execution.ended.wait(LONGEST_INTERRUPTION_SECONDS)
                rows = execution.rows()
                snapshots = taking.all_rows() if taking else ()
    converted = plan.only({row.image_id for row in rows if not row.region and row.outcome not in BAD_OUTCOMES})
    rows += rows_of_copies_not_begun(snapshots, rows, targets.regions)
    rows += rows_of_missing(selection, targets.regions)
    report = ReplicationReport(
        rows=tuple(row for row in rows if row.region),
        conversions=tuple(row for row in rows if not row.region),
        regions=targets.regions,
        doubtful_regions=targets.doubtful,
        without_backups=selection.without_backups,
        volumes=dict(selection.volumes),
        snapshots=snapshots,
        dry_run=dry_run,
        added_gb=converted.added_gb + size_of_added(snapshots),
        added_unsized=converted.unsized_conversions + number_unsized(snapshots),
        price_per_gb_month=connection.settings.snapshot_price_per_gb_month,
        account=connection.account,
        usage=counter.usage,
        interrupted=interrupted,
    )
    return finish(report, COVERAGE_KEY if targets.regions else CONVERSIONS_KEY)


def _make_plan(selection: Selection, regions: tuple[str, ...], connection: Connection) -> ReplicationPlan:
    """Read the actions on the chosen images, and compute what is missing."""
    incomplete, known = images_to_change(selection.candidates, regions), KnownActions()
    if incomplete:
        with waiting_for("Reading the actions on images", connection):
            known = list_actions_on(incomplete, credentials=connection)
    now = connection.client.server_clock.now()
    return plan_replication(selection.candidates, regions, known.actions, now, unread=known.unread)


def _announce_plan(plan: ReplicationPlan, selection: Selection, connection: Connection) -> Taking | None:
    """Log what a plan will start, and its monthly cost; returns what takes the snapshots, if any are to be taken."""
    if choice := selection.snapshots:
        announce_snapshots(choice, connection)
        return Taking(choice.plan, connection, choice.listed)
    price = connection.settings.snapshot_price_per_gb_month
    starts = [count(plan.conversions, "conversion")]
    if plan.regions:
        starts.append(count(plan.transfers, "transfer"))
    get_run_logger().info(
        "%s%s: %s to start; adds %s",
        count(len(plan.images), "image"),
        f", {count(len(plan.regions), 'region')}" if plan.regions else "",
        " and ".join(starts),
        added_snapshots(plan.added_gb, price, plan.unsized_conversions),
    )
    return None


def _to_lock(targets: Targets, selection: Selection) -> list[LockKey]:
    """List what no other run may change: the images to copy or convert, and their Droplets."""
    changed = {image.id for image in images_to_change(selection.candidates, targets.regions)}
    copied = [each.droplet_id for each in selection.candidates if each.image.id in changed]
    keys: list[LockKey] = [*changed]
    if choice := selection.snapshots:
        keys += keys_to_lock(choice)
        copied += [step.droplet.id for step in choice.plan.missing]
    return keys + [copies_key(each) for each in copied if each is not None]


def _tag_before_conversion(plan: ReplicationPlan, connection: Connection) -> frozenset[int]:
    """Tag images before their conversion, so that the next run recognizes them as recovery points.

    Returns:
        IDs of images that could not be tagged as backups, and must be tagged once they are snapshots.
    """
    tag = connection.settings.managed_tag
    untagged = [each.image.id for each in plan.images if each.converts and tag not in each.image.tags]
    try:
        with waiting_for("Tagging images", connection):
            return tag_images(tag, untagged, credentials=connection) if untagged else frozenset()
    except (Unauthorized, Forbidden):
        raise
    except (APIError, DeadlineExceeded) as error:
        get_run_logger().warning("Could not tag %s before conversion: %s", count(len(untagged), "image"), error)
        return frozenset(untagged)
