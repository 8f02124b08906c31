"""Reads what a rebuild needs from the account, with as many requests at once as possible: every second counts."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from prefect import get_run_logger

from flows.inventory import with_unlisted_images
from flows.recovery.preflight import Surroundings, Wish
from flows.recovery.proofs import read_proofs
from flows.recovery.records import read_records
from flows.recovery.sources import Holdings
from flows.waiting import waiting_for
from tasks.account import get_account, list_ssh_keys, list_vpcs
from tasks.api_task import run_blocking
from tasks.digitalocean import (
    AccountInfo,
    APIError,
    Connection,
    Droplet,
    Image,
    ScopeMissing,
    Size,
    Snapshot,
    SshKey,
    Unauthorized,
    Vpc,
)
from tasks.droplets import list_droplets, list_sizes
from tasks.images import list_private_images
from tasks.snapshots import list_snapshots
from tasks.tags import list_tags


def read_holdings(connection: Connection) -> Holdings:
    """Read the account's Droplets, images, records of Droplets and earlier drills.

    Raises:
        APIError: Droplets, images or snapshots cannot be read. Without records, the run goes on.
    """
    with waiting_for("Reading Droplets and their copies", connection):
        images, droplets, snapshots, tags = run_blocking(_holdings(connection))
        inventory = with_unlisted_images(None, droplets, images, connection)
    return Holdings(inventory.droplets, inventory.images, snapshots, read_records(tags), read_proofs(tags))


def read_surroundings(wish: Wish, holdings: Holdings, connection: Connection) -> Surroundings:
    """Read sizes and limits, and SSH keys and VPCs if some are named.

    Raises:
        APIError: They cannot be read.
    """
    with waiting_for("Reading sizes and limits", connection):
        sizes, account, ssh_keys, vpcs = run_blocking(_surroundings(wish, connection))
    return Surroundings(sizes, holdings.droplets, account.droplet_limit, ssh_keys, vpcs)


async def _holdings(
    connection: Connection,
) -> tuple[list[Image], list[Droplet], list[Snapshot], Collection[str]]:
    return await asyncio.gather(
        list_private_images.run(credentials=connection),
        list_droplets.run(credentials=connection),
        list_snapshots.run(credentials=connection),
        _tags(connection),
    )


async def _surroundings(wish: Wish, connection: Connection) -> tuple[list[Size], AccountInfo, list[SshKey], list[Vpc]]:
    return await asyncio.gather(
        list_sizes.run(credentials=connection),
        get_account.run(credentials=connection),
        _ssh_keys(wish, connection),
        _vpcs(wish, connection),
    )


async def _ssh_keys(wish: Wish, connection: Connection) -> list[SshKey]:
    return await list_ssh_keys.run(credentials=connection) if wish.ssh_keys else []


async def _vpcs(wish: Wish, connection: Connection) -> list[Vpc]:
    return await list_vpcs.run(credentials=connection) if wish.vpc_uuid else []


async def _tags(connection: Connection) -> Collection[str]:
    try:
        return await list_tags.run(credentials=connection)
    except (Unauthorized, ScopeMissing):
        raise
    except APIError as error:
        get_run_logger().warning("Records of destroyed Droplets cannot be read, so defaults are used: %s", error)
        return ()
