"""Odd answers from the field, each the case of a class: every one becomes a documented error, within bounds.

`test_case_NN_...` names the case of the collection that a test keeps; those of whole runs are in
`tests/flows/replication/test_runs_with_odd_responses.py` and `tests/end_to_end/test_odd_responses_end_to_end.py`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import tracemalloc
from collections.abc import Callable
from contextlib import aclosing, suppress
from itertools import count
from random import Random
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.sandbox import Behavior, Fault, FaultKind, Limits, Sandbox
from tasks.digitalocean import (
    ActedOn,
    Action,
    APIError,
    ConvertImage,
    Forbidden,
    MalformedResponse,
    NotFound,
    ServerError,
    TransferImage,
    TransportError,
    UnexpectedStatus,
    track_usage,
)
from tasks.digitalocean.client import DigitalOceanClient
from tasks.digitalocean.idempotency import delete_once, post_once
from tasks.digitalocean.rate_limiter import RateLimiter
from tasks.digitalocean.settings import RateLimit
from tests.tasks.digitalocean.api_examples import COMPLETED_ACTION, LISTED_SNAPSHOT, RUNNING_ACTION, SNAPSHOT
from tests.tasks.digitalocean.in_process import World, post
from tests.tasks.digitalocean.test_client import IMAGE_ACTION_CALLS, Server, answering, network_settings, refusal
from tests.tasks.digitalocean.test_poller import EVERYWHERE, start, wait_for
from tests.virtual_time import VirtualClock

UUID = "0a343fac-eacf-11e9-b96b-0a58ac144633"
FOREIGN_ACTIONS: dict[str, Any] = {
    "a volume's": {**COMPLETED_ACTION, "id": 1, "type": "attach", "resource_id": UUID, "resource_type": "volume"},
    "without started_at": {key: COMPLETED_ACTION[key] for key in COMPLETED_ACTION if key != "started_at"} | {"id": 2},
    "with a text id": {**COMPLETED_ACTION, "id": "nfs-1", "resource_id": "share-1", "resource_type": "nfs"},
    "null": None,
    "a text": "action",
    "with a giant id": {**COMPLETED_ACTION, "id": 10**30},
    "of the year 1": {**COMPLETED_ACTION, "started_at": "0001-01-01T00:00:00+14:00"},
}
FOREIGN_SNAPSHOTS: dict[str, Any] = {
    "of nothing": {**LISTED_SNAPSHOT, "id": "1", "resource_id": None},
    "a volume's": {**LISTED_SNAPSHOT, "id": UUID, "resource_id": UUID, "resource_type": "volume"},
    "null": None,
    "without a size": {key: LISTED_SNAPSHOT[key] for key in LISTED_SNAPSHOT if key != "size_gigabytes"} | {"id": "2"},
}
ODD_STATUSES = [301, 302, 307, 400, 402, 408, 409, 418, 421, 423, 425, 451]
FEED, AN_IMAGES, ONE = "/v2/actions$", r"/images/\d+/actions$", r"/images/\d+/actions/\d+$"


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# 403


async def test_case_01_a_403_is_retried_if_a_control_request_with_the_same_scope_succeeds() -> None:
    world = World()
    image = world.images("snapshot")[0]
    world.faults.add(Fault(FaultKind.FORBIDDEN, "GET", "/actions$"))
    assert await world.client.list_image_actions(image.id) == []
    assert world.reads() == [f"/v2/images/{image.id}/actions", "/v2/images", f"/v2/images/{image.id}/actions"]


async def test_case_01_a_scope_is_missing_if_the_control_request_is_refused_too() -> None:
    world = World(behavior=Behavior(out_of_scope=frozenset({"/v2/snapshots"})))
    with pytest.raises(Forbidden) as caught:
        await world.client.list_snapshots()
    assert not caught.value.repeatable
    assert "snapshot:read" in str(caught.value)
    assert "GET /v2/snapshots: 403" in str(caught.value)
    assert len(world.reads()) == 2


async def test_case_01_a_persistent_403_with_the_scope_present_does_not_blame_the_token() -> None:
    world = World(http_retry_max=1)
    world.faults.add(Fault(FaultKind.FORBIDDEN, "GET", "/v2/regions$", times=1))
    world.faults.add(Fault(FaultKind.SLOW, "GET", "/v2/regions$", seconds=0))
    world.faults.add(Fault(FaultKind.FORBIDDEN, "GET", "/v2/regions$", times=1))
    with pytest.raises(Forbidden) as caught:
        await world.client.list_regions()
    assert caught.value.repeatable
    assert "needs the scope" not in str(caught.value)


async def test_case_01_a_single_403_without_access_to_the_feed_ends_no_wait() -> None:
    world = World(behavior=Behavior(out_of_scope=frozenset({"/v2/actions"})))
    started = await start(world, world.images("snapshot"))
    world.faults.add(Fault(FaultKind.FORBIDDEN, "GET", AN_IMAGES), Fault(FaultKind.FORBIDDEN, "GET", ONE))
    assert all(action.completed for action in await wait_for(world, started))


# Any other status


@pytest.mark.parametrize("status", ODD_STATUSES)
async def test_case_03_a_read_with_an_odd_status_is_retried(status: int) -> None:
    world = World()
    world.faults.add(Fault(FaultKind.ODD_STATUS, "GET", status=status))
    assert await world.client.list_regions()
    assert [seen.status for seen in world.record.requests] == [status, 200]


@pytest.mark.parametrize("status", ODD_STATUSES)
@pytest.mark.parametrize("path", [FEED, AN_IMAGES, ONE])
async def test_case_03_a_persistent_odd_status_at_one_endpoint_ends_no_wait(path: str, status: int) -> None:
    world = World()
    started = await start(world, world.images("snapshot"))
    world.faults.add(Fault(FaultKind.ODD_STATUS, "GET", path, times=None, status=status))
    assert all(action.completed for action in await wait_for(world, started))
    assert len(world.reads()) < 3 * len(started)


@pytest.mark.parametrize("status", [302, 408, 409, 425, 499, 500, 503, 504, 520])
async def test_case_04_an_action_started_despite_an_odd_status_is_adopted(status: int) -> None:
    world = World(behavior=Behavior(duplicate_transfers="accept"))
    image = world.images("snapshot")[0]
    world.faults.add(Fault(FaultKind.ODD_STATUS_AFTER, "POST", status=status))
    action = await post_once(world.client, image.id, TransferImage(region="atl1"))
    assert [started.id for started in world.record.actions] == [action.id]


@pytest.mark.parametrize("status", [302, 408, 409, 425, 499])
async def test_case_04_an_action_that_was_not_started_may_be_requested_again(status: int) -> None:
    world = World()
    image = world.images("snapshot")[0]
    world.faults.add(Fault(FaultKind.ODD_STATUS, "POST", status=status))
    with pytest.raises(UnexpectedStatus) as caught:
        await post_once(world.client, image.id, TransferImage(region="atl1"))
    assert caught.value.repeatable
    assert [seen.method for seen in world.record.requests] == ["POST", "GET"]


async def test_case_04_a_deletion_answered_with_408_counts_as_done() -> None:
    world = World()
    image = world.images("snapshot")[0]
    world.faults.add(Fault(FaultKind.ODD_STATUS_AFTER, "DELETE", status=408))
    assert await delete_once(world.client, image.id) is True


# One source that fails


@pytest.mark.parametrize(
    "kind",
    [
        FaultKind.ERROR_BEFORE,
        FaultKind.UNAVAILABLE_HTML,
        FaultKind.GATEWAY_TIMEOUT_AFTER,
        FaultKind.FORBIDDEN,
        FaultKind.NOT_FOUND,
        FaultKind.DROP_BEFORE,
        FaultKind.HTML_OK,
        FaultKind.TRUNCATED_AFTER,
        FaultKind.MISSING_FIELD,
        FaultKind.GIANT_NUMBER,
        FaultKind.SLOW,
    ],
)
@pytest.mark.parametrize("path", [FEED, AN_IMAGES, ONE, f"{FEED}|{AN_IMAGES}", f"{FEED}|{ONE}", f"{AN_IMAGES}|{ONE}"])
@pytest.mark.longest(6 * 3600)
async def test_case_05_a_source_that_keeps_failing_is_replaced_by_another(path: str, kind: FaultKind) -> None:
    world = World()
    started = await start(world, world.images("snapshot"))
    await asyncio.sleep(60)
    world.record.requests.clear()
    world.faults.add(Fault(kind, "GET", path, times=None, seconds=100))
    assert all(action.completed for action in await wait_for(world, started))
    # A few tries of what fails, and not one for each second; each action at most a few times by itself.
    assert len(world.reads()) < 6 * len(started)


async def test_case_05_a_feed_that_works_again_is_used_again() -> None:
    world = World(droplets=60)
    images = world.images("snapshot")
    for image in images:
        image.size_gigabytes = 60
    started = await start(world, images)
    world.faults.add(Fault(FaultKind.ERROR_BEFORE, "GET", FEED, times=5))
    assert all(action.completed for action in await wait_for(world, started))
    answers = [seen.status for seen in world.record.requests if seen.path.startswith("/v2/actions")]
    assert answers[:5] == [500] * 5
    assert 200 in answers[5:]


# Foreign entries


def listing(key: str, *entries: object) -> Server:
    return answering(200, json={key: entries, "links": {}, "meta": {"total": len(entries)}})


@pytest.mark.parametrize("entry", FOREIGN_ACTIONS.values(), ids=FOREIGN_ACTIONS)
def test_case_06_foreign_entries_in_the_feed_are_skipped_with_one_warning_per_run(
    entry: object, caplog: pytest.LogCaptureFixture
) -> None:
    server = listing("actions", entry, RUNNING_ACTION, entry)

    async def read_twice(client: DigitalOceanClient) -> list[Action]:
        with track_usage():
            actions = (await client.list_recent_actions())[0]
            assert [each.id for each in (await client.list_recent_actions())[0]] == [each.id for each in actions]
        return actions

    actions = server.ask(read_twice)
    assert [each.id for each in actions] == [RUNNING_ACTION["id"]]
    (warning,) = warnings_in(caplog)
    assert "/v2/actions" in warning
    server.ask(read_twice)
    assert len(warnings_in(caplog)) == 2


async def test_case_06_foreign_entries_end_no_wait_and_cost_few_requests() -> None:
    world = World(droplets=20)
    started = await start(world, world.images("snapshot"))
    world.faults.add(Fault(FaultKind.FOREIGN_ENTRIES, times=None))
    world.record.requests.clear()
    assert all(action.completed for action in await wait_for(world, started))
    assert len(world.record.requests) < len(started)


async def test_case_06_foreign_entries_do_not_hide_which_page_ours_are_on() -> None:
    """So many volumes' actions that ours are on the second page."""
    foreign = [{**FOREIGN_ACTIONS["a volume's"], "id": 3 * 10**9 - place} for place in range(200)]

    world = World(droplets=20)
    started = await start(world, world.images("snapshot"))
    carry = world.wire.handle_async_request

    async def crowded(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params.get("page", "1"))
        if request.url.path == "/v2/actions" and page == 1:
            links = {"pages": {"next": "https://api.digitalocean.com/v2/actions?page=2"}}
            return httpx.Response(200, json={"actions": foreign, "links": links}, request=request)
        if request.url.path == "/v2/actions":
            request.url = request.url.copy_set_param("page", page - 1)
        return await carry(request)

    world.wire.handle_async_request = crowded  # type: ignore[method-assign]
    world.record.requests.clear()
    assert all(action.completed for action in await wait_for(world, started))
    assert len(world.record.requests) < len(started)


