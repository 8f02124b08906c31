"""Two months of nightly runs against the sandbox, in virtual time: what is left, and what was deleted on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from deployments.sandbox.faults import ACTION_FAULTS, IMAGE_FAULTS, LIST_FAULTS
from flows.reporting.report import BAD_OUTCOMES
from flows.retention.pruning import PruningPlan, newest_backup_by_droplet, plan_pruning
from flows.retention.rule import RetentionRule
from tasks.digitalocean import APIError, Connection
from tasks.digitalocean.idempotency import delete_once
from tests.flows.nights import Nights, go_wrong, made_by_us
from tests.flows.replication.executions import (
    InProcess,
    carry_out,
    connection_to,
    finish_endless,
    plan_for,
    repeating,
    select,
    snapshots_there,
    taking_for,
)
from tests.tasks.digitalocean.in_process import World
from tests.torture.judging import let_snapshots_end
from tests.torture.snapshots import STARTING
from tests.virtual_time import EPOCH

DAY = 86400.0
HOUR = 3600.0
NIGHTS = 60
NIGHT_OF_THE_LOSS = 20
REGIONS = ["ams3", "sgp1"]
RULE = RetentionRule(keep_last=5, keep_weekly=3, keep_monthly=2)
FAULT_RATE = 0.1
LONGEST_RUN = 3 * HOUR
# A run that was not Completed is finished within six hours.
LONGEST_RUN_WITH_SNAPSHOTS = 1.75 * HOUR
MOST_RUNS_A_NIGHT = 6
# Another action on a Droplet, such as its backup, during which the API refuses to take a snapshot.
BUSY_SECONDS = 600.0

# A part of a run; tells whether it did all of it.
Work = Callable[[InProcess], Awaitable[bool]]


async def look(connection: Connection) -> PruningPlan:
    """Plan what may go, from fresh looks; what has an action under way may not."""
    client = connection.client
    droplets, images, snapshots = (
        await client.list_droplets(),
        await client.list_private_images(),
        await client.list_snapshots(),
    )

    def plan(*under_way: int) -> PruningPlan:
        return plan_pruning(
            snapshots,
            RULE,
            datetime.fromtimestamp(client.clock.unix(), UTC),
            managed_tag=connection.settings.managed_tag,
            regions=REGIONS,
            backups=newest_backup_by_droplet(droplets, images),
            under_way=under_way,
        )

    busy = [
        each.id
        for each in plan().to_delete
        if any(action.in_progress for action in await client.list_image_actions(each.id))
    ]
    return plan(*busy)


async def replicate_and_prune(connection: InProcess) -> bool:
    """What one run does."""
    plan = await plan_for(connection, (await select(connection, 1)).candidates, REGIONS)
    rows = await carry_out(connection, plan, seconds=LONGEST_RUN)
    return not any(row.outcome in BAD_OUTCOMES for row in rows.values()) and await prune(connection)


async def prune(connection: InProcess) -> bool:
    for each in (await look(connection)).to_delete:
        await delete(connection, each.id)
    return True


def taking_snapshots() -> Work:
    """What runs do that take snapshots and copy them, each told how those before it ended, as Prefect tells."""
    finished: dict[datetime, bool] = {}

    async def take_and_copy(connection: InProcess) -> bool:
        taking = await taking_for(connection, regions=REGIONS, finished_runs=finished)
        plan = await plan_for(connection, snapshots_there(taking), REGIONS)
        finished[taking.plan.run_time] = False
        copies = await carry_out(connection, plan, seconds=LONGEST_RUN_WITH_SNAPSHOTS, taking=taking)
        outcomes = [*(row.outcome for row in copies.values()), *(row.outcome for row in taking.all_rows())]
        done = not BAD_OUTCOMES.intersection(outcomes)
        finished[taking.plan.run_time] = done
        return done

    return take_and_copy


async def carry_on(connection: InProcess, left: list[Work]) -> bool:
    """Do what is left to do; tells whether it is done."""
    try:
        while left and await left[0](connection):
            left.pop(0)
    except APIError:
        return False
    finally:
        await connection.client.aclose()
    return not left


async def delete(connection: Connection, image_id: int) -> bool:
    return await repeating(lambda: delete_once(connection.client, image_id), connection.settings.http_retry_max)


async def a_night(world: World, nights: Nights, *work: Work) -> None:
    """Run until all is done, as an operator or a schedule would."""
    left = list(work)
    for _ in range(MOST_RUNS_A_NIGHT):
        nights.runs += 1
        if await carry_on(connection_to(world), left):
            return
        nights.incomplete += 1
        # DigitalOcean's support ends what would never end.
        let_snapshots_end(world.account, world.clock.unix())
        finish_endless(world.account, world.clock.unix())
    raise AssertionError(f"still not done after {MOST_RUNS_A_NIGHT} runs")


async def two_months(seed: int, *, from_snapshots: bool = False) -> Nights:
    """Let nights pass, one request in ten of which goes wrong, and see each morning what they have left."""
    world = World(droplets=2)
    nights = Nights(world.account, world.record, RULE, REGIONS, from_snapshots)
    work = [taking_snapshots(), prune] if from_snapshots else [replicate_and_prune]
    lost, kept = droplets = list(world.account.droplets.values())
    for night in range(1, NIGHTS + 1):
        await asyncio.sleep(EPOCH + night * DAY - world.clock.unix())
        nights.begin(world.clock.unix())
        # Before the night's backups are everywhere, nothing of a Droplet that has one may go.
        early = await look(connection_to(world))
        assert not {each.resource_id for each in early.to_delete} & world.account.droplets.keys()
        starts = STARTING if from_snapshots else "/actions$"
        go_wrong(world.faults, world.record, night, rate=FAULT_RATE, seed=seed, starts=starts)
        if from_snapshots and night % 3 == 0:
            world.account.keep_busy(kept, world.clock.unix(), BUSY_SECONDS)
        await a_night(world, nights, *work)
        world.faults.clear()
        nights.check(droplets)
        assert (await look(connection_to(world))).to_delete == ()
        if night == NIGHT_OF_THE_LOSS:
            world.account.delete_droplet(lost)
    assert days_left(nights, kept.id) == [
        "Sat 11-21", "Fri 11-20", "Thu 11-19", "Wed 11-18", "Tue 11-17", "Sun 11-15", "Sun 11-08", "Sat 10-31",
    ]  # fmt: skip
    assert days_left(nights, lost.id) == [
        "Mon 10-12", "Sun 10-11", "Sat 10-10", "Fri 10-09", "Thu 10-08", "Sun 10-04", "Wed 09-30",
    ]  # fmt: skip
    return nights


def days_left(nights: Nights, droplet_id: int) -> list[str]:
    return [f"{day:%a %m-%d}" for day in made_by_us(nights.account, droplet_id)]


@pytest.mark.slow
@pytest.mark.longest((NIGHTS + 1) * DAY)
async def test_two_months_of_faulty_nights_leave_what_the_rule_says_and_never_touch_other_snapshots() -> None:
    nights = await two_months(seed=1)
    assert nights.faults.keys() == set(IMAGE_FAULTS)
    assert nights.faults.total() > FAULT_RATE / 2 * len(nights.record.requests)
    assert nights.incomplete > 0
    hit = {seen.fault for seen in nights.record.requests if seen.method == "DELETE"}
    assert hit >= {None, *IMAGE_FAULTS} - ACTION_FAULTS - LIST_FAULTS


@pytest.mark.slow
@pytest.mark.longest((NIGHTS + 1) * DAY)
async def test_two_months_of_faulty_nights_take_one_snapshot_of_each_droplet_a_night_and_convert_no_backup() -> None:
    nights = await two_months(seed=1, from_snapshots=True)
    assert nights.faults.keys() == set(IMAGE_FAULTS)
    assert nights.incomplete > 0
    assert nights.starts_hit == set(IMAGE_FAULTS) - LIST_FAULTS
