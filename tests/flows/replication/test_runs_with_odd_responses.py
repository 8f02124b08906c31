"""Whole runs that meet odd answers, in virtual time, without Prefect; `test_case_NN_...` as in `test_odd_answers`."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from deployments.sandbox import Behavior, Fault, FaultKind, Image, Limits
from flows.reporting.report import Outcome, Row
from tests.flows.replication.executions import candidate, carry_out, connection_to, outcomes, plan_for, posts, replicate
from tests.flows.replication.test_execution import REGIONS, every, ids, sized
from tests.tasks.digitalocean.in_process import World

# What the default account's Droplets are not in; with three images 33 transfers.
MANY_REGIONS = ["ams3", "sgp1", "tor1", "atl1", "blr1", "lon1", "sfo3", "syd1", "fra1", "nyc3", "sfo2"]
AN_IMAGES, ONE, FEED = r"/images/\d+/actions$", r"/images/\d+/actions/\d+$", "/v2/actions$"


def free_of(images: list[Image], regions: list[str]) -> list[str]:
    """Those of the regions that none of the images is in."""
    return [region for region in regions if not any(region in image.regions for image in images)]


def errors(rows: dict[tuple[int, str], Row]) -> list[str]:
    return [row.error for row in rows.values() if row.error]


async def test_case_01_a_single_403_during_33_transfers_without_the_feed_ends_none() -> None:
    world = World(droplets=9, behavior=Behavior(out_of_scope=frozenset({"/v2/actions"})))
    images = sized(world.images("snapshot"), 5, 6, 7)
    regions = free_of(images, MANY_REGIONS)
    connection = connection_to(world)
    plan = await plan_for(connection, [await candidate(connection, image) for image in images], regions)
    world.faults.add(Fault(FaultKind.FORBIDDEN, "GET", AN_IMAGES))
    assert outcomes(await carry_out(connection, plan)) == every(Outcome.TRANSFERRED, images, regions)
    assert FaultKind.FORBIDDEN in {seen.fault for seen in world.record.requests}


async def test_case_01_if_everything_is_refused_each_row_names_its_own_request() -> None:
    world = World(droplets=9)
    images = sized(world.images("snapshot"), 20, 20, 20)
    connection = connection_to(world)
    running = asyncio.create_task(replicate(connection, ids(images), REGIONS))
    await asyncio.sleep(60)
    assert len(world.record.actions) == len(images) * len(REGIONS)
    connection.revoke_token()
    rows = await running
    assert outcomes(rows) == every(Outcome.FAILED, images)
    for row in rows.values():
        assert f"/v2/images/{row.image_id}/actions/{row.action_id}: 401" in row.error


async def test_case_01_a_revoked_read_scope_ends_the_waits() -> None:
    world = World(droplets=9)
    images = sized(world.images("snapshot"), 20, 20, 20)
    running = asyncio.create_task(replicate(connection_to(world), ids(images), REGIONS))
    await asyncio.sleep(60)
    world.faults.add(Fault(FaultKind.FORBIDDEN, "GET", times=None))
    before = len(world.record.requests)
    rows = await running
    assert outcomes(rows) == every(Outcome.FAILED, images)
    assert len(world.record.requests) - before < 20
    for row in rows.values():
        assert f"/v2/images/{row.image_id}/" in row.error
        assert "image:read" in row.error


@pytest.mark.parametrize("skip", [0, 5, 20])
async def test_case_02_a_single_403_to_a_post_is_retried_and_the_others_continue(skip: int) -> None:
    world = World(droplets=9)
    images = sized(world.images("snapshot"), 5, 6, 7)
    regions = free_of(images, MANY_REGIONS)
    world.faults.add(Fault(FaultKind.FORBIDDEN, "POST", "/actions$", skip=skip))
    rows = await replicate(connection_to(world), ids(images), regions)
    assert outcomes(rows) == every(Outcome.TRANSFERRED, images, regions)
    assert len(posts(world)) == len(rows) + 1


async def test_case_02_a_scope_is_missing_after_three_refusals_in_a_row_on_different_images() -> None:
    world = World(droplets=9)
    images = sized(world.images("snapshot"), 5, 6, 7)
    regions = free_of(images, MANY_REGIONS)
    world.faults.add(Fault(FaultKind.FORBIDDEN, "POST", "/actions$", times=None))
    connection = connection_to(world, rate_limits=[(1, 1), (5000, 3600)])
    rows = await replicate(connection, ids(images), regions)
    assert outcomes(rows) == every(Outcome.FAILED, images, regions)
    assert len(posts(world)) == len(set(posts(world))) == len(images)
    for row in rows.values():
        assert f"POST /v2/images/{row.image_id}/actions: 403" in row.error
    assert sum("image:update" in error for error in errors(rows)) > len(rows) / 2


async def test_case_02_a_single_image_is_refused_three_times_before_the_scope_counts_as_missing() -> None:
    world = World()
    (image,) = sized(world.images("snapshot"), 5)
    world.faults.add(Fault(FaultKind.FORBIDDEN, "POST", "/actions$", times=None))
    rows = await replicate(connection_to(world), [image.id], ["tor1"])
    assert outcomes(rows) == {(image.id, "tor1"): Outcome.FAILED}
    assert len(posts(world)) == 3
    assert "image:update" in rows[image.id, "tor1"].error


async def test_case_02_an_image_that_is_always_refused_is_the_only_failure() -> None:
    world = World(droplets=9)
    refused, *others = images = sized(world.images("snapshot"), 9, 5, 6)
    regions = free_of(images, MANY_REGIONS)
    world.faults.add(Fault(FaultKind.FORBIDDEN, "POST", f"/images/{refused.id}/actions$", times=None))
    rows = await replicate(connection_to(world), ids(images), regions)
    expected = every(Outcome.FAILED, [refused], regions) | every(Outcome.TRANSFERRED, others, regions)
    assert outcomes(rows) == expected
    assert len(posts(world)) <= len(rows) + 2 * len(regions)


@pytest.mark.parametrize("status", [302, 400, 408, 409, 418, 421, 423, 425])
@pytest.mark.parametrize("path", [FEED, AN_IMAGES, ONE])
async def test_case_03_a_single_odd_status_to_a_read_fails_nothing(path: str, status: int) -> None:
    world = World(droplets=9)
    images = sized(world.images("snapshot"), 5, 6, 7)
    regions = free_of(images, MANY_REGIONS)
    world.faults.add(Fault(FaultKind.ODD_STATUS, "GET", path, status=status))
    assert outcomes(await replicate(connection_to(world), ids(images), regions)) == every(
        Outcome.TRANSFERRED, images, regions
    )


@pytest.mark.parametrize("kind", [FaultKind.ODD_STATUS, FaultKind.ODD_STATUS_AFTER])
@pytest.mark.parametrize("status", [302, 400, 408, 409, 421, 423, 425, 500, 504])
async def test_case_04_an_action_with_an_odd_response_is_started_once(status: int, kind: FaultKind) -> None:
    world = World(behavior=Behavior(duplicate_transfers="accept"))
    images = sized(world.images("backup"), 5, 6)
    world.faults.add(Fault(kind, "POST", "/actions$", times=3, status=status))
    rows = await replicate(connection_to(world), ids(images), REGIONS)
    assert outcomes(rows) == every(Outcome.TRANSFERRED, images)
    assert len(world.record.actions) == len(images) * (1 + len(REGIONS))


async def test_case_05_a_feed_that_starts_failing_does_not_prevent_a_run_from_finishing() -> None:
    world = World(droplets=9)
    images = sized(world.images("snapshot"), 5, 6, 7)
    regions = free_of(images, MANY_REGIONS)
    running = asyncio.create_task(replicate(connection_to(world), ids(images), regions))
    await asyncio.sleep(120)
    world.faults.add(Fault(FaultKind.ERROR_BEFORE, "GET", FEED, times=None))
    assert outcomes(await running) == every(Outcome.TRANSFERRED, images, regions)
    assert len([path for path in world.reads() if path == "/v2/actions"]) < 20


async def test_case_05_a_plan_is_made_without_the_feed() -> None:
    world = World(droplets=9)
    images = sized(world.images("snapshot"), 5, 6, 7)
    running = world.account.start(images[0], "transfer", "sgp1", world.clock.unix())
    world.faults.add(Fault(FaultKind.ERROR_BEFORE, "GET", FEED, times=None))
    rows = await replicate(connection_to(world), ids(images), REGIONS)
    assert rows[images[0].id, "sgp1"].action_id == running.id
    assert outcomes(rows) == every(Outcome.TRANSFERRED, images) | {(images[0].id, "sgp1"): Outcome.ADOPTED}


async def test_case_05_an_image_whose_actions_are_unreadable_is_the_only_failure() -> None:
    world = World(droplets=9, behavior=Behavior(out_of_scope=frozenset({"/v2/actions"}), duplicate_transfers="accept"))
    bad, *good = images = sized(world.images("snapshot"), 5, 6, 7)
    world.account.start(bad, "transfer", "sgp1", world.clock.unix())
    world.faults.add(Fault(FaultKind.ERROR_BEFORE, "GET", f"/images/{bad.id}/actions$", times=None))
    rows = await replicate(connection_to(world, http_retry_max=1), ids(images), REGIONS)
    assert outcomes(rows) == every(Outcome.FAILED, [bad]) | every(Outcome.TRANSFERRED, good)
    assert all(f"GET /v2/images/{bad.id}/actions: 500" in error for error in errors(rows))
    assert world.record.duplicate_transfers() == []


async def test_case_06_foreign_entries_in_the_feed_stop_neither_planning_nor_waiting() -> None:
    world = World(droplets=9, behavior=Behavior(duplicate_transfers="accept"))
    images = sized(world.images("snapshot"), 5, 6, 7)
    running = world.account.start(images[0], "transfer", "sgp1", world.clock.unix())
    world.faults.add(Fault(FaultKind.FOREIGN_ENTRIES, times=None))
    rows = await replicate(connection_to(world), ids(images), REGIONS)
    assert rows[images[0].id, "sgp1"].action_id == running.id
    assert outcomes(rows) == every(Outcome.TRANSFERRED, images) | {(images[0].id, "sgp1"): Outcome.ADOPTED}


@pytest.mark.parametrize("field", ["status", "started_at", "id", "type", "resource_id", "resource_type"])
async def test_case_06_our_own_unreadable_entries_are_not_mistaken_for_foreign_ones(field: str) -> None:
    """A transfer under way that one page of the feed does not show properly is not started again."""

    world = World(droplets=9, behavior=Behavior(duplicate_transfers="accept"))
    images = sized(world.images("snapshot"), 5, 6, 7)
    for image in images:
        world.account.start(image, "transfer", "sgp1", world.clock.unix())
    connection = connection_to(world)
    candidates = [await candidate(connection, image) for image in images]
    world.faults.add(Fault(FaultKind.MISSING_FIELD, "GET", FEED, field=field))
    rows = await carry_out(connection, await plan_for(connection, candidates, ["sgp1"]))
    assert outcomes(rows) == every(Outcome.ADOPTED, images, ["sgp1"])
    assert world.record.duplicate_transfers() == []


async def test_case_08_a_404_just_after_a_start_fails_nothing() -> None:
    world = World()
    images = sized(world.images("snapshot"), 5, 6)
    world.faults.add(Fault(FaultKind.ACTION_UNLISTED, times=None), Fault(FaultKind.NOT_FOUND, "GET", ONE, times=4))
    rows = await replicate(connection_to(world), ids(images), ["sgp1"])
    assert outcomes(rows) == every(Outcome.TRANSFERRED, images, ["sgp1"])


async def test_case_08_a_404_to_the_actions_of_an_existing_image_is_retried() -> None:
    world = World(droplets=9, behavior=Behavior(out_of_scope=frozenset({"/v2/actions"}), duplicate_transfers="accept"))
    image, *others = images = sized(world.images("snapshot"), 5, 6, 7)
    running = world.account.start(image, "transfer", "sgp1", world.clock.unix())
    world.faults.add(Fault(FaultKind.NOT_FOUND, "GET", f"/images/{image.id}/actions$", times=2))
    rows = await replicate(connection_to(world), ids(images), ["sgp1"])
    assert rows[image.id, "sgp1"].action_id == running.id
    assert outcomes(rows) == {(image.id, "sgp1"): Outcome.ADOPTED} | every(Outcome.TRANSFERRED, others, ["sgp1"])


async def test_case_09_a_404_to_a_start_is_reported_in_the_words_of_the_api() -> None:
    world = World()
    refused, other = images = sized(world.images("snapshot"), 5, 6)
    words = "The specified action type is not available."
    world.faults.add(
        Fault(FaultKind.NOT_FOUND, "POST", f"/images/{refused.id}/actions$", times=None, message=words),
        Fault(FaultKind.NOT_FOUND, "POST", f"/images/{other.id}/actions$"),
    )
    rows = await replicate(connection_to(world), ids(images), ["sgp1"])
    assert outcomes(rows) == {(refused.id, "sgp1"): Outcome.FAILED, (other.id, "sgp1"): Outcome.TRANSFERRED}
    assert words in rows[refused.id, "sgp1"].error
    assert "deleted" not in rows[refused.id, "sgp1"].error
    assert "gone" not in rows[refused.id, "sgp1"].error


async def test_case_10_with_a_retry_after_of_a_year_every_copy_is_accounted_for_at_the_timeout() -> None:
    world = World()
    images = sized(world.images("snapshot"), 5, 6)
    connection = connection_to(world)
    plan = await plan_for(connection, [await candidate(connection, image) for image in images], REGIONS)
    world.faults.add(Fault(FaultKind.LIMIT_FOR_A_YEAR))
    began = asyncio.get_running_loop().time()
    rows = await carry_out(connection, plan, seconds=60)
    assert asyncio.get_running_loop().time() - began == 60
    assert outcomes(rows) == every(Outcome.TIMED_OUT, images)


@pytest.mark.parametrize(
    "kind",
    [FaultKind.GIANT_NUMBER, FaultKind.ODD_HEADERS, FaultKind.BARE, FaultKind.GATEWAY_TIMEOUT_AFTER, FaultKind.DRIP],
)
async def test_case_14_odd_responses_to_starts_and_reads_fail_nothing(kind: FaultKind) -> None:
    world = World(behavior=Behavior(duplicate_transfers="accept"))
    images = sized(world.images("backup"), 5, 6)
    connection = connection_to(world)
    plan = await plan_for(connection, [await candidate(connection, image) for image in images], REGIONS)
    world.faults.add(Fault(kind, "POST", times=2), Fault(kind, "GET", times=4))
    assert outcomes(await carry_out(connection, plan)) == every(Outcome.TRANSFERRED, images)
    assert world.record.duplicate_transfers() == []


@pytest.mark.parametrize("refusals_say_when", [False, True])
@pytest.mark.parametrize("latency", [0.02, 0.25])
async def test_case_16_a_run_under_a_lower_minute_limit_is_rarely_refused(
    latency: float, refusals_say_when: bool
) -> None:
    world = World(droplets=3, limits=Limits(20, 5000, refusals_say_when=refusals_say_when), latency=latency)
    images = sized(world.images("backup"), 5, 6, 7)
    regions = free_of(images, MANY_REGIONS)
    rows = await replicate(connection_to(world), ids(images), regions)
    assert outcomes(rows) == every(Outcome.TRANSFERRED, images, regions)
    assert world.record.rate_limited() <= 0.05 * len(world.record.requests)


async def test_an_unexpected_error_fails_one_copy_and_not_the_run() -> None:
    world = World()
    images = sized(world.images("snapshot"), 5, 6)
    connection = connection_to(world)
    plan = await plan_for(connection, [await candidate(connection, image) for image in images], REGIONS)
    carry = connection.wire.handle_async_request

    async def surprise(request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and f"/images/{images[0].id}/" in request.url.path:
            raise LookupError("unexpected")
        return await carry(request)

    connection.wire.handle_async_request = surprise  # type: ignore[method-assign]
    rows = await carry_out(connection, plan)
    assert outcomes(rows) == every(Outcome.FAILED, images[:1]) | every(Outcome.TRANSFERRED, images[1:])
    assert all("unexpected" in error for error in errors(rows))
