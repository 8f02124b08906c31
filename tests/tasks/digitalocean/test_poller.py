"""Waiting for many actions at once, against the sandbox on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import httpx
import pytest

from deployments.sandbox import Behavior, Fault, FaultKind, Image, Limits
from deployments.sandbox.limits import Standing
from tasks.digitalocean import ActedOn, Action, APIError, NotFound, TransferImage, Unauthorized
from tests.tasks.digitalocean.in_process import TOKEN, Wire, World, post
from tests.virtual_time import EPOCH, run

EVERYWHERE = ["nyc1", "nyc3", "ams3", "fra1", "lon1", "sgp1", "tor1", "sfo2", "sfo3", "blr1", "syd1", "atl1"]

Started = list[tuple[Image, Action]]


async def start(world: World, images: Sequence[Image], regions: Sequence[str] = EVERYWHERE) -> Started:
    """Transfer images to regions they are not in."""
    return [
        (image, await post(world.client, image.id, TransferImage(region=region)))
        for image in images
        for region in regions
        if region not in image.regions
    ]


async def wait_for(world: World, started: Started) -> list[Action]:
    return list(
        await asyncio.gather(
            *(world.poller.wait(ActedOn("image", image.id), action, image.size_gigabytes) for image, action in started)
        )
    )


def lateness(world: World) -> float:
    """How long after the last action's end it is."""
    return world.clock.unix() - max(action.ends_at for action in world.record.actions)


@pytest.mark.parametrize("latency", [0.0, 0.25, 5.0])
async def test_every_action_is_awaited_until_it_ends(latency: float) -> None:
    world = World(latency=latency)
    started = await start(world, world.images("snapshot"))
    finished = await wait_for(world, started)
    assert [action.id for action in finished] == [action.id for _, action in started]
    assert all(action.completed for action in finished)
    assert all(action.status == "completed" for action in world.record.actions)
    # Not sooner than it ended, and not much later than the longest interval.
    assert 0 <= lateness(world) <= 120 + 60


async def test_waiting_takes_far_fewer_requests_than_there_are_actions() -> None:
    world = World(droplets=60)
    started = await start(world, world.images("snapshot"))
    assert len(started) > 200
    world.record.requests.clear()
    await wait_for(world, started)
    assert len(world.record.requests) < len(started)
    assert world.record.rate_limited() == 0


async def test_both_rate_limits_are_respected_while_waiting() -> None:
    world = World(limits=Limits(10, 100), rate_limits=((10, 60), (100, 3600)))
    finished = await wait_for(world, await start(world, world.images("snapshot")))
    assert all(action.completed for action in finished)
    assert world.record.rate_limited() == 0


async def test_an_action_that_has_already_ended_is_returned_without_a_request() -> None:
    world = World()
    ((image, action),) = await start(world, world.images("snapshot")[:1], ["atl1"])
    ended = await world.poller.wait(ActedOn("image", image.id), action)
    requests = len(world.record.requests)
    assert await world.poller.wait(ActedOn("image", image.id), ended) is ended
    assert len(world.record.requests) == requests


async def test_a_failed_action_is_returned_like_a_completed_one() -> None:
    world = World()
    world.faults.add(Fault(FaultKind.ACTION_ERRORED, times=2))
    finished = await wait_for(world, await start(world, world.images("snapshot")[:1]))
    assert [action.status for action in finished] == ["errored"] * 2 + ["completed"] * (len(finished) - 2)


def test_many_waits_for_the_same_action_cost_no_more_requests_than_one() -> None:
    async def cost(waiting: int) -> int:
        world = World()
        ((image, action),) = await start(world, world.images("snapshot")[:1], ["atl1"])
        finished = await wait_for(world, [(image, action)] * waiting)
        assert {each.id for each in finished} == {action.id}
        return len(world.record.requests)

    assert run(cost(50)) == run(cost(1))


async def test_a_single_wait_for_one_action_polls_rarely() -> None:
    world = World()
    image = max(world.images("snapshot"), key=lambda image: image.size_gigabytes)
    started = await start(world, [image], ["atl1"])
    await wait_for(world, started)
    seconds = world.record.actions[0].ends_at - EPOCH
    assert seconds > 600
    assert len(world.reads()) < 30


