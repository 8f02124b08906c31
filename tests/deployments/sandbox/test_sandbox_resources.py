"""What DigitalOcean's own client sees of an account."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from deployments.sandbox import Sandbox
from tests.deployments.sandbox.sandbox_clock import NOON

REGION = {"name", "slug", "features", "available", "sizes"}
ACTION = {
    "id", "status", "type", "started_at", "completed_at", "resource_id", "resource_type", "region", "region_slug",
}  # fmt: skip
IMAGE = {
    "id", "name", "type", "distribution", "slug", "public", "regions", "created_at", "min_disk_size",
    "size_gigabytes", "description", "tags", "status", "error_message",
}  # fmt: skip
SNAPSHOT = {
    "id", "name", "created_at", "regions", "resource_id", "resource_type", "min_disk_size", "size_gigabytes", "tags",
}  # fmt: skip
OF_DROPLET = {"id", "name", "created_at", "regions", "min_disk_size", "size_gigabytes", "type"}
DROPLET = {
    "id", "name", "memory", "vcpus", "disk", "locked", "status", "created_at", "features", "backup_ids",
    "next_backup_window", "snapshot_ids", "image", "volume_ids", "size", "size_slug", "networks", "region", "tags",
}  # fmt: skip
SIZE = {
    "available", "disk", "memory", "price_hourly", "price_monthly", "regions", "slug", "transfer", "vcpus",
    "description",
}  # fmt: skip
ACCOUNT = {
    "droplet_limit", "floating_ip_limit", "email", "uuid", "email_verified", "status", "status_message",
}  # fmt: skip
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def test_every_resource_has_the_attributes_the_api_requires(client: Any) -> None:
    droplet = client.droplets.list()["droplets"][0]
    lists = {
        "regions": (REGION, client.regions.list()["regions"]),
        "actions": (ACTION, client.actions.list()["actions"]),
        "images": (IMAGE, client.images.list(per_page=200)["images"]),
        "snapshots": (SNAPSHOT, client.snapshots.list()["snapshots"]),
        "backups": (OF_DROPLET, client.droplets.list_backups(droplet["id"])["backups"]),
        "droplet snapshots": (OF_DROPLET, client.droplets.list_snapshots(droplet["id"])["snapshots"]),
        "droplets": (DROPLET, client.droplets.list()["droplets"]),
        "sizes": (SIZE, [droplet["size"]]),
        "account": (ACCOUNT, [client.account.get()["account"]]),
    }
    for name, (required, found) in lists.items():
        assert found, name
        for one in found:
            assert required <= set(one), name
            for moment in ("created_at", "started_at", "completed_at"):
                assert one.get(moment) is None or TIMESTAMP.fullmatch(one[moment])


def test_single_resources_are_those_of_the_lists(client: Any) -> None:
    droplet = client.droplets.list()["droplets"][0]
    image = client.images.list(private=True)["images"][0]
    action = client.actions.list()["actions"][0]
    assert client.droplets.get(droplet["id"])["droplet"] == droplet
    assert client.images.get(image["id"])["image"] == image
    assert client.actions.get(action["id"])["action"] == action
    assert client.images.get("ubuntu-24-04-x64")["image"]["public"] is True


def test_droplets_refer_to_the_listed_backups_and_snapshots(client: Any) -> None:
    kinds = {image["id"]: image["type"] for image in client.images.list(private=True, per_page=200)["images"]}
    for droplet in client.droplets.list()["droplets"]:
        assert {kinds[image] for image in droplet["backup_ids"]} <= {"backup"}
        assert {kinds[image] for image in droplet["snapshot_ids"]} <= {"snapshot"}
        backups = client.droplets.list_backups(droplet["id"])["backups"]
        assert [backup["id"] for backup in backups] == droplet["backup_ids"]


def test_backups_are_a_day_apart_and_the_newest_is_of_the_last_day(start: Callable[..., Sandbox]) -> None:
    account = start(backups_per_droplet=3).account
    for droplet in account.droplets.values():
        backups = [account.images[i] for i in droplet.image_ids if account.images[i].type == "backup"]
        ages = sorted(NOON - backup.created_at for backup in backups)
        assert all(day * 86400 < age < (day + 1) * 86400 for day, age in enumerate(ages))


def test_some_regions_are_closed_and_some_take_no_images(client: Any) -> None:
    regions = client.regions.list()["regions"]
    open_ones = [region for region in regions if region["available"]]
    assert len(open_ones) < len(regions)
    assert any("image_transfer" not in region["features"] for region in open_ones)
    assert "atl1" in {region["slug"] for region in open_ones}


def test_some_droplets_have_no_backups_and_some_have_a_snapshot(client: Any) -> None:
    droplets = client.droplets.list()["droplets"]
    assert any(not droplet["backup_ids"] for droplet in droplets)
    assert any(droplet["snapshot_ids"] for droplet in droplets)


def test_public_images_are_hidden_from_the_private_listing(client: Any) -> None:
    assert not any(image["public"] for image in client.images.list(private=True)["images"])
    assert all(image["public"] for image in client.images.list(type="distribution")["images"])
    assert [image["slug"] for image in client.images.list(type="application")["images"]] == ["docker-20-04"]


def test_droplets_are_found_by_tag_and_by_name_in_any_case(client: Any) -> None:
    tagged = client.droplets.list(tag_name="dr")["droplets"]
    assert tagged
    assert all("dr" in droplet["tags"] for droplet in tagged)
    assert [droplet["name"] for droplet in client.droplets.list(name="WEB-01")["droplets"]] == ["web-01"]


@pytest.mark.parametrize("also", [{"name": "web-01"}, {"type": "gpus"}])
def test_droplets_cannot_be_found_by_tag_and_something_else(client: Any, also: dict[str, str]) -> None:
    with pytest.raises(HttpResponseError) as refused:
        client.droplets.list(tag_name="dr", **also)
    assert refused.value.status_code == 422


def test_gpu_droplets_are_listed_only_when_asked_for(
    start: Callable[..., Sandbox], connect_pydo: Callable[[Sandbox], Any]
) -> None:
    client = connect_pydo(start(droplets=10))
    assert client.droplets.list()["meta"]["total"] == 10
    (gpu,) = client.droplets.list(type="gpus")["droplets"]
    assert gpu["gpu_info"]["model"] == "nvidia_h100"


def test_the_feed_is_newest_first(client: Any) -> None:
    moments = [action["started_at"] for action in client.actions.list()["actions"]]
    assert len(moments) > 6
    assert moments == sorted(moments, reverse=True)


def test_snapshots_of_droplets_have_string_ids(client: Any) -> None:
    for snapshot in client.snapshots.list(resource_type="droplet")["snapshots"]:
        assert isinstance(snapshot["id"], str)
        assert int(snapshot["resource_id"]) in {one["id"] for one in client.droplets.list()["droplets"]}


def test_images_can_be_renamed_and_deleted(client: Any) -> None:
    droplet = next(one for one in client.droplets.list()["droplets"] if one["snapshot_ids"])
    image_id = droplet["snapshot_ids"][0]
    assert client.images.update(image_id, {"name": "kept"})["image"]["name"] == "kept"
    client.images.delete(image_id)
    assert image_id not in client.droplets.get(droplet["id"])["droplet"]["snapshot_ids"]
    # pydo hands a 404 back as the error's body.
    assert client.images.delete(image_id)["id"] == "not_found"


def test_backups_and_public_images_cannot_be_deleted(sandbox: Sandbox, client: Any) -> None:
    images = sandbox.account.images.values()
    for image, status in [
        (next(image for image in images if image.type == "backup"), 422),
        (next(image for image in images if image.public), 403),
    ]:
        with pytest.raises(HttpResponseError) as refused:
            client.images.delete(image.id)
        assert refused.value.status_code == status


def test_the_same_seed_makes_the_same_account_and_another_seed_another(start: Callable[..., Sandbox]) -> None:
    first, again, other = (start(seed=seed) for seed in (7, 7, 8))
    assert first.account.images == again.account.images
    assert first.account.droplets == again.account.droplets
    assert first.token == again.token
    assert first.account.images != other.account.images
    assert first.token != other.token


def test_names_of_backups_contain_the_day_of_their_creation(sandbox: Sandbox) -> None:
    for image in sandbox.account.images.values():
        if image.type == "backup":
            assert image.name.endswith(f"{datetime.fromtimestamp(image.created_at, UTC):%Y-%m-%d}")


def test_only_requests_outside_the_scopes_of_the_token_are_forbidden(
    start_with_behavior: Callable[..., Sandbox], connect_pydo: Callable[[Sandbox], Any]
) -> None:
    client = connect_pydo(start_with_behavior(out_of_scope=frozenset({"/v2/snapshots"})))
    with pytest.raises(HttpResponseError) as refused:
        client.snapshots.list()
    assert refused.value.status_code == 403
    assert client.images.list(private=True)["images"]