@pytest.mark.parametrize("entry", FOREIGN_SNAPSHOTS.values(), ids=FOREIGN_SNAPSHOTS)
def test_case_07_unreadable_snapshots_are_skipped_with_a_warning(
    entry: object, caplog: pytest.LogCaptureFixture
) -> None:
    snapshots = listing("snapshots", entry, LISTED_SNAPSHOT).ask(lambda client: client.list_snapshots())
    assert [each.id for each in snapshots] == [6372321]
    (warning,) = warnings_in(caplog)
    assert "/v2/snapshots" in warning
    assert listing("snapshots", entry).ask(lambda client: client.list_snapshots()) == []


def test_case_07_an_unreadable_image_does_not_hide_the_others(caplog: pytest.LogCaptureFixture) -> None:
    server = listing("images", {**SNAPSHOT, "id": 7, "created_at": None}, SNAPSHOT)
    images = server.ask(lambda client: client.list_private_images())
    assert [each.id for each in images] == [SNAPSHOT["id"]]
    (warning,) = warnings_in(caplog)
    assert "/v2/images" in warning
    # Where none can be read, the answer is wrong and not the images.
    error = refusal(listing("images", {**SNAPSHOT, "created_at": None}), lambda client: client.list_private_images())
    assert type(error) is MalformedResponse


