"""Prefect events that automations can react to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect import get_run_logger
from prefect.events import emit_event

from flows.reporting.pruning_report import PruningOutcome, PruningRow
from flows.reporting.report import Outcome, Row
from flows.reporting.restore_report import RestoreOutcome, RestoreRow
from tasks.accounts import DEFAULT_ACCOUNT

BACKUP_COMPLETED = "backup.completed"
IMAGE_REPLICATED = "image.replicated"
REPLICATION_COMPLETED = "replication.completed"
REPLICATION_FAILED = "replication.failed"
SNAPSHOT_DELETED = "snapshot.deleted"
PRUNING_COMPLETED = "pruning.completed"
PRUNING_FAILED = "pruning.failed"
DROPLET_RESTORED = "droplet.restored"
RECOVERY_COMPLETED = "recovery.completed"
RECOVERY_FAILED = "recovery.failed"
RESTORE_PROVEN = "restore.proven"
RESTORE_FAILED = "restore.failed"
SNAPSHOTS_COMPLETED = "snapshots.completed"
SNAPSHOTS_FAILED = "snapshots.failed"
ACCOUNT = "digitalocean.account"
ARRIVED_NOW = {Outcome.TRANSFERRED, Outcome.ADOPTED}


def announce_copy(row: Row) -> None:
    """Send an event if an image has arrived in a region during this run."""
    if row.outcome in ARRIVED_NOW:
        _emit(
            IMAGE_REPLICATED,
            f"digitalocean.image.{row.image_id}",
            row.image_name,
            row.model_dump(mode="json", exclude={"error", "needs_conversion"}),
            related=[{"prefect.resource.id": f"digitalocean.region.{row.region}", "prefect.resource.role": "region"}],
        )


def announce_deletion(row: PruningRow) -> None:
    """Send an event if a snapshot was deleted."""
    if row.outcome == PruningOutcome.DELETED:
        payload = row.model_dump(mode="json", exclude={"error"})
        _emit(SNAPSHOT_DELETED, f"digitalocean.image.{row.image_id}", row.image_name, payload)


def announce_restored(row: RestoreRow) -> None:
    """Send an event if a Droplet was rebuilt during this run."""
    if row.outcome == RestoreOutcome.RESTORED:
        payload = row.model_dump(mode="json", exclude={"error"})
        _emit(DROPLET_RESTORED, f"digitalocean.droplet.{row.new_droplet_id}", row.name, payload)


def announce_result(event: str, account: str, payload: Mapping[str, Any]) -> None:
    """Send the event of the end of a run.

    Args:
        event: Such as REPLICATION_COMPLETED.
        account: The account it worked on.
        payload: What it did.
    """
    resource_id = ACCOUNT if account == DEFAULT_ACCOUNT else f"{ACCOUNT}.{account}"
    _emit(event, resource_id, "DigitalOcean account", {**payload, "account": account})


def _emit(
    event: str, resource_id: str, name: str, payload: dict[str, Any], related: list[dict[str, str]] | None = None
) -> None:
    resource = {"prefect.resource.id": resource_id, "prefect.resource.name": name}
    try:
        emit_event(event, resource, related=related, payload=payload)
    except Exception as error:  # noqa: BLE001  # a lost event must not fail the run
        get_run_logger().warning("Could not send the event %s: %s", event, error)
