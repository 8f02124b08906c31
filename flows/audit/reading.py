"""Reads what the audit needs; what the token may not read is left out, with a note."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from flows.audit.droplets import Account
from flows.inventory import Inventory
from flows.recovery.proofs import last_proven, read_proofs
from flows.replication.recovery_points import choose_recovery_points, newer_snapshots
from flows.retention.stock import Stock, read_stock
from flows.waiting import waiting_for
from tasks.account_actions import list_actions_on
from tasks.digitalocean import APIError, Connection, ConvertImage, InvalidArgument, Unauthorized
from tasks.droplets import list_backup_policies
from tasks.tags import list_tags
from tasks.volumes import list_volumes

T = TypeVar("T")


@dataclass
class Reading:
    """What was read of an account.

    Attributes:
        notes: What could not be read, and what the report therefore leaves out.
    """

    account: Account
    stock: Stock
    notes: list[str] = field(default_factory=list)


def read_account(inventory: Inventory, connection: Connection) -> Reading:
    """Read what the audit of these Droplets needs, with lists only.

    Args:
        inventory: The account's Droplets and images.
        connection: The API.

    Raises:
        InvalidArgument: There are no Droplets.
        Unauthorized: The token is not valid.
    """
    if not inventory.droplets:
        raise InvalidArgument("the account has no Droplets")
    notes: list[str] = []
    with waiting_for("Reading backup plans, volumes and proofs", connection):
        policies = _if_readable(
            lambda: {each.droplet_id: each for each in list_backup_policies(credentials=connection)},
            "backup plans, and whether backups are overdue, are unknown",
            notes,
        )
        volumes = _if_readable(
            lambda: (
                {each.id: each for each in list_volumes(credentials=connection)}
                if any(each.volume_ids for each in inventory.droplets)
                else {}
            ),
            "volumes are counted, but not named",
            notes,
        )
        proven = _if_readable(lambda: _last_proven(connection), "when restores were last proven is unknown", notes)
    nothing = Stock((), {}, {})
    without = "snapshots of deleted Droplets, and those that no rule keeps, are not counted"
    stock = _if_readable(lambda: read_stock(inventory, connection), without, notes)
    if policies is not None and (missing := [each for each in inventory.droplets if each.id not in policies]):
        few = f"The backup plan of {len(missing)} of {len(inventory.droplets)} Droplets"
        notes.append(f"{few} is missing from the API's list or cannot be read; it is shown as unknown.")
    account = Account(
        droplets=inventory.droplets,
        images=inventory.images,
        managed_tag=connection.settings.managed_tag,
        converted=_converted_images(inventory, connection),
        unread=inventory.unread,
        policies=policies,
        volumes=volumes,
        proven=proven,
    )
    return Reading(account, stock or nothing, notes)


def _if_readable(read: Callable[[], T], otherwise: str, notes: list[str]) -> T | None:
    """Read something that the report can do without; None, and a note, if it cannot be read."""
    try:
        return read()
    except Unauthorized:
        raise
    except APIError as error:
        notes.append(f"{otherwise[0].upper()}{otherwise[1:]}: {error}")
        return None


def _last_proven(connection: Connection) -> dict[int, datetime]:
    return last_proven(read_proofs(list_tags(credentials=connection)))


def _converted_images(inventory: Inventory, connection: Connection) -> frozenset[int | None]:
    """Find untagged snapshots that were converted from backups, among those that may be the newest recovery points."""
    tag = connection.settings.managed_tag
    tagged = choose_recovery_points(inventory.droplets, inventory.images, managed_tag=tag, newest=1)
    unclear = newer_snapshots(inventory.droplets, inventory.images, tagged, managed_tag=tag)
    if not unclear:
        return frozenset()
    actions = list_actions_on(unclear, credentials=connection).actions
    return frozenset(each.resource_id for each in actions if ConvertImage().matches(each) and not each.errored)
