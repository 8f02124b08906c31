"""Reads the account's snapshots and decides which to delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prefect import get_run_logger

from flows.inventory import Inventory
from flows.retention.pruning import PruningPlan, newest_backup_by_droplet, plan_pruning, unavailable_snapshots
from flows.retention.rule import RetentionRule
from flows.waiting import waiting_for
from tasks.digitalocean import APIError, Connection, Image, NotFound, ScopeMissing, Snapshot, Unauthorized
from tasks.image_actions import list_image_actions
from tasks.snapshots import list_snapshots


@dataclass(frozen=True)
class Stock:
    """An account's snapshots, and what is needed to decide which to keep.

    Attributes:
        backups: The newest backup of each Droplet that has one, by Droplet ID.
        droplets: The names of the Droplets that still exist, by ID.
        unavailable: The statuses of snapshots that are not available, by ID.
    """

    snapshots: Sequence[Snapshot]
    backups: Mapping[int, Image]
    droplets: Mapping[int, str]
    unavailable: Mapping[int, str] = field(default_factory=dict)

    def name_of(self, droplet_id: int) -> str:
        """Human-readable name of a Droplet."""
        name = self.droplets.get(droplet_id)
        return f"{name} ({droplet_id})" if name else f"{droplet_id} (deleted)"


def read_stock(inventory: Inventory, connection: Connection) -> Stock:
    """Read the snapshots of the inventory's Droplets; without a tag, also those of deleted Droplets."""
    droplets = {droplet.id: droplet.name for droplet in inventory.droplets}
    with waiting_for("Reading snapshots", connection):
        listed = list_snapshots(credentials=connection)
    snapshots = [each for each in listed if not inventory.droplet_tag or each.resource_id in droplets]
    return Stock(
        snapshots,
        newest_backup_by_droplet(inventory.droplets, inventory.images),
        droplets,
        unavailable_snapshots(snapshots, inventory.images),
    )


def decide(
    stock: Stock, rule: RetentionRule, regions: Sequence[str], max_deletions: int, connection: Connection
) -> PruningPlan:
    """Decide which snapshots to delete; those with an action in progress are kept.

    Args:
        stock: The account's snapshots.
        rule: Which of them to keep.
        regions: Slugs of the regions that need the newest recovery point.
        max_deletions: If more snapshots would be deleted, their actions are not read.
        connection: The API.
    """
    managed_tag, now = connection.settings.managed_tag, connection.client.server_clock.now()

    def plan(under_way: Sequence[int]) -> PruningPlan:
        return plan_pruning(
            stock.snapshots,
            rule,
            now,
            managed_tag=managed_tag,
            regions=regions,
            under_way=under_way,
            backups=stock.backups,
            unavailable=stock.unavailable,
        )

    first = plan(())
    if first.exceeds(max_deletions):
        return first
    with waiting_for("Reading the actions on old snapshots", connection):
        under_way = [each.id for each in first.to_delete if _has_action_in_progress(each.id, connection)]
    return plan(under_way)


def _has_action_in_progress(image_id: int, connection: Connection) -> bool:
    try:
        return any(action.in_progress for action in list_image_actions(image_id, credentials=connection))
    except (Unauthorized, ScopeMissing):
        raise
    except APIError as error:
        if isinstance(error, NotFound) and not error.transient:
            return False
        get_run_logger().warning("Snapshot %d is kept because its actions cannot be read: %s", image_id, error)
        return True
