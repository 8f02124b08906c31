"""Odd answers on demand, as strangers see them: a plain HTTP client, and DigitalOcean's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from azure.core.exceptions import HttpResponseError

from deployments.sandbox import Fault, FaultKind, Image, Limits, Sandbox
from tests.deployments.sandbox.sandbox_clock import NOON, SandboxClock

ODD_STATUSES = [301, 302, 307, 400, 408, 409, 418, 421, 423, 425, 451, 499, 504, 520]


@pytest.fixture
def backup(sandbox: Sandbox) -> Image:
    return next(image for image in sandbox.account.images.values() if image.type == "backup")


@pytest.fixture
def convert(http: httpx.Client, backup: Image) -> Callable[[], httpx.Response]:
    return lambda: http.post(f"/v2/images/{backup.id}/actions", json={"type": "convert"})


@pytest.mark.parametrize("status", ODD_STATUSES)
@pytest.mark.parametrize(("kind", "started"), [(FaultKind.ODD_STATUS, 0), (FaultKind.ODD_STATUS_AFTER, 1)])
def test_any_status_can_be_returned_instead_of_or_after_the_work(
    sandbox: Sandbox, convert: Callable[[], httpx.Response], kind: FaultKind, started: int, status: int
) -> None:
    sandbox.faults.add(Fault(kind, status=status))
    answer = convert()
    assert answer.status_code == status
    assert answer.json().keys() == {"id", "message", "request_id"}
    assert ("location" in answer.headers) is (status < 400)
    assert len(sandbox.record.actions) == started


@pytest.mark.parametrize("status", [0, 200, 204, 299, 600])
def test_a_status_that_is_not_odd_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match="status must be 300 to 599"):
        Fault(FaultKind.ODD_STATUS, status=status)


@pytest.mark.parametrize(("kind", "status"), [(FaultKind.FORBIDDEN, 403), (FaultKind.NOT_FOUND, 404)])
def test_a_refusal_can_have_any_message(
    sandbox: Sandbox, convert: Callable[[], httpx.Response], kind: FaultKind, status: int
) -> None:
    sandbox.faults.add(Fault(kind, message="The specified action type is not available."), Fault(kind))
    answers = [convert(), convert()]
    assert [answer.status_code for answer in answers] == [status, status]
    assert answers[0].json()["message"] == "The specified action type is not available."
    assert answers[1].json()["message"] != answers[0].json()["message"]
    assert sandbox.record.actions == []


def test_a_fault_can_skip_earlier_requests(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults.add(Fault(FaultKind.FORBIDDEN, path="/v2/regions", skip=2, times=2))
    paths = ["/v2/regions", "/v2/account", "/v2/regions", "/v2/account", "/v2/regions", "/v2/regions", "/v2/regions"]
    statuses = [http.get(path).status_code for path in paths]
    assert statuses == [200, 200, 200, 200, 403, 403, 200]


def test_faults_on_the_same_requests_count_independently(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults.add(Fault(FaultKind.FORBIDDEN, skip=2), Fault(FaultKind.NOT_FOUND, skip=1))
    assert [http.get("/v2/account").status_code for _ in range(5)] == [200, 404, 403, 200, 200]


def test_a_fault_with_all_its_options_can_be_added_over_http(sandbox: Sandbox, http: httpx.Client) -> None:
    asked = {
        "kind": "odd-status",
        "method": "GET",
        "path": "/v2/account",
        "skip": 1,
        "status": 423,
        "message": "Locked.",
    }
    assert http.post("/sandbox/faults", json=asked).status_code == 204
    answers = [http.get("/v2/account") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 423, 200]
    assert answers[1].json()["message"] == "Locked."
    assert http.post("/sandbox/faults", json={"kind": "odd-status", "status": 200}).status_code == 400


def test_a_body_can_arrive_byte_by_byte(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults.add(Fault(FaultKind.DRIP, seconds=0.001))
    with http.stream("GET", "/v2/account") as answer:
        pieces = list(answer.iter_raw())
    assert len(pieces) > 100
    assert b"".join(pieces) == http.get("/v2/account").content


def test_a_body_can_have_a_giant_tail_and_still_be_valid_json(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults.add(Fault(FaultKind.GIANT_BODY, size=200_000))
    answer = http.get("/v2/account")
    assert len(answer.content) > 200_000
    assert answer.json() == http.get("/v2/account").json()


def test_numbers_and_headers_can_be_absurd(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults.add(Fault(FaultKind.GIANT_NUMBER), Fault(FaultKind.ODD_HEADERS))
    with pytest.raises(ValueError, match="4300 digits"):
        http.get("/v2/account").json()
    odd = http.get("/v2/account")
    assert odd.json() == http.get("/v2/account").json()
    assert len(odd.headers["ratelimit-remaining"]) == 400
    assert odd.headers["date"] == "Fri, 31 Dec 9999 23:59:59 GMT"
    assert "klingon" in odd.headers["content-type"]


def test_an_error_page_can_have_ten_kilobytes_of_style(sandbox: Sandbox, convert: Callable[[], httpx.Response]) -> None:
    sandbox.faults.add(Fault(FaultKind.GATEWAY_TIMEOUT_AFTER))
    answer = convert()
    assert answer.status_code == 504
    assert len(answer.content) > 10_000
    assert "<title>504 Gateway Time-out</title>" in answer.text
    assert len(sandbox.record.actions) == 1


def test_an_object_can_be_returned_without_its_wrapper(
    sandbox: Sandbox, http: httpx.Client, convert: Callable[[], httpx.Response]
) -> None:
    sandbox.faults.add(Fault(FaultKind.BARE, times=2))
    action = convert().json()
    assert action["type"] == "convert"
    assert http.get(f"/v2/actions/{action['id']}").json() == action


def test_a_list_can_be_endless(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults.add(Fault(FaultKind.ENDLESS_PAGES, times=None))
    for page in (1, 2, 1000):
        answer = http.get(f"/v2/regions?page={page}&per_page=200").json()
        assert answer["links"]["pages"]["next"].endswith(f"?page={page + 1}")
        assert bool(answer["regions"]) is (page == 1)


def test_the_lists_of_all_resources_can_contain_foreign_entries(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults.add(Fault(FaultKind.FOREIGN_ENTRIES, times=None))
    for path, key in (("/v2/actions", "actions"), ("/v2/snapshots?resource_type=droplet", "snapshots")):
        entries = http.get(path).json()[key]
        foreign = [each for each in entries if each is None or not str(each["id"]).isdecimal() or each["id"] in (1, 2)]
        assert None in foreign
        assert len(entries) > len(foreign) > 1
    assert None not in http.get("/v2/images").json()["images"]
    assert {seen.fault for seen in sandbox.record.requests if "images" in seen.path} == {None}


def test_retry_after_can_be_a_year_in_a_refusal_and_seconds_in_an_outage(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults.add(Fault(FaultKind.LIMIT_FOR_A_YEAR), Fault(FaultKind.UNAVAILABLE_RETRY_AFTER, seconds=20))
    refused, down = http.get("/v2/account"), http.get("/v2/account")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "31536000")
    assert (down.status_code, down.headers["retry-after"]) == (503, "20")


def test_a_burst_limit_can_refuse_without_retry_after(
    start: Callable[..., Sandbox], connect: Callable[[Sandbox], httpx.Client], clock: SandboxClock
) -> None:
    http = connect(start(requests_per_minute=2, refusals_say_when=False))
    assert [http.get("/v2/account").status_code for _ in range(2)] == [200, 200]
    refused = http.get("/v2/account")
    assert refused.status_code == 429
    assert "retry-after" not in refused.headers
    assert int(refused.headers["ratelimit-reset"]) < NOON
    clock.move(60)
    assert http.get("/v2/account").status_code == 200
    assert Limits(1, 5000, refusals_say_when=True).standing(NOON).refused_by is None


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault(FaultKind.FORBIDDEN), 403),
        (Fault(FaultKind.NOT_FOUND), 404),
        (Fault(FaultKind.ODD_STATUS, status=409), 409),
        (Fault(FaultKind.UNAVAILABLE_RETRY_AFTER), 503),
        (Fault(FaultKind.GATEWAY_TIMEOUT_AFTER), 504),
    ],
    ids=lambda value: str(getattr(value, "kind", value)),
)
def test_digitaloceans_client_recognizes_the_refusals(sandbox: Sandbox, client: Any, fault: Fault, status: int) -> None:
    sandbox.faults.add(fault)
    with pytest.raises(HttpResponseError) as caught:
        client.regions.list()
    assert caught.value.status_code == status


def test_digitaloceans_client_returns_foreign_entries_unchanged(sandbox: Sandbox, client: Any) -> None:
    sandbox.faults.add(Fault(FaultKind.FOREIGN_ENTRIES, times=None))
    assert any(action and action["resource_type"] == "volume" for action in client.actions.list()["actions"])
    assert any(each and each["resource_id"] is None for each in client.snapshots.list()["snapshots"])