# 404


async def test_case_08_an_action_not_found_just_after_its_start_is_requested_again() -> None:
    world = World()
    world.faults.add(Fault(FaultKind.ACTION_UNLISTED))
    ((image, action),) = await start(world, world.images("snapshot")[:1], ["atl1"])
    world.faults.add(Fault(FaultKind.NOT_FOUND, "GET", ONE, times=2))
    assert (await world.poller.wait(ActedOn("image", image.id), action)).completed


async def test_case_08_an_action_that_is_never_found_ends_with_its_own_404_not_as_a_deleted_image() -> None:
    world = World()
    ((image, action),) = await start(world, world.images("snapshot")[:1], ["atl1"])
    stranger = action.model_copy(update={"id": action.id + 1000})
    with pytest.raises(NotFound) as caught:
        await world.poller.wait(ActedOn("image", image.id), stranger)
    assert caught.value.path == f"/v2/images/{image.id}/actions/{stranger.id}"


async def test_case_08_a_404_to_a_deletion_is_not_success_while_the_image_exists() -> None:
    world = World()
    image = world.images("snapshot")[0]
    world.faults.add(Fault(FaultKind.NOT_FOUND, "DELETE"))
    with pytest.raises(NotFound) as caught:
        await delete_once(world.client, image.id)
    assert caught.value.repeatable
    assert await delete_once(world.client, image.id) is True


