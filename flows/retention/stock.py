"""What there is to prune, by what the account has now."""

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
    """The snapshots of an account, and what tells which of them are needed.

    Attributes:
        snapshots: The snapshots of Droplets.
        backups: The newest backup of each Droplet that has one, by the Droplet's id.
        droplets: The names of the Droplets that are still there, by id.
        unavailable: The statuses of snapshots that are not available, by id.
    """

    snapshots: Sequence[Snapshot]
    backups: Mapping[int, Image]
    droplets: Mapping[int, str]
    unavailable: Mapping[int, str] = field(default_factory=dict)

    def name_of(self, droplet_id: int) -> str:
        """Name a Droplet, for people."""
        name = self.droplets.get(droplet_id)
        return f"{name} ({droplet_id})" if name else f"{droplet_id}, which is gone"


@dataclass(frozen=True)
class Decision:
    """What is to become of the snapshots.

    Attributes:
        stock: What there is.
        plan: What is to become of it.
    """

    stock: Stock
    plan: PruningPlan

    @property
    def image_ids(self) -> list[int]:
        """The snapshots that go."""
        return [snapshot.id for snapshot in self.plan.to_delete]


def read_stock(inventory: Inventory, connection: Connection) -> Stock:
    """Read the account's snapshots.

    Args:
        inventory: What else there is.
        connection: The API.

    Returns:
        The snapshots of the Droplets in the inventory; where that is of all Droplets, also of those that are gone.
    """
    droplets = {droplet.id: droplet.name for droplet in inventory.droplets}
    with waiting_for("Reading snapshots", connection):
        listed = list_snapshots(connection=connection)
    snapshots = [each for each in listed if not inventory.droplet_tag or each.resource_id in droplets]
    return Stock(
        snapshots,
        newest_backup_by_droplet(inventory.droplets, inventory.images),
        droplets,
        unavailable_snapshots(snapshots, inventory.images),
    )


def decide(
    stock: Stock, rule: RetentionRule, regions: Sequence[str], max_deletions: int, connection: Connection
) -> Decision:
    """Decide which snapshots go, and find out whether one of those has an action under way.

    Args:
        stock: What there is.
        rule: What is kept.
        regions: Slugs of the regions in which the newest recovery point should be.
        max_deletions: If more would go, their actions are not read.
        connection: The API.

    Returns:
        The decision.
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
        return Decision(stock, first)
    with waiting_for("Reading the actions on old snapshots", connection):
        under_way = [each.id for each in first.to_delete if _has_action_under_way(each.id, connection)]
    return Decision(stock, plan(under_way))


def _has_action_under_way(image_id: int, connection: Connection) -> bool:
    try:
        return any(action.in_progress for action in list_image_actions(image_id, connection=connection))
    except (Unauthorized, ScopeMissing):
        raise
    except APIError as error:
        if isinstance(error, NotFound) and not error.transient:
            return False
        get_run_logger().warning("Snapshot %d is kept, its actions cannot be read: %s", image_id, error)
        return True
