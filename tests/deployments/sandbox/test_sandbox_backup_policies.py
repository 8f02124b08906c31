"""Backup policies: daily, weekly and usage-based plans, and when their windows are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.sandbox import BackupPolicy, Droplet, Fault, FaultKind, Image, Sandbox
from tests.deployments.sandbox.new_droplets import LONGEST_CREATION_SECONDS, asked, created, shown
from tests.deployments.sandbox.sandbox_clock import NOON, SandboxClock

HOUR = 3600.0
DAY = 24 * HOUR
POLICIES = (
    BackupPolicy.daily(20),
    BackupPolicy.weekly(8, "TUE"),
    BackupPolicy.usage_based(4),
    BackupPolicy.usage_based(6, hour=16),
    BackupPolicy.usage_based(12, retention_days=14),
)


def first_droplet(sandbox: Sandbox) -> Droplet:
    return next(iter(sandbox.account.droplets.values()))


def record(http: httpx.Client, droplet: Droplet) -> dict[str, Any]:
    found: dict[str, Any] = http.get(f"/v2/droplets/{droplet.id}/backups/policy").raise_for_status().json()["policy"]
    return found


def backups_of(sandbox: Sandbox, droplet: Droplet) -> list[Image]:
    images = [sandbox.account.images[image_id] for image_id in droplet.image_ids]
    return [image for image in images if image.type == "backup"]


# The API


def test_policies_are_a_map_from_ids_of_droplets_on_several_pages(
    start: Callable[..., Sandbox], connect: Callable[[Sandbox], httpx.Client]
) -> None:
    sandbox = start(droplets=10)
    http = connect(sandbox)
    first = http.get("/v2/droplets/backups/policies?per_page=7").json()
    second = httpx.get(first["links"]["pages"]["next"], headers=http.headers).json()
    assert (len(first["policies"]), len(second["policies"]), first["meta"]) == (7, 4, {"total": 11})
    policies = first["policies"] | second["policies"]
    assert set(policies) == {str(droplet_id) for droplet_id in sandbox.account.droplets}
    assert all(policy["droplet_id"] == int(droplet_id) for droplet_id, policy in policies.items())
    assert policies == {str(each.id): record(http, each) for each in sandbox.account.droplets.values()}


def test_a_daily_policy_has_no_weekday(sandbox: Sandbox, http: httpx.Client) -> None:
    droplet = first_droplet(sandbox)
    droplet.backup_policy = BackupPolicy.daily(20)
    assert record(http, droplet) == {
        "droplet_id": droplet.id,
        "backup_enabled": True,
        "backup_policy": {"plan": "daily", "hour": 20, "window_length_hours": 4, "retention_period_days": 7},
        "next_backup_window": {"start": "2026-09-22T20:00:00Z", "end": "2026-09-23T00:00:00Z"},
    }


def test_a_weekly_policy_has_a_weekday(sandbox: Sandbox, http: httpx.Client) -> None:
    droplet = first_droplet(sandbox)
    droplet.backup_policy = BackupPolicy.weekly(8, "SUN")
    found = record(http, droplet)
    assert found["backup_policy"] == {
        "plan": "weekly",
        "weekday": "SUN",
        "hour": 8,
        "window_length_hours": 4,
        "retention_period_days": 28,
    }
    assert found["next_backup_window"] == {"start": "2026-09-27T08:00:00Z", "end": "2026-09-27T12:00:00Z"}


def test_a_droplet_on_a_usage_based_plan_shows_an_undocumented_plan_and_no_feature(
    sandbox: Sandbox, http: httpx.Client
) -> None:
    droplet = first_droplet(sandbox)
    assert "backups" in shown(http, droplet.id)["features"]
    droplet.backup_policy = BackupPolicy.usage_based(6, retention_days=14)
    found = record(http, droplet)
    assert found["backup_enabled"] is True
    assert found["backup_policy"] == {
        "plan": "intra_daily_6h",
        "hour": 0,
        "window_length_hours": 4,
        "retention_period_days": 14,
    }
    body = shown(http, droplet.id)
    assert "backups" not in body["features"]
    assert body["backup_ids"]
    assert body["next_backup_window"] == found["next_backup_window"]


def test_a_droplet_without_backups_has_no_policy(sandbox: Sandbox, http: httpx.Client) -> None:
    droplet = next(each for each in sandbox.account.droplets.values() if not backups_of(sandbox, each))
    assert record(http, droplet) == {"droplet_id": droplet.id, "backup_enabled": False}
    assert shown(http, droplet.id)["next_backup_window"] is None


def test_the_documented_plans_are_supported(client: Any) -> None:
    weekly, daily = client.droplets.list_supported_backup_policies()["supported_policies"]
    assert (weekly["name"], weekly["retention_period_days"], len(weekly["possible_days"])) == ("weekly", 28, 7)
    assert (daily["name"], daily["retention_period_days"], daily["possible_days"]) == ("daily", 7, [])
    assert weekly["possible_window_starts"] == daily["possible_window_starts"] == [0, 4, 8, 12, 16, 20]
    assert weekly["window_length_hours"] == daily["window_length_hours"] == 4


def test_digitaloceans_own_client_reads_policies(client: Any, sandbox: Sandbox) -> None:
    droplet = first_droplet(sandbox)
    policies = client.droplets.list_backup_policies()["policies"]
    assert policies[str(droplet.id)] == client.droplets.get_backup_policy(droplet.id)["policy"]


def test_the_policy_of_an_unknown_droplet_is_not_found(http: httpx.Client) -> None:
    assert http.get("/v2/droplets/7/backups/policy").status_code == 404


def test_policies_can_be_out_of_scope_and_meet_faults(
    start_with_behavior: Callable[..., Sandbox], connect: Callable[[Sandbox], httpx.Client]
) -> None:
    sandbox = start_with_behavior(out_of_scope=frozenset({"/v2/droplets/*/backups/policy"}))
    http = connect(sandbox)
    assert http.get(f"/v2/droplets/{first_droplet(sandbox).id}/backups/policy").status_code == 403
    sandbox.faults.add(Fault(FaultKind.BURST_LIMIT, path="/policies$"))
    assert http.get("/v2/droplets/backups/policies").status_code == 429
    assert http.get("/v2/droplets/backups/policies").status_code == 200
    assert [request.counted for request in sandbox.record.requests] == [True, False, True]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (None, BackupPolicy.daily(0)),
        ({"hour": 8}, BackupPolicy.daily(8)),
        ({"plan": "weekly", "weekday": "FRI", "hour": 12}, BackupPolicy.weekly(12, "FRI")),
        ({"plan": "intra_daily_12h", "retention_period_days": 30}, BackupPolicy.usage_based(12, 30)),
    ],
)
def test_a_new_droplet_has_the_policy_asked_for_or_else_a_daily_one(
    sandbox: Sandbox, http: httpx.Client, clock: SandboxClock, policy: object, expected: BackupPolicy
) -> None:
    new = created(http, backups=True, backup_policy=policy)
    assert sandbox.account.droplets[new["id"]].backup_policy == expected
    assert new["next_backup_window"] is None
    clock.move(LONGEST_CREATION_SECONDS)
    assert shown(http, new["id"])["next_backup_window"] is not None


@pytest.mark.parametrize(
    "policy", [{"plan": "hourly"}, {"plan": "weekly", "weekday": "Sunday"}, {"plan": 7}, {"retention_period_days": 0}]
)
def test_an_invalid_policy_is_refused(sandbox: Sandbox, http: httpx.Client, policy: object) -> None:
    refused = http.post("/v2/droplets", json=asked(backups=True, backup_policy=policy))
    assert refused.status_code == 422
    assert refused.json()["message"].startswith("Backup policy ")
    assert sandbox.record.created == []


# Windows


@given(policy=st.sampled_from(POLICIES), now=st.integers(int(NOON), int(NOON + 60 * DAY)))
def test_a_window_starts_at_the_hour_and_on_the_weekday_of_the_policy(policy: BackupPolicy, now: int) -> None:
    interval = timedelta(hours=policy.interval_hours)
    moment, latest = datetime.fromtimestamp(now, UTC), datetime.fromtimestamp(policy.latest_window(now), UTC)
    start, end = (datetime.fromtimestamp(each, UTC) for each in policy.next_window(now))
    assert latest <= moment < start
    assert (start - latest, end - start) == (interval, timedelta(hours=4))
    assert ((start.hour - policy.hour) % policy.interval_hours, start.minute, start.second) == (0, 0, 0)
    assert policy.weekday in (None, f"{start:%a}".upper())


# The generated account


def test_small_accounts_have_daily_backups_only(sandbox: Sandbox) -> None:
    policies = [droplet.backup_policy for droplet in sandbox.account.droplets.values()]
    assert {policy.plan for policy in policies if policy} == {"daily"}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_large_accounts_have_all_kinds_of_plans_and_mostly_daily_ones(start: Callable[..., Sandbox], seed: int) -> None:
    sandbox = start(droplets=24, seed=seed)
    plans = Counter(
        each.backup_policy.plan if each.backup_policy else None for each in sandbox.account.droplets.values()
    )
    assert (plans["daily"], plans["weekly"], plans[None]) == (18, 3, 1)
    assert sum(plans.values()) - plans["daily"] - plans["weekly"] - plans[None] == 3


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_generated_backups_were_made_in_the_windows_of_their_policies(start: Callable[..., Sandbox], seed: int) -> None:
    sandbox = start(droplets=24, backups_per_droplet=3, seed=seed)
    for droplet in sandbox.account.droplets.values():
        policy, backups = droplet.backup_policy, backups_of(sandbox, droplet)
        if policy is None:
            continue
        interval = policy.interval_hours * HOUR
        ages = [NOON - image.created_at for image in reversed(backups)]
        assert all(age * interval < each < (age + 1) * interval for age, each in enumerate(ages))
        for image in backups:
            assert 0 <= image.created_at - policy.latest_window(image.created_at) < 4 * HOUR
            assert image.name == droplet.backup_name(image.created_at)


def test_an_account_without_backups_has_no_policies(start: Callable[..., Sandbox]) -> None:
    droplets = start(droplets=10, backups_per_droplet=0).account.droplets.values()
    assert {droplet.backup_policy for droplet in droplets} == {None}


def test_other_policies_change_nothing_else_about_the_account(start: Callable[..., Sandbox]) -> None:
    account = start(droplets=8).account
    droplets = [(each.id, each.size.slug, each.region) for each in account.droplets.values()]
    assert droplets[-2:] == [(448004441, "s-1vcpu-1gb", "fra1"), (448005323, "s-8vcpu-16gb", "sgp1")]
    own = [(image.id, image.size_gigabytes) for image in account.images.values() if not image.public]
    assert own[-3:] == [(167011534, 8.95), (167011716, 6.51), (167011734, 14.2)]