# Pauses


@pytest.mark.parametrize("value", ["31536000", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
@pytest.mark.longest(7200)
async def test_case_10_no_retry_after_pauses_requests_for_longer_than_the_longest_window(
    value: str, caplog: pytest.LogCaptureFixture
) -> None:
    rate_limiter = RateLimiter([RateLimit(250, 60), RateLimit(5000, 3600)], VirtualClock(), Random(1))  # noqa: S311
    rate_limiter.record_response(await rate_limiter.acquire(), 429, {"retry-after": value})
    for _ in range(10):
        rate_limiter.record_response(await rate_limiter.acquire(), 200, {})
    assert 3600 <= asyncio.get_running_loop().time() <= 3700
    assert any(value[:30] in warning and "retry-after" in warning for warning in warnings_in(caplog))


@pytest.mark.parametrize(("status", "waits"), [(503, True), (500, True), (404, False)])
async def test_case_11_the_retry_after_of_an_unavailable_server_is_respected(status: int, waits: bool) -> None:
    rate_limiter = RateLimiter([RateLimit(250, 60), RateLimit(5000, 3600)], VirtualClock(), Random(1))  # noqa: S311
    rate_limiter.record_response(await rate_limiter.acquire(), status, {"retry-after": "20"})
    await rate_limiter.acquire()
    assert asyncio.get_running_loop().time() == (20 if waits else 0)


async def test_case_11_a_503_with_retry_after_is_retried_once_that_time_has_passed() -> None:
    world = World()
    world.faults.add(Fault(FaultKind.UNAVAILABLE_RETRY_AFTER, seconds=20))
    assert await world.client.list_regions()
    refused, answered = [seen.at for seen in world.record.requests]
    assert answered - refused >= 20


@pytest.mark.parametrize("retry_after", ["0", "-5", "Mon, 01 Jan 1990 00:00:00 GMT"])
async def test_a_retry_after_of_zero_does_not_allow_rapid_retries(retry_after: str) -> None:
    rate_limiter = RateLimiter([RateLimit(1000, 3600)], VirtualClock(), Random(1))  # noqa: S311
    for _ in range(8):
        rate_limiter.record_response(await rate_limiter.acquire(), 429, {"retry-after": retry_after})
    assert asyncio.get_running_loop().time() > 60


# Bounds


def test_case_12_a_slowly_dripping_response_is_cut_off_at_the_timeout_of_the_whole_request() -> None:
    async def calling() -> None:
        settings = network_settings(sandbox, http_timeout_seconds=0.5)
        async with aclosing(DigitalOceanClient(settings)) as client:
            await client.get_image(image.id)

    with Sandbox() as sandbox:
        image = next(iter(sandbox.account.images.values()))
        sandbox.faults.add(Fault(FaultKind.DRIP, seconds=0.02))
        with pytest.raises(TransportError, match=r"0\.5 s"):
            asyncio.run(calling())


def test_case_13_a_giant_body_is_rejected_while_it_is_read() -> None:
    async def calling(status: int) -> None:
        async with aclosing(DigitalOceanClient(network_settings(sandbox, http_retry_max=0))) as client:
            await client.list_regions()

    with Sandbox() as sandbox:
        sandbox.faults.add(Fault(FaultKind.GIANT_BODY, size=187_000_000))
        tracemalloc.start()
        try:
            with pytest.raises(MalformedResponse, match="MiB"):
                asyncio.run(calling(200))
            assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
        finally:
            tracemalloc.stop()


def test_case_13_a_giant_body_that_was_compressed_is_rejected_too() -> None:
    body = gzip.compress(b'{"regions": []' + b" " * 50_000_000 + b"}")
    server = answering(200, content=body, headers={"content-encoding": "gzip"})
    assert type(refusal(server, lambda client: client.list_regions())) is MalformedResponse


def test_case_13_a_giant_error_page_raises_the_error_of_its_status() -> None:
    error = refusal(answering(502, content=b" " * 50_000_000), IMAGE_ACTION_CALLS["get"])
    assert type(error) is ServerError


@pytest.mark.parametrize("size", [0, 1, 3], ids=["empty pages", "the same entry", "new entries"])
def test_a_list_that_never_ends_is_an_error(size: int) -> None:
    numbers = count(1)

    def answer(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params["page"])
        actions = [{**COMPLETED_ACTION, "id": 1 if size == 1 else next(numbers)} for _ in range(size)]
        links = {"pages": {"next": f"https://api.digitalocean.com/v2/actions?page={page + 1}"}}
        return httpx.Response(200, json={"actions": actions, "links": links, "meta": {"total": 5}})

    server = Server(answer)
    assert type(refusal(server, IMAGE_ACTION_CALLS["list"])) is MalformedResponse
    assert len(server.asked) < 20


@pytest.mark.parametrize("kind", [FaultKind.GIANT_NUMBER, FaultKind.ODD_HEADERS, FaultKind.BARE])
async def test_case_14_impossible_numbers_end_no_wait(kind: FaultKind) -> None:
    world = World()
    started = await start(world, world.images("snapshot"))
    world.faults.add(Fault(kind, "GET", times=10))
    assert all(action.completed for action in await wait_for(world, started))


ODD_BODIES = [
    b'{"action": {"id": ' + b"9" * 5000 + b"}}",
    b'{"action": ' + b"[" * 100_000,
    b'{"action": {"id": 1e999, "status": "completed", "type": "transfer", "started_at": NaN}}',
    json.dumps({"action": {**COMPLETED_ACTION, "id": 10**30}}).encode(),
    json.dumps({"action": {**COMPLETED_ACTION, "started_at": "0001-01-01T00:00:00+14:00"}}).encode(),
    json.dumps({"action": {**COMPLETED_ACTION, "started_at": "9999-12-31T23:59:59-14:00"}}).encode(),
    b"\xff\xfe\x00",
    b"[]",
]


@pytest.mark.parametrize("body", ODD_BODIES, ids=range(len(ODD_BODIES)))
def test_case_14_an_unreadable_body_is_a_malformed_response(body: bytes) -> None:
    assert type(refusal(answering(200, content=body), IMAGE_ACTION_CALLS["get"])) is MalformedResponse


@pytest.mark.parametrize("charset", ["klingon", "hex", "rot13", "zlib", "utf-7", "idna", "unicode_escape", "'", ""])
@pytest.mark.parametrize("status", [200, 404, 502])
def test_case_14_an_unknown_charset_changes_nothing(charset: str, status: int) -> None:
    headers = {"content-type": f"application/json; charset={charset}"}
    body = {"action": COMPLETED_ACTION, "id": "odd", "message": "Grüße"}
    server = answering(status, content=json.dumps(body, ensure_ascii=False).encode(), headers=headers)
    if status == 200:
        assert server.ask(IMAGE_ACTION_CALLS["get"]).id == COMPLETED_ACTION["id"]
    else:
        assert "Grüße" in str(refusal(server, IMAGE_ACTION_CALLS["get"]))


HEADER_TEXT = st.one_of(
    st.sampled_from(["9" * 400, "9" * 5000, "-1", "1e9", "nan", "inf", "Fri, 31 Dec 9999 23:59:59 -2359"]),
    st.sampled_from(["Mon, 01 Jan 0001 00:00:00 +1400", "١٢", "31536000", "0", " ", "1, 2", "2026-11-20T03:00:00Z"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
)
HEADERS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        [
            *("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "retry-after", "date", "content-type"),
            *("x-request-id", "location", "set-cookie", "content-length", "link"),
        ],
        HEADER_TEXT,
    ),
)
JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.sampled_from([10**400, "9" * 400])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["id", "message", "action", "actions", "links", "pages", "next"]), inner),
    ),
    max_leaves=12,
)
BODIES = st.one_of(st.binary(max_size=60), JSON_VALUES.map(lambda value: json.dumps(value).encode()))


