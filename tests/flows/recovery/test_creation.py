"""Creating Droplets exactly once, and waiting until they are active."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deployments.sandbox import Behavior, Fault, FaultKind
from flows.recovery.creation import Creation
from flows.recovery.markers import RESTORE
from flows.recovery.rows import created_rows
from flows.reporting.restore_report import RestoreOutcome
from tests.flows.recovery.restoring import (
    LONG_ENOUGH,
    carry_out,
    copied_world,
    creations,
    new_droplets,
    outcomes,
    plan_for,
    restore,
)
from tests.flows.replication.executions import connection_to, die
from tests.tasks.digitalocean.in_process import World
from tests.tasks.digitalocean.test_idempotency import CARRIED_OUT, NOT_CARRIED_OUT
from tests.virtual_time import EPOCH

RESTORED, FAILED, TIMED_OUT = RestoreOutcome.RESTORED, RestoreOutcome.FAILED, RestoreOutcome.TIMED_OUT
ALREADY = RestoreOutcome.ALREADY_RESTORED
MINUTE = 60.0


def created_faults(kind: FaultKind, times: int | None = 1, **other: Any) -> Fault:
    return Fault(kind, "POST", "^/v2/droplets$", times=times, **other)


def created_exactly_once(world: World, droplets: int = 4) -> bool:
    """Whether each Droplet was created once, and all are active and those that exist."""
    names = [record.name for record in world.record.created]
    return (
        len(set(names)) == len(names) == len(new_droplets(world)) == droplets
        and {droplet.status for droplet in new_droplets(world)} == {"active"}
        and not world.record.destroyed
    )


async def test_every_droplet_is_created_once_from_its_newest_image_and_all_are_active() -> None:
    world = copied_world()
    rows = await restore(connection_to(world))
    assert outcomes(rows) == [RESTORED] * 4
    assert created_exactly_once(world)
    assert creations(world) == [202] * 4
    for original in [each for each in world.account.droplets.values() if RESTORE.tag not in each.tags]:
        row = rows[original.name]
        newest = max(original.image_ids, key=lambda each: world.account.images[each].created_at)
        new = world.account.droplets[row.new_droplet_id or 0]
        assert (new.name, new.base_image.id, new.size.slug) == (f"{original.name}-restored", newest, original.size.slug)
        assert {*original.tags, "prefect:restored", f"prefect:restored:{original.id}"} == set(new.tags)
        assert (row.public_ip, row.private_ip) == (new.public_ip, new.private_ip)
        assert 20 <= (row.seconds or 0) <= 90


async def test_a_second_run_creates_nothing() -> None:
    world = copied_world()
    await restore(connection_to(world))
    first = len(world.record.requests)
    rows = await restore(connection_to(world))
    assert outcomes(rows) == [ALREADY] * 4
    assert created_exactly_once(world)
    assert {seen.method for seen in world.record.requests[first:]} == {"GET"}
    assert len(world.record.requests) - first == 7


async def test_ten_droplets_need_at_most_twenty_requests_in_all() -> None:
    world = copied_world(droplets=12)
    connection = connection_to(world)
    ids = [each.id for each in world.account.droplets.values() if each.image_ids and not each.size.gpu_model][:10]
    rows = await carry_out(connection, await plan_for(connection, droplet_ids=ids))
    assert outcomes(rows) == [RESTORED] * 10
    assert created_exactly_once(world, 10)
    assert len(world.record.requests) <= 20
    assert world.record.rate_limited() == 0


@pytest.mark.parametrize("kind", [*CARRIED_OUT, *NOT_CARRIED_OUT])
async def test_no_droplet_is_created_twice_after_an_unclear_response(kind: FaultKind) -> None:
    world = copied_world()
    world.faults.add(created_faults(kind, skip=1))
    rows = await restore(connection_to(world))
    assert outcomes(rows) == [RESTORED] * 4
    assert created_exactly_once(world)


async def test_no_droplet_is_created_twice_after_a_timeout() -> None:
    world = copied_world()
    world.faults.add(created_faults(FaultKind.SLOW, seconds=100))
    assert outcomes(await restore(connection_to(world))) == [RESTORED] * 4
    assert created_exactly_once(world)


async def test_an_unknown_outcome_is_an_error_and_the_next_run_finds_the_droplet() -> None:
    world = copied_world()
    connection = connection_to(world, http_retry_max=1)
    plan = await plan_for(connection)
    look_fails = Fault(FaultKind.UNAVAILABLE_HTML, "GET", "^/v2/droplets$", times=4)
    world.faults.add(created_faults(FaultKind.DROP_AFTER), look_fails)
    rows = await carry_out(connection, plan)
    assert sorted(outcomes(rows)) == [FAILED] + [RESTORED] * 3
    assert len(world.record.created) == 4
    assert sorted(outcomes(await restore(connection_to(world)))) == [ALREADY] * 4
    assert created_exactly_once(world)


@pytest.mark.parametrize("lag", [0.0, 70.0])
@pytest.mark.parametrize("restarts", [0, 2])
async def test_a_droplet_that_could_not_be_created_is_destroyed_and_created_again_as_often_as_allowed(
    restarts: int, lag: float
) -> None:
    world = copied_world()
    world.faults.add(Fault(FaultKind.SLOW_DELETE, times=None, seconds=lag))
    world.faults.add(created_faults(FaultKind.CREATE_ERRORED, times=None))
    rows = await restore(connection_to(world, action_restart_max=restarts))
    assert outcomes(rows) == [FAILED] * 4
    assert {row.error for row in rows.values()} == {"DigitalOcean could not create it; run again to try once more"}
    assert {row.new_droplet_id for row in rows.values()} == {None}
    assert len(world.record.created) == len(world.record.destroyed) == 4 * (restarts + 1)
    assert world.record.originals_destroyed() == world.record.left_behind() == []
    assert new_droplets(world) == []
    assert world.record.created_twice() == []


@pytest.mark.parametrize("lag", [0.0, 70.0])
async def test_a_droplet_that_is_created_on_the_last_attempt_is_restored(lag: float) -> None:
    world = copied_world()
    world.faults.add(Fault(FaultKind.SLOW_DELETE, times=None, seconds=lag))
    world.faults.add(created_faults(FaultKind.CREATE_ERRORED, times=3))
    rows = await restore(connection_to(world, action_restart_max=3))
    assert outcomes(rows) == [RESTORED] * 4
    assert len(world.record.destroyed) == 3
    assert world.record.originals_destroyed() == []
    assert len(new_droplets(world)) == 4
    assert {droplet.status for droplet in new_droplets(world)} == {"active"}
    assert all(20 <= (row.seconds or 0) <= 120 for row in rows.values())


async def test_a_lost_response_after_a_failed_creation_does_not_find_the_destroyed_droplet() -> None:
    world = copied_world()
    world.faults.add(Fault(FaultKind.SLOW_DELETE, times=None, seconds=70))
    world.faults.add(created_faults(FaultKind.CREATE_ERRORED, times=4), created_faults(FaultKind.DROP_BEFORE, times=4))
    assert outcomes(await restore(connection_to(world))) == [RESTORED] * 4
    assert {droplet.status for droplet in new_droplets(world)} == {"active"}
    assert len(new_droplets(world)) == 4


async def test_what_is_still_created_at_the_time_limit_is_left_for_the_next_run_which_finds_it() -> None:
    world = copied_world()
    world.faults.add(created_faults(FaultKind.CREATE_ENDLESS))
    rows = await restore(connection_to(world), seconds=10 * MINUTE)
    assert sorted(outcomes(rows)) == [RESTORED] * 3 + [TIMED_OUT]
    (late,) = [row for row in rows.values() if row.outcome == TIMED_OUT]
    assert late.error == "it was still being created when the run ended: the next run picks it up"
    assert late.new_droplet_id in world.account.droplets
    assert world.record.destroyed == []
    connection = connection_to(world)
    next_run = asyncio.create_task(restore(connection))
    await asyncio.sleep(5 * MINUTE)
    assert not next_run.done()
    world.account.droplets[late.new_droplet_id or 0].status = "active"
    assert outcomes(await next_run) == [ALREADY] * 4
    assert created_exactly_once(world)


async def test_what_an_earlier_run_could_not_create_is_destroyed_and_created_again() -> None:
    world = copied_world()
    world.faults.add(created_faults(FaultKind.CREATE_ERRORED))
    assert outcomes(await restore(connection_to(world), wait=False)) == [RestoreOutcome.STARTED] * 4
    await asyncio.sleep(MINUTE)
    assert sorted(outcomes(await restore(connection_to(world)))) == [ALREADY] * 3 + [RESTORED]
    assert world.record.created_twice() == world.record.originals_destroyed() == []
    assert len(new_droplets(world)) == 4


async def test_without_waiting_droplets_are_only_requested() -> None:
    world = copied_world()
    connection = connection_to(world)
    plan = await plan_for(connection)
    before = len(world.record.requests)
    rows = await carry_out(connection, plan, wait=False)
    assert outcomes(rows) == [RestoreOutcome.STARTED] * 4
    assert all(row.new_droplet_id and row.seconds is None and not row.error for row in rows.values())
    assert [seen.method for seen in world.record.requests[before:]] == ["POST"] * 4
    assert outcomes(await restore(connection_to(world), wait=False)) == [ALREADY] * 4
    assert len(world.record.created) == 4


async def test_a_lack_of_capacity_names_sizes_that_would_fit_and_stops_no_other_droplet() -> None:
    world = copied_world()
    world.faults.add(created_faults(FaultKind.NO_CAPACITY))
    connection = connection_to(world)
    plan = await plan_for(connection)
    rows = await carry_out(connection, plan)
    assert sorted(outcomes(rows)) == [FAILED] + [RESTORED] * 3
    (failed,) = [row for row in rows.values() if row.outcome == FAILED]
    (step,) = [step for step in plan.steps if step.source.label == failed.droplet]
    assert step.fitting
    assert step.size
    assert failed.error.startswith("POST /v2/droplets: 422 unprocessable_entity: There is not enough capacity")
    others = ", ".join(step.fitting)
    assert failed.error.endswith(
        f"The region may have no capacity for size {step.size.slug}: try another size, such as {others}"
    )
    assert step.size.slug not in step.fitting


async def test_a_token_that_may_not_create_droplets_is_not_tried_for_each_of_them() -> None:
    world = copied_world(droplets=30, behavior=Behavior(out_of_scope=frozenset({("POST", "/v2/droplets")})))
    connection = connection_to(world)
    plan = await plan_for(connection)
    rows = await carry_out(connection, plan)
    created = [row for row in rows.values() if row.name]
    assert len(created) > 20
    assert {row.outcome for row in created} == {FAILED}
    assert all("needs the scope droplet:create" in row.error for row in created)
    assert creations(world) == [403] * len(creations(world))
    # Those that were refused at the same time as the first are tried once more.
    assert len(creations(world)) <= 2 * len(created) + 1


async def test_a_403_that_passes_is_tried_again() -> None:
    world = copied_world()
    world.faults.add(created_faults(FaultKind.FORBIDDEN, times=2))
    assert outcomes(await restore(connection_to(world))) == [RESTORED] * 4
    assert created_exactly_once(world)


async def test_a_revoked_token_fails_what_is_not_created_yet_without_further_requests() -> None:
    world = copied_world()
    connection = connection_to(world)
    plan = await plan_for(connection)
    connection.revoke_token()
    rows = await carry_out(connection, plan)
    assert outcomes(rows) == [FAILED] * 4
    assert all("401" in row.error and "DIGITALOCEAN_TOKEN" in row.error for row in rows.values())
    assert len(creations(world)) <= 4


async def test_a_token_revoked_while_droplets_are_created_ends_the_run() -> None:
    world = copied_world()
    connection = connection_to(world)
    running = asyncio.create_task(restore(connection))
    await asyncio.sleep(10)
    connection.revoke_token()
    rows = await running
    assert outcomes(rows) == [FAILED] * 4
    assert all(row.new_droplet_id for row in rows.values())


async def test_a_droplet_that_disappears_while_it_is_created_is_an_error_and_stops_no_other() -> None:
    world = copied_world()
    running = asyncio.create_task(restore(connection_to(world)))
    await asyncio.sleep(5)
    lost = new_droplets(world)[0]
    world.account.delete_droplet(lost)
    rows = await running
    assert sorted(outcomes(rows)) == [FAILED] + [RESTORED] * 3
    (failed,) = [row for row in rows.values() if row.outcome == FAILED]
    assert failed.error == f"Droplet {lost.id} disappeared while it was being created"
    assert len(world.record.created) == 4


async def test_polls_that_fail_are_repeated() -> None:
    world = copied_world()
    connection = connection_to(world, http_retry_max=0)
    plan = await plan_for(connection)
    world.faults.add(Fault(FaultKind.ERROR_BEFORE, "GET", times=6))
    assert outcomes(await carry_out(connection, plan)) == [RESTORED] * 4
    assert created_exactly_once(world)


async def test_a_droplet_that_was_turned_off_counts_as_restored() -> None:
    world = copied_world()
    await restore(connection_to(world))
    new_droplets(world)[0].status = "off"
    assert outcomes(await restore(connection_to(world))) == [ALREADY] * 4


@pytest.mark.parametrize("allowed", [8, 9])
async def test_a_row_that_says_that_nothing_was_requested_in_time_is_right(allowed: int) -> None:
    world = copied_world(latency=8)
    connection = connection_to(world, rate_limits=[(allowed, 60), (5000, 3600)])
    plan = await plan_for(connection)
    creation = Creation(plan, connection, RESTORE)
    await creation.run(20)
    rows = created_rows(plan, creation.created, waited=True)
    assert {row.outcome for row in rows} == {TIMED_OUT}
    assert 0 < len(world.record.created) < 4
    unrequested = {row.name for row in rows if "before it was requested" in row.error}
    assert unrequested == {step.request.name for step in plan.to_create if step.request} - {
        record.name for record in world.record.created
    }
    assert sorted(outcomes(await restore(connection_to(world)))) == sorted(
        [ALREADY] * (4 - len(unrequested)) + [RESTORED] * len(unrequested)
    )
    assert created_exactly_once(world)


async def test_the_time_of_a_request_does_not_include_the_wait_for_the_rate_limit() -> None:
    world = copied_world()
    connection = connection_to(world, rate_limits=[(8, 60), (5000, 3600)])
    plan = await plan_for(connection)
    creation = Creation(plan, connection, RESTORE)
    await creation.run(LONG_ENOUGH)
    arrived = {record.droplet_id: record.at - EPOCH for record in world.record.created}
    assert max(arrived.values()) - min(arrived.values()) > 50
    for created in creation.created.values():
        assert created.droplet
        assert created.requested_at == pytest.approx(arrived[created.droplet.id], abs=1)


@pytest.mark.parametrize("faults", [[], [created_faults(FaultKind.DROP_AFTER)]])
async def test_a_gpu_droplet_is_found_although_it_is_not_listed_by_tag(faults: list[Fault]) -> None:
    world = World(droplets=10)
    trainer = next(each for each in world.account.droplets.values() if each.size.gpu_model)
    connection = connection_to(world)
    plan = await plan_for(connection, region=trainer.region, droplet_ids=[trainer.id])
    world.faults.add(*faults)
    assert outcomes(await carry_out(connection, plan)) == [RESTORED]
    assert created_exactly_once(world, 1)
    assert new_droplets(world)[0].size == trainer.size


@pytest.mark.parametrize("seconds", [0.05, 0.15, 0.2, 0.3, 1, 26, 70])
async def test_a_run_that_was_killed_is_finished_by_the_next_one(seconds: float) -> None:
    world = copied_world()
    connection = connection_to(world)
    plan = await plan_for(connection)
    killed = asyncio.create_task(carry_out(connection, plan))
    await asyncio.sleep(seconds)
    await die(connection, killed)
    rows = await restore(connection_to(world))
    assert set(outcomes(rows)) <= {RESTORED, ALREADY}
    assert created_exactly_once(world)


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_fails_nothing_is_created_twice_and_later_runs_finish(seed: int) -> None:
    world = copied_world()
    connection = connection_to(world)
    plan = await plan_for(connection)
    world.faults.at_random(0.3, seed=seed, seconds=20)
    await carry_out(connection, plan, seconds=60 * MINUTE)
    world.faults.clear()
    for droplet in new_droplets(world):
        # Those that would never be.
        if droplet.actions[0].status == "in-progress":
            droplet.status, droplet.actions[0].status = "active", "completed"
    for _ in range(2):
        # One may have failed already, and the first run only destroys it.
        rows = await restore(connection_to(world))
    assert set(outcomes(rows)) <= {RESTORED, ALREADY}
    assert world.record.created_twice() == world.record.originals_destroyed() == []
    assert len(new_droplets(world)) == 4
