"""Rebuilding Droplets in the sandbox within the process, on virtual time and without Prefect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployments.sandbox import Droplet
from flows.recovery.creation import Creation
from flows.recovery.markers import RESTORE
from flows.recovery.preflight import RestorePlan, Surroundings, Wish, plan_restore
from flows.recovery.records import read_records
from flows.recovery.rows import created_rows
from flows.recovery.sources import Holdings, choose_sources
from flows.reporting.restore_report import RestoreOutcome, RestoreRow
from tasks.digitalocean import Connection
from tests.tasks.digitalocean.in_process import World

# No Droplet of the default account is in it.
REGION = "ams3"
WISH = Wish(RESTORE, name_suffix="-restored", copy_tags=True)
LONG_ENOUGH = 6 * 3600.0


def copied_world(droplets: int = 4, **how: Any) -> World:
    """An account whose backups and snapshots have been copied to the region."""
    world = World(droplets=droplets, **how)
    for image in [*world.images("backup"), *world.images("snapshot")]:
        image.regions[REGION] = 0.0
    return world


async def plan_for(connection: Connection, region: str = REGION, **chosen: Any) -> RestorePlan:
    """Read the account, as the flow does, and plan what to rebuild."""
    client = connection.client
    images, droplets = await client.list_private_images(), await client.list_droplets()
    snapshots, tags = await client.list_snapshots(), await client.list_tags()
    holdings = Holdings(droplets, images, snapshots, read_records(tags))
    sizes, limit = await client.list_sizes(), (await client.get_account()).droplet_limit
    return plan_restore(choose_sources(holdings, region, **chosen), WISH, Surroundings(sizes, droplets, limit))


async def carry_out(
    connection: Connection, plan: RestorePlan, *, wait: bool = True, seconds: float = LONG_ENOUGH
) -> dict[str, RestoreRow]:
    """Do what a plan says; returns its rows, by name of the original."""
    creation = Creation(plan, connection, RESTORE, wait=wait)
    await creation.run(seconds)
    return {row.droplet.split()[0]: row for row in created_rows(plan, creation.created, waited=wait)}


async def restore(connection: Connection, **how: Any) -> dict[str, RestoreRow]:
    """Plan, and do it."""
    return await carry_out(connection, await plan_for(connection), **how)


def outcomes(rows: Mapping[str, RestoreRow]) -> list[RestoreOutcome]:
    return [row.outcome for row in rows.values()]


def new_droplets(world: World) -> list[Droplet]:
    """The Droplets that were created and not destroyed."""
    return [droplet for droplet in world.account.droplets.values() if RESTORE.tag in droplet.tags]


def creations(world: World) -> list[int | None]:
    """The status of the response to each request to create a Droplet."""
    return [seen.status for seen in world.record.requests if (seen.method, seen.path) == ("POST", "/v2/droplets")]
