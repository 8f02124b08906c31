"""Takes a snapshot of each Droplet."""

from contextlib import nullcontext

from prefect import flow

from flows.command_line import run_from_command_line
from flows.hooks import announce_abnormal_end
from flows.image_locks import locked
from flows.names import snapshots_run_name
from flows.parameters import DropletTag, OptionalCredentials, OptionalDropletIds, OptionalHours, TimeoutMinutes
from flows.recovery.recording import record_droplets
from flows.reporting.snapshot_report import SnapshotReport
from flows.results import explains_result, finish
from flows.snapshots.choosing import announce_snapshots, choose_snapshots, keys_to_lock
from flows.snapshots.earlier_runs import note_run_time
from flows.snapshots.planning import SnapshotChoice
from flows.snapshots.rows import rows_of_gone
from flows.snapshots.taking import Taking
from flows.waiting import waiting_for
from tasks.connection import connect
from tasks.digitalocean import deadline, track_usage

SNAPSHOTS_KEY = "droplet-snapshots"


@flow(
    name="snapshot-droplets",
    flow_run_name=snapshots_run_name,
    on_cancellation=[announce_abnormal_end],
    on_crashed=[announce_abnormal_end],
)
@explains_result
def snapshot_droplets(
    droplet_tag: DropletTag = None,
    droplet_ids: OptionalDropletIds = None,
    max_age_hours: OptionalHours = None,
    wait: bool = True,
    timeout_minutes: TimeoutMinutes = 240,
    dry_run: bool = False,
    credentials: OptionalCredentials = None,
) -> SnapshotReport:
    """Take a snapshot of each Droplet, and wait until they have been taken.

    A snapshot costs money until it is deleted. It is in the Droplet's region only: `replicate_backups` with the source
    `snapshots` takes snapshots and copies them. A second run for the same Droplets within 6 hours finishes one that was
    interrupted or failed: it takes only what is still missing.

    Args:
        droplet_tag: Only Droplets with this tag; all if not given.
        droplet_ids: Only the Droplets with these IDs, separated by commas or spaces.
        max_age_hours: Skip Droplets that have a snapshot of this project younger than this many hours. If not given,
            all Droplets get a new one.
        wait: Whether to wait until the snapshots have been taken. If not, the next run tags them, so that pruning and
            reports recognize them.
        timeout_minutes: Time limit of the whole run, in minutes, at most a week. Snapshots in progress by then
            continue, and the next run adopts them.
        dry_run: Only report what would be done, and the cost; change nothing.
        credentials: The account: the name of its block of the type DigitalOcean Credentials. If not given, the one
            whose token is in the environment.

    Returns:
        The report, with one row per Droplet.

    Raises:
        Incomplete: Some snapshots were not taken; its `report` says which and why.
        DigitalOceanError: The run could not start: a setting, a parameter or the token is wrong.
    """
    connection, began = connect(credentials), None

    def choose() -> SnapshotChoice:
        nonlocal began
        choice = choose_snapshots(
            droplet_tag, droplet_ids, connection, max_age_hours=max_age_hours, estimate=dry_run, began=began
        )
        began = choice.began
        return choice

    with (
        track_usage() as counter,
        deadline(timeout_minutes * 60) as limit,
        nullcontext(choose()) if dry_run else locked(choose, keys_to_lock, connection.account) as choice,
    ):
        announce_snapshots(choice, connection)
        taking = Taking(choice.plan, connection, choice.listed, wait=wait)
        if not dry_run:
            record_droplets(choice.droplets, connection)
            note_run_time(choice.plan.run_time, choice.job, connection.account)
            limit.lift()
            with waiting_for("Taking snapshots", connection):
                taking.run_to_end(limit.seconds_left)
    report = SnapshotReport(
        rows=(taking.planned_rows() if dry_run else taking.all_rows()) + rows_of_gone(choice),
        dry_run=dry_run,
        price_per_gb_month=connection.settings.snapshot_price_per_gb_month,
        account=connection.account,
        usage=counter.usage,
        interrupted=taking.interrupted,
    )
    return finish(report, SNAPSHOTS_KEY)


if __name__ == "__main__":
    run_from_command_line(snapshot_droplets)
