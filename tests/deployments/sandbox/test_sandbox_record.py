from __future__ import annotations

import math

import httpx
from hypothesis import given
from hypothesis import strategies as st

from deployments.sandbox import Action, Sandbox
from deployments.sandbox.account import Fate
from deployments.sandbox.request_log import duplicate_transfers, peak


def transfer(number: int, start: float, end: float, *, region: str = "nyc3", fate: Fate = Fate()) -> Action:  # noqa: B008
    return Action(number, "transfer", 7, "image", region, start, end, start, fate)


def test_a_transfer_during_or_after_a_successful_one_is_a_duplicate() -> None:
    first, beside, after = transfer(1, 0, 10), transfer(2, 5, 12), transfer(3, 50, 60)
    assert duplicate_transfers([first, beside, after]) == [beside, after]


def test_a_transfer_after_a_failed_one_is_not_a_duplicate_but_a_concurrent_one_is() -> None:
    failed = transfer(1, 0, 10, fate=Fate(outcome="errored"))
    beside, anew = transfer(2, 9, 20), transfer(3, 10, 20)
    assert duplicate_transfers([failed, anew]) == []
    assert duplicate_transfers([failed, beside]) == [beside]


def test_any_transfer_during_one_that_never_ends_is_a_duplicate() -> None:
    endless, beside = transfer(1, 0, math.inf, fate=Fate(ends=False)), transfer(2, 9999, 10000)
    assert duplicate_transfers([endless, beside]) == [beside]


def test_other_regions_and_conversions_are_not_duplicates() -> None:
    convert = Action(1, "convert", 7, "image", "nyc3", 0, 10, 0)
    assert duplicate_transfers([convert, transfer(2, 0, 10), transfer(3, 0, 10, region="ams3")]) == []


@given(
    times=st.lists(st.integers(0, 500), max_size=60).map(sorted),
    seconds=st.integers(1, 100),
)
def test_the_peak_is_that_of_the_busiest_window(times: list[int], seconds: int) -> None:
    busiest = max((sum(start <= time < start + seconds for time in times) for start in times), default=0)
    assert peak(seconds, times) == busiest


def test_requests_are_recorded_as_they_came_and_without_the_token(sandbox: Sandbox, http: httpx.Client) -> None:
    http.get("/v2/images?private=true")
    http.get("/v2/images/1")
    assert [(seen.method, seen.path, seen.status) for seen in sandbox.record.requests] == [
        ("GET", "/v2/images?private=true", 200),
        ("GET", "/v2/images/1", 404),
    ]
    assert sandbox.record.requests_by_status() == {200: 1, 404: 1}
    assert sandbox.token not in repr(sandbox.record)


def test_what_an_action_cost_counts_every_request(sandbox: Sandbox, http: httpx.Client) -> None:
    assert sandbox.record.requests_per_action() == 0
    backup = next(image for image in sandbox.account.images.values() if image.type == "backup")
    http.post(f"/v2/images/{backup.id}/actions", json={"type": "convert"})
    http.get(f"/v2/images/{backup.id}/actions")
    assert sandbox.record.requests_per_action() == 2