@given(status=st.integers(200, 599), headers=HEADERS, body=BODIES, call=st.sampled_from([*IMAGE_ACTION_CALLS]))
def test_case_14_every_response_becomes_a_documented_error(
    status: int, headers: dict[str, str], body: bytes, call: str
) -> None:
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    server = Server(lambda _: httpx.Response(status, headers=encoded, stream=httpx.ByteStream(body)))

    async def ask(client: DigitalOceanClient) -> None:
        with suppress(APIError):
            await IMAGE_ACTION_CALLS[call](client)
        # And it leaves nothing behind that breaks later.
        client.server_clock.now()
        client.rate_limiter.pause()
        client.rate_limiter.seconds_for(10)

    server.ask(ask, http_retry_max=0)


async def test_case_14_a_date_in_the_year_9999_is_ignored() -> None:
    world = World()
    world.faults.add(Fault(FaultKind.ODD_HEADERS))
    await world.client.list_regions()
    assert world.client.server_clock.now().year == 2026


PAGES: dict[str, tuple[str, str]] = {
    "with a title": (
        "<html><head><style>a{b:c}</style><TITLE>\n 504 Gateway\nTime-out</TITLE>",
        "504 Gateway Time-out",
    ),
    "without": ("<!DOCTYPE html>\n<html><style>" + ".cf-error { color: red } " * 400, ""),
    "with an endless title": ("<html><title>" + "x" * 10_000, ""),
    "with a long title": ("<html><title>" + "y" * 10_000 + "</title>", "y" * 50),
}


