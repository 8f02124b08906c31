"""Snapshots are copied as they are found: the executor of copies together with what takes the snapshots."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest

from deployments.sandbox import Fault, FaultKind
from flows.replication.planning import ReplicationPlan
from flows.reporting.report import Outcome, Row
from flows.snapshots.rows import rows_of_copies_not_begun
from flows.snapshots.taking import Taking
from tests.flows.replication.executions import (
    InProcess,
    carry_out,
    connection_to,
    die,
    plan_for,
    snapshots_there,
    taking_for,
)
from tests.flows.snapshots.runs import once_each, own, own_by_droplet
from tests.tasks.digitalocean.in_process import World

# Regions that no Droplet of the default account is in.
REGIONS = ["ams3", "sgp1"]
HOUR = 3600.0


async def planned(
    connection: InProcess, finished_runs: dict[datetime, bool] | None = None
) -> tuple[ReplicationPlan, Taking]:
    taking = await taking_for(connection, regions=REGIONS, finished_runs=finished_runs)
    return await plan_for(connection, snapshots_there(taking), REGIONS), taking


async def copy(
    world: World, finished_runs: dict[datetime, bool] | None = None, seconds: float = 12 * HOUR
) -> list[Row]:
    """Take and copy snapshots of all Droplets; returns a row per Droplet and region."""
    connection = connection_to(world)
    plan, taking = await planned(connection, finished_runs)
    begun = await carry_out(connection, plan, taking=taking, seconds=seconds)
    rows = [*begun.values()]
    return [*rows, *rows_of_copies_not_begun(taking.all_rows(), rows, REGIONS)]


def transfers(world: World) -> list[tuple[int, str]]:
    return sorted((each.resource_id, each.region) for each in world.record.actions if each.type == "transfer")


async def test_each_snapshot_is_copied_as_soon_as_it_is_found() -> None:
    world = World()
    # The first to be found does not wait for this one.
    late, *_ = world.account.droplets.values()
    world.account.keep_busy(late, world.clock.unix(), 3 * HOUR)
    rows = await copy(world)
    assert {row.outcome for row in rows} == {Outcome.TRANSFERRED}
    assert len(rows) == len(world.account.droplets) * len(REGIONS)
    assert own_by_droplet(world) == once_each(world)
    assert transfers(world) == sorted((image.id, region) for image in own(world) for region in REGIONS)
    first = min(each.started_at for each in world.record.actions if each.type == "transfer")
    assert first < max(each.started_at for each in world.record.actions if each.type == "snapshot")
    assert [action for action in world.record.actions if action.type == "convert"] == []


async def test_a_droplet_without_a_snapshot_has_a_failed_row_per_region_and_the_others_are_copied() -> None:
    world = World()
    bad, *_ = world.account.droplets.values()
    world.faults.add(Fault(FaultKind.ACTION_ERRORED, "POST", f"/droplets/{bad.id}/actions", times=None))
    rows = await copy(world)
    failed = [row for row in rows if row.outcome == Outcome.FAILED]
    assert [(row.droplet_id, row.region) for row in failed] == [(bad.id, region) for region in REGIONS]
    assert all(row.error == "no snapshot: no snapshot of this run after 3 attempts" for row in failed)
    assert {row.outcome for row in rows if row not in failed} == {Outcome.TRANSFERRED}


async def test_what_is_missing_at_the_time_limit_has_a_row_per_region() -> None:
    world = World(droplets=3)
    endless, *_ = world.account.droplets.values()
    world.faults.add(Fault(FaultKind.ACTION_ENDLESS, "POST", f"/droplets/{endless.id}/actions"))
    rows = await copy(world, seconds=6 * HOUR)
    late = [row for row in rows if row.outcome == Outcome.TIMED_OUT]
    assert sorted((row.droplet_id, row.region) for row in late) == [(endless.id, region) for region in REGIONS]
    assert len(rows) == 3 * len(REGIONS)
    assert world.clock.monotonic() < 6 * HOUR + 60


@pytest.mark.parametrize("seconds", [10, 300, 900, 1500, 2000, 3000])
async def test_a_run_that_was_killed_is_finished_with_one_snapshot_per_droplet_and_one_copy_per_region(
    seconds: float,
) -> None:
    world = World(droplets=3)
    connection = connection_to(world)
    plan, taking = await planned(connection)
    running = asyncio.create_task(carry_out(connection, plan, taking=taking))
    await asyncio.sleep(seconds)
    await die(connection, running)
    rows = await copy(world, {taking.plan.run_time: False})
    assert not [row for row in rows if row.error]
    assert own_by_droplet(world) == once_each(world)
    assert transfers(world) == sorted((image.id, region) for image in own(world) for region in REGIONS)
    assert all({*REGIONS} <= {*image.regions} for image in own(world))


@pytest.mark.parametrize(("droplets", "most"), [(20, 130), (200, 1000)])
async def test_taking_and_copying_costs_little_more_than_a_request_per_action(droplets: int, most: int) -> None:
    world = World(droplets=droplets)
    rows = await copy(world)
    # Some Droplets are in a target region.
    assert {row.outcome for row in rows} == {Outcome.TRANSFERRED, Outcome.ALREADY_THERE}
    assert len(world.record.requests) <= most
