"""What goes wrong when it is asked to, seen from the client's side and from the record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from deployments.sandbox import Fault, FaultKind, Image, Sandbox
from deployments.sandbox.faults import Faults
from tests.deployments.sandbox.sandbox_clock import NOON, SandboxClock

REFUSED_BEFORE = [
    (FaultKind.BURST_LIMIT, 429),
    (FaultKind.BURST_LIMIT_WITHOUT_RETRY_AFTER, 429),
    (FaultKind.HOURLY_LIMIT, 429),
    (FaultKind.LIMIT_RESET_IN_PAST, 429),
    (FaultKind.LIMIT_ODD_ID, 429),
    (FaultKind.LIMIT_HTML, 429),
    (FaultKind.ERROR_BEFORE, 500),
    (FaultKind.UNAVAILABLE_HTML, 503),
    (FaultKind.EMPTY_ERROR, 502),
]
DONE_ANYWAY = [
    (FaultKind.ERROR_AFTER, 500),
    (FaultKind.BAD_GATEWAY_AFTER, 502),
    (FaultKind.HTML_OK, 200),
    (FaultKind.TRUNCATED_AFTER, 201),
    (FaultKind.MISSING_FIELD, 201),
]


@pytest.fixture
def backup(sandbox: Sandbox) -> Image:
    return next(image for image in sandbox.account.images.values() if image.type == "backup")


@pytest.fixture
def convert(http: httpx.Client, backup: Image) -> Callable[[], httpx.Response]:
    return lambda: http.post(f"/v2/images/{backup.id}/actions", json={"type": "convert"})


@pytest.mark.parametrize(("kind", "status"), REFUSED_BEFORE)
def test_faults_before_the_work_prevent_it(
    sandbox: Sandbox, convert: Callable[[], httpx.Response], kind: FaultKind, status: int
) -> None:
    sandbox.faults.add(Fault(kind))
    assert convert().status_code == status
    assert sandbox.record.actions == []
    (seen,) = sandbox.record.requests
    assert (seen.status, seen.fault, seen.worked) == (status, kind, False)
    assert seen.counted is (status != 429)
    assert convert().status_code == 201


@pytest.mark.parametrize(("kind", "status"), DONE_ANYWAY)
def test_faults_after_the_work_do_not_undo_it(
    sandbox: Sandbox, convert: Callable[[], httpx.Response], kind: FaultKind, status: int
) -> None:
    sandbox.faults.add(Fault(kind))
    assert convert().status_code == status
    assert len(sandbox.record.actions) == 1
    assert sandbox.record.requests[0].worked
    assert convert().status_code == 422


@pytest.mark.parametrize(("kind", "worked"), [(FaultKind.DROP_BEFORE, False), (FaultKind.DROP_AFTER, True)])
def test_dropped_connections_look_broken_to_the_client_and_log_nothing(
    sandbox: Sandbox,
    convert: Callable[[], httpx.Response],
    capfd: pytest.CaptureFixture[str],
    kind: FaultKind,
    worked: bool,
) -> None:
    sandbox.faults.add(Fault(kind))
    with pytest.raises(httpx.TransportError):
        convert()
    assert len(sandbox.record.actions) == worked
    assert (sandbox.record.requests[0].status, sandbox.record.requests[0].worked) == (None, worked)
    assert convert().status_code == (422 if worked else 201)
    assert capfd.readouterr() == ("", "")


def test_simulated_rate_limits_look_like_real_ones(sandbox: Sandbox, http: httpx.Client) -> None:
    def answer(kind: FaultKind) -> httpx.Response:
        sandbox.faults.add(Fault(kind, seconds=90))
        return http.get("/v2/account")

    assert answer(FaultKind.BURST_LIMIT).headers["retry-after"] == "90"
    assert "retry-after" not in answer(FaultKind.BURST_LIMIT_WITHOUT_RETRY_AFTER).headers
    hourly = answer(FaultKind.HOURLY_LIMIT).headers
    assert "retry-after" not in hourly
    assert (hourly["ratelimit-remaining"], hourly["ratelimit-reset"]) == ("0", str(int(NOON) + 90))
    assert answer(FaultKind.LIMIT_RESET_IN_PAST).headers["ratelimit-reset"] == str(int(NOON) - 90)
    assert answer(FaultKind.LIMIT_ODD_ID).json()["id"] == "Too Many Requests"
    html = answer(FaultKind.LIMIT_HTML)
    assert html.headers["content-type"].startswith("text/html")
    assert not any(name.startswith("ratelimit") for name in html.headers)


def test_errors_can_be_empty_responses_truncated_and_fields_missing(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults.add(Fault(FaultKind.EMPTY_ERROR), Fault(FaultKind.TRUNCATED_AFTER))
    assert http.get("/v2/actions").content == b""
    with pytest.raises(ValueError, match=r"."):
        http.get("/v2/actions").json()
    sandbox.faults.add(Fault(FaultKind.MISSING_FIELD, field="resource_id"))
    whole, lacking = http.get("/v2/regions").json(), http.get("/v2/actions").json()
    assert whole["regions"]
    assert all("resource_id" in action for action in lacking["actions"])


def test_a_missing_field_is_missing_everywhere(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults.add(Fault(FaultKind.MISSING_FIELD, field="resource_id"))
    actions = http.get("/v2/actions").json()["actions"]
    assert actions
    assert not any("resource_id" in action for action in actions)


def test_an_action_can_end_in_error_and_be_restarted(
    sandbox: Sandbox, convert: Callable[[], httpx.Response], http: httpx.Client, backup: Image, clock: SandboxClock
) -> None:
    sandbox.faults.add(Fault(FaultKind.ACTION_ERRORED))
    action = convert().json()["action"]
    assert action["status"] == "in-progress"
    clock.move(3600)
    assert http.get(f"/v2/actions/{action['id']}").json()["action"]["status"] == "errored"
    assert backup.type == "backup"
    assert convert().status_code == 201
    clock.move(3600)
    assert http.get(f"/v2/images/{backup.id}").json()["image"]["type"] == "snapshot"


def test_an_action_can_run_forever(
    sandbox: Sandbox, convert: Callable[[], httpx.Response], http: httpx.Client, clock: SandboxClock
) -> None:
    sandbox.faults.add(Fault(FaultKind.ACTION_ENDLESS))
    action = convert().json()["action"]
    clock.move(365 * 86400)
    assert http.get(f"/v2/actions/{action['id']}").json()["action"]["status"] == "in-progress"


def test_an_action_can_be_missing_from_lists_but_be_found_by_its_id(
    sandbox: Sandbox, convert: Callable[[], httpx.Response], http: httpx.Client, backup: Image
) -> None:
    sandbox.faults.add(Fault(FaultKind.ACTION_UNLISTED))
    action = convert().json()["action"]
    feed = http.get("/v2/actions").json()["actions"]
    assert action["id"] not in {listed["id"] for listed in feed}
    assert http.get(f"/v2/images/{backup.id}/actions").json()["actions"] == []
    assert http.get(f"/v2/images/{backup.id}/actions/{action['id']}").json()["action"] == action


def test_faults_affect_only_matching_requests() -> None:
    faults = Faults()
    faults.add(
        Fault(FaultKind.ERROR_AFTER, method="POST", path=r"/actions$", times=2),
        Fault(FaultKind.ACTION_ERRORED),
    )
    kinds = []
    for method, path in [
        ("GET", "/v2/images/1/actions"),
        ("POST", "/v2/tags"),
        ("POST", "/v2/images/1/actions"),
        ("POST", "/v2/images/2/actions"),
        ("GET", "/v2/actions"),
        ("POST", "/v2/images/3/actions"),
        ("POST", "/v2/images/4/actions"),
    ]:
        fault = faults.pick(method, path)
        kinds.append(fault.kind if fault else None)
    after, errored = FaultKind.ERROR_AFTER, FaultKind.ACTION_ERRORED
    assert kinds == [None, None, after, after, None, errored, None]


def test_a_fault_without_a_count_lasts_until_it_is_cleared() -> None:
    faults = Faults()
    faults.add(Fault(FaultKind.SLOW, times=None))
    assert all(faults.pick("GET", "/v2/account") for _ in range(10))
    faults.clear()
    assert faults.pick("GET", "/v2/account") is None


def test_random_faults_occur_at_the_given_rate_and_repeat_with_the_seed() -> None:
    def drawn(seed: int) -> list[Any]:
        faults = Faults()
        faults.at_random(0.1, [FaultKind.SLOW, FaultKind.DROP_AFTER, FaultKind.ACTION_ERRORED], seed=seed)
        return [faults.pick("GET", "/v2/account") for _ in range(2000)]

    assert drawn(1) == drawn(1) != drawn(2)
    faults = [fault for fault in drawn(1) if fault]
    assert 150 < len(faults) < 250
    assert {fault.kind for fault in faults} == {FaultKind.SLOW, FaultKind.DROP_AFTER}


def test_an_unknown_kind_of_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="gremlins"):
        Fault("gremlins")  # type: ignore[arg-type]