@pytest.mark.parametrize(("page", "title"), PAGES.values(), ids=PAGES)
@pytest.mark.parametrize("media_type", ["text/html", "text/html; charset=klingon", "application/json", ""])
def test_case_15_only_the_title_of_an_html_page_is_reported(page: str, title: str, media_type: str) -> None:
    server = answering(504, content=page.encode(), headers={"content-type": media_type} if media_type else {})
    error = refusal(server, IMAGE_ACTION_CALLS["get"])
    assert type(error) is ServerError
    assert "504" in str(error)
    assert "an HTML page" in str(error)
    assert title in str(error)
    assert len(error.message) < 200
    assert "color" not in str(error)
    assert "a{b:c}" not in str(error)


def test_case_15_a_successful_status_with_an_html_page_is_reported_as_such() -> None:
    error = refusal(answering(200, html="<html><title>One moment</title><style>a{b:c}"), IMAGE_ACTION_CALLS["get"])
    assert type(error) is MalformedResponse
    assert "an HTML page" in str(error)
    assert "One moment" in str(error)
    assert "a{b:c}" not in str(error)


# The limit that is lower than documented


async def post_many(world: World, number: int) -> float:
    """Start this number of transfers, at most four at a time; returns the share that was refused."""
    room = asyncio.Semaphore(4)
    goals = ((image.id, region) for image in world.images("snapshot") for region in EVERYWHERE)

    async def post_until_done(image_id: int, region: str) -> None:
        async with room:
            while True:
                try:
                    await post(world.client, image_id, TransferImage(region=region))
                except APIError as error:
                    if error.status != 429:
                        return
                else:
                    return

    await asyncio.gather(*(post_until_done(*goal) for goal, _ in zip(goals, range(number), strict=False)))
    return world.record.rate_limited() / len(world.record.requests)


