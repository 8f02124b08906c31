"""How an account changes over time: backups come and go, Droplets are destroyed, days pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from deployments.sandbox import BackupPolicy, Deletion, Droplet, Image, Sandbox
from tests.deployments.sandbox.sandbox_clock import NOON, SandboxClock

HOUR = 3600.0
DAY = 24 * HOUR


def images_of(sandbox: Sandbox, droplet: Droplet, kind: str) -> list[Image]:
    images = [sandbox.account.images[image_id] for image_id in droplet.image_ids]
    return [image for image in images if image.type == kind]


def with_a_snapshot(sandbox: Sandbox) -> Droplet:
    return next(each for each in sandbox.account.droplets.values() if images_of(sandbox, each, "snapshot"))


def listed(http: httpx.Client, path: str, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get(path, params={"per_page": 200}).raise_for_status().json()[name]
    return found


# Nights


def test_a_night_adds_one_backup_to_each_droplet_with_backups_enabled(sandbox: Sandbox, http: httpx.Client) -> None:
    protected = [droplet for droplet in sandbox.account.droplets.values() if droplet.backup_hour is not None]
    new = sandbox.account.back_up_droplets(NOON + DAY)
    assert [image.droplet_id for image in new] == [droplet.id for droplet in protected]
    assert 0 < len(new) < len(sandbox.account.droplets)
    shown = {image["id"]: image for image in listed(http, "/v2/images?private=true", "images")}
    for image, droplet in zip(new, protected, strict=True):
        assert image.name == f"{droplet.name} {datetime.fromtimestamp(NOON + DAY, UTC):%Y-%m-%d}"
        assert 1 <= image.size_gigabytes <= 30
        body = shown[image.id]
        assert (body["type"], body["regions"], body["distribution"]) == (
            "backup",
            [droplet.region],
            droplet.base_image.distribution,
        )
        assert image.id in http.get(f"/v2/droplets/{droplet.id}").json()["droplet"]["backup_ids"]


def test_backups_of_a_week_ago_rotate_away_and_converted_ones_stay(sandbox: Sandbox, http: httpx.Client) -> None:
    droplet = next(each for each in sandbox.account.droplets.values() if images_of(sandbox, each, "backup"))
    before = images_of(sandbox, droplet, "snapshot")
    first, *_ = sandbox.account.back_up_droplets(NOON)
    http.post(f"/v2/images/{first.id}/actions", json={"type": "convert"}).raise_for_status()
    for night in range(1, 20):
        sandbox.account.back_up_droplets(NOON + night * DAY)
    ages = [(NOON + 19 * DAY - image.created_at) / DAY for image in images_of(sandbox, droplet, "backup")]
    assert ages == [6, 5, 4, 3, 2, 1, 0]
    assert images_of(sandbox, droplet, "snapshot") == [*before, first]
    assert sandbox.record.deleted == []


def test_a_backup_does_not_rotate_away_while_it_is_being_converted(sandbox: Sandbox) -> None:
    first, second, *_ = sandbox.account.back_up_droplets(NOON)
    sandbox.account.start(first, "convert", "nyc3", NOON + 7 * DAY - 1)
    sandbox.account.back_up_droplets(NOON + 7 * DAY)
    assert first.id in sandbox.account.images
    assert second.id not in sandbox.account.images


def test_a_night_is_the_same_for_the_same_seed_and_no_id_is_given_twice(sandbox: Sandbox) -> None:
    with Sandbox(clock=SandboxClock()) as other:
        mine = [sandbox.account.back_up_droplets(NOON + night * DAY) for night in range(12)]
        assert [other.account.back_up_droplets(NOON + night * DAY) for night in range(12)] == mine
    ids = Counter(image.id for night in mine for image in night)
    assert set(ids.values()) == {1}


# Other policies and failures


def first_droplet(sandbox: Sandbox, policy: BackupPolicy) -> Droplet:
    droplet = next(iter(sandbox.account.droplets.values()))
    droplet.backup_policy = policy
    return droplet


def moments(sandbox: Sandbox, droplet: Droplet) -> list[str]:
    return [
        f"{datetime.fromtimestamp(each.created_at, UTC):%a %d %H:%M}" for each in images_of(sandbox, droplet, "backup")
    ]


def test_a_weekly_droplet_is_backed_up_in_the_window_of_its_weekday_only(sandbox: Sandbox) -> None:
    droplet = first_droplet(sandbox, BackupPolicy.weekly(20, "FRI"))
    new = [sandbox.account.back_up_droplets(NOON + night * DAY) for night in range(1, 15)]
    assert [sum(image.droplet_id == droplet.id for image in night) for night in new] == [0, 0, 0, 1, 0, 0, 0] * 2
    assert moments(sandbox, droplet)[-2:] == ["Fri 25 20:10", "Fri 02 20:10"]


def test_weekly_backups_are_kept_for_four_weeks(sandbox: Sandbox) -> None:
    droplet = first_droplet(sandbox, BackupPolicy.weekly(20, "FRI"))
    for night in range(1, 71):
        sandbox.account.back_up_droplets(NOON + night * DAY)
    ages = [(NOON + 70 * DAY - image.created_at) / DAY for image in images_of(sandbox, droplet, "backup")]
    assert [int(age) for age in ages] == [24, 17, 10, 3]


@pytest.mark.parametrize("hours", [4, 6, 12])
def test_a_usage_based_droplet_is_backed_up_in_each_window_since_the_last_night(sandbox: Sandbox, hours: int) -> None:
    droplet = first_droplet(sandbox, BackupPolicy.usage_based(hours, retention_days=3))
    sandbox.account.back_up_droplets(NOON)
    new = sandbox.account.back_up_droplets(NOON + DAY)
    times = [image.created_at for image in new if image.droplet_id == droplet.id]
    assert times == [NOON + start * HOUR + 600 for start in range(hours, 24, hours)] + [NOON + DAY]
    assert sandbox.account.back_up_droplets(NOON + DAY + 60)[0].droplet_id != droplet.id
    for night in range(2, 10):
        sandbox.account.back_up_droplets(NOON + night * DAY)
    assert len(images_of(sandbox, droplet, "backup")) == 3 * 24 / hours


def test_a_usage_based_droplet_has_no_older_backups_than_it_keeps_after_a_long_pause(sandbox: Sandbox) -> None:
    droplet = first_droplet(sandbox, BackupPolicy.usage_based(12, retention_days=3))
    sandbox.account.back_up_droplets(NOON + 60 * DAY)
    ages = [NOON + 60 * DAY - image.created_at for image in images_of(sandbox, droplet, "backup")]
    assert len(ages) == 6
    assert max(ages) < 3 * DAY


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_first_backups_follow_the_generated_ones_without_a_gap(start: Callable[..., Sandbox], seed: int) -> None:
    sandbox = start(droplets=24, seed=seed)
    sandbox.account.back_up_droplets(NOON)
    for droplet in sandbox.account.droplets.values():
        policy = droplet.backup_policy
        if policy and policy.plan != "daily":
            windows = [policy.latest_window(image.created_at) for image in images_of(sandbox, droplet, "backup")]
            assert windows == policy.windows(windows[0] - 1, NOON)


def test_a_generated_account_gets_the_backups_of_all_its_policies(start: Callable[..., Sandbox]) -> None:
    sandbox = start(droplets=16)
    sandbox.account.back_up_droplets(NOON)
    made = Counter(
        image.droplet_id for day in range(1, 8) for image in sandbox.account.back_up_droplets(NOON + day * DAY)
    )
    for droplet in sandbox.account.droplets.values():
        policy = droplet.backup_policy
        assert made[droplet.id] == (7 * 24 / policy.interval_hours if policy else 0), policy


@pytest.mark.parametrize("hour", range(0, 24, 4))
@pytest.mark.parametrize("nights", [0, 9])
@pytest.mark.parametrize(
    "policy",
    [
        BackupPolicy.daily,
        lambda hour: BackupPolicy.weekly(hour, "TUE"),
        lambda hour: BackupPolicy.usage_based(6, hour=hour),
    ],
)
def test_after_failed_backups_there_is_none_since_the_latest_window_that_has_ended(
    sandbox: Sandbox,
    http: httpx.Client,
    clock: SandboxClock,
    policy: Callable[[int], BackupPolicy],
    nights: int,
    hour: int,
) -> None:
    droplet = first_droplet(sandbox, policy(hour))
    assert droplet.backup_policy
    for night in range(nights):
        clock.now = NOON + night * DAY
        sandbox.account.back_up_droplets(clock())
    before = [image.id for image in images_of(sandbox, droplet, "backup")]
    sandbox.account.fail_backups(droplet, clock())
    left = images_of(sandbox, droplet, "backup")
    newest, window = max(image.created_at for image in left), droplet.backup_policy.ended_window(clock())
    assert window + 4 * HOUR <= clock()
    assert window - droplet.backup_policy.interval_hours * HOUR - DAY <= newest < window
    assert [image.id for image in left] == before
    for body in listed(http, f"/v2/droplets/{droplet.id}/backups", "backups"):
        assert body["name"] == f"{droplet.name} {body['created_at'][:10]}"


def test_failing_backups_are_not_made_up_for_later(sandbox: Sandbox) -> None:
    droplet = first_droplet(sandbox, BackupPolicy.usage_based(12, retention_days=7))
    sandbox.account.fail_backups(droplet, NOON)
    new = sandbox.account.back_up_droplets(NOON + DAY)
    assert new
    assert droplet.id not in {image.droplet_id for image in new}
    sandbox.account.failing_backups.remove(droplet.id)
    times = [
        each.created_at for each in sandbox.account.back_up_droplets(NOON + 2 * DAY) if each.droplet_id == droplet.id
    ]
    assert times == [NOON + 36 * HOUR + 600, NOON + 2 * DAY]


def test_the_backups_of_a_droplet_that_has_none_yet_can_fail(sandbox: Sandbox) -> None:
    droplet = next(each for each in sandbox.account.droplets.values() if each.backup_policy is None)
    droplet.backup_policy = BackupPolicy.daily()
    sandbox.account.fail_backups(droplet, NOON)
    assert droplet.id not in {image.droplet_id for image in sandbox.account.back_up_droplets(NOON + DAY)}


def test_backups_that_are_not_enabled_cannot_fail(sandbox: Sandbox) -> None:
    droplet = next(each for each in sandbox.account.droplets.values() if each.backup_policy is None)
    with pytest.raises(ValueError, match=f"Droplet {droplet.id} are not enabled"):
        sandbox.account.fail_backups(droplet, NOON)


# Deletions


def test_a_snapshot_of_a_deleted_droplet_is_still_listed_as_its_own(sandbox: Sandbox, http: httpx.Client) -> None:
    droplet = with_a_snapshot(sandbox)
    backups, snapshots = images_of(sandbox, droplet, "backup"), images_of(sandbox, droplet, "snapshot")
    sandbox.account.delete_droplet(droplet)
    assert http.get(f"/v2/droplets/{droplet.id}").status_code == 404
    assert droplet.id not in {each["id"] for each in listed(http, "/v2/droplets", "droplets")}
    for backup in backups:
        assert http.get(f"/v2/images/{backup.id}").status_code == 404
    shown = {each["id"]: each["resource_id"] for each in listed(http, "/v2/snapshots", "snapshots")}
    for snapshot in snapshots:
        assert http.get(f"/v2/images/{snapshot.id}").json()["image"]["type"] == "snapshot"
        assert shown[str(snapshot.id)] == str(droplet.id)
        assert http.delete(f"/v2/images/{snapshot.id}").status_code == 204
    tagged = http.get("/v2/tags/dr").json()["tag"]["resources"]["droplets"]["count"]
    assert tagged == sum("dr" in each.tags for each in sandbox.account.droplets.values())
    assert sandbox.account.back_up_droplets(NOON)


def test_the_record_keeps_what_a_deleted_image_was(sandbox: Sandbox, http: httpx.Client, clock: SandboxClock) -> None:
    droplet = with_a_snapshot(sandbox)
    (image,) = images_of(sandbox, droplet, "snapshot")
    http.post("/v2/tags", json={"name": "ours"}).raise_for_status()
    resource = {"resource_id": str(image.id), "resource_type": "image"}
    http.post("/v2/tags/ours/resources", json={"resources": [resource]}).raise_for_status()
    clock.move(HOUR)
    answer = http.delete(f"/v2/images/{image.id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert "ratelimit-remaining" in answer.headers
    expected = Deletion(
        at=NOON + HOUR,
        image_id=image.id,
        name=image.name,
        droplet_id=droplet.id,
        created_at=image.created_at,
        regions=(droplet.region,),
        tags=("ours",),
    )
    assert sandbox.record.deleted == [expected]
    assert http.get("/sandbox/record").json()["deleted"][0]["tags"] == ["ours"]
    assert http.delete(f"/v2/images/{image.id}").status_code == 404
    assert len(sandbox.record.deleted) == 1


def test_a_refused_deletion_is_not_recorded(sandbox: Sandbox, http: httpx.Client) -> None:
    image = next(each for each in sandbox.account.images.values() if each.type == "snapshot" and not each.public)
    http.post(f"/v2/images/{image.id}/actions", json={"type": "transfer", "region": "atl1"}).raise_for_status()
    backup = next(each for each in sandbox.account.images.values() if each.type == "backup")
    assert http.delete(f"/v2/images/{image.id}").status_code == 422
    assert http.delete(f"/v2/images/{backup.id}").status_code == 422
    assert sandbox.record.deleted == []


# Days that pass at once


def test_sixty_nights_of_backing_up_converting_copying_and_deleting(
    sandbox: Sandbox, http: httpx.Client, clock: SandboxClock
) -> None:
    for night in range(60):
        clock.move(DAY - 2 * HOUR)
        new = sandbox.account.back_up_droplets(clock())
        for image in new:
            http.post(f"/v2/images/{image.id}/actions", json={"type": "convert"}).raise_for_status()
        clock.move(600)
        elsewhere = {
            image.id: [slug for slug in ("nyc1", "nyc3", "fra1") if slug not in image.regions][:2] for image in new
        }
        for image_id, slugs in elsewhere.items():
            for slug in slugs:
                transfer = {"type": "transfer", "region": slug}
                http.post(f"/v2/images/{image_id}/actions", json=transfer).raise_for_status()
        clock.move(2 * HOUR - 600)
        feed = listed(http, "/v2/actions", "actions")
        assert {action["status"] for action in feed} == {"completed"}
        shown = {each["id"]: each for each in listed(http, "/v2/snapshots?resource_type=droplet", "snapshots")}
        for image in new:
            body = shown[str(image.id)]
            assert set(elsewhere[image.id]) < set(body["regions"])
            made = datetime.fromisoformat(body["created_at"])
            assert made == datetime.fromtimestamp(NOON + (night + 1) * DAY - 2 * HOUR, UTC)
        # What was sent more than an hour ago counts no longer.
        assert int(http.get("/v2/account").headers["ratelimit-remaining"]) == 5000 - 3
        for image in new[1:]:
            http.delete(f"/v2/images/{image.id}").raise_for_status()
    assert sandbox.record.rate_limited() == 0
    assert sandbox.record.duplicate_transfers() == []
    assert len(sandbox.record.deleted) == 60 * (len(new) - 1)
    # The last nights' were converted before they could rotate away, and what was there at first has rotated away.
    assert not [image for image in sandbox.account.images.values() if image.type == "backup"]
