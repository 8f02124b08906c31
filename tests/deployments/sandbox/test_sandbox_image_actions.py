"""Conversions and transfers, as DigitalOcean's own client asks for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from deployments.sandbox import Image, Sandbox
from tests.deployments.sandbox.sandbox_clock import SandboxClock

AGES = 24 * 3600


def own(sandbox: Sandbox, kind: str) -> Image:
    images = sandbox.account.images.values()
    return next(image for image in images if image.type == kind and not image.public)


def elsewhere(sandbox: Sandbox, image: Image) -> list[str]:
    regions = sandbox.account.regions.values()
    return [region.slug for region in regions if region.takes_images and region.slug not in image.regions]


def refusal(client: Any, image: Image, **action: object) -> tuple[int, str]:
    with pytest.raises(HttpResponseError) as refused:
        client.image_actions.post(image.id, action)
    error = json.loads(refused.value.response.text())  # type: ignore[union-attr]
    assert set(error) == {"id", "message", "request_id"}
    return refused.value.status_code or 0, error["message"]


def test_a_transfer_adds_its_region_when_it_completes(sandbox: Sandbox, client: Any, clock: SandboxClock) -> None:
    image = own(sandbox, "snapshot")
    target = elsewhere(sandbox, image)[0]
    action = client.image_actions.post(image.id, {"type": "transfer", "region": target})["action"]
    assert (action["status"], action["completed_at"]) == ("in-progress", None)
    assert (action["resource_id"], action["resource_type"]) == (image.id, "image")
    assert (action["region_slug"], action["region"]["slug"]) == (target, target)
    assert target not in client.images.get(image.id)["image"]["regions"]

    clock.move(AGES)
    done = client.image_actions.get(action_id=action["id"], image_id=image.id)["action"]
    assert done["status"] == "completed"
    assert done["completed_at"] is not None
    assert target in client.images.get(image.id)["image"]["regions"]


def test_a_transfer_takes_one_to_two_minutes_a_gigabyte_divided_by_the_speed(
    start: Callable[..., Sandbox], connect_pydo: Callable[[Sandbox], Any]
) -> None:
    sandbox = start(speed=60)
    image = own(sandbox, "snapshot")
    for region in elsewhere(sandbox, image):
        connect_pydo(sandbox).image_actions.post(image.id, {"type": "transfer", "region": region})
    durations = [action.ends_at - action.started_at for action in sandbox.record.actions]
    assert all(1 <= duration / image.size_gigabytes <= 2 for duration in durations)
    assert len(set(durations)) == len(durations)


def test_a_conversion_keeps_the_id_and_moves_the_backup_to_the_snapshots(
    sandbox: Sandbox, client: Any, clock: SandboxClock
) -> None:
    image = own(sandbox, "backup")
    assert client.image_actions.post(image.id, {"type": "convert"})["action"]["type"] == "convert"
    droplet = client.droplets.get(image.droplet_id)["droplet"]
    assert image.id in droplet["backup_ids"]

    clock.move(AGES)
    droplet = client.droplets.get(image.droplet_id)["droplet"]
    assert image.id not in droplet["backup_ids"]
    assert image.id in droplet["snapshot_ids"]
    assert client.images.get(image.id)["image"]["type"] == "snapshot"
    assert str(image.id) in {snapshot["id"] for snapshot in client.snapshots.list()["snapshots"]}


def test_one_image_can_be_transferred_to_many_regions_at_once(sandbox: Sandbox, client: Any) -> None:
    image = own(sandbox, "snapshot")
    targets = elsewhere(sandbox, image)
    for region in targets:
        client.image_actions.post(image.id, {"type": "transfer", "region": region})
    listed = client.image_actions.list(image.id)
    assert [action["region_slug"] for action in listed["actions"]] == targets[::-1]
    assert {action["status"] for action in listed["actions"]} == {"in-progress"}


def test_invalid_requests_are_refused(sandbox: Sandbox, client: Any) -> None:
    snapshot, backup = own(sandbox, "snapshot"), own(sandbox, "backup")
    target = elsewhere(sandbox, snapshot)[0]
    for image, action, words in [
        (snapshot, {"type": "transfer", "region": next(iter(snapshot.regions))}, "already available"),
        (backup, {"type": "transfer", "region": target}, "Only snapshots"),
        (snapshot, {"type": "convert"}, "already a snapshot"),
        (own(sandbox, "custom"), {"type": "convert"}, "Only backups"),
        (snapshot, {"type": "transfer", "region": "moon1"}, "Region is invalid"),
        (snapshot, {"type": "transfer", "region": "sfo1"}, "not available"),
        (snapshot, {"type": "transfer", "region": "nyc2"}, "not available"),
        (snapshot, {"type": "transfer"}, "Region is required"),
        (snapshot, {"type": "destroy"}, "Type is invalid"),
        (snapshot, {"region": target}, "Type is invalid"),
    ]:
        status, message = refusal(client, image, **action)
        assert status == 422
        assert words in message
    assert sandbox.record.actions == []


def test_an_image_refuses_everything_while_it_is_converted_and_shortly_after(
    sandbox: Sandbox, client: Any, clock: SandboxClock
) -> None:
    image = own(sandbox, "backup")
    target = elsewhere(sandbox, image)[0]
    client.image_actions.post(image.id, {"type": "convert"})
    pending = (422, "Image already has a pending event.")
    assert refusal(client, image, type="convert") == pending
    assert refusal(client, image, type="transfer", region=target) == pending

    clock.now = sandbox.record.actions[0].ends_at + 2.9
    assert refusal(client, image, type="transfer", region=target) == pending
    clock.move(0.2)
    client.image_actions.post(image.id, {"type": "transfer", "region": target})


def test_a_second_transfer_to_the_same_region_is_refused_while_the_first_runs(sandbox: Sandbox, client: Any) -> None:
    image = own(sandbox, "snapshot")
    target = elsewhere(sandbox, image)[0]
    client.image_actions.post(image.id, {"type": "transfer", "region": target})
    assert refusal(client, image, type="transfer", region=target)[0] == 422
    assert sandbox.record.duplicate_transfers() == []


def test_a_second_transfer_to_the_same_region_is_accepted_and_recorded_if_the_api_is_lax(
    start_with_behavior: Callable[..., Sandbox], connect_pydo: Callable[[Sandbox], Any], clock: SandboxClock
) -> None:
    sandbox = start_with_behavior(duplicate_transfers="accept")
    client, image = connect_pydo(sandbox), own(sandbox, "snapshot")
    target = elsewhere(sandbox, image)[0]
    for _ in range(2):
        second = client.image_actions.post(image.id, {"type": "transfer", "region": target})["action"]
    assert [action.id for action in sandbox.record.duplicate_transfers()] == [second["id"]]
    clock.move(AGES)
    assert client.images.get(image.id)["image"]["regions"].count(target) == 1


def test_public_images_are_off_limits(sandbox: Sandbox, client: Any) -> None:
    public = next(image for image in sandbox.account.images.values() if image.public)
    assert refusal(client, public, type="transfer", region="nyc3")[0] == 403


def test_an_image_with_an_action_in_progress_cannot_be_deleted(sandbox: Sandbox, client: Any) -> None:
    image = own(sandbox, "snapshot")
    client.image_actions.post(image.id, {"type": "transfer", "region": elsewhere(sandbox, image)[0]})
    with pytest.raises(HttpResponseError) as refused:
        client.images.delete(image.id)
    assert refused.value.status_code == 422


def test_an_action_is_found_only_under_its_own_image(sandbox: Sandbox, client: Any) -> None:
    image, other = own(sandbox, "snapshot"), own(sandbox, "backup")
    region = elsewhere(sandbox, image)[0]
    action = client.image_actions.post(image.id, {"type": "transfer", "region": region})["action"]
    # pydo hands a 404 back as the error's body.
    assert client.image_actions.get(image_id=other.id, action_id=action["id"])["id"] == "not_found"
    assert client.actions.get(action["id"])["action"]["id"] == action["id"]


def test_regions_and_type_lag_behind_the_status_as_configured(
    start_with_behavior: Callable[..., Sandbox], connect_pydo: Callable[[Sandbox], Any], clock: SandboxClock
) -> None:
    sandbox = start_with_behavior(lag_seconds=5, lock_seconds=0)
    client, backup, snapshot = connect_pydo(sandbox), own(sandbox, "backup"), own(sandbox, "snapshot")
    target = elsewhere(sandbox, snapshot)[0]
    client.image_actions.post(backup.id, {"type": "convert"})
    clock.now = sandbox.record.actions[-1].ends_at
    assert client.image_actions.list(backup.id)["actions"][0]["status"] == "completed"
    assert client.images.get(backup.id)["image"]["type"] == "backup"
    clock.move(5)
    assert client.images.get(backup.id)["image"]["type"] == "snapshot"

    client.image_actions.post(snapshot.id, {"type": "transfer", "region": target})
    clock.now = sandbox.record.actions[-1].ends_at
    assert client.image_actions.list(snapshot.id)["actions"][0]["status"] == "completed"
    assert target not in client.images.get(snapshot.id)["image"]["regions"]
    assert refusal(client, snapshot, type="transfer", region=target)[0] == 422
    clock.move(5)
    assert target in client.images.get(snapshot.id)["image"]["regions"]


def test_the_feed_lags_behind_as_configured(
    start_with_behavior: Callable[..., Sandbox], connect_pydo: Callable[[Sandbox], Any], clock: SandboxClock
) -> None:
    sandbox = start_with_behavior(feed_lag_seconds=2)
    client, image = connect_pydo(sandbox), own(sandbox, "backup")
    action_id = client.image_actions.post(image.id, {"type": "convert"})["action"]["id"]
    assert client.actions.list()["actions"][0]["id"] != action_id
    assert client.image_actions.list(image.id)["actions"][0]["id"] == action_id
    clock.move(2)
    assert client.actions.list()["actions"][0]["id"] == action_id
