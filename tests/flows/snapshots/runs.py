"""Runs that take snapshots, against the sandbox within the process, on virtual time and without Prefect."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any

from deployments.sandbox import Image
from flows.reporting.report import Outcome, SnapshotRow
from flows.snapshots.planning import run_time_of
from flows.snapshots.taking import Taking
from tests.flows.replication.executions import LONGEST_SECONDS, InProcess, connection_to, taking_for
from tests.tasks.digitalocean.in_process import World

POSTING = r"^/v2/droplets/\d+/actions$"


async def carry_out(taking: Taking, seconds: float = LONGEST_SECONDS) -> dict[int, SnapshotRow]:
    """Take the snapshots of a plan until the time limit; returns the rows by Droplet."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await taking.run()
    rows = taking.all_rows()
    assert [row.droplet_id for row in rows] == [step.droplet.id for step in taking.plan.steps]
    return {row.droplet_id: row for row in rows}


async def take(
    world: World, *, seconds: float = LONGEST_SECONDS, connection: InProcess | None = None, **how: Any
) -> dict[int, SnapshotRow]:
    """Plan and take the snapshots of all Droplets, by a client that knows nothing of any before it."""
    return await carry_out(await taking_for(connection or connection_to(world), **how), seconds)


def outcomes(rows: dict[int, SnapshotRow]) -> dict[int, Outcome]:
    return {droplet_id: row.outcome for droplet_id, row in rows.items()}


def every(world: World, outcome: Outcome) -> dict[int, Outcome]:
    return dict.fromkeys(world.account.droplets, outcome)


def own(world: World) -> list[Image]:
    """The snapshots in the account that this project took."""
    return [image for image in world.images("snapshot") if run_time_of(image.name)]


def own_by_droplet(world: World) -> dict[int, int]:
    """How many snapshots this project took of each Droplet, also those that are not listed yet."""
    return dict(
        Counter(
            action.resource_id
            for action in world.record.actions
            if action.snapshot and run_time_of(action.snapshot.name) and action.fate.outcome == "completed"
        )
    )


def once_each(world: World) -> dict[int, int]:
    return dict.fromkeys(world.account.droplets, 1)


def posts(world: World) -> list[str]:
    """The paths that a Droplet action was posted to, refused or not."""
    return [
        seen.path for seen in world.record.requests if seen.method == "POST" and seen.path.startswith("/v2/droplets/")
    ]


def finish_endless(world: World) -> None:
    """Let the actions that would never end complete now."""
    now = world.clock.unix()
    for action in world.account.started:
        if action.status == "in-progress" and not action.fate.ends:
            action.status, action.ends_at = "completed", now
            if action.snapshot:
                world.account.add_image(action.snapshot)