async def test_polls_of_a_single_action_are_at_least_the_minimum_interval_apart() -> None:
    world = World(poll_interval_seconds=20, poll_interval_max_seconds=60)
    await wait_for(world, await start(world, world.images("snapshot")[:1], ["atl1"]))
    polls = [seen.at for seen in world.record.requests if seen.method == "GET"]
    assert all(later - earlier >= 19 for earlier, later in pairwise(polls))


async def test_deleting_an_image_ends_only_the_waits_for_its_own_actions() -> None:
    world = World()
    gone, kept = world.images("snapshot")[:2]
    # Neither the account's feed nor anything else will know of it.
    world.faults.add(Fault(FaultKind.ACTION_UNLISTED))
    started = await start(world, [gone], ["atl1"])
    others = await start(world, [kept], ["atl1"])
    lost = asyncio.gather(wait_for(world, started), return_exceptions=True)
    found = asyncio.create_task(wait_for(world, others))
    await asyncio.sleep(1)
    world.account.delete_image(gone)
    (error,) = await lost
    assert isinstance(error, NotFound)
    assert str(gone.id) in str(error)
    assert (await found)[0].completed


async def test_an_unlisted_action_is_requested_by_its_id() -> None:
    world = World()
    world.faults.add(Fault(FaultKind.ACTION_UNLISTED, times=3))
    finished = await wait_for(world, await start(world, world.images("snapshot")[:2], EVERYWHERE[:6]))
    assert all(action.completed for action in finished)


async def test_a_lagging_feed_loses_no_action() -> None:
    world = World(droplets=20, behavior=Behavior(feed_lag_seconds=90, max_per_page=200))
    finished = await wait_for(world, await start(world, world.images("snapshot")))
    assert all(action.completed for action in finished)


async def test_small_pages_lose_no_action() -> None:
    world = World(droplets=9, behavior=Behavior(max_per_page=7))
    finished = await wait_for(world, await start(world, world.images("snapshot")))
    assert all(action.completed for action in finished)


@pytest.mark.parametrize(
    "kind",
    [
        FaultKind.ERROR_BEFORE,
        FaultKind.EMPTY_ERROR,
        FaultKind.UNAVAILABLE_HTML,
        FaultKind.DROP_AFTER,
        FaultKind.HTML_OK,
        FaultKind.TRUNCATED_AFTER,
        FaultKind.MISSING_FIELD,
        FaultKind.BURST_LIMIT,
        FaultKind.LIMIT_RESET_IN_PAST,
        FaultKind.LIMIT_HTML,
        FaultKind.SLOW,
    ],
)
async def test_failed_polls_are_repeated(kind: FaultKind) -> None:
    world = World(http_retry_max=1)
    started = await start(world, world.images("snapshot")[:1])
    world.faults.add(Fault(kind, method="GET", times=6, seconds=40))
    assert all(action.completed for action in await wait_for(world, started))


async def test_waits_survive_an_api_that_is_down_for_hours() -> None:
    world = World(http_retry_max=0)
    started = await start(world, world.images("snapshot")[:1])
    world.faults.add(Fault(FaultKind.UNAVAILABLE_HTML, times=None))
    waiting = asyncio.create_task(wait_for(world, started))
    await asyncio.sleep(3 * 3600)
    assert not waiting.done()
    # Often enough to notice when it is back, seldom enough to leave it alone.
    assert 10 < len(world.reads()) < 3 * 3600 / 5
    world.faults.clear()
    async with asyncio.timeout(600):
        assert all(action.completed for action in await waiting)


async def test_a_cancelled_wait_does_not_affect_the_others() -> None:
    world = World()
    ((image, action),) = await start(world, world.images("snapshot")[:1], ["atl1"])
    patient = asyncio.create_task(world.poller.wait(ActedOn("image", image.id), action))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(30):
            await world.poller.wait(ActedOn("image", image.id), action)
    assert (await patient).completed


async def test_a_wait_restarted_during_a_poll_of_its_action_succeeds() -> None:
    world = World(latency=5)
    ((image, action),) = await start(world, world.images("snapshot")[:1], ["atl1"])
    polled = len(world.record.requests)
    waiting = asyncio.create_task(world.poller.wait(ActedOn("image", image.id), action))
    while len(world.record.requests) == polled:  # noqa: ASYNC110  # the sandbox sets no event
        await asyncio.sleep(1)
    waiting.cancel()
    assert (await world.poller.wait(ActedOn("image", image.id), action)).completed
    assert waiting.cancelled()


