"""Creating and destroying a Droplet exactly once, however unclear the response; and reading the team's SSH keys."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deployments.sandbox import Fault, FaultKind
from deployments.sandbox.limits import KEYS_PER_MINUTE
from tasks.digitalocean import (
    APIError,
    CreateDroplet,
    Forbidden,
    InvalidArgument,
    ScopeMissing,
    TooManyRequests,
    UnprocessableEntity,
)
from tasks.digitalocean.client import SSH_KEY_TRIES
from tasks.digitalocean.idempotency import create_droplet_once, delete_droplet_once, find_created
from tests.tasks.digitalocean.in_process import World
from tests.tasks.digitalocean.test_idempotency import (
    CARRIED_OUT,
    NEEDS_A_BODY,
    NOT_CARRIED_OUT,
    REFUSED,
    methods,
)

MARKER = "prefect:restored:1"
UNCLEAR = [FaultKind.ERROR_AFTER, FaultKind.DROP_AFTER, FaultKind.ERROR_BEFORE]
# The usual Droplets with the tag, and those with GPUs.
LOOK = ["GET", "GET"]


def new(world: World, **other: Any) -> CreateDroplet:
    image = world.images("backup")[0]
    usual = {"name": "web-restored", "region": next(iter(image.regions)), "size": "s-8vcpu-16gb"}
    return CreateDroplet(**{**usual, "image": image.id, "tags": ("prefect:restored", MARKER), **other})


def new_with_gpu(world: World) -> CreateDroplet:
    trainer = next(each for each in world.account.droplets.values() if each.size.gpu_model)
    return new(world, region=trainer.region, size=trainer.size.slug, image=trainer.image_ids[-1])


async def create(world: World, **other: Any) -> int:
    return (await create_droplet_once(world.client, new(world, **other), MARKER)).id


def created(world: World) -> list[int]:
    return [record.droplet_id for record in world.record.created]


async def refusal(world: World, *faults: Fault, **other: Any) -> APIError:
    world.faults.add(*faults)
    with pytest.raises(APIError) as caught:
        await create(world, **other)
    assert caught.value.method == "POST"
    return caught.value


async def test_a_clear_response_costs_one_request() -> None:
    world = World()
    assert [await create(world)] == created(world)
    assert methods(world) == ["POST"]


@pytest.mark.parametrize("kind", CARRIED_OUT)
async def test_a_droplet_that_was_created_despite_an_error_is_found(kind: FaultKind) -> None:
    world = World()
    # A missing status would be no error.
    world.faults.add(Fault(kind, method="POST", field="droplet"))
    assert [await create(world)] == created(world)
    assert methods(world) == ["POST", *LOOK]


async def test_a_droplet_that_was_created_after_a_timeout_is_found() -> None:
    world = World()
    world.faults.add(Fault(FaultKind.SLOW, method="POST", seconds=100))
    assert [await create(world)] == created(world)


@pytest.mark.parametrize("kind", NOT_CARRIED_OUT)
async def test_a_request_that_was_not_carried_out_may_be_repeated(kind: FaultKind) -> None:
    world = World()
    error = await refusal(world, Fault(kind, method="POST"))
    assert (error.repeatable, error.ambiguous) == (True, False)
    assert created(world) == []
    assert methods(world) == ["POST", *LOOK]
    assert [await create(world)] == created(world)


@pytest.mark.parametrize("kind", REFUSED)
async def test_a_request_that_was_refused_for_now_may_be_repeated_without_a_check(kind: FaultKind) -> None:
    world = World()
    assert (await refusal(world, Fault(kind, method="POST"))).repeatable
    assert methods(world) == ["POST"]


@pytest.mark.parametrize("kind", UNCLEAR)
async def test_a_request_with_an_unclear_outcome_may_not_be_repeated(kind: FaultKind) -> None:
    world = World(http_retry_max=2)
    error = await refusal(
        world, Fault(kind, method="POST"), Fault(FaultKind.UNAVAILABLE_HTML, method="GET", times=None)
    )
    assert (error.repeatable, error.ambiguous) == (False, True)


async def test_a_check_that_fails_once_is_repeated() -> None:
    world = World()
    world.faults.add(Fault(FaultKind.ERROR_AFTER, method="POST"), Fault(FaultKind.EMPTY_ERROR, method="GET"))
    assert [await create(world)] == created(world)


@pytest.mark.parametrize("other", [{"region": "sfo1"}, {"size": "s-9vcpu"}, {"name": "web_01"}, {"image": 1}])
async def test_a_refusal_is_final(other: dict[str, Any]) -> None:
    world = World()
    error = await refusal(world, **other)
    assert isinstance(error, UnprocessableEntity)
    assert not error.repeatable
    assert methods(world) == ["POST"]


@pytest.mark.parametrize("kind", [FaultKind.DROP_AFTER, FaultKind.DROP_BEFORE])
async def test_a_droplet_with_gpus_is_found_although_the_list_by_tag_does_not_have_it(kind: FaultKind) -> None:
    world = World(droplets=10)
    request = new_with_gpu(world)
    world.faults.add(Fault(kind, method="POST"))
    if kind == FaultKind.DROP_BEFORE:
        with pytest.raises(APIError):
            await create_droplet_once(world.client, request, MARKER)
        assert await find_created(world.client, request, MARKER) is None
    else:
        assert [(await create_droplet_once(world.client, request, MARKER)).id] == created(world)
        assert await world.client.list_droplets_tagged(MARKER) == []
        found = await find_created(world.client, request, MARKER)
        assert found
        assert [found.id] == created(world)


async def test_a_droplet_in_another_region_or_with_another_marker_is_not_mistaken_for_this_one() -> None:
    world = World()
    image = world.images("backup")[0]
    here, elsewhere = next(iter(image.regions)), "syd1"
    image.regions[elsewhere] = 0.0
    await create(world, region=elsewhere)
    await create_droplet_once(world.client, new(world, tags=("prefect:restored:11",)), "prefect:restored:11")
    request = new(world, region=here)
    assert await find_created(world.client, request, MARKER) is None
    error = await refusal(world, Fault(FaultKind.DROP_BEFORE, method="POST"), region=here)
    assert error.repeatable
    found = await find_created(world.client, new(world, region=elsewhere), MARKER)
    assert found
    assert found.id == created(world)[0]


# Destroying


async def active(world: World) -> int:
    """Create a Droplet, and wait until it is active."""
    droplet_id = await create(world)
    await asyncio.sleep(100)
    world.record.requests.clear()
    return droplet_id


async def test_a_clear_destruction_costs_one_request() -> None:
    world = World()
    droplet_id = await active(world)
    assert await delete_droplet_once(world.client, droplet_id) is True
    assert methods(world) == ["DELETE"]
    assert [record.droplet_id for record in world.record.destroyed] == [droplet_id]


# A 204 has nothing in it that could be cut short or missing.
@pytest.mark.parametrize("kind", [kind for kind in CARRIED_OUT if kind not in NEEDS_A_BODY])
async def test_a_droplet_that_was_destroyed_despite_an_error_counts_as_destroyed(kind: FaultKind) -> None:
    world = World()
    droplet_id = await active(world)
    world.faults.add(Fault(kind, method="DELETE"))
    assert await delete_droplet_once(world.client, droplet_id) is True
    assert methods(world) == ["DELETE", "GET"]
    assert world.record.left_behind() == []


@pytest.mark.parametrize("kind", [*NOT_CARRIED_OUT, *REFUSED, FaultKind.NOT_FOUND])
async def test_a_destruction_that_was_not_carried_out_may_be_repeated(kind: FaultKind) -> None:
    world = World()
    droplet_id = await active(world)
    world.faults.add(Fault(kind, method="DELETE"))
    with pytest.raises(APIError) as caught:
        await delete_droplet_once(world.client, droplet_id)
    assert (caught.value.repeatable, caught.value.ambiguous) == (True, False)
    assert droplet_id in world.account.droplets
    assert methods(world) == (["DELETE"] if kind in REFUSED else ["DELETE", "GET"])
    assert await delete_droplet_once(world.client, droplet_id) is True


@pytest.mark.parametrize("kind", UNCLEAR)
async def test_a_destruction_with_an_unclear_outcome_may_not_be_repeated(kind: FaultKind) -> None:
    world = World(http_retry_max=2)
    droplet_id = await active(world)
    world.faults.add(Fault(kind, method="DELETE"), Fault(FaultKind.UNAVAILABLE_HTML, method="GET", times=None))
    with pytest.raises(APIError) as caught:
        await delete_droplet_once(world.client, droplet_id)
    assert (caught.value.repeatable, caught.value.ambiguous) == (False, True)


async def test_a_droplet_that_is_already_gone_need_not_be_destroyed() -> None:
    world = World()
    droplet_id = await active(world)
    await delete_droplet_once(world.client, droplet_id)
    assert await delete_droplet_once(world.client, droplet_id) is False
    assert len(world.record.destroyed) == 1


async def test_one_wrong_404_does_not_make_a_droplet_count_as_gone() -> None:
    world = World()
    droplet_id = await active(world)
    world.faults.add(Fault(FaultKind.NOT_FOUND, times=2))
    with pytest.raises(APIError) as caught:
        await delete_droplet_once(world.client, droplet_id)
    assert caught.value.repeatable
    assert methods(world) == ["DELETE", "GET", "GET"]


async def test_a_droplet_that_is_still_being_created_is_not_destroyed() -> None:
    world = World()
    droplet_id = await create(world)
    with pytest.raises(UnprocessableEntity):
        await delete_droplet_once(world.client, droplet_id)
    assert world.record.destroyed == []


async def test_an_invalid_id_is_not_sent() -> None:
    world = World()
    with pytest.raises(InvalidArgument):
        await delete_droplet_once(world.client, 0)
    assert methods(world) == []


# SSH keys


async def test_the_limit_for_ssh_keys_is_awaited_and_holds_up_no_other_request() -> None:
    world = World()
    for _ in range(KEYS_PER_MINUTE):
        assert len(await world.client.list_ssh_keys()) == 2
    waiting = asyncio.create_task(world.client.list_ssh_keys())
    await asyncio.sleep(5)
    assert world.record.rate_limited() == 1
    assert world.client.rate_limiter.pause() == world.client.rate_limiter.paused_for == 0
    before = world.clock.monotonic()
    await world.client.list_regions()
    assert world.clock.monotonic() - before < 1
    assert not waiting.done()
    assert [key.id for key in await waiting] == list(world.account.ssh_keys)
    assert 50 < world.clock.monotonic() < 80


async def test_a_limit_for_ssh_keys_that_does_not_end_is_an_error() -> None:
    world = World(http_retry_max=1)
    world.faults.add(Fault(FaultKind.LIMIT_HTML, "GET", "^/v2/account/keys$", times=None))
    with pytest.raises(TooManyRequests):
        await world.client.list_ssh_keys()
    assert len(methods(world)) == SSH_KEY_TRIES + 2
    assert world.clock.monotonic() > 60


@pytest.mark.parametrize("kind", [FaultKind.ERROR_BEFORE, FaultKind.DROP_BEFORE, FaultKind.HTML_OK])
async def test_a_list_of_ssh_keys_that_cannot_be_read_is_read_again(kind: FaultKind) -> None:
    world = World()
    world.faults.add(Fault(kind, "GET"))
    assert len(await world.client.list_ssh_keys()) == 2
    assert methods(world) == ["GET", "GET"]


async def test_a_missing_scope_for_ssh_keys_is_named() -> None:
    world = World()
    world.faults.add(Fault(FaultKind.FORBIDDEN, times=None))
    with pytest.raises(ScopeMissing, match="ssh_key:read") as caught:
        await world.client.list_ssh_keys()
    assert isinstance(caught.value, Forbidden)
