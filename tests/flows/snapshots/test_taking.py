"""Taking snapshots exactly once: whatever goes wrong, whoever else works on the Droplets, and however the run ends."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest

from deployments.sandbox import Action, Behavior, ConnectionDropped, Droplet, Fault, FaultKind
from deployments.sandbox.faults import IMAGE_FAULTS, LIST_FAULTS
from flows.reporting.report import Outcome
from flows.snapshots.planning import run_time_of
from tests.flows.replication.executions import connection_to, die, taking_for
from tests.flows.snapshots.runs import (
    POSTING,
    carry_out,
    every,
    finish_endless,
    once_each,
    outcomes,
    own,
    own_by_droplet,
    posts,
    take,
)
from tests.tasks.digitalocean.in_process import World

HOUR = 3600.0
TAG = "prefect:replicated"
# How the API behaves where it is not documented: as usual, or without the account's feed, or late everywhere.
BEHAVIORS = {
    "usual": Behavior(),
    "without the feed": Behavior(out_of_scope=frozenset({"/v2/actions"})),
    "late": Behavior(lag_seconds=60, feed_lag_seconds=20),
}
# An action that never ends is only ended by the time limit.
PASSING = [kind for kind in IMAGE_FAULTS if kind != FaultKind.ACTION_ENDLESS and kind not in LIST_FAULTS]
# Refusals of all Droplets show that the token lacks the scope.
OF_POSTS = [kind for kind in PASSING if kind != FaultKind.FORBIDDEN]


def some(world: World) -> Droplet:
    return next(iter(world.account.droplets.values()))


def tags(world: World) -> list[list[str]]:
    return [image.tags for image in own(world)]


async def test_each_droplet_gets_one_snapshot_with_its_name_and_the_time_of_the_run_and_the_tag() -> None:
    world = World()
    rows = await take(world)
    assert outcomes(rows) == every(world, Outcome.TAKEN)
    assert own_by_droplet(world) == once_each(world)
    assert {image.droplet_id: image.id for image in own(world)} == {each: row.image_id for each, row in rows.items()}
    (run_time,) = {run_time_of(image.name) for image in own(world)}
    assert run_time
    for image in own(world):
        droplet = world.account.droplets[image.droplet_id or 0]
        assert image.name == f"{droplet.name} prefect {run_time:%Y-%m-%dT%H:%M:%SZ}"
        assert rows[droplet.id].size_gigabytes == image.size_gigabytes
    assert tags(world) == [[TAG]] * len(rows)


@pytest.mark.parametrize("behavior", BEHAVIORS)
async def test_every_snapshot_is_taken_once_however_the_api_behaves(behavior: str) -> None:
    world = World(behavior=BEHAVIORS[behavior])
    assert outcomes(await take(world)) == every(world, Outcome.TAKEN)
    assert own_by_droplet(world) == once_each(world)


# Faults


@pytest.mark.parametrize("behavior", BEHAVIORS)
@pytest.mark.parametrize("kind", OF_POSTS)
async def test_a_fault_of_each_start_costs_no_snapshot_and_makes_no_second_one(kind: FaultKind, behavior: str) -> None:
    world = World(droplets=3, behavior=BEHAVIORS[behavior])
    for droplet_id in world.account.droplets:
        # A missing status would be no error.
        world.faults.add(Fault(kind, "POST", f"/droplets/{droplet_id}/actions", seconds=60, field="action"))
    assert outcomes(await take(world)) == every(world, Outcome.TAKEN)
    assert own_by_droplet(world) == once_each(world)
    assert tags(world) == [[TAG]] * len(world.account.droplets)


@pytest.mark.parametrize("path", [r"^/v2/snapshots$", r"^/v2/actions$", r"^/v2/droplets/\d+(/.*)?$", r"^/v2/tags"])
@pytest.mark.parametrize("kind", [*PASSING, *sorted(LIST_FAULTS)])
async def test_faults_of_what_is_read_while_snapshots_are_taken_do_no_harm(kind: FaultKind, path: str) -> None:
    world = World(droplets=3)
    taking = await taking_for(connection_to(world))
    # Each start is in doubt, so that the Droplet's actions and snapshots are read too.
    world.faults.add(Fault(FaultKind.DROP_AFTER, "POST", POSTING, times=3))
    method = None if "tags" in path else "GET"
    world.faults.add(Fault(kind, method, path, times=2, seconds=60, field="action"))
    rows = await carry_out(taking)
    assert own_by_droplet(world) == once_each(world)
    # A start that is still in doubt is for the next run to find out about.
    assert all(row.outcome == Outcome.TAKEN or "POST" in row.error for row in rows.values())
    if any(row.outcome == Outcome.FAILED for row in rows.values()):
        world.faults.clear()
        again = await take(world, finished_runs={taking.plan.run_time: False})
        assert not [row for row in again.values() if row.outcome == Outcome.FAILED]
        assert own_by_droplet(world) == once_each(world)


@pytest.mark.parametrize("kind", [FaultKind.ERROR_BEFORE, FaultKind.ODD_STATUS, FaultKind.ODD_STATUS_AFTER])
async def test_a_408_is_looked_into_before_the_start_is_repeated(kind: FaultKind) -> None:
    world = World(droplets=2)
    world.faults.add(Fault(kind, "POST", POSTING, times=2, status=408))
    assert outcomes(await take(world)) == every(world, Outcome.TAKEN)
    assert own_by_droplet(world) == once_each(world)


async def test_a_lost_response_to_a_start_that_no_list_shows_makes_no_second_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(droplets=2)
    droplet = some(world)
    world.faults.add(Fault(FaultKind.ACTION_UNLISTED, "POST", f"/{droplet.id}/actions"))
    carried_out = world.account.take_snapshot

    def lose_the_response(to: Droplet, *others: Any) -> Action:
        action = carried_out(to, *others)
        if not action.fate.listed:
            raise ConnectionDropped
        return action

    monkeypatch.setattr(world.account, "take_snapshot", lose_the_response)
    rows = await take(world)
    assert outcomes(rows) == every(world, Outcome.TAKEN)
    assert own_by_droplet(world) == once_each(world)


async def test_an_errored_snapshot_is_taken_again_as_often_as_allowed_and_the_others_are_not_affected() -> None:
    world = World(droplets=3)
    bad = some(world)
    world.faults.add(Fault(FaultKind.ACTION_ERRORED, "POST", f"/{bad.id}/actions", times=None))
    rows = await take(world)
    assert outcomes(rows) == every(world, Outcome.TAKEN) | {bad.id: Outcome.FAILED}
    assert rows[bad.id].error == "no snapshot of this run after 3 attempts"
    assert posts(world).count(f"/v2/droplets/{bad.id}/actions") == 3


async def test_a_403_for_one_droplet_that_passes_costs_nothing() -> None:
    world = World(droplets=4)
    world.faults.add(Fault(FaultKind.FORBIDDEN, "POST", f"/{some(world).id}/actions", times=2))
    assert outcomes(await take(world)) == every(world, Outcome.TAKEN)
    assert own_by_droplet(world) == once_each(world)


async def test_a_403_for_one_droplet_for_ever_fails_only_that_one() -> None:
    world = World(droplets=4)
    bad = some(world)
    world.faults.add(Fault(FaultKind.FORBIDDEN, "POST", f"/{bad.id}/actions", times=None))
    rows = await take(world)
    assert outcomes(rows) == every(world, Outcome.TAKEN) | {bad.id: Outcome.FAILED}
    assert "droplet:update" in rows[bad.id].error


async def test_a_token_that_may_not_start_snapshots_is_noticed_after_few_requests() -> None:
    world = World(droplets=20, behavior=Behavior(out_of_scope=frozenset({("POST", "/v2/droplets/*/actions")})))
    rows = await take(world)
    assert outcomes(rows) == every(world, Outcome.FAILED)
    assert all("needs the scope droplet:update" in row.error for row in rows.values())
    assert len(posts(world)) <= 20 + 3


async def test_after_a_401_every_droplet_is_accounted_for() -> None:
    world = World(droplets=3)
    connection = connection_to(world)
    taking = await taking_for(connection)
    connection.revoke_token()
    rows = await carry_out(taking)
    assert outcomes(rows) == every(world, Outcome.FAILED)
    assert all("DIGITALOCEAN_TOKEN" in row.error for row in rows.values())


async def test_a_refusal_is_quoted_and_final() -> None:
    world = World(droplets=2)
    droplet = some(world)
    droplet.status = "new"
    rows = await take(world)
    assert outcomes(rows) == every(world, Outcome.TAKEN) | {droplet.id: Outcome.FAILED}
    assert "Droplet is not active." in rows[droplet.id].error
    assert posts(world).count(f"/v2/droplets/{droplet.id}/actions") == 1


# Other people, and other actions


async def test_a_pending_action_is_awaited_while_the_others_go_on() -> None:
    world = World(droplets=3)
    busy = some(world)
    world.account.keep_busy(busy, world.clock.unix(), 2 * HOUR)
    rows = await take(world)
    assert outcomes(rows) == every(world, Outcome.TAKEN)
    others = [row.seconds or 0 for droplet_id, row in rows.items() if droplet_id != busy.id]
    assert max(others) < 2 * HOUR < (rows[busy.id].seconds or 0)


async def test_a_pending_event_that_no_list_shows_is_waited_for() -> None:
    world = World(droplets=2)
    busy = some(world)
    action = world.account.keep_busy(busy, world.clock.unix(), HOUR)
    busy.actions.remove(action)
    refusing = Fault(
        FaultKind.ODD_STATUS,
        "POST",
        f"/{busy.id}/actions",
        times=6,
        status=422,
        message="Droplet already has a pending event.",
    )
    world.faults.add(refusing)
    assert outcomes(await take(world)) == every(world, Outcome.TAKEN)
    assert own_by_droplet(world) == once_each(world)


@pytest.mark.parametrize("listed", [True, False])
async def test_a_droplet_that_is_busy_for_ever_does_not_outlive_the_time_limit(listed: bool) -> None:
    world = World(droplets=2)
    busy = some(world)
    if listed:
        world.account.keep_busy(busy, world.clock.unix(), 30 * 24 * HOUR)
    message = "Droplet already has a pending event."
    world.faults.add(
        Fault(FaultKind.ODD_STATUS, "POST", f"/{busy.id}/actions", times=None, status=422, message=message)
    )
    rows = await take(world, seconds=4 * HOUR)
    assert world.clock.monotonic() < 4 * HOUR + 60
    assert outcomes(rows) == every(world, Outcome.TAKEN) | {busy.id: Outcome.TIMED_OUT}
    assert rows[busy.id].error == "not started: the next run starts it"
    # What was found is tagged all the same.
    assert tags(world) == [[TAG]]
    assert len(posts(world)) < 200


@pytest.mark.parametrize("restarts", [0, 2])
async def test_someone_elses_snapshot_in_progress_is_awaited_and_neither_adopted_nor_tagged(restarts: int) -> None:
    world = World(droplets=2)
    droplet = some(world)
    foreign = world.account.take_snapshot(droplet, "before the upgrade", world.clock.unix()).snapshot
    rows = await take(world, connection=connection_to(world, action_restart_max=restarts))
    assert outcomes(rows) == every(world, Outcome.TAKEN)
    assert own_by_droplet(world) == once_each(world)
    assert foreign
    assert foreign.tags == []
    assert rows[droplet.id].image_id != foreign.id


@pytest.mark.parametrize("kind", [None, FaultKind.DROP_BEFORE, FaultKind.DROP_AFTER])
async def test_someone_elses_snapshot_that_begins_after_planning_is_not_mistaken_for_ours(
    kind: FaultKind | None,
) -> None:
    world = World(droplets=2)
    droplet = some(world)
    taking = await taking_for(connection_to(world))
    foreign = world.account.take_snapshot(droplet, "by hand", world.clock.unix()).snapshot
    if kind:
        world.faults.add(Fault(kind, "POST", f"/{droplet.id}/actions"))
    rows = await carry_out(taking)
    assert outcomes(rows) == every(world, Outcome.TAKEN)
    assert own_by_droplet(world) == once_each(world)
    assert foreign
    assert foreign.tags == []


async def test_a_snapshot_that_was_deleted_just_after_it_was_taken_is_taken_again() -> None:
    world = World(droplets=2)
    await take(world)
    for image in own(world):
        world.account.delete_image(image)
    rows = await take(world)
    assert outcomes(rows) == every(world, Outcome.TAKEN)
    assert len(own(world)) == 2


@pytest.mark.parametrize("after", [0.0, 30.0])
async def test_a_droplet_destroyed_meanwhile_is_the_only_failure(after: float) -> None:
    world = World(droplets=3)
    gone = some(world)
    world.faults.add(Fault(FaultKind.ACTION_ENDLESS, "POST", f"/{gone.id}/actions"))
    taking = await taking_for(connection_to(world))
    running = asyncio.create_task(carry_out(taking))
    await asyncio.sleep(after)
    world.account.delete_droplet(gone)
    rows = await running
    assert outcomes(rows) == every(world, Outcome.TAKEN) | {gone.id: Outcome.FAILED}
    assert "was deleted during the run" in rows[gone.id].error


async def test_the_snapshot_of_a_droplet_destroyed_right_after_it_was_taken_is_found_and_tagged() -> None:
    world = World(droplets=3, behavior=Behavior(out_of_scope=frozenset({"/v2/actions"})))
    running = asyncio.create_task(take(world))
    while not own(world):
        await asyncio.sleep(1)
        world.account.advance(world.clock.unix())
    (image,) = own(world)
    droplet = world.account.droplets[image.droplet_id or 0]
    world.account.delete_droplet(droplet)
    rows = await running
    assert (rows[droplet.id].outcome, rows[droplet.id].image_id) == (Outcome.TAKEN, image.id)
    assert image.tags == [TAG]


async def test_one_destroyed_droplet_does_not_keep_others_from_being_found_in_a_large_account() -> None:
    world = World(droplets=2)
    add_foreign_snapshots(world, 700)
    bad = some(world)
    running = asyncio.create_task(take(world))
    while not own(world):
        await asyncio.sleep(1)
        world.account.advance(world.clock.unix())
    world.account.delete_droplet(bad)
    rows = await running
    assert [row.outcome for each, row in rows.items() if each != bad.id] == [Outcome.TAKEN]


def add_foreign_snapshots(world: World, number: int) -> None:
    """Give the account so many other snapshots that a list of all takes several requests."""
    model = world.images("backup")[0]
    for _ in range(number):
        made = replace(model, id=max(world.account.images) + 1, type="snapshot", name="by hand", tags=[], actions=[])
        world.account.images[made.id] = replace(made, droplet_id=10**9)


# Lists


@pytest.mark.parametrize("lag_seconds", [0.0, 60.0, 200.0])
async def test_a_list_that_shows_snapshots_late_is_read_again(lag_seconds: float) -> None:
    world = World(behavior=Behavior(lag_seconds=lag_seconds))
    assert outcomes(await take(world)) == every(world, Outcome.TAKEN)
    assert own_by_droplet(world) == once_each(world)


async def test_a_snapshot_that_is_never_listed_fails_its_row_and_the_next_run_finds_it() -> None:
    world = World(droplets=2, behavior=Behavior(lag_seconds=2 * HOUR))
    taking = await taking_for(connection_to(world))
    rows = await carry_out(taking)
    assert outcomes(rows) == every(world, Outcome.FAILED)
    assert all("the action completed, but the API lists no snapshot named" in row.error for row in rows.values())
    assert world.clock.monotonic() < 2 * HOUR
    await asyncio.sleep(3 * HOUR)
    again = await take(world, finished_runs={taking.plan.run_time: False})
    assert outcomes(again) == every(world, Outcome.ALREADY_THERE)
    assert own_by_droplet(world) == once_each(world)
    assert tags(world) == [[TAG]] * 2


async def test_an_outage_while_snapshots_are_looked_for_is_outlasted() -> None:
    world = World(droplets=2)
    world.faults.add(Fault(FaultKind.UNAVAILABLE_HTML, "GET", "^/v2/snapshots", times=20, skip=1))
    assert outcomes(await take(world)) == every(world, Outcome.TAKEN)


async def test_an_error_that_nobody_expects_fails_the_rows_instead_of_hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(droplets=2)
    taking = await taking_for(connection_to(world))

    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr("flows.snapshots.finding.list_snapshots.run", broken)
    rows = await carry_out(taking)
    assert outcomes(rows) == every(world, Outcome.FAILED)
    assert {row.error for row in rows.values()} == {"unexpected ZeroDivisionError: odd"}


# The time limit, and how many requests


async def test_what_is_not_done_in_time_is_in_progress_and_the_next_run_adopts_it() -> None:
    world = World(droplets=3)
    endless = some(world)
    world.faults.add(Fault(FaultKind.ACTION_ENDLESS, "POST", f"/{endless.id}/actions"))
    first = await taking_for(connection_to(world))
    rows = await carry_out(first, HOUR * 3)
    assert outcomes(rows) == every(world, Outcome.TAKEN) | {endless.id: Outcome.TIMED_OUT}
    assert rows[endless.id].error == "still in progress: the next run adopts it"
    assert rows[endless.id].action_id
    running = asyncio.create_task(take(world, finished_runs={first.plan.run_time: False}))
    await asyncio.sleep(300)
    finish_endless(world)
    again = await running
    assert outcomes(again) == every(world, Outcome.ALREADY_THERE) | {endless.id: Outcome.TAKEN}
    assert own_by_droplet(world) == once_each(world)
    assert tags(world) == [[TAG]] * 3


async def test_a_run_that_does_not_wait_starts_the_snapshots_and_the_next_one_tags_them() -> None:
    world = World(droplets=3)
    first = await taking_for(connection_to(world), wait=False)
    rows = await carry_out(first)
    assert outcomes(rows) == every(world, Outcome.STARTED)
    assert world.clock.monotonic() < 60
    assert own(world) == []
    await asyncio.sleep(2 * HOUR)
    second = await take(world, finished_runs={first.plan.run_time: True})
    assert outcomes(second) == every(world, Outcome.TAKEN)
    assert tags(world) == [[TAG]] * 6


@pytest.mark.parametrize(("droplets", "most"), [(20, 45), (200, 340)])
async def test_taking_costs_about_one_request_per_snapshot_and_few_polls(droplets: int, most: int) -> None:
    world = World(droplets=droplets)
    rows = await take(world)
    assert set(outcomes(rows).values()) == {Outcome.TAKEN}
    assert len(posts(world)) == len(rows)
    assert len(world.record.requests) <= most


async def test_a_failure_to_tag_that_passes_is_outlasted() -> None:
    world = World(droplets=2)
    world.faults.add(Fault(FaultKind.ODD_STATUS, "POST", "/v2/tags/", times=2, status=422))
    assert outcomes(await take(world)) == every(world, Outcome.TAKEN)
    assert tags(world) == [[TAG]] * 2


async def test_a_failure_to_tag_that_lasts_is_logged_and_the_next_run_tags(caplog: pytest.LogCaptureFixture) -> None:
    world = World(droplets=2)
    world.faults.add(Fault(FaultKind.ODD_STATUS, "POST", "/v2/tags/", times=None, status=422))
    with caplog.at_level(logging.ERROR):
        assert outcomes(await take(world)) == every(world, Outcome.TAKEN)
    assert "the next run tags them" in caplog.text
    world.faults.clear()
    assert outcomes(await take(world, max_age_hours=24)) == every(world, Outcome.ALREADY_THERE)
    assert tags(world) == [[TAG]] * 2


# Runs that are cut short


async def requests_of_a_run(behavior: Behavior) -> range:
    """The requests that a run sends once it has a plan."""
    world = World(droplets=2, behavior=behavior)
    taking = await taking_for(connection_to(world))
    first = len(world.record.requests)
    await carry_out(taking)
    return range(first, len(world.record.requests))


@pytest.mark.parametrize("known", ["to Prefect", "to nobody"])
@pytest.mark.parametrize("behavior", BEHAVIORS)
@pytest.mark.parametrize("ending", ["cancelled", "killed"])
async def test_a_run_cut_short_at_any_request_is_finished_by_the_next_with_one_snapshot_per_droplet(
    behavior: str, ending: str, known: str
) -> None:
    for number in await requests_of_a_run(BEHAVIORS[behavior]):
        world = World(droplets=2, behavior=BEHAVIORS[behavior])
        connection = connection_to(world)
        taking = await taking_for(connection)
        running = asyncio.create_task(carry_out(taking))
        while len(world.record.requests) <= number and not running.done():  # noqa: ASYNC110  # virtual time
            await asyncio.sleep(0.2)
        if running.done():
            break
        if ending == "killed":
            await die(connection, running)
        else:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        await asyncio.sleep(60)
        finished = {taking.plan.run_time: False} if known == "to Prefect" else {}
        if known == "to nobody" and [TAG] in tags(world):
            continue  # without Prefect, an untagged snapshot shows that a run has not completed
        rows = await take(world, finished_runs=finished)
        assert not [row for row in rows.values() if row.error]
        assert own_by_droplet(world) == once_each(world), number
        assert tags(world) == [[TAG]] * 2