async def test_polling_stops_when_the_last_wait_ends() -> None:
    world = World()
    world.faults.add(Fault(FaultKind.ACTION_ENDLESS, times=None))
    started = await start(world, world.images("snapshot")[:1])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(900):
            await wait_for(world, started)
    await asyncio.sleep(200)
    requests = len(world.record.requests)
    await asyncio.sleep(86400)
    assert len(world.record.requests) == requests


async def test_waiting_can_resume_after_a_pause() -> None:
    world = World()
    for region in ("atl1", "syd1"):
        finished = await wait_for(world, await start(world, world.images("snapshot")[:1], [region]))
        assert finished[0].completed
        await asyncio.sleep(7200)


async def test_a_wait_that_starts_while_others_are_in_progress_succeeds() -> None:
    world = World()
    first, second = world.images("snapshot")[:2]
    early = asyncio.create_task(wait_for(world, await start(world, [first], ["atl1"])))
    await asyncio.sleep(100)
    late = await wait_for(world, await start(world, [second], ["atl1"]))
    assert late[0].completed
    assert (await early)[0].completed


async def test_a_token_that_is_revoked_ends_all_waits() -> None:
    world = World(droplets=20)
    world.faults.add(Fault(FaultKind.ACTION_ENDLESS, times=None))
    started = await start(world, world.images("snapshot"))
    world.revoke_token()
    waits = [world.poller.wait(ActedOn("image", image.id), action, image.size_gigabytes) for image, action in started]
    outcomes = await asyncio.gather(*waits, return_exceptions=True)
    assert len(outcomes) == len(started)
    assert all(isinstance(outcome, Unauthorized) for outcome in outcomes)
    assert not any(TOKEN in str(outcome) for outcome in outcomes)


async def test_an_unexpected_error_is_raised_in_every_wait() -> None:
    class Surprise(Exception):
        pass

    world = World()
    started = await start(world, world.images("snapshot")[:1])

    def surprise(_: float) -> Standing:
        raise Surprise

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    waiting = [asyncio.create_task(world.poller.wait(ActedOn("image", image.id), action)) for image, action in started]
    await asyncio.sleep(1)
    world.limits.standing = surprise  # type: ignore[method-assign, assignment]
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, Surprise) for outcome in outcomes)
    del world.limits.standing
    # And the poller is not broken by it.
    assert all(action.completed for action in await wait_for(world, started))


async def test_an_action_with_an_unknown_status_is_awaited_until_it_ends() -> None:
    world = World()
    ((image, action),) = await start(world, world.images("snapshot")[:1], ["atl1"])
    odd = action.model_copy(update={"status": "queued"})
    assert (await world.poller.wait(ActedOn("image", image.id), odd)).completed


async def test_a_wait_fails_only_with_an_api_error() -> None:
    world = World()
    image = world.images("snapshot")[0]
    ((_, action),) = await start(world, [image], ["atl1"])
    stranger = action.model_copy(update={"id": action.id + 1000})
    with pytest.raises(APIError):
        await world.poller.wait(ActedOn("image", image.id), stranger)


async def test_short_pages_cost_only_a_few_more_requests() -> None:
    world = World(droplets=20, behavior=Behavior(max_per_page=25))
    started = await start(world, world.images("snapshot"))
    world.record.requests.clear()
    finished = await wait_for(world, started)
    assert all(action.completed for action in finished)
    assert len(world.record.requests) < len(started)


@pytest.mark.parametrize("status", [403, 404])
async def test_without_access_to_the_account_feed_the_lists_of_the_images_are_polled(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry = Wire.handle_async_request

    async def refusing(wire: Wire, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v2/actions":
            return httpx.Response(status, json={"id": "forbidden", "message": "No."}, request=request)
        return await carry(wire, request)

    monkeypatch.setattr(Wire, "handle_async_request", refusing)

    world = World()
    finished = await wait_for(world, await start(world, world.images("snapshot")[:3]))
    assert all(action.completed for action in finished)
