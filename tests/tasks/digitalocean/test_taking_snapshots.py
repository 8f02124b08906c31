"""Taking a snapshot of a Droplet exactly once, however unclear the response, and waiting for actions on Droplets."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from deployments.sandbox import Behavior, Droplet, Fault, FaultKind
from tasks.account_actions import list_snapshot_actions_on
from tasks.digitalocean import (
    ActedOn,
    APIError,
    Forbidden,
    InvalidArgument,
    NotFound,
    TakeSnapshot,
    UnprocessableEntity,
)
from tasks.digitalocean.idempotency import StartedSnapshot, find_started_snapshot, take_snapshot_once
from tests.flows.replication.executions import connection_to
from tests.tasks.digitalocean.in_process import World
from tests.tasks.digitalocean.test_idempotency import CARRIED_OUT, NOT_CARRIED_OUT, REFUSED, methods

REQUEST = TakeSnapshot(name="web prefect 2026-09-22T12:00:00Z")
HOUR = 3600.0


def some(world: World) -> Droplet:
    return next(iter(world.account.droplets.values()))


async def take(world: World) -> StartedSnapshot:
    return await take_snapshot_once(world.client, some(world).id, REQUEST)


def started(world: World) -> list[int]:
    return [action.id for action in world.record.actions]


def names(world: World) -> list[str]:
    return [action.snapshot.name for action in world.record.actions if action.snapshot]


async def refusal(world: World, *faults: Fault) -> APIError:
    world.faults.add(*faults)
    with pytest.raises(APIError) as caught:
        await take(world)
    assert caught.value.method == "POST"
    return caught.value


async def test_a_clear_response_costs_one_request_and_the_action_is_certain() -> None:
    world = World()
    found = await take(world)
    assert found.action
    assert ([found.action.id], found.found) == (started(world), False)
    assert methods(world) == ["POST"]
    assert names(world) == [REQUEST.name]


@pytest.mark.parametrize("kind", CARRIED_OUT)
async def test_a_snapshot_that_was_started_despite_an_error_is_found(kind: FaultKind) -> None:
    world = World()
    world.faults.add(Fault(kind, method="POST", field="action"))
    found = await take(world)
    assert found.action
    assert ([found.action.id], found.found) == (started(world), True)
    assert methods(world) == ["POST", "GET"]


@pytest.mark.parametrize("kind", NOT_CARRIED_OUT)
async def test_a_request_that_was_not_carried_out_may_be_repeated(kind: FaultKind) -> None:
    world = World()
    error = await refusal(world, Fault(kind, method="POST"))
    assert (error.repeatable, error.ambiguous) == (True, False)
    # The Droplet's actions, and its snapshots.
    assert methods(world) == ["POST", "GET", "GET"]
    assert started(world) == []


@pytest.mark.parametrize("kind", REFUSED)
async def test_a_request_that_was_refused_for_now_may_be_repeated_without_a_check(kind: FaultKind) -> None:
    world = World()
    assert (await refusal(world, Fault(kind, method="POST"))).repeatable
    assert methods(world) == ["POST"]


@pytest.mark.parametrize("list_of", ["actions", "snapshots"])
async def test_a_request_with_an_unclear_outcome_may_not_be_repeated(list_of: str) -> None:
    world = World(http_retry_max=2)
    error = await refusal(
        world,
        Fault(FaultKind.DROP_BEFORE, method="POST"),
        Fault(FaultKind.UNAVAILABLE_HTML, "GET", f"/{list_of}$", times=None),
    )
    assert (error.repeatable, error.ambiguous) == (False, True)


async def test_a_refusal_because_of_a_pending_event_is_clear() -> None:
    world = World()
    world.account.keep_busy(some(world), world.clock.unix(), HOUR)
    error = await refusal(world)
    assert isinstance(error, UnprocessableEntity)
    assert not error.ambiguous
    assert "pending event" in error.message
    assert methods(world) == ["POST"]


async def test_a_missing_droplet_and_an_invalid_id_are_told_apart() -> None:
    world = World()
    with pytest.raises(NotFound):
        await take_snapshot_once(world.client, 4711, REQUEST)
    with pytest.raises(InvalidArgument, match="0 is not a valid Droplet ID"):
        await take_snapshot_once(world.client, 0, REQUEST)


async def test_a_403_needs_the_scope_to_update_droplets() -> None:
    world = World(behavior=Behavior(out_of_scope=frozenset({("POST", "/v2/droplets/*/actions")})))
    error = await refusal(world)
    assert isinstance(error, Forbidden)
    assert error.scope == "droplet:update"


async def test_a_listed_snapshot_of_the_name_is_found_without_its_action() -> None:
    world = World()
    await take(world)
    await asyncio.sleep(HOUR)
    found = await find_started_snapshot(world.client, some(world).id, REQUEST, world.client.server_clock.now())
    assert found == StartedSnapshot(None)


async def test_a_completed_action_whose_snapshot_is_not_listed_yet_is_found() -> None:
    world = World(behavior=Behavior(lag_seconds=2 * HOUR))
    since = world.client.server_clock.now()
    first = await take(world)
    await asyncio.sleep(HOUR)
    found = await find_started_snapshot(world.client, some(world).id, REQUEST, since)
    assert found
    assert found.found
    assert found.action
    assert first.action
    assert (found.action.id, found.action.completed) == (first.action.id, True)


@pytest.mark.parametrize("outcome", ["errored", "earlier", "of another name"])
async def test_other_snapshots_are_not_mistaken_for_it(outcome: str) -> None:
    world = World()
    if outcome == "errored":
        world.faults.add(Fault(FaultKind.ACTION_ERRORED))
        await take(world)
    else:
        world.account.take_snapshot(some(world), "by hand", world.clock.unix())
    await asyncio.sleep(HOUR)
    since = world.client.server_clock.now()
    if outcome == "errored":
        since -= timedelta(hours=2)
    assert await find_started_snapshot(world.client, some(world).id, REQUEST, since) is None


# The poller, with actions on Droplets


@pytest.mark.parametrize("hidden", [frozenset(), frozenset({"/v2/actions"})])
async def test_actions_on_several_droplets_are_awaited_with_or_without_the_feed(hidden: frozenset[str]) -> None:
    world = World(behavior=Behavior(out_of_scope=hidden))
    droplets = list(world.account.droplets.values())
    actions = [await world.client.take_snapshot(each.id, REQUEST) for each in droplets]
    waits = [
        world.poller.wait(ActedOn("droplet", each.id), action) for each, action in zip(droplets, actions, strict=True)
    ]
    ended = await asyncio.gather(*waits)
    assert [each.id for each in ended] == [each.id for each in actions]
    assert all(each.completed for each in ended)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(FaultKind.ACTION_UNLISTED, "POST"),
        Fault(FaultKind.NOT_FOUND, "GET", r"/droplets/\d+/actions", times=3),
        Fault(FaultKind.NOT_FOUND, "GET", r"/droplets/\d+$", times=3),
    ],
)
async def test_an_action_that_is_hard_to_find_is_awaited_all_the_same(fault: Fault) -> None:
    world = World(behavior=Behavior(feed_lag_seconds=30))
    world.faults.add(fault)
    action = await world.client.take_snapshot(some(world).id, REQUEST)
    ended = await world.poller.wait(ActedOn("droplet", some(world).id), action)
    assert ended.completed


async def test_the_end_of_the_droplet_ends_the_wait() -> None:
    world = World(behavior=Behavior(out_of_scope=frozenset({"/v2/actions"})))
    world.faults.add(Fault(FaultKind.ACTION_ENDLESS, "POST"))
    droplet = some(world)
    action = await world.client.take_snapshot(droplet.id, REQUEST)
    waiting = asyncio.create_task(world.poller.wait(ActedOn("droplet", droplet.id), action))
    await asyncio.sleep(60)
    world.account.delete_droplet(droplet)
    with pytest.raises(NotFound):
        await waiting


# What is in progress


@pytest.mark.parametrize("hidden", [frozenset(), frozenset({"/v2/actions"})])
async def test_only_snapshot_actions_of_the_droplets_are_listed(hidden: frozenset[str]) -> None:
    world = World(behavior=Behavior(out_of_scope=hidden))
    first, second, third, *_ = world.account.droplets.values()
    now = world.clock.unix()
    mine = world.account.take_snapshot(first, "by hand", now)
    world.account.keep_busy(second, now, HOUR)
    world.account.take_snapshot(third, "by hand", now)
    since = world.client.server_clock.now() - timedelta(hours=6)
    known = await list_snapshot_actions_on.directly([first.id, second.id], since, credentials=connection_to(world))
    in_progress = [(each.id, each.resource_id) for each in known.actions if each.in_progress]
    assert in_progress == [(mine.id, first.id)]
    assert known.unread == {}


async def test_droplets_whose_actions_cannot_be_read_are_named_and_missing_ones_are_not() -> None:
    world = World(behavior=Behavior(out_of_scope=frozenset({"/v2/actions"})))
    first, *_ = world.account.droplets.values()
    world.faults.add(Fault(FaultKind.UNAVAILABLE_HTML, "GET", f"/droplets/{first.id}/actions", times=None))
    since = world.client.server_clock.now()
    connection = connection_to(world, http_retry_max=1)
    known = await list_snapshot_actions_on.directly([first.id, 4711], since, credentials=connection)
    assert list(known.unread) == [first.id]
    assert "its actions cannot be read" in known.unread[first.id]


async def test_without_droplets_nothing_is_read() -> None:
    world = World()
    known = await list_snapshot_actions_on.directly(
        [], world.client.server_clock.now(), credentials=connection_to(world)
    )
    assert (known.actions, world.record.requests) == ([], [])
