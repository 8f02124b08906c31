"""Backup policies and volumes: lists that a report can do without."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tasks.digitalocean import BackupPolicy, Droplet, MalformedResponse, NotFound, ScopeMissing, Volume
from tests.tasks.digitalocean.api_examples import DROPLET, FAILURES
from tests.tasks.digitalocean.test_client import Server, answering, refusal

OFF = {"droplet_id": 436444618, "backup_enabled": False}
DAILY = {
    "droplet_id": 444909314,
    "backup_enabled": True,
    "backup_policy": {"plan": "daily", "hour": 20, "window_length_hours": 4, "retention_period_days": 7},
    "next_backup_window": {"start": "2024-09-13T20:00:00Z", "end": "2024-09-14T00:00:00Z"},
}
WEEKLY = {
    "droplet_id": 444909706,
    "backup_enabled": True,
    "backup_policy": {"plan": "weekly", "weekday": "SUN", "hour": 20, "window_length_hours": 4},
    "next_backup_window": {"start": "2024-09-15T20:00:00Z", "end": "2024-09-16T00:00:00Z"},
}
USAGE_BASED = {
    "droplet_id": 444909707,
    "backup_policy": {"plan": "intra_daily_4h", "hour": 0, "window_length_hours": 4, "tier": {"new": 1}},
}


def page(*records: dict[str, Any], next_page: int | None = None, **more: Any) -> dict[str, Any]:
    links = {"pages": {"next": f"https://api.digitalocean.com/v2/x?page={next_page}"}} if next_page else {}
    return {"policies": {str(each["droplet_id"]): each for each in records} | more, "links": links}


def policies(*pages: dict[str, Any]) -> dict[int, BackupPolicy]:
    server = Server(lambda request: httpx.Response(200, json=pages[int(request.url.params["page"]) - 1]))
    found = server.ask(lambda client: client.list_backup_policies())
    assert {request.url.path for request in server.asked} == {"/v2/droplets/backups/policies"}
    assert {request.url.params["per_page"] for request in server.asked} == {"200"}
    return {each.droplet_id: each for each in found}


def test_policies_are_read_from_a_map_on_several_pages() -> None:
    found = policies(page(OFF, DAILY, next_page=2), page(WEEKLY))
    assert list(found) == [436444618, 444909314, 444909706]
    assert not found[436444618].enabled
    daily, weekly = found[444909314], found[444909706]
    assert (daily.enabled, daily.plan, daily.hour, daily.window_length_hours) == (True, "daily", 20, 4)
    assert daily.next_window
    assert daily.next_window.end == datetime(2024, 9, 14, tzinfo=UTC)
    assert (weekly.plan, weekly.weekday) == ("weekly", "SUN")


def test_the_record_of_a_usage_based_plan_keeps_the_name_of_the_plan() -> None:
    (policy,) = policies(page(USAGE_BASED)).values()
    assert (policy.enabled, policy.plan, policy.hour, policy.next_window) == (True, "intra_daily_4h", 0, None)


def test_a_record_without_an_id_gets_it_from_its_key() -> None:
    (policy,) = policies({"policies": {"17": {"backup_enabled": False}}}).values()
    assert policy.droplet_id == 17


@pytest.mark.parametrize(
    "odd",
    [
        {"droplet_id": 1, "backup_enabled": "perhaps"},
        {"droplet_id": 1, "backup_enabled": True, "backup_policy": {"plan": 7}},
        {"droplet_id": 1, "backup_enabled": True, "backup_policy": {"plan": "daily", "hour": 99}},
        None,
        "daily",
    ],
)
def test_a_record_that_cannot_be_read_is_skipped(odd: Any) -> None:
    assert list(policies(page(DAILY) | {"policies": {"1": odd, "444909314": DAILY}})) == [444909314]


@pytest.mark.parametrize("window", [None, {}, {"start": None, "end": None}, "tonight"])
def test_an_odd_next_window_is_unknown(window: Any) -> None:
    (policy,) = policies(page(DAILY | {"next_backup_window": window})).values()
    assert policy.next_window is None


def test_an_account_without_policies_has_none() -> None:
    assert policies({"policies": {}, "links": {}}) == policies({"policies": None}) == {}


@pytest.mark.parametrize("body", [{}, {"policies": [DAILY]}, {"policies": "none"}])
def test_a_response_without_the_map_is_malformed(body: dict[str, Any]) -> None:
    error = refusal(answering(200, json=body), lambda client: client.list_backup_policies())
    assert isinstance(error, MalformedResponse)


@pytest.mark.parametrize("status", [403, 404])
def test_a_refused_list_of_policies_costs_few_requests(status: int) -> None:
    server = answering(status, json=FAILURES.get(status, {"id": "forbidden", "message": "No."}))
    refusal(server, lambda client: client.list_backup_policies())
    assert len(server.asked) <= 3


def test_a_missing_list_of_policies_is_not_asked_for_again() -> None:
    server = answering(404, json=FAILURES[404])
    assert isinstance(refusal(server, lambda client: client.list_backup_policies()), NotFound)
    assert len(server.asked) == 1


def test_volumes_are_listed_with_their_droplets() -> None:
    volume = {"id": "506f78a4", "name": "pgdata", "size_gigabytes": 100, "droplet_ids": [7], "tags": None}
    odd = {"id": 5, "name": "no id"}
    server = answering(200, json={"volumes": [volume, odd, volume | {"id": "b", "droplet_ids": None}]})
    assert server.ask(lambda client: client.list_volumes()) == [
        Volume(id="506f78a4", name="pgdata", size_gigabytes=100, droplet_ids=(7,)),
        Volume(id="b", name="pgdata", size_gigabytes=100),
    ]


def test_a_token_without_the_scope_for_volumes_is_told_its_name() -> None:
    server = answering(403, json={"id": "forbidden", "message": "No."})
    error = refusal(server, lambda client: client.list_volumes())
    assert isinstance(error, ScopeMissing)
    assert "block_storage:read" in str(error)


@pytest.mark.parametrize(
    ("given", "read"),
    [("2020-07-21T18:37:44Z", datetime(2020, 7, 21, 18, 37, 44, tzinfo=UTC)), (None, None), ("long ago", None)],
)
def test_the_age_of_a_droplet_is_known_only_if_it_can_be_read(given: Any, read: datetime | None) -> None:
    assert Droplet.model_validate(DROPLET | {"created_at": given}).created_at == read