@pytest.mark.parametrize("refusals_say_when", [True, False])
@pytest.mark.parametrize("latency", [0.02, 0.25])
@pytest.mark.parametrize("per_minute", [20, 60])
async def test_case_16_a_limit_lower_than_documented_is_learned_from_refusals(
    per_minute: int, latency: float, refusals_say_when: bool
) -> None:
    limits = Limits(per_minute, 5000, refusals_say_when=refusals_say_when)
    world = World(droplets=120, limits=limits, latency=latency)
    assert await post_many(world, 400) <= 0.05


async def test_case_16_two_odd_429s_in_a_row_slow_a_run_down_for_minutes_not_hours() -> None:
    world = World(droplets=120)
    # In the fifth second, when only a few were sent.
    world.faults.add(Fault(FaultKind.LIMIT_RESET_IN_PAST, skip=5, times=2))
    await post_many(world, 400)
    assert asyncio.get_running_loop().time() < 20 * 60


async def test_case_16_a_neighbor_that_uses_up_a_minute_once_is_not_mistaken_for_a_lower_limit() -> None:
    world = World(droplets=120)
    world.limits.spend(world.clock.unix(), 240)
    await post_many(world, 400)
    assert asyncio.get_running_loop().time() < 5 * 60


# The bare object


def test_case_20_an_unwrapped_action_is_read_where_the_documentation_wraps_it() -> None:
    action = answering(200, json=RUNNING_ACTION).ask(IMAGE_ACTION_CALLS["get"])
    assert action.id == RUNNING_ACTION["id"]
    image = answering(200, json=SNAPSHOT).ask(lambda client: client.get_image(6376601))
    assert image.id == SNAPSHOT["id"]


def test_a_403_to_a_change_means_that_nothing_was_changed() -> None:
    error = refusal(answering(403, json={"id": "forbidden"}), IMAGE_ACTION_CALLS["post"])
    assert (error.repeatable, error.ambiguous) == (True, False)


Raised = Callable[[httpx.Request], httpx.Response]


@pytest.mark.parametrize(
    "happening", [httpx.InvalidURL("odd"), httpx.StreamClosed(), UnicodeDecodeError("ascii", b"", 0, 1, "odd")]
)
def test_every_exception_of_the_http_library_becomes_a_transport_error(happening: Exception) -> None:
    def happen(_: httpx.Request) -> httpx.Response:
        raise happening

    error = refusal(Server(happen), lambda client: post(client, 7, ConvertImage()))
    assert type(error) is TransportError
    assert error.ambiguous
