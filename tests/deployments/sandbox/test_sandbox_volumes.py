"""Volumes and their snapshots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest

from deployments.sandbox import Behavior, Droplet, Sandbox
from tests.deployments.sandbox.sandbox_clock import NOON
from tests.deployments.sandbox.test_sandbox_pages import follow
from tests.deployments.sandbox.test_sandbox_resources import SNAPSHOT, TIMESTAMP

VOLUME = {
    "id", "region", "droplet_ids", "name", "description", "size_gigabytes", "created_at", "filesystem_type",
    "filesystem_label", "tags",
}  # fmt: skip


def first_droplet(sandbox: Sandbox) -> Droplet:
    return next(iter(sandbox.account.droplets.values()))


def test_volumes_are_those_of_the_droplets_and_one_that_is_not_attached(client: Any) -> None:
    volumes = client.volumes.list()["volumes"]
    assert all(set(volume) == VOLUME for volume in volumes)
    assert all(TIMESTAMP.fullmatch(volume["created_at"]) and volume["size_gigabytes"] >= 1 for volume in volumes)
    attached = {volume["id"]: volume["droplet_ids"] for volume in volumes if volume["droplet_ids"]}
    droplets = client.droplets.list()["droplets"]
    assert attached == {volume_id: [each["id"]] for each in droplets for volume_id in each["volume_ids"]}
    assert (len(volumes), len(attached)) == (3, 2)


def test_attached_volumes_are_in_the_region_of_their_droplet(client: Any) -> None:
    regions = {droplet["id"]: droplet["region"] for droplet in client.droplets.list()["droplets"]}
    for volume in client.volumes.list()["volumes"]:
        assert all(volume["region"] == regions[droplet_id] for droplet_id in volume["droplet_ids"])


def test_volumes_are_found_by_name_and_by_region(client: Any, sandbox: Sandbox) -> None:
    sandbox.account.volumes[next(reversed(sandbox.account.volumes))].region = "fra1"
    assert [volume["name"] for volume in client.volumes.list(name="web-01-logs")["volumes"]] == ["web-01-logs"]
    assert [volume["name"] for volume in client.volumes.list(region="fra1")["volumes"]] == ["old-uploads"]
    assert client.volumes.list(name="web-01-logs", region="fra1")["volumes"] == []


def test_volumes_are_paginated(start: Callable[..., Sandbox], connect: Callable[[Sandbox], httpx.Client]) -> None:
    sandbox = start(behavior=Behavior(max_per_page=2))
    pages = follow(connect(sandbox), "/v2/volumes", "volumes")
    assert [volume["id"] for volume in pages] == list(sandbox.account.volumes)
    assert len(sandbox.record.requests) == 2


def test_volumes_can_be_out_of_scope(
    start_with_behavior: Callable[..., Sandbox], connect: Callable[[Sandbox], httpx.Client]
) -> None:
    http = connect(start_with_behavior(out_of_scope=frozenset({"/v2/volumes"})))
    assert http.get("/v2/volumes").status_code == 403
    assert http.get("/v2/droplets").status_code == 200


def test_volumes_outlive_their_droplet_and_are_attached_to_none(sandbox: Sandbox, http: httpx.Client) -> None:
    droplet = first_droplet(sandbox)
    volume_ids = list(droplet.volume_ids)
    assert http.delete(f"/v2/droplets/{droplet.id}").status_code == 204
    left = {volume["id"]: volume["droplet_ids"] for volume in http.get("/v2/volumes").json()["volumes"]}
    assert [left[volume_id] for volume_id in volume_ids] == [[], []]


@pytest.mark.parametrize("droplets", [1, 5])
def test_small_accounts_have_no_volumes(start: Callable[..., Sandbox], droplets: int) -> None:
    account = start(droplets=droplets).account
    assert (account.volumes, account.volume_snapshots) == ({}, {})


def test_a_snapshot_of_a_volume_has_uuids_and_stays_in_its_region(client: Any, sandbox: Sandbox) -> None:
    (snapshot,) = client.snapshots.list(resource_type="volume")["snapshots"]
    assert set(snapshot) == SNAPSHOT
    assert UUID(snapshot["id"]) != UUID(snapshot["resource_id"])
    volume = sandbox.account.volumes[snapshot["resource_id"]]
    assert (snapshot["resource_type"], snapshot["regions"]) == ("volume", [volume.region])
    assert snapshot["min_disk_size"] == volume.size_gigabytes >= snapshot["size_gigabytes"]
    assert volume.created_at < sandbox.account.volume_snapshots[snapshot["id"]].created_at < NOON


def test_snapshots_of_both_kinds_are_listed_unless_one_is_asked_for(client: Any) -> None:
    def listed(**kind: str) -> list[str]:
        return [snapshot["id"] for snapshot in client.snapshots.list(**kind)["snapshots"]]

    of_droplets, of_volumes = listed(resource_type="droplet"), listed(resource_type="volume")
    assert of_droplets
    assert of_volumes
    assert listed() == of_droplets + of_volumes


def test_snapshots_of_volumes_are_read_and_deleted_and_are_not_images(http: httpx.Client) -> None:
    (snapshot,) = http.get("/v2/snapshots?resource_type=volume").json()["snapshots"]
    path = f"/v2/snapshots/{snapshot['id']}"
    assert http.get(path).json()["snapshot"] == snapshot
    assert http.get(f"/v2/images/{snapshot['id']}").status_code == 404
    assert http.delete(path).status_code == 204
    assert http.get(path).status_code == 404
    assert http.get("/v2/snapshots?resource_type=volume").json()["snapshots"] == []


def test_volumes_come_from_the_seed(start: Callable[..., Sandbox]) -> None:
    first, again, other = (start(seed=seed).account for seed in (7, 7, 8))
    assert (first.volumes, first.volume_snapshots) == (again.volumes, again.volume_snapshots)
    assert first.volumes != other.volumes
