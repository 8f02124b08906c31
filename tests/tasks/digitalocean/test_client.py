"""Each call: what goes out, and what comes of every answer."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

import httpx
import pytest

from deployments.sandbox import Behavior, Fault, FaultKind, Sandbox
from tasks.digitalocean import (
    APIError,
    ConvertImage,
    Forbidden,
    InvalidArgument,
    MalformedResponse,
    NotFound,
    ScopeMissing,
    ServerError,
    Settings,
    TooManyRequests,
    TransferImage,
    TransportError,
    Unauthorized,
    UnexpectedStatus,
    UnprocessableEntity,
    track_usage,
)
from tasks.digitalocean.client import DigitalOceanClient
from tasks.digitalocean.errors import ConnectionFailed
from tests.tasks.digitalocean.api_examples import (
    COMPLETED_ACTION,
    DROPLET,
    FAILURES,
    LISTED_SNAPSHOT,
    RUNNING_ACTION,
    SNAPSHOT,
    UNEXPECTED_ERROR,
)
from tests.tasks.digitalocean.in_process import TOKEN, World, delete, make_settings, post
from tests.virtual_time import VirtualClock, run

Call = Callable[[DigitalOceanClient], Awaitable[Any]]
Answering = Callable[[httpx.Request], httpx.Response]

IMAGE_ACTION_CALLS: dict[str, Call] = {
    "get": lambda client: client.get_image_action(7555620, 29410565),
    "list": lambda client: client.list_image_actions(7555620),
    "post": lambda client: post(client, 7555620, ConvertImage()),
}
CALLS = pytest.mark.parametrize("call", IMAGE_ACTION_CALLS.values(), ids=IMAGE_ACTION_CALLS)
LIMITED = {"ratelimit-limit": "5000", "ratelimit-remaining": "4999", "ratelimit-reset": "1415984218"}


class Server:
    """Answers as it is told and remembers what it was asked."""

    def __init__(self, answer: Answering) -> None:
        self.asked: list[httpx.Request] = []
        self._answer = answer

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self._answer(request)

    def ask(self, call: Call, **settings: Any) -> Any:
        async def asking() -> Any:
            client = DigitalOceanClient(make_settings(**settings), httpx.MockTransport(self), VirtualClock())
            async with aclosing(client):
                return await call(client)

        return run(asking())


def answering(status: int, **content: Any) -> Server:
    return Server(lambda _: httpx.Response(status, **content))


def refusal(server: Server, call: Call, **settings: Any) -> APIError:
    with pytest.raises(APIError) as caught:
        server.ask(call, **{"http_retry_max": 0, **settings})
    assert TOKEN not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    return caught.value


def test_an_action_is_requested_by_image_id_and_action_id() -> None:
    server = answering(200, json={"action": COMPLETED_ACTION}, headers=LIMITED)
    action = server.ask(IMAGE_ACTION_CALLS["get"])
    assert (action.id, action.completed, action.region_slug) == (29410565, True, "nyc2")
    (request,) = server.asked
    assert request.method == "GET"
    assert request.url == "https://api.digitalocean.com/v2/images/7555620/actions/29410565"


def test_the_actions_of_an_image_are_listed_in_pages_of_maximum_size() -> None:
    server = answering(200, json={"actions": [COMPLETED_ACTION], "links": {}, "meta": {"total": 1}}, headers=LIMITED)
    (action,) = server.ask(IMAGE_ACTION_CALLS["list"])
    assert action.id == 29410565
    (request,) = server.asked
    assert request.url.path == "/v2/images/7555620/actions"
    assert dict(request.url.params) == {"page": "1", "per_page": "200"}


@pytest.mark.parametrize("request_body", [ConvertImage(), TransferImage(region="nyc3")], ids=str)
def test_an_action_is_started_with_the_documented_request_body(request_body: ConvertImage | TransferImage) -> None:
    server = answering(201, json={"action": RUNNING_ACTION}, headers=LIMITED)
    action = server.ask(lambda client: post(client, 7938269, request_body))
    assert (action.id, action.in_progress) == (36805527, True)
    (request,) = server.asked
    assert (request.method, request.url.path) == ("POST", "/v2/images/7938269/actions")
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.content) == request_body.model_dump()


@CALLS
def test_every_request_sends_the_token_and_accepts_json(call: Call) -> None:
    server = answering(404, json=FAILURES[404])
    refusal(server, call)
    request, *_ = server.asked
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["accept"] == "application/json"


@CALLS
@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, FAILURES[401], Unauthorized),
        (404, FAILURES[404], NotFound),
        (422, {"id": "unprocessable_entity", "message": "Image already has a pending event."}, UnprocessableEntity),
        (429, FAILURES[429], TooManyRequests),
        (429, {"id": "Too Many Requests", "message": "API rate limit exceeded."}, TooManyRequests),
        (500, FAILURES[500], ServerError),
        (503, UNEXPECTED_ERROR, ServerError),
        (400, UNEXPECTED_ERROR, UnexpectedStatus),
        (418, UNEXPECTED_ERROR, UnexpectedStatus),
    ],
)
def test_every_documented_failure_raises_its_error(
    call: Call, status: int, body: dict[str, str], kind: type[APIError]
) -> None:
    server = answering(status, json={**body, "request_id": "4d9d8375"}, headers=LIMITED)
    error = refusal(server, call)
    assert type(error) is kind
    # After the 404 of its list, the image is asked for.
    request, *_ = server.asked
    assert (error.status, error.method, error.path) == (status, request.method, request.url.path)
    assert (error.error_id, error.message, error.request_id) == (body["id"], body["message"], "4d9d8375")


@CALLS
def test_a_read_that_is_refused_along_with_its_control_request_lacks_a_scope(call: Call) -> None:
    words = {"id": "forbidden", "message": "You do not have access for the attempted action."}
    server = answering(403, json={**words, "request_id": "4d9d8375"}, headers=LIMITED)
    error = refusal(server, call)
    first, *control = server.asked
    assert (error.status, error.method, error.path) == (403, first.method, first.url.path)
    assert (error.error_id, error.message) == (words["id"], words["message"])
    if error.method == "GET":
        assert type(error) is ScopeMissing
        assert [request.url.path for request in control] == ["/v2/images"]
    else:
        assert type(error) is Forbidden
        assert control == []


def test_the_request_id_is_taken_from_the_header_if_the_body_has_none() -> None:
    server = answering(500, json=FAILURES[500], headers={"x-request-id": "from-header"})
    assert refusal(server, IMAGE_ACTION_CALLS["get"]).request_id == "from-header"


@CALLS
@pytest.mark.parametrize(("status", "kind"), [(429, TooManyRequests), (502, ServerError), (418, UnexpectedStatus)])
def test_an_html_page_from_a_proxy_raises_the_same_error_as_the_api(
    call: Call, status: int, kind: type[APIError]
) -> None:
    page = "<html><head><title>Sorry</title></head><body>" + "x" * 100_000 + "</body></html>"
    error = refusal(answering(status, html=page), call)
    assert type(error) is kind
    assert "Sorry" in str(error)
    assert len(str(error)) < 1000


@CALLS
@pytest.mark.parametrize(("status", "kind"), [(429, TooManyRequests), (502, ServerError), (404, NotFound)])
def test_an_error_without_a_body_is_described_by_its_status(call: Call, status: int, kind: type[APIError]) -> None:
    error = refusal(answering(status), call)
    assert type(error) is kind
    assert httpx.Response(status).reason_phrase in str(error)


@CALLS
@pytest.mark.parametrize(
    "content",
    [
        {},
        {"html": "<html>One moment, please</html>"},
        {"content": b'{"action": {"id": 36805527, "stat'},
        {"content": b'\xff\xfe{"action"'},
        {"json": []},
        {"json": None},
        {"json": {}},
        {"json": {"action": None, "actions": None}},
    ],
)
def test_an_unreadable_success_raises_its_own_error(call: Call, content: dict[str, Any]) -> None:
    error = refusal(answering(200, **content), call)
    assert type(error) is MalformedResponse
    assert error.ambiguous is (error.method == "POST")


@pytest.mark.parametrize("field", ["id", "status", "type", "started_at"])
@CALLS
def test_fields_missing_from_a_response_are_named(call: Call, field: str) -> None:
    lacking = {name: value for name, value in RUNNING_ACTION.items() if name != field}
    error = refusal(answering(200, json={"action": lacking, "actions": [lacking]}), call)
    assert type(error) is MalformedResponse
    assert f".{field}: " in str(error)


@CALLS
@pytest.mark.parametrize(
    ("happening", "kind"),
    [
        (httpx.ConnectError("no route"), ConnectionFailed),
        (httpx.ConnectTimeout(""), ConnectionFailed),
        (httpx.PoolTimeout(""), ConnectionFailed),
        (httpx.ReadTimeout(""), TransportError),
        (httpx.WriteTimeout(""), TransportError),
        (httpx.ReadError(""), TransportError),
        (httpx.WriteError("broken pipe"), TransportError),
        (httpx.RemoteProtocolError("cut off"), TransportError),
        (httpx.DecodingError("no gzip"), TransportError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_missing_response_raises_an_error_that_says_whether_anything_was_sent(
    call: Call, happening: httpx.HTTPError, kind: type[APIError]
) -> None:
    def happen(_: httpx.Request) -> httpx.Response:
        raise happening

    error = refusal(Server(happen), call)
    assert type(error) is kind
    assert type(happening).__name__ in str(error)
    assert error.status is None
    assert error.ambiguous is (error.method == "POST" and kind is TransportError)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@CALLS
def test_a_redirect_is_not_followed(call: Call, status: int) -> None:
    server = answering(status, headers={"location": "https://evil.example.com/v2/images"})
    assert type(refusal(server, call)) is UnexpectedStatus
    assert len(server.asked) == 1


@pytest.mark.parametrize("name", ["get", "post"])
@pytest.mark.parametrize("status", [429, 500])
def test_a_call_with_a_single_request_is_not_retried(name: str, status: int) -> None:
    server = answering(status, json=FAILURES[status])
    refusal(server, IMAGE_ACTION_CALLS[name], http_retry_max=5)
    assert len(server.asked) == 1


BAD_IDS: list[Any] = [0, -1, True, 1.0, "7", "7/../../droplets", None]


@pytest.mark.parametrize("bad", BAD_IDS)
@pytest.mark.parametrize(
    "call",
    [
        lambda client, bad: client.get_image(bad),
        delete,
        lambda client, bad: client.get_image_action(bad, 1),
        lambda client, bad: client.get_image_action(1, bad),
        lambda client, bad: client.list_image_actions(bad),
        lambda client, bad: post(client, bad, ConvertImage()),
        lambda client, bad: client.tag_images("dr", [bad]),
    ],
)
def test_an_invalid_id_is_rejected_before_anything_is_sent(call: Any, bad: Any) -> None:
    server = answering(200)
    with pytest.raises(InvalidArgument):
        server.ask(lambda client: call(client, bad))
    assert server.asked == []


@pytest.mark.parametrize("bad", ["", "two words", "a/b", "..", "ü", "x" * 256, "tag\n", "a?b"])
@pytest.mark.parametrize(
    "call",
    [
        lambda client, bad: client.create_tag(bad),
        lambda client, bad: client.tag_images(bad, [7]),
        lambda client, bad: client.list_droplets(bad or "?"),  # none at all means every Droplet
    ],
)
def test_an_invalid_tag_is_rejected_before_anything_is_sent(call: Any, bad: str) -> None:
    server = answering(200)
    with pytest.raises(InvalidArgument):
        server.ask(lambda client: call(client, bad))
    assert server.asked == []


def test_one_invalid_id_prevents_tagging_all_images() -> None:
    server = answering(204)
    with pytest.raises(InvalidArgument):
        server.ask(lambda client: client.tag_images("dr", [*range(1, 1200), 0]))
    assert server.asked == []


# Lists in pages


def paged(total: int, size: int, links: Callable[[int, int], object]) -> Server:
    """A server whose pages are smaller than what is asked for."""

    def answer(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params["page"])
        ids = range(total)[(page - 1) * size : page * size]
        actions = [{**COMPLETED_ACTION, "id": number + 1} for number in ids]
        return httpx.Response(200, json={"actions": actions, "links": links(page, -(-total // size))})

    return Server(answer)


def link(page: int, last: int, host: str = "https://api.digitalocean.com") -> object:
    return {"pages": {"next": f"{host}/v2/images/7555620/actions?page={page + 1}&per_page=3"}} if page < last else {}


@pytest.mark.parametrize("body", [{"action": RUNNING_ACTION}, RUNNING_ACTION])
def test_a_started_action_is_read_wrapped_as_in_the_documented_example_and_bare_as_in_the_schema(
    body: dict[str, Any],
) -> None:
    action = answering(201, json=body).ask(IMAGE_ACTION_CALLS["post"])
    assert action.id == RUNNING_ACTION["id"]


@pytest.mark.parametrize("body", [{}, {"id": "ok", "message": "fine"}, {"action": None}])
def test_a_response_without_an_action_is_malformed(body: dict[str, Any]) -> None:
    with pytest.raises(MalformedResponse):
        answering(201, json=body).ask(IMAGE_ACTION_CALLS["post"])


def test_a_list_is_read_completely_even_if_the_server_uses_small_pages() -> None:
    server = paged(10, 3, link)
    actions = server.ask(IMAGE_ACTION_CALLS["list"])
    assert [action.id for action in actions] == [*range(1, 11)]
    assert [request.url.params["page"] for request in server.asked] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("links", [{}, {"pages": {}}, {"pages": None}, None, {"pages": {"prev": "https://x?page=1"}}])
def test_a_list_ends_when_there_is_no_next_link(links: object) -> None:
    server = paged(3, 3, lambda *_: links)
    assert len(server.ask(IMAGE_ACTION_CALLS["list"])) == 3
    assert len(server.asked) == 1


def test_a_list_without_links_is_complete() -> None:
    server = answering(200, json={"actions": [COMPLETED_ACTION]})
    assert len(server.ask(IMAGE_ACTION_CALLS["list"])) == 1


def test_a_link_to_another_host_does_not_send_the_token_there() -> None:
    server = paged(6, 3, lambda page, last: link(page, last, host="http://evil.example.com"))
    assert len(server.ask(IMAGE_ACTION_CALLS["list"])) == 6
    assert {request.url.host for request in server.asked} == {"api.digitalocean.com"}
    assert {request.url.scheme for request in server.asked} == {"https"}


@pytest.mark.parametrize(
    "target",
    ["https://api.digitalocean.com/v2/actions", "?page=1", "?page=0", "?page=-2", "?page=two", "?page=", "?per_page=2"],
)
def test_a_link_that_does_not_advance_is_an_error_not_an_endless_list(target: str) -> None:
    server = paged(9, 3, lambda *_: {"pages": {"next": target}})
    error = refusal(server, IMAGE_ACTION_CALLS["list"])
    assert type(error) is MalformedResponse
    assert len(server.asked) == 1


@pytest.mark.parametrize("links", [[], "none", {"pages": []}, {"pages": "none"}, {"pages": {"next": 2}}])
def test_links_of_an_unexpected_type_never_raise_another_error(links: object) -> None:
    server = paged(3, 3, lambda *_: links)
    with suppress(MalformedResponse):
        assert len(server.ask(IMAGE_ACTION_CALLS["list"], http_retry_max=0)) == 3
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "kind",
    [
        FaultKind.ERROR_BEFORE,
        FaultKind.UNAVAILABLE_HTML,
        FaultKind.EMPTY_ERROR,
        FaultKind.DROP_BEFORE,
        FaultKind.DROP_AFTER,
        FaultKind.TRUNCATED_AFTER,
        FaultKind.HTML_OK,
        FaultKind.BURST_LIMIT,
        FaultKind.LIMIT_RESET_IN_PAST,
        FaultKind.LIMIT_HTML,
    ],
)
async def test_a_failed_page_is_retried_not_the_whole_list(kind: FaultKind) -> None:
    world = World(droplets=20, behavior=Behavior(max_per_page=10))
    first = await world.client.list_recent_actions(1)
    assert len(first.actions) == first.size == 10
    world.record.requests.clear()
    # The first page is over when the second fails, twice.
    asked = asyncio.create_task(world.client.list_private_images())
    await asyncio.sleep(world.latency * 0.75)
    assert len(world.record.requests) == 1
    world.faults.add(Fault(kind, path="/v2/images", times=2))
    images = await asked
    ids, pages = [image.id for image in images], [seen.path.partition("page=")[2][:1] for seen in world.record.requests]
    assert len(ids) == len(set(ids)) > 30
    assert pages[:5] == ["1", "2", "2", "2", "3"]
    assert sorted(pages[3:]) == pages[3:]


def test_a_page_that_keeps_failing_is_abandoned_after_the_configured_attempts() -> None:
    server = answering(503)
    error = refusal(server, IMAGE_ACTION_CALLS["list"], http_retry_max=3)
    assert type(error) is ServerError
    assert len(server.asked) == 4


def test_a_permanently_refused_page_is_not_retried() -> None:
    server = answering(404, json=FAILURES[404])
    refusal(server, IMAGE_ACTION_CALLS["list"], http_retry_max=3)
    assert [request.url.path for request in server.asked] == ["/v2/images/7555620/actions", "/v2/images/7555620"]


def test_the_list_of_an_existing_image_is_retried_after_a_404() -> None:
    def sometimes(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v2/images/7555620":
            return httpx.Response(200, json={"image": SNAPSHOT}, headers=LIMITED)
        if len(server.asked) < 4:
            return httpx.Response(404, json=FAILURES[404], headers=LIMITED)
        return httpx.Response(200, json={"actions": [COMPLETED_ACTION]}, headers=LIMITED)

    server = Server(sometimes)
    (action,) = server.ask(IMAGE_ACTION_CALLS["list"])
    assert action.completed
    assert len(server.asked) == 5


async def test_a_page_of_the_feed_says_whether_there_is_another() -> None:
    world = World(droplets=6, behavior=Behavior(max_per_page=5))
    first, second = await world.client.list_recent_actions(), await world.client.list_recent_actions(2)
    more, rest, ids = first.more, second.more, [action.id for action in [*first.actions, *second.actions]]
    assert (more, rest) == (True, False)
    assert ids == sorted(ids, reverse=True)


def test_images_that_shift_to_the_next_page_during_a_read_are_listed_once() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params["page"])
        images = [{**SNAPSHOT, "id": number} for number in ([1, 2, 3] if page == 1 else [3, 4])]
        return httpx.Response(200, json={"images": images, "links": link(page, 2)})

    server = Server(answer)
    images = server.ask(lambda client: client.list_private_images())
    assert [image.id for image in images] == [1, 2, 3, 4]
    assert {request.url.params["private"] for request in server.asked} == {"true"}


def test_droplet_snapshots_are_listed_once_each_in_pages_of_maximum_size() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params["page"])
        snapshots = [{**LISTED_SNAPSHOT, "id": str(number)} for number in ([1, 2, 3] if page == 1 else [3, 4])]
        return httpx.Response(200, json={"snapshots": snapshots, "links": link(page, 2)})

    server = Server(answer)
    snapshots = server.ask(lambda client: client.list_snapshots())
    assert [snapshot.id for snapshot in snapshots] == [1, 2, 3, 4]
    assert {request.url.path for request in server.asked} == {"/v2/snapshots"}
    asked = [dict(request.url.params) for request in server.asked]
    assert asked == [{"resource_type": "droplet", "page": str(page), "per_page": "200"} for page in (1, 2)]


def test_an_image_is_deleted_by_its_id() -> None:
    server = answering(204, headers=LIMITED)
    assert server.ask(lambda client: delete(client, 7938269)) is None
    (request,) = server.asked
    assert (request.method, request.url.path, request.content) == ("DELETE", "/v2/images/7938269", b"")


@pytest.mark.parametrize("status", [404, 422, 429, 500])
def test_a_deletion_is_sent_only_once(status: int) -> None:
    server = answering(status, headers=LIMITED)
    error = refusal(server, lambda client: delete(client, 7938269), http_retry_max=5)
    assert error.status == status
    assert error.ambiguous is (status == 500)
    assert len(server.asked) == 1


# Images, regions, Droplets, tags


async def test_the_sandbox_and_the_client_understand_each_other() -> None:
    world = World(droplets=12)
    own = await world.client.list_private_images()
    assert {image.id for image in own} == {image.id for image in world.account.images.values() if not image.public}
    assert await world.client.get_image(own[0].id) == own[0]
    snapshots = await world.client.list_snapshots()
    assert {snapshot.id for snapshot in snapshots} == {image.id for image in world.images("snapshot")}
    for snapshot in snapshots:
        assert snapshot.resource_id == world.account.images[snapshot.id].droplet_id
    regions = await world.client.list_regions()
    assert {region.slug for region in regions} == set(world.account.regions)
    assert {region.slug for region in regions if region.takes_images} == {
        region.slug for region in world.account.regions.values() if region.takes_images
    }


async def test_droplets_with_gpus_are_listed_with_the_others() -> None:
    world = World(droplets=12)
    droplets = await world.client.list_droplets()
    assert {droplet.id for droplet in droplets} == set(world.account.droplets)
    assert any(droplet.name.startswith("trainer") for droplet in droplets)


@pytest.mark.parametrize("tag", ["ml", "ML"])
def test_droplets_with_gpus_can_be_selected_by_tag(tag: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        asked = request.url.params
        assert not ("type" in asked and "tag_name" in asked), "the API does not combine the two"
        gpus = [{**DROPLET, "id": 2, "tags": ["Ml"]}, {**DROPLET, "id": 3, "tags": ["web"]}]
        droplets = gpus if asked.get("type") == "gpus" else [{**DROPLET, "id": 1, "tags": ["ml"]}]
        return httpx.Response(200, json={"droplets": droplets, "links": {}})

    droplets = Server(answer).ask(lambda client: client.list_droplets(tag))
    assert [droplet.id for droplet in droplets] == [1, 2]


def test_a_droplet_in_both_lists_is_returned_once() -> None:
    server = answering(200, json={"droplets": [DROPLET], "links": {}})
    assert len(server.ask(lambda client: client.list_droplets())) == 1


async def test_a_tag_that_exists_already_is_left_as_it_is() -> None:
    world = World()
    await world.client.create_tag("prefect:replicated")
    await world.client.create_tag("prefect:replicated")
    images = [image.id for image in world.images("backup")]
    await world.client.tag_images("prefect:replicated", images)
    assert all(world.account.images[each].tags == ["prefect:replicated"] for each in images)
    assert len(world.record.requests) == 3


def test_many_images_are_tagged_in_few_requests_with_ids_as_text() -> None:
    server = answering(204)
    server.ask(lambda client: client.tag_images("dr", [*range(1, 1001)]))
    bodies = [json.loads(request.content)["resources"] for request in server.asked]
    tagged = [resource for body in bodies for resource in body]
    assert tagged == [{"resource_id": str(number), "resource_type": "image"} for number in range(1, 1001)]
    assert len(bodies) <= 5
    assert {request.url.path for request in server.asked} == {"/v2/tags/dr/resources"}


def test_tagging_no_images_sends_no_request() -> None:
    server = answering(204)
    server.ask(lambda client: client.tag_images("dr", []))
    assert server.asked == []


async def test_every_request_is_counted_by_all_active_counters() -> None:
    world = World()
    world.faults.add(Fault(FaultKind.BURST_LIMIT), Fault(FaultKind.DROP_AFTER))
    with track_usage() as outer:
        with track_usage() as inner:
            await world.client.list_regions()
        await world.client.list_regions()
    await world.client.list_regions()
    assert (inner.requests, inner.too_many_requests) == (3, 1)
    assert (outer.requests, outer.too_many_requests) == (4, 1)


# Over the network


class CountingProxy:
    """Stands before a server and counts the connections that are made to it."""

    def __init__(self, port: int) -> None:
        self.connections = 0
        self._target = port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        onward, back = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(self._copy(reader, back), self._copy(onward, writer))

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
        sink.close()


def network_settings(sandbox: Sandbox, **changes: Any) -> Settings:
    return make_settings(**{"api_url": sandbox.url, "token": sandbox.token, **changes})


@pytest.mark.real_time
async def test_many_calls_share_one_connection() -> None:
    with Sandbox() as sandbox:
        proxy = CountingProxy(int(sandbox.url.rpartition(":")[2]))
        async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            settings = network_settings(sandbox, api_url=f"http://127.0.0.1:{port}")
            async with aclosing(DigitalOceanClient(settings)) as client:
                for _ in range(5):
                    await client.list_regions()
                with suppress(NotFound):
                    await client.get_image(1)
                await client.list_private_images()
        assert proxy.connections == 1
        assert len(sandbox.record.requests) == 7


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.real_time
async def test_a_proxy_in_the_environment_is_not_used_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    with Sandbox() as sandbox:
        async with aclosing(DigitalOceanClient(network_settings(sandbox))) as client:
            assert await client.list_regions()


@pytest.mark.real_time
async def test_a_refused_connection_means_that_nothing_was_sent() -> None:
    with Sandbox() as sandbox:
        pass
    async with aclosing(DigitalOceanClient(network_settings(sandbox))) as client:
        with pytest.raises(ConnectionFailed) as caught:
            await post(client, 1, ConvertImage())
    assert caught.value.repeatable


@pytest.mark.real_time
async def test_a_dropped_connection_leaves_it_unclear_whether_the_request_was_carried_out() -> None:
    with Sandbox() as sandbox:
        sandbox.faults.add(Fault(FaultKind.DROP_AFTER))
        async with aclosing(DigitalOceanClient(network_settings(sandbox))) as client:
            with pytest.raises(TransportError) as caught:
                await post(client, 1, ConvertImage())
    assert caught.value.ambiguous
