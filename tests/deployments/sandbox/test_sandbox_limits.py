"""The rate limits: the windows alone, and as their headers tell of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import httpx
from hypothesis import given
from hypothesis import strategies as st

from deployments.sandbox import Limits, Sandbox
from deployments.sandbox.request_log import peak
from tests.deployments.sandbox.sandbox_clock import NOON, SandboxClock

# Whole seconds, so that the arithmetic of the test and that of the windows agree to the last bit.
PAUSES = st.lists(st.integers(0, 40), max_size=120)


def admitted(limits: Limits, pauses: list[int]) -> list[float]:
    """When requests got through that come after such pauses."""
    now, times = NOON, []
    for pause in pauses:
        now += pause
        if limits.standing(now).refused_by is None:
            times.append(now)
            limits.spend(now)
    return times


@given(pauses=PAUSES, per_minute=st.integers(1, 5), per_hour=st.integers(1, 20))
def test_no_window_is_ever_exceeded(pauses: list[int], per_minute: int, per_hour: int) -> None:
    times = admitted(Limits(per_minute, per_hour), pauses)
    assert peak(60, times) <= per_minute
    assert peak(3600, times) <= per_hour


@given(pauses=PAUSES)
def test_headers_agree_with_the_requests_that_count(pauses: list[int]) -> None:
    limits, now, times = Limits(3, 10), NOON, list[float]()
    for pause in pauses:
        now += pause
        counting = [time for time in times if time > now - 3600]
        recent = [time for time in times if time > now - 60]
        standing = limits.standing(now)
        assert standing.limit == 10
        assert standing.remaining == 10 - len(counting)
        assert standing.reset == (counting[0] + 3600 if counting else now)
        assert standing.refused_by == ("hour" if len(counting) == 10 else "burst" if len(recent) == 3 else None)
        assert standing.retry_after == (recent[0] + 60 - now if standing.refused_by == "burst" else None)
        if standing.refused_by is None:
            times.append(now)
            limits.spend(now)


@given(pauses=PAUSES, speed=st.sampled_from([0.5, 1.0, 60.0]))
def test_a_client_that_waits_as_told_succeeds(pauses: list[int], speed: float) -> None:
    limits, now = Limits(2, 1000, speed), NOON
    for pause in pauses:
        now += pause
        standing = limits.standing(now)
        if standing.retry_after is not None:
            now += standing.retry_after
            assert limits.standing(now).refused_by is None
        limits.spend(now)


@given(requests=st.integers(0, 60), over_seconds=st.integers(0, 7200))
def test_using_requests_never_exceeds_a_window(requests: int, over_seconds: int) -> None:
    limits = Limits(5, 20)
    limits.spend(NOON - 1, 3)
    spent = limits.spend(NOON, requests, over_seconds)
    assert spent <= requests
    standing = limits.standing(NOON)
    assert standing.remaining == 20 - 3 - spent
    assert limits.burst.remaining >= 0


def test_every_request_expires_on_its_own() -> None:
    limits = Limits(2, 100)
    limits.spend(NOON)
    limits.spend(NOON + 30)
    assert limits.standing(NOON + 59).refused_by == "burst"
    assert limits.standing(NOON + 60).refused_by is None
    limits.spend(NOON + 60)
    assert limits.standing(NOON + 89).refused_by == "burst"


def test_a_neighbor_uses_up_the_same_windows_over_time() -> None:
    limits = Limits(250, 5000)
    limits.set_neighbour(60, NOON)
    assert limits.standing(NOON + 30).remaining == 5000 - 30
    assert limits.standing(NOON + 10 * 3600).remaining == 5000 - 3600
    limits.set_neighbour(0, NOON + 10 * 3600)
    assert limits.standing(NOON + 11 * 3600).remaining == 5000


def test_a_greedy_neighbor_leaves_nothing() -> None:
    limits = Limits(10, 5000)
    limits.set_neighbour(600, NOON)
    assert limits.standing(NOON + 30).refused_by == "burst"


def test_a_burst_is_refused_with_the_seconds_to_wait(
    start: Callable[..., Sandbox], connect: Callable[[Sandbox], httpx.Client], clock: SandboxClock
) -> None:
    http = connect(start(requests_per_minute=3))
    for left in (4999, 4998, 4997):
        response = http.get("/v2/account")
        assert response.headers["ratelimit-remaining"] == str(left)
        assert "retry-after" not in response.headers
        clock.move(1.5)
    refused = http.get("/v2/account")
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == str(math.ceil(60 - 4.5))
    assert refused.headers["ratelimit-remaining"] == "0"
    assert refused.json().keys() == {"id", "message", "request_id"}
    assert refused.json()["id"] == "too_many_requests"
    clock.move(int(refused.headers["retry-after"]))
    assert http.get("/v2/account").status_code == 200


def test_a_refusal_by_the_hour_has_no_retry_after_but_the_reset_of_the_oldest_request(
    start: Callable[..., Sandbox], connect: Callable[[Sandbox], httpx.Client], clock: SandboxClock
) -> None:
    http = connect(start(requests_per_hour=2))
    http.get("/v2/account")
    clock.move(100)
    http.get("/v2/account")
    refused = http.get("/v2/account")
    assert refused.status_code == 429
    assert "retry-after" not in refused.headers
    assert refused.headers["ratelimit-remaining"] == "0"
    assert refused.headers["ratelimit-reset"] == str(int(NOON) + 3600)
    clock.now = NOON + 3600
    assert http.get("/v2/account").status_code == 200
    assert http.get("/v2/account").status_code == 429


def test_speed_shortens_the_windows(
    start: Callable[..., Sandbox], connect: Callable[[Sandbox], httpx.Client], clock: SandboxClock
) -> None:
    http = connect(start(requests_per_minute=1, speed=60))
    response = http.get("/v2/account")
    assert response.headers["ratelimit-reset"] == str(int(NOON) + 60)
    assert http.get("/v2/account").headers["retry-after"] == "1"
    clock.move(1)
    assert http.get("/v2/account").status_code == 200


def test_refused_requests_do_not_count(
    start: Callable[..., Sandbox], connect: Callable[[Sandbox], httpx.Client]
) -> None:
    sandbox = start(requests_per_minute=2)
    http = connect(sandbox)
    for _ in range(5):
        http.get("/v2/account")
    assert sandbox.limits.hour.remaining == 4998
    assert sandbox.record.peak_counted(60) == 2
    assert sandbox.record.peak_requests(60) == 5


def test_every_response_has_rate_limit_headers(http: httpx.Client) -> None:
    stranger = {"authorization": "Bearer stranger"}
    for response in [
        http.get("/v2/account"),
        http.get("/v2/images/1"),
        http.get("/v2/nowhere"),
        http.post("/v2/tags", content=b"{"),
        http.get("/v2/account", headers=stranger),
    ]:
        assert response.headers["ratelimit-limit"] == "5000"
        assert {"ratelimit-remaining", "ratelimit-reset", "x-request-id"} <= set(response.headers)
        if response.is_error:
            assert response.json()["request_id"] == response.headers["x-request-id"]


def test_requests_without_the_token_are_refused_and_not_counted(sandbox: Sandbox) -> None:
    for headers in ({}, {"authorization": "Bearer other"}, {"authorization": sandbox.token}):
        response = httpx.get(f"{sandbox.url}/v2/account", headers=headers)
        assert response.status_code == 401
        assert response.json()["id"] == "unauthorized"
        assert response.json()["message"] == "Unable to authenticate you"
    assert sandbox.limits.hour.remaining == 5000


def test_the_requests_of_the_neighbor_show_in_the_headers(sandbox: Sandbox, http: httpx.Client) -> None:
    assert sandbox.neighbour(requests=4000, over_seconds=3500) == 4000
    assert http.get("/v2/account").headers["ratelimit-remaining"] == "999"
