"""Starting an action, or deleting an image, exactly once, however unclear the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from deployments.sandbox import Fault, FaultKind
from tasks.digitalocean import ActedOn, APIError, ConvertImage, InvalidArgument, TransferImage, UnprocessableEntity
from tasks.digitalocean.idempotency import delete_once, post_once
from tests.tasks.digitalocean.in_process import World, delete

CARRIED_OUT = [
    FaultKind.ERROR_AFTER,
    FaultKind.BAD_GATEWAY_AFTER,
    FaultKind.DROP_AFTER,
    FaultKind.HTML_OK,
    FaultKind.TRUNCATED_AFTER,
    FaultKind.MISSING_FIELD,
    FaultKind.GATEWAY_TIMEOUT_AFTER,
    FaultKind.ODD_STATUS_AFTER,
    FaultKind.GIANT_NUMBER,
    FaultKind.GIANT_BODY,
]
NOT_CARRIED_OUT = [
    FaultKind.ERROR_BEFORE,
    FaultKind.UNAVAILABLE_HTML,
    FaultKind.UNAVAILABLE_RETRY_AFTER,
    FaultKind.ODD_STATUS,
    FaultKind.EMPTY_ERROR,
    FaultKind.DROP_BEFORE,
]
NEEDS_A_BODY = {FaultKind.TRUNCATED_AFTER, FaultKind.MISSING_FIELD, FaultKind.GIANT_NUMBER, FaultKind.GIANT_BODY}
REFUSED = [FaultKind.BURST_LIMIT, FaultKind.LIMIT_HTML, FaultKind.LIMIT_ODD_ID, FaultKind.FORBIDDEN]


def methods(world: World) -> list[str]:
    return [seen.method for seen in world.record.requests]


async def failed(world: World, faults: Sequence[Fault]) -> APIError:
    """Start a conversion that comes to nothing."""
    world.faults.add(*faults)
    with pytest.raises(APIError) as caught:
        await post_once(world.client, world.images("backup")[0].id, ConvertImage())
    return caught.value


async def test_a_clear_response_costs_one_request() -> None:
    world = World()
    action = await post_once(world.client, world.images("backup")[0].id, ConvertImage())
    assert [started.id for started in world.record.actions] == [action.id]
    assert methods(world) == ["POST"]


@pytest.mark.parametrize("kind", CARRIED_OUT)
async def test_an_action_that_was_started_despite_an_error_is_adopted(kind: FaultKind) -> None:
    world = World()
    world.faults.add(Fault(kind, method="POST"))
    image = world.images("snapshot")[0]
    action = await post_once(world.client, image.id, TransferImage(region="atl1"))
    assert [started.id for started in world.record.actions] == [action.id]
    assert (action.type, action.region_slug) == ("transfer", "atl1")
    assert methods(world) == ["POST", "GET"]


async def test_an_action_that_was_started_after_a_timeout_is_adopted() -> None:
    world = World()
    world.faults.add(Fault(FaultKind.SLOW, method="POST", seconds=100))
    action = await post_once(world.client, world.images("backup")[0].id, ConvertImage())
    assert [started.id for started in world.record.actions] == [action.id]


@pytest.mark.parametrize("kind", NOT_CARRIED_OUT)
async def test_a_request_that_was_not_carried_out_may_be_repeated(kind: FaultKind) -> None:
    world = World()
    error = await failed(world, [Fault(kind, method="POST")])
    assert (error.repeatable, error.ambiguous) == (True, False)
    assert world.record.actions == []
    assert methods(world) == ["POST", "GET"]
    assert await post_once(world.client, world.images("backup")[0].id, ConvertImage())


@pytest.mark.parametrize("kind", REFUSED)
async def test_a_rate_limited_request_may_be_repeated_without_a_check(kind: FaultKind) -> None:
    world = World()
    error = await failed(world, [Fault(kind, method="POST")])
    assert error.repeatable
    assert methods(world) == ["POST"]


@pytest.mark.parametrize("kind", [FaultKind.ERROR_AFTER, FaultKind.DROP_AFTER, FaultKind.ERROR_BEFORE])
async def test_a_request_with_an_unclear_outcome_may_not_be_repeated(kind: FaultKind) -> None:
    world = World(http_retry_max=2)
    look_fails = Fault(FaultKind.UNAVAILABLE_HTML, method="GET", times=None)
    error = await failed(world, [Fault(kind, method="POST"), look_fails])
    assert (error.repeatable, error.ambiguous) == (False, True)
    assert error.method == "POST"


async def test_a_check_that_fails_once_is_repeated() -> None:
    world = World()
    world.faults.add(Fault(FaultKind.ERROR_AFTER, method="POST"), Fault(FaultKind.EMPTY_ERROR, method="GET"))
    action = await post_once(world.client, world.images("backup")[0].id, ConvertImage())
    assert [started.id for started in world.record.actions] == [action.id]


async def test_a_refusal_is_final() -> None:
    world = World()
    with pytest.raises(UnprocessableEntity) as caught:
        await post_once(world.client, world.images("backup")[0].id, TransferImage(region="atl1"))
    assert not caught.value.repeatable
    assert methods(world) == ["POST"]


async def test_an_earlier_action_of_another_type_or_region_is_not_mistaken_for_this_one() -> None:
    world = World()
    image = world.images("snapshot")[0]
    await post_once(world.client, image.id, TransferImage(region="syd1"))
    world.faults.add(Fault(FaultKind.DROP_BEFORE, method="POST"))
    with pytest.raises(APIError) as caught:
        await post_once(world.client, image.id, TransferImage(region="atl1"))
    assert caught.value.repeatable


async def test_an_action_that_has_failed_is_not_adopted() -> None:
    world = World()
    image = world.images("snapshot")[0]
    world.faults.add(Fault(FaultKind.ACTION_ERRORED))
    action = await post_once(world.client, image.id, TransferImage(region="atl1"))
    assert (await world.poller.wait(ActedOn("image", image.id), action)).errored
    world.faults.add(Fault(FaultKind.DROP_BEFORE, method="POST"))
    with pytest.raises(APIError) as caught:
        await post_once(world.client, image.id, TransferImage(region="atl1"))
    assert caught.value.repeatable


async def test_an_older_copy_is_not_mistaken_for_this_one() -> None:
    world = World()
    image = world.images("snapshot")[0]
    action = await post_once(world.client, image.id, TransferImage(region="atl1"))
    assert (await world.poller.wait(ActedOn("image", image.id), action)).completed
    del image.regions["atl1"]
    await asyncio.sleep(3600)
    world.faults.add(Fault(FaultKind.DROP_BEFORE, method="POST"))
    with pytest.raises(APIError) as caught:
        await post_once(world.client, image.id, TransferImage(region="atl1"))
    assert caught.value.repeatable


# Deleting


async def failed_deletion(world: World, faults: Sequence[Fault]) -> APIError:
    """Delete a snapshot, which comes to nothing as far as one can know."""
    world.faults.add(*faults)
    with pytest.raises(APIError) as caught:
        await delete_once(world.client, world.images("snapshot")[0].id)
    return caught.value


async def test_a_clear_deletion_costs_one_request() -> None:
    world = World()
    image = world.images("snapshot")[0]
    assert await delete_once(world.client, image.id) is True
    assert image.id not in world.account.images
    assert methods(world) == ["DELETE"]


async def test_an_image_that_is_already_gone_need_not_be_deleted() -> None:
    world = World()
    image = world.images("snapshot")[0]
    await delete(world.client, image.id)
    assert await delete_once(world.client, image.id) is False


# A 204 has nothing in it that could be cut short or missing.
@pytest.mark.parametrize("kind", [kind for kind in CARRIED_OUT if kind not in NEEDS_A_BODY])
async def test_an_image_that_was_deleted_despite_an_error_counts_as_deleted(kind: FaultKind) -> None:
    world = World()
    world.faults.add(Fault(kind, method="DELETE"))
    image = world.images("snapshot")[0]
    assert await delete_once(world.client, image.id) is True
    assert image.id not in world.account.images
    assert methods(world) == ["DELETE", "GET"]


async def test_an_image_that_was_deleted_after_a_timeout_counts_as_deleted() -> None:
    world = World()
    world.faults.add(Fault(FaultKind.SLOW, method="DELETE", seconds=100))
    assert await delete_once(world.client, world.images("snapshot")[0].id) is True


@pytest.mark.parametrize("kind", NOT_CARRIED_OUT)
async def test_a_deletion_that_was_not_carried_out_may_be_repeated(kind: FaultKind) -> None:
    world = World()
    image = world.images("snapshot")[0]
    error = await failed_deletion(world, [Fault(kind, method="DELETE")])
    assert (error.repeatable, error.ambiguous) == (True, False)
    assert image.id in world.account.images
    assert methods(world) == ["DELETE", "GET"]
    assert await delete_once(world.client, image.id) is True


@pytest.mark.parametrize("kind", REFUSED)
async def test_a_rate_limited_deletion_may_be_repeated_without_a_check(kind: FaultKind) -> None:
    world = World()
    error = await failed_deletion(world, [Fault(kind, method="DELETE")])
    assert error.repeatable
    assert methods(world) == ["DELETE"]


@pytest.mark.parametrize("kind", [FaultKind.ERROR_AFTER, FaultKind.DROP_AFTER, FaultKind.ERROR_BEFORE])
async def test_a_deletion_with_an_unclear_outcome_may_not_be_repeated(kind: FaultKind) -> None:
    world = World(http_retry_max=2)
    look_fails = Fault(FaultKind.UNAVAILABLE_HTML, method="GET", times=None)
    error = await failed_deletion(world, [Fault(kind, method="DELETE"), look_fails])
    assert (error.repeatable, error.ambiguous) == (False, True)
    assert error.method == "DELETE"
    assert methods(world) == ["DELETE", "GET", "GET", "GET"]


async def test_a_check_after_a_deletion_that_fails_once_is_repeated() -> None:
    world = World()
    world.faults.add(Fault(FaultKind.ERROR_AFTER, method="DELETE"), Fault(FaultKind.EMPTY_ERROR, method="GET"))
    assert await delete_once(world.client, world.images("snapshot")[0].id) is True
    assert methods(world) == ["DELETE", "GET", "GET"]


async def test_an_image_that_may_not_be_deleted_stays_and_the_refusal_is_final() -> None:
    world = World()
    backup = world.images("backup")[0]
    with pytest.raises(UnprocessableEntity) as caught:
        await delete_once(world.client, backup.id)
    assert not caught.value.repeatable
    assert backup.id in world.account.images
    assert methods(world) == ["DELETE"]


async def test_an_invalid_id_is_not_looked_up() -> None:
    world = World()
    with pytest.raises(InvalidArgument):
        await delete_once(world.client, 0)
    assert methods(world) == []
