"""The endpoints under /sandbox, which control the sandbox from another process."""

from __future__ import annotations

import httpx
import pytest

from deployments.sandbox import FaultKind, Sandbox


def test_control_requests_need_no_token_and_are_not_counted(sandbox: Sandbox) -> None:
    assert httpx.get(f"{sandbox.url}/sandbox/record").json()["summary"]["requests"] == 0
    assert sandbox.limits.hour.remaining == 5000


def test_the_record_contains_requests_and_actions_with_their_true_ends(sandbox: Sandbox, http: httpx.Client) -> None:
    images = [image for image in sandbox.account.images.values() if image.type == "backup"]
    for image, kind in zip(images, (FaultKind.SLOW, FaultKind.ACTION_ENDLESS), strict=False):
        http.post("/sandbox/faults", json={"kind": kind, "seconds": 0})
        http.post(f"/v2/images/{image.id}/actions", json={"type": "convert"})
    told = http.get("/sandbox/record").json()
    assert told["summary"]["requests_by_status"] == {"201": 2}
    assert told["summary"]["duplicate_transfers"] == []
    assert [request["fault"] for request in told["requests"]] == ["slow", "action-endless"]
    ends, endless = told["actions"]
    assert ends["ends_at"] > ends["started_at"]
    assert endless["ends_at"] is None


def test_the_state_shows_the_accounts_own_images_and_started_actions(sandbox: Sandbox, http: httpx.Client) -> None:
    state = http.get("/sandbox/state").json()
    assert len(state["images"]) == http.get("/v2/images?private=true").json()["meta"]["total"]
    assert state["actions"] == []


def test_faults_are_added_and_cleared(http: httpx.Client) -> None:
    one = {"kind": "error-before", "times": None}
    assert http.post("/sandbox/faults", json=[one, {"kind": "burst-limit"}]).status_code == 204
    assert http.get("/v2/account").status_code == 500
    assert http.delete("/sandbox/faults").status_code == 204
    assert http.get("/v2/account").status_code == 200
    assert http.post("/sandbox/faults", json={"rate": 1, "kinds": ["empty-error"]}).status_code == 204
    assert http.get("/v2/account").status_code == 502


@pytest.mark.parametrize(
    "nonsense", [{"kind": "gremlins"}, {"kind": "slow", "path": "("}, {"typo": 1}, {"rate": "x"}, 7]
)
def test_invalid_control_requests_are_refused(http: httpx.Client, nonsense: object) -> None:
    assert http.post("/sandbox/faults", json=nonsense).status_code == 400
    assert http.get("/v2/account").status_code == 200


def test_the_neighbor_uses_the_same_budget(http: httpx.Client) -> None:
    assert http.post("/sandbox/neighbour", json={"requests": 100}).json() == {"spent": 100}
    assert http.post("/sandbox/neighbour", json={"requests": 200}).json() == {"spent": 150}
    assert http.get("/v2/account").status_code == 429
    assert http.post("/sandbox/neighbour", json=[]).status_code == 400
