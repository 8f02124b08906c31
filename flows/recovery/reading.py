"""Reads what a rebuild needs from the account."""

from __future__ import annotations

from collections.abc import Collection

from prefect import get_run_logger

from flows.inventory import take_inventory
from flows.recovery.preflight import Surroundings, Wish
from flows.recovery.proofs import read_proofs
from flows.recovery.records import read_records
from flows.recovery.sources import Holdings
from flows.waiting import waiting_for
from tasks.account import get_account, list_ssh_keys, list_vpcs
from tasks.digitalocean import APIError, Connection, ScopeMissing, Unauthorized
from tasks.droplets import list_sizes
from tasks.snapshots import list_snapshots
from tasks.tags import list_tags


def read_holdings(connection: Connection) -> Holdings:
    """Read the account's Droplets, images, records of Droplets and earlier drills.

    Raises:
        APIError: Droplets, images or snapshots cannot be read. Without records, the run goes on.
    """
    inventory = take_inventory(None, connection)
    with waiting_for("Reading snapshots", connection):
        snapshots = list_snapshots(connection=connection)
    with waiting_for("Reading the records of Droplets", connection):
        tags = _tags(connection)
    return Holdings(inventory.droplets, inventory.images, snapshots, read_records(tags), read_proofs(tags))


def read_surroundings(wish: Wish, holdings: Holdings, connection: Connection) -> Surroundings:
    """Read sizes and limits, and SSH keys and VPCs if some are named.

    Raises:
        APIError: They cannot be read.
    """
    with waiting_for("Reading sizes and limits", connection):
        return Surroundings(
            sizes=list_sizes(connection=connection),
            droplets=holdings.droplets,
            droplet_limit=get_account(connection=connection).droplet_limit,
            ssh_keys=list_ssh_keys(connection=connection) if wish.ssh_keys else (),
            vpcs=list_vpcs(connection=connection) if wish.vpc_uuid else (),
        )


def _tags(connection: Connection) -> Collection[str]:
    try:
        return tuple(list_tags(connection=connection))
    except (Unauthorized, ScopeMissing):
        raise
    except APIError as error:
        get_run_logger().warning("Records of destroyed Droplets cannot be read, so defaults are used: %s", error)
        return ()
