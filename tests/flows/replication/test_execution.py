"""Carrying out a plan: what goes first, what waits, what is retried, and what is reported about the rest."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from deployments.sandbox import Behavior, Fault, FaultKind, Image, Limits
from flows.replication.execution import Execution
from flows.reporting.report import Outcome
from tasks.digitalocean.settings import Settings
from tests.flows.replication.executions import (
    LONGEST_SECONDS,
    candidate,
    carry_out,
    connection_to,
    outcomes,
    plan_for,
    posts,
    replicate,
)
from tests.tasks.digitalocean.in_process import World

# Regions that no Droplet of the default account is in.
REGIONS = ["ams3", "sgp1", "tor1"]


def sized(images: list[Image], *gigabytes: float) -> list[Image]:
    for image, size in zip(images, gigabytes, strict=False):
        image.size_gigabytes = size
    return images[: len(gigabytes)]


def ids(images: list[Image]) -> list[int]:
    return [image.id for image in images]


def every(outcome: Outcome, images: list[Image], regions: list[str] = REGIONS) -> dict[tuple[int, str], Outcome]:
    return {(image.id, region): outcome for image in images for region in regions}


async def test_the_target_regions_of_these_tests_have_no_backups_in_the_default_account() -> None:
    assert not {slug for image in World().images("backup") for slug in image.regions} & set(REGIONS)


async def test_an_image_is_copied_as_soon_as_it_is_converted_regardless_of_the_others() -> None:
    world = World()
    stuck, quick = sized(world.images("backup"), 30, 2)
    world.faults.add(Fault(FaultKind.ACTION_ENDLESS, "POST", f"/images/{stuck.id}/actions"))
    rows = await replicate(connection_to(world), ids([stuck, quick]), REGIONS, seconds=3600)
    assert outcomes(rows) == every(Outcome.TIMED_OUT, [stuck]) | every(Outcome.TRANSFERRED, [quick])
    assert all("not started" in rows[stuck.id, region].error for region in REGIONS)


async def test_conversions_start_before_transfers_and_the_largest_images_first() -> None:
    # So few requests a minute that each start has to wait for its turn.
    world = World(droplets=5, limits=Limits(6, 5000))
    backups = sized(world.images("backup"), 4, 9, 2)
    snapshots = sized(world.images("snapshot"), 3, 8)
    connection = connection_to(world, rate_limits=[(6, 60), (5000, 3600)])
    rows = await replicate(connection, ids(backups + snapshots), ["tor1"])
    assert set(outcomes(rows).values()) == {Outcome.TRANSFERRED}
    sizes = {image.id: image.size_gigabytes for image in backups + snapshots}
    conversions = [sizes[action.resource_id] for action in world.record.actions if action.type == "convert"]
    kinds = [action.type for action in world.record.actions]
    assert conversions == [9, 4, 2]
    assert kinds[:3] == ["convert"] * 3
    of_snapshots = [
        sizes[action.resource_id] for action in world.record.actions if action.resource_id in ids(snapshots)
    ]
    assert of_snapshots == [8, 3]


@pytest.mark.parametrize("restarts", [0, 2])
async def test_an_errored_transfer_is_restarted_as_often_as_allowed_and_then_reported(
    restarts: int,
) -> None:
    world = World()
    (image,) = sized(world.images("snapshot"), 2)
    world.faults.add(Fault(FaultKind.ACTION_ERRORED, times=restarts + 1))
    rows = await replicate(connection_to(world, action_restart_max=restarts), [image.id], ["tor1"])
    row = rows[image.id, "tor1"]
    assert row.outcome == Outcome.FAILED
    assert row.error == ("the action failed on all 3 attempts" if restarts else "the action failed")
    assert len(world.record.actions) == restarts + 1
    assert row.action_id == world.record.actions[-1].id


async def test_a_transfer_that_succeeds_on_the_last_attempt_is_a_normal_transfer() -> None:
    world = World()
    (image,) = sized(world.images("snapshot"), 2)
    world.faults.add(Fault(FaultKind.ACTION_ERRORED, times=Settings.model_fields["action_restart_max"].default))
    rows = await replicate(connection_to(world), [image.id], ["tor1"])
    assert outcomes(rows) == {(image.id, "tor1"): Outcome.TRANSFERRED}
    assert world.record.duplicate_transfers() == []


async def test_a_conversion_that_never_succeeds_fails_only_its_own_image() -> None:
    world = World()
    bad, good = sized(world.images("backup"), 2, 2)
    world.faults.add(Fault(FaultKind.ACTION_ERRORED, "POST", f"/images/{bad.id}/", times=None))
    rows = await replicate(connection_to(world), ids([bad, good]), REGIONS)
    assert outcomes(rows) == every(Outcome.FAILED, [bad]) | every(Outcome.TRANSFERRED, [good])
    assert all("not converted" in rows[bad.id, region].error for region in REGIONS)


@pytest.mark.parametrize("lock_seconds", [3.0, 60.0, 240.0])
async def test_an_image_that_stays_locked_after_its_conversion_is_awaited(lock_seconds: float) -> None:
    world = World(behavior=Behavior(lock_seconds=lock_seconds))
    (image,) = sized(world.images("backup"), 2)
    rows = await replicate(connection_to(world), [image.id], REGIONS)
    assert outcomes(rows) == every(Outcome.TRANSFERRED, [image])


async def test_a_permanent_refusal_is_reported_in_the_words_of_the_api_and_blocks_no_other_region() -> None:
    world = World()
    (image,) = sized(world.images("backup"), 2)
    copying = asyncio.create_task(replicate(connection_to(world), [image.id], [*REGIONS, "lon1"]))
    await asyncio.sleep(10)
    # The plan is made and the image being converted when the region stops taking images.
    assert [action.status for action in world.record.actions] == ["in-progress"]
    world.account.regions["lon1"] = replace(world.account.regions["lon1"], available=False)
    rows = await copying
    refused = rows.pop((image.id, "lon1"))
    assert refused.outcome == Outcome.FAILED
    assert "Region lon1 is not available for image transfers." in refused.error
    assert outcomes(rows) == every(Outcome.TRANSFERRED, [image])
    assert all(row.seconds is not None and row.seconds < 600 for row in rows.values())


async def test_after_a_401_nothing_more_is_sent_and_every_copy_is_accounted_for() -> None:
    # One request at a time, so that the first to be refused is the only one under way.
    world = World()
    images = sized(world.images("snapshot"), 2, 2)
    connection = connection_to(world, rate_limits=[(1, 10), (5000, 3600)])
    plan = await plan_for(connection, [await candidate(connection, image) for image in images], REGIONS)
    connection.revoke_token()
    before = len(world.record.requests)
    rows = await carry_out(connection, plan)
    assert outcomes(rows) == every(Outcome.FAILED, images)
    assert all("DIGITALOCEAN_TOKEN" in row.error for row in rows.values())
    assert [seen.status for seen in world.record.requests[before:]] == [401]
    assert world.record.actions == []


async def test_an_image_deleted_before_its_turn_is_the_only_failure() -> None:
    world = World()
    gone, there = sized(world.images("backup"), 2, 2)
    connection = connection_to(world)
    plan = await plan_for(connection, [await candidate(connection, image) for image in (gone, there)], REGIONS)
    world.account.delete_image(gone)
    rows = await carry_out(connection, plan)
    assert outcomes(rows) == every(Outcome.FAILED, [gone]) | every(Outcome.TRANSFERRED, [there])
    assert all("was deleted during the run" in rows[gone.id, region].error for region in REGIONS)


async def test_an_image_deleted_during_a_copy_fails_with_a_message_that_says_so() -> None:
    world = World()
    (gone,) = sized(world.images("snapshot"), 10)
    copying = asyncio.create_task(replicate(connection_to(world), [gone.id], REGIONS))
    await asyncio.sleep(60)
    assert len(world.record.actions) == len(REGIONS)
    world.account.delete_image(gone)
    rows = await copying
    assert outcomes(rows) == every(Outcome.FAILED, [gone])
    assert all("was deleted during the run" in row.error for row in rows.values())


async def test_a_copy_missing_at_the_timeout_says_whether_it_is_in_progress() -> None:
    # Two of three transfers can be started before time is up.
    world = World(limits=Limits(5, 5000))
    (image,) = sized(world.images("snapshot"), 30)
    connection = connection_to(world, rate_limits=[(5, 60), (5000, 3600)])
    rows = await replicate(connection, [image.id], REGIONS, seconds=30)
    assert outcomes(rows) == every(Outcome.TIMED_OUT, [image])
    under_way = {row.region: row.action_id for row in rows.values() if "still in progress" in row.error}
    assert under_way == {action.region: action.id for action in world.record.actions}
    assert len(under_way) == 2
    assert [row.action_id for row in rows.values() if row.error.startswith("not started")] == [None]


async def test_a_run_that_does_not_wait_says_what_it_has_started() -> None:
    world = World()
    (image,) = sized(world.images("backup"), 5)
    rows = await replicate(connection_to(world), [image.id], REGIONS, wait=False)
    assert outcomes(rows) == every(Outcome.STARTED, [image])
    transfers = {action.region: action.id for action in world.record.actions if action.type == "transfer"}
    assert {row.region: row.action_id for row in rows.values()} == transfers


async def test_transfers_in_progress_are_adopted_and_the_rest_are_started() -> None:
    world = World()
    (image,) = sized(world.images("snapshot"), 5)
    running = world.account.start(image, "transfer", "sgp1", world.clock.unix())
    rows = await replicate(connection_to(world), [image.id], REGIONS)
    assert outcomes(rows) == every(Outcome.TRANSFERRED, [image]) | {(image.id, "sgp1"): Outcome.ADOPTED}
    assert rows[image.id, "sgp1"].action_id == running.id
    assert len(posts(world)) == len(REGIONS) - 1


async def test_a_transfer_started_elsewhere_after_planning_is_adopted() -> None:
    world = World()
    (image,) = sized(world.images("snapshot"), 5)
    connection = connection_to(world)
    plan = await plan_for(connection, [await candidate(connection, image)], REGIONS)
    running = world.account.start(image, "transfer", "sgp1", world.clock.unix())
    rows = await carry_out(connection, plan)
    assert outcomes(rows) == every(Outcome.TRANSFERRED, [image]) | {(image.id, "sgp1"): Outcome.ADOPTED}
    assert rows[image.id, "sgp1"].action_id == running.id


async def test_an_image_that_reaches_a_region_after_planning_is_already_there() -> None:
    world = World()
    (image,) = sized(world.images("snapshot"), 5)
    connection = connection_to(world)
    plan = await plan_for(connection, [await candidate(connection, image)], REGIONS)
    image.regions["sgp1"] = world.clock.unix()
    rows = await carry_out(connection, plan)
    assert outcomes(rows) == every(Outcome.TRANSFERRED, [image]) | {(image.id, "sgp1"): Outcome.ALREADY_THERE}


async def test_a_conversion_started_elsewhere_after_planning_is_awaited() -> None:
    world = World()
    (image,) = sized(world.images("backup"), 5)
    connection = connection_to(world)
    plan = await plan_for(connection, [await candidate(connection, image)], REGIONS)
    world.account.start(image, "convert", next(iter(image.regions)), world.clock.unix())
    rows = await carry_out(connection, plan)
    assert outcomes(rows) == every(Outcome.TRANSFERRED, [image])
    assert [action.type for action in world.record.actions].count("convert") == 1


@pytest.mark.parametrize("lag_seconds", [0.0, 60.0, 600.0])
async def test_a_second_execution_starts_nothing_even_if_images_lag_behind(lag_seconds: float) -> None:
    world = World(behavior=Behavior(lag_seconds=lag_seconds, duplicate_transfers="accept"))
    images = sized(world.images("backup"), 2, 3)
    await replicate(connection_to(world), ids(images), REGIONS)
    before = len(posts(world))
    assert before == len(images) * (1 + len(REGIONS))
    again = await replicate(connection_to(world), ids(images), REGIONS)
    assert outcomes(again) == every(Outcome.ALREADY_THERE, images)
    assert len(posts(world)) == before


async def test_the_final_progress_accounts_for_every_copy() -> None:
    world = World()
    images = sized(world.images("backup"), 2, 3)
    connection = connection_to(world)
    execution = Execution(
        await plan_for(connection, [await candidate(connection, image) for image in images], REGIONS),
        connection,
        wait=True,
    )
    await execution.run(LONGEST_SECONDS)
    progress = execution.progress
    assert (progress.total, progress.done) == (len(images) * len(REGIONS), len(images) * len(REGIONS))
    assert (progress.running, progress.unstarted, progress.conversions_left) == (0, 0, 0)


@pytest.mark.parametrize("lag_seconds", [0.0, 60.0])
async def test_an_image_taggable_only_as_a_snapshot_is_tagged_once_the_api_shows_it_as_one(
    lag_seconds: float,
) -> None:
    world = World(behavior=Behavior(taggable_backups=False, lag_seconds=lag_seconds))
    (backup,) = sized(world.images("backup"), 9)
    connection = connection_to(world)
    rows = await replicate(connection, [backup.id], REGIONS)
    assert outcomes(rows) == every(Outcome.TRANSFERRED, [backup])
    assert backup.tags == [connection.settings.managed_tag]


async def test_while_an_image_is_locked_after_its_conversion_only_one_of_its_transfers_is_refused() -> None:
    world = World(behavior=Behavior(lock_seconds=120))
    (backup,) = sized(world.images("backup"), 9)
    rows = await replicate(connection_to(world), [backup.id], REGIONS)
    assert outcomes(rows) == every(Outcome.TRANSFERRED, [backup])
    refused = len(posts(world)) - 1 - len(REGIONS)
    # Between them, 5, 10, 20, 40 and 80 seconds.
    assert 2 <= refused <= 6
