"""Reads the account, and plans which Droplets need a snapshot."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from prefect import get_run_logger

from flows.image_locks import LockKey, snapshot_key
from flows.reporting.report import count, estimated_snapshots
from flows.snapshots.earlier_runs import job_of, read_finished_runs
from flows.snapshots.planning import FINISH_WITHIN, Holdings, SnapshotChoice, plan_snapshots
from flows.waiting import waiting_for
from tasks.account_actions import list_snapshot_actions_on
from tasks.digitalocean import APIError, Connection, Droplet, Image, InvalidArgument
from tasks.droplets import list_droplets
from tasks.images import list_private_images
from tasks.snapshots import list_snapshots


def keys_to_lock(choice: SnapshotChoice) -> list[LockKey]:
    """List what to lock, so that no two runs take a snapshot of a Droplet at the same time."""
    return [snapshot_key(step.droplet.id) for step in choice.plan.missing]


def choose_snapshots(
    droplet_tag: str | None,
    droplet_ids: Collection[int] | None,
    connection: Connection,
    *,
    max_age_hours: int | None = None,
    regions: Collection[str] = (),
    estimate: bool = False,
    began: datetime | None = None,
) -> SnapshotChoice:
    """Choose Droplets, and plan their snapshots.

    Args:
        droplet_tag: Only Droplets with this tag; None for all.
        droplet_ids: Only these Droplets; None for all.
        connection: The API.
        max_age_hours: As in `plan_snapshots`.
        regions: As in `plan_snapshots`.
        estimate: Whether to read the sizes of backups, for Droplets that have no snapshots.
        began: When the run chose for the first time; None if this is the first time.

    Raises:
        InvalidArgument: There are no Droplets, or none has the tag.
    """
    if droplet_ids is not None and not droplet_ids:
        raise InvalidArgument("droplet_ids is empty: name at least one Droplet, or leave it out for all Droplets")
    droplets, gone = _droplets(droplet_tag, droplet_ids, connection)
    job = job_of(droplet_tag, droplet_ids)
    now = connection.client.server_clock.now()
    with waiting_for("Reading actions and snapshots", connection):
        # Actions first: a snapshot that is completed after they were read shows in the list of snapshots.
        known = list_snapshot_actions_on([each.id for each in droplets], now - FINISH_WITHIN, credentials=connection)
        snapshots = list_snapshots(credentials=connection)
        sized = {each.resource_id for each in snapshots}
        backups = _backups(connection) if estimate and any(each.id not in sized for each in droplets) else []
    holdings = Holdings(
        droplets, snapshots, known.actions, known.unread, backups, read_finished_runs(job, connection.account)
    )
    plan = plan_snapshots(
        holdings,
        connection.client.server_clock.now(),
        managed_tag=connection.settings.managed_tag,
        max_age_hours=max_age_hours,
        regions=regions,
        began=began,
    )
    return SnapshotChoice(tuple(droplets), plan, len(snapshots), began or now, job, gone)


def announce_snapshots(choice: SnapshotChoice, connection: Connection) -> None:
    """Log how many snapshots a run will take, and their monthly cost."""
    plan, price = choice.plan, connection.settings.snapshot_price_per_gb_month
    get_run_logger().info(
        "%s: %s to take; adds %s",
        count(len(plan.steps), "Droplet"),
        count(len(plan.missing), "snapshot"),
        estimated_snapshots(plan.estimated_gb, price, plan.unsized),
    )


def _droplets(
    droplet_tag: str | None, droplet_ids: Collection[int] | None, connection: Connection
) -> tuple[list[Droplet], dict[int, str]]:
    with waiting_for("Reading Droplets", connection):
        found = list_droplets(droplet_tag, credentials=connection)
    if not found:
        raise InvalidArgument(
            f"no Droplet has the tag {droplet_tag!r}" if droplet_tag else "the account has no Droplets"
        )
    if droplet_ids is None:
        return found, {}
    listed = {each.id: each for each in found}
    having = f" with the tag {droplet_tag!r}" if droplet_tag else ""
    gone = {each: f"there is no Droplet {each}{having}" for each in droplet_ids if each not in listed}
    return [listed[each] for each in dict.fromkeys(droplet_ids) if each in listed], gone


def _backups(connection: Connection) -> list[Image]:
    """List all images; none if they cannot be read, because they only serve an estimate."""
    try:
        images: list[Image] = list_private_images(credentials=connection)
    except APIError as error:
        get_run_logger().warning("Could not read the sizes of backups: %s", error)
        return []
    return images
