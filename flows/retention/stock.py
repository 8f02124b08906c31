"""What there is to prune, by what the account has now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prefect import get_run_logger

from flows.inventory import Inventory
from flows.retention.pruning import PruningPlan, newest_backups, plan_pruning, unavailable_snapshots
from flows.retention.rule import RetentionRule
from flows.waiting import says_what_it_waits_for
from tasks.connection import connect
from tasks.digitalocean import APIError, Image, NotFound, ScopeMissing, Snapshot, Unauthorized
from tasks.digitalocean.errors import MOST_REFUSALS
from tasks.image_actions import list_image_actions
from tasks.images import get_image
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


@says_what_it_waits_for("Reading snapshots")
def look(inventory: Inventory) -> Stock:
    """Look at the account's snapshots.

    Args:
        inventory: What else there is.

    Returns:
        The snapshots of the Droplets in the inventory; where that is of all Droplets, also of those that are gone.
    """
    droplets = {droplet.id: droplet.name for droplet in inventory.droplets}
    snapshots = [each for each in list_snapshots() if not inventory.droplet_tag or each.resource_id in droplets]
    return Stock(
        snapshots,
        newest_backups(inventory.droplets, inventory.images),
        droplets,
        unavailable_snapshots(snapshots, inventory.images),
    )


@says_what_it_waits_for("Reading the actions on old snapshots")
def decide(stock: Stock, rule: RetentionRule, regions: Sequence[str], max_deletions: int) -> Decision:
    """Decide which snapshots go, and look whether one of those has an action under way.

    Args:
        stock: What there is.
        rule: What is kept.
        regions: Slugs of the regions in which the newest recovery point should be.
        max_deletions: If more would go, none is looked at more closely.

    Returns:
        The decision.
    """
    connection = connect()
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
    return Decision(stock, plan([each.id for each in first.to_delete if _has_action_under_way(each.id)]))


def _has_action_under_way(image_id: int, tries_left: int = MOST_REFUSALS - 1) -> bool:
    try:
        return any(action.in_progress for action in list_image_actions(image_id))
    except NotFound as error:
        if get_image(image_id) is None:
            return False
        if tries_left:
            # The image is there, so the 404 may pass.
            return _has_action_under_way(image_id, tries_left - 1)
        get_run_logger().warning("Snapshot %d is kept, its actions cannot be looked at: %s", image_id, error)
        return True
    except (Unauthorized, ScopeMissing):
        raise
    except APIError as error:
        get_run_logger().warning("Snapshot %d is kept, its actions cannot be looked at: %s", image_id, error)
        return True
