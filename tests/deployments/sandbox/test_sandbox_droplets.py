"""Droplets that a client creates, takes snapshots of, and destroys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from deployments.sandbox import Sandbox
from tests.deployments.sandbox.new_droplets import LONGEST_CREATION_SECONDS, asked, backup, created, shown
from tests.deployments.sandbox.sandbox_clock import NOON, SandboxClock
from tests.deployments.sandbox.test_sandbox_resources import DROPLET

PENDING = "Droplet already has a pending event."
REFUSALS = {
    "no name": (asked(name=None), "Name is required."),
    "no names": (asked(name=None, names=[]), "Name is required."),
    "a bad name": (asked(name="web_01"), "hostnames"),
    "an empty name": (asked(name=""), "hostnames"),
    "a name that ends in a dot": (asked(name="web."), "hostnames"),
    "a bad one among good names": (asked(name=None, names=["web", "w b"]), "hostnames"),
    "eleven names": (asked(name=None, names=[f"web-{number}" for number in range(11)]), "up to 10"),
    "no size": (asked(size=None), "Size is required."),
    "an unknown size": (asked(size="s-1"), "invalid size"),
    "a size that is not in the region": (asked(size="gpu-h100x1-80gb"), "not available in region nyc3"),
    "no image": (asked(image=None), "Image is required."),
    "an unknown image": (asked(image=7), "invalid image"),
    "an unknown slug": (asked(image="plan9"), "invalid image"),
    "no region": (asked(region=None), "Region is required."),
    "an unknown region": (asked(region="mars1"), "invalid region"),
    "a closed region": (asked(region="sfo1"), "Region sfo1 is not available."),
    "an unknown network": (asked(vpc_uuid="5a4981aa-9653-4bd1-bef5-d6bff52042e4"), "Failed to resolve VPC"),
    "an unknown key": (asked(ssh_keys=[1, "aa:bb"]), "1, aa:bb are invalid key identifiers"),
    "a bad tag": (asked(tags=["two words"]), "invalid characters"),
    "tags that are no list": (asked(tags="web"), "tags must be a list"),
    "too much user data": (asked(user_data="x" * 65_537), "64 KiB"),
    "an odd hour of backups": (asked(backups=True, backup_policy={"plan": "daily", "hour": 5}), "hour"),
}


def refusal(http: httpx.Client, **changes: Any) -> str:
    response = http.post("/v2/droplets", json=asked(**changes))
    assert response.status_code == 422
    assert response.json()["id"] == "unprocessable_entity"
    return str(response.json()["message"])


def test_a_new_droplet_is_active_and_has_networks_once_its_creation_is_completed(
    client: Any, sandbox: Sandbox, clock: SandboxClock
) -> None:
    image = backup(sandbox)
    answer = client.droplets.create(asked(image=image.id))
    new, (link,) = answer["droplet"], answer["links"]["actions"]
    assert set(new) >= DROPLET
    assert (new["status"], new["networks"]) == ("new", {"v4": [], "v6": []})
    assert (new["image"]["id"], new["size_slug"], new["region"]["slug"]) == (image.id, "s-8vcpu-16gb", "nyc3")
    assert link == {"id": link["id"], "rel": "create", "href": f"{sandbox.url}/v2/actions/{link['id']}"}
    action = client.actions.get(link["id"])["action"]
    assert (action["type"], action["status"]) == ("create", "in-progress")
    assert (action["resource_type"], action["resource_id"]) == ("droplet", new["id"])
    clock.move(19)
    assert client.droplets.get(new["id"])["droplet"]["status"] == "new"
    clock.move(LONGEST_CREATION_SECONDS - 19)
    assert client.actions.get(link["id"])["action"]["status"] == "completed"
    active = client.droplets.get(new["id"])["droplet"]
    assert active["status"] == "active"
    assert [network["type"] for network in active["networks"]["v4"]] == ["private", "public"]


def test_the_durations_of_creations_come_from_the_seed_and_are_divided_by_the_speed(
    start: Callable[..., Sandbox], connect: Callable[[Sandbox], httpx.Client]
) -> None:
    def durations(**knobs: Any) -> list[float]:
        sandbox = start(**knobs)
        for name in ("a", "b", "a"):
            created(connect(sandbox), name=name)
        return [action.ends_at - action.started_at for action in sandbox.record.actions]

    first = durations()
    assert first == durations()
    assert first != durations(seed=2)
    assert len(set(first)) == 3
    assert all(20 <= seconds <= 60 for seconds in first)
    assert durations(speed=10) == pytest.approx([seconds / 10 for seconds in first], abs=1e-3)


def test_up_to_ten_droplets_are_created_at_once(http: httpx.Client, clock: SandboxClock) -> None:
    names = [f"web-{number}" for number in range(10)]
    answer = http.post("/v2/droplets", json=asked(name=None, names=names)).json()
    assert [droplet["name"] for droplet in answer["droplets"]] == names
    assert len({link["id"] for link in answer["links"]["actions"]}) == 10
    clock.move(LONGEST_CREATION_SECONDS)
    networks = [shown(http, droplet["id"])["networks"]["v4"] for droplet in answer["droplets"]]
    assert len({network["ip_address"] for pair in networks for network in pair}) == 20


def test_what_was_asked_for_is_shown(http: httpx.Client, sandbox: Sandbox, clock: SandboxClock) -> None:
    key = next(iter(sandbox.account.ssh_keys.values()))
    new = created(
        http,
        ssh_keys=[key.id, key.fingerprint],
        backups=True,
        backup_policy={"plan": "daily", "hour": 8},
        ipv6=True,
        monitoring=True,
        user_data="#cloud-config",
    )
    assert new["features"] == ["backups", "private_networking", "ipv6", "monitoring"]
    assert new["next_backup_window"] is None
    clock.move(LONGEST_CREATION_SECONDS)
    active = shown(http, new["id"])
    assert active["next_backup_window"]["start"].endswith("T08:00:00Z")
    assert [network["type"] for network in active["networks"]["v6"]] == ["public"]
    droplet = sandbox.account.droplets[new["id"]]
    assert (droplet.ssh_key_ids, droplet.user_data) == ((key.id, key.id), "#cloud-config")


def test_a_droplet_can_do_without_a_public_address(http: httpx.Client, clock: SandboxClock) -> None:
    new = created(http, public_networking=False)
    clock.move(LONGEST_CREATION_SECONDS)
    assert [network["type"] for network in shown(http, new["id"])["networks"]["v4"]] == ["private"]


def test_tags_apply_from_the_start_and_are_created_if_missing(http: httpx.Client) -> None:
    new = created(http, tags=["recovery:7", "DR"])
    assert new["tags"] == ["recovery:7", "dr"]
    listed = http.get("/v2/droplets?tag_name=recovery:7").json()["droplets"]
    assert [(droplet["id"], droplet["status"]) for droplet in listed] == [(new["id"], "new")]
    assert http.get("/v2/tags/recovery:7").json()["tag"]["resources"]["droplets"]["count"] == 1


def test_a_droplet_is_in_the_network_asked_for_or_else_in_the_default_one(
    http: httpx.Client, sandbox: Sandbox, clock: SandboxClock
) -> None:
    extra = next(vpc for vpc in sandbox.account.vpcs.values() if not vpc.default)
    here, there = created(http), created(http, vpc_uuid=extra.id)
    assert here["vpc_uuid"] == sandbox.account.default_vpc("nyc3").id
    assert there["vpc_uuid"] == extra.id
    clock.move(LONGEST_CREATION_SECONDS)
    assert shown(http, there["id"])["networks"]["v4"][0]["ip_address"].startswith(f"{extra.prefix}.")


@pytest.mark.parametrize("what", REFUSALS)
def test_what_cannot_be_created_is_refused_and_leaves_nothing(http: httpx.Client, sandbox: Sandbox, what: str) -> None:
    body, message = REFUSALS[what]
    before = set(sandbox.account.droplets), set(sandbox.account.tags)
    response = http.post("/v2/droplets", json=body)
    assert response.status_code == 422
    assert message in response.json()["message"]
    assert (set(sandbox.account.droplets), set(sandbox.account.tags)) == before
    assert sandbox.record.created == []


def test_an_image_must_be_in_the_region_and_fit_the_disk(http: httpx.Client, sandbox: Sandbox) -> None:
    image = backup(sandbox, "syd1")
    assert "not available in region nyc3" in refusal(http, image=image.id)
    assert "needs a disk" in refusal(http, image=image.id, region="syd1", size="s-1vcpu-1gb")
    assert created(http, image=str(image.id), region="syd1")["image"]["id"] == image.id


def test_a_network_must_be_in_the_region(http: httpx.Client, sandbox: Sandbox) -> None:
    assert "is not in region nyc3" in refusal(http, vpc_uuid=sandbox.account.default_vpc("fra1").id)


def test_the_limit_of_droplets_counts_all_there_are(http: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.account.droplet_limit = 7
    assert http.get("/v2/account").json()["account"]["droplet_limit"] == 7
    too_many = "creating this/these droplet(s) will exceed your droplet limit"
    assert refusal(http, name=None, names=["a", "b"]) == too_many
    created(http)
    assert refusal(http) == too_many


def test_a_region_can_be_full(http: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.account.full_regions.add("nyc3")
    assert "capacity in region nyc3" in refusal(http)
    created(http, region="fra1")


def test_a_destroyed_droplet_is_gone_with_its_backups_and_its_snapshots_stay(
    http: httpx.Client, sandbox: Sandbox
) -> None:
    droplet = http.get("/v2/droplets?name=web-01").json()["droplets"][0]
    backups, snapshots = droplet["backup_ids"], droplet["snapshot_ids"]
    assert backups
    assert snapshots
    assert http.delete(f"/v2/droplets/{droplet['id']}").status_code == 204
    assert http.get(f"/v2/droplets/{droplet['id']}").status_code == 404
    assert http.delete(f"/v2/droplets/{droplet['id']}").status_code == 404
    assert {http.get(f"/v2/images/{image}").status_code for image in backups} == {404}
    assert {http.get(f"/v2/images/{image}").status_code for image in snapshots} == {200}
    assert [record.droplet_id for record in sandbox.record.originals_destroyed()] == [droplet["id"]]


def test_a_droplet_is_not_destroyed_while_an_action_is_in_progress(http: httpx.Client, clock: SandboxClock) -> None:
    new = created(http)
    refused = http.delete(f"/v2/droplets/{new['id']}")
    assert (refused.status_code, refused.json()["message"]) == (422, PENDING)
    clock.move(LONGEST_CREATION_SECONDS)
    assert http.delete(f"/v2/droplets/{new['id']}").status_code == 204


def test_ids_are_not_used_again(http: httpx.Client, clock: SandboxClock) -> None:
    first = created(http)
    clock.move(LONGEST_CREATION_SECONDS)
    http.delete(f"/v2/droplets/{first['id']}")
    assert created(http)["id"] > first["id"]


def test_droplets_are_destroyed_by_tag(http: httpx.Client, sandbox: Sandbox, clock: SandboxClock) -> None:
    originals = set(sandbox.account.droplets)
    for name in ("a", "b"):
        created(http, name=name, tags=["drill"])
    assert http.delete("/v2/droplets?tag_name=drill").json()["message"] == PENDING
    clock.move(LONGEST_CREATION_SECONDS)
    assert http.delete("/v2/droplets?tag_name=drill").status_code == 204
    assert set(sandbox.account.droplets) == originals
    assert sandbox.record.left_behind() == []
    assert http.delete("/v2/droplets?tag_name=unknown").status_code == 404
    assert http.delete("/v2/droplets").status_code == 422


def test_a_droplet_has_one_action_at_a_time(http: httpx.Client, clock: SandboxClock) -> None:
    new, snapshot = created(http), {"type": "snapshot", "name": "now"}
    path = f"/v2/droplets/{new['id']}/actions"
    assert http.post(path, json=snapshot).json()["message"] == PENDING
    clock.move(LONGEST_CREATION_SECONDS)
    assert http.post(path, json=snapshot).status_code == 201
    assert http.post(path, json=snapshot).json()["message"] == PENDING
    assert http.delete(f"/v2/droplets/{new['id']}").json()["message"] == PENDING


def test_a_new_droplet_gets_backups_at_night_once_it_is_active(
    http: httpx.Client, sandbox: Sandbox, clock: SandboxClock
) -> None:
    new = created(http, backups=True)
    assert new["id"] not in {image.droplet_id for image in sandbox.account.back_up_droplets(NOON + 1)}
    assert new["id"] in {image.droplet_id for image in sandbox.account.back_up_droplets(NOON + 86400)}


def test_what_was_created_twice_or_left_behind_can_be_told(
    http: httpx.Client, sandbox: Sandbox, clock: SandboxClock
) -> None:
    first, other = created(http), created(http, name="other")
    second = created(http)
    clock.move(LONGEST_CREATION_SECONDS)
    http.delete(f"/v2/droplets/{first['id']}")
    http.delete(f"/v2/droplets/{second['id']}")
    third = created(http)
    assert [record.droplet_id for record in sandbox.record.created_twice()] == [second["id"]]
    assert [record.droplet_id for record in sandbox.record.left_behind()] == [other["id"], third["id"]]
    assert sandbox.record.originals_destroyed() == []
    record = sandbox.record.created[0]
    assert (record.droplet_id, record.name, record.image_id) == (first["id"], first["name"], first["image"]["id"])
    assert (record.region, record.size, record.tags, record.at) == ("nyc3", "s-8vcpu-16gb", (), NOON)
    told = http.get("/sandbox/record").json()
    assert told["summary"]["created_twice"] == [second["id"]]
    assert [one["droplet_id"] for one in told["destroyed"]] == [first["id"], second["id"]]
    assert {one["id"] for one in http.get("/sandbox/state").json()["droplets"]} == set(sandbox.account.droplets)


def test_scopes_can_be_taken_away_for_a_method(
    start_with_behavior: Callable[..., Sandbox], connect: Callable[[Sandbox], httpx.Client]
) -> None:
    http = connect(start_with_behavior(out_of_scope=frozenset({("POST", "/v2/droplets"), "/v2/vpcs"})))
    assert http.post("/v2/droplets", json=asked()).status_code == 403
    assert http.get("/v2/droplets").status_code == 200
    assert http.get("/v2/vpcs").status_code == 403


@pytest.mark.parametrize("path", ["/v2/droplets/", "/v2/account/", "/v2/droplets/448000739/", "/v2/sizes/"])
def test_trailing_slashes_are_accepted(http: httpx.Client, path: str) -> None:
    assert http.get(path).json() == http.get(path.rstrip("/")).json()


def test_nothing_new_changes_the_account_that_a_seed_generates(sandbox: Sandbox) -> None:
    assert [(one.id, one.name, one.region, one.size.slug) for one in sandbox.account.droplets.values()] == [
        (448000739, "web-01", "nyc3", "s-4vcpu-8gb"),
        (448001093, "db-01", "nyc3", "s-4vcpu-8gb"),
        (448001284, "api-01", "syd1", "s-8vcpu-16gb"),
        (448001575, "worker-01", "sfo3", "s-2vcpu-2gb"),
        (448002373, "cache-01", "lon1", "s-8vcpu-16gb"),
        (448002888, "mail-01", "nyc3", "s-2vcpu-2gb"),
    ]
    own = [image for image in sandbox.account.images.values() if not image.public]
    assert [(image.id, image.name, *image.regions) for image in own] == [
        (167001957, "web-01 2026-09-20", "nyc3"),
        (167002701, "web-01 2026-09-21", "nyc3"),
        (167003150, "web-01-before-upgrade", "nyc3"),
        (167003670, "api-01 2026-09-20", "syd1"),
        (167004357, "api-01 2026-09-21", "syd1"),
        (167004919, "worker-01 2026-09-21", "sfo3"),
        (167005714, "worker-01 2026-09-22", "sfo3"),
        (167006164, "worker-01-before-upgrade", "sfo3"),
        (167006772, "cache-01 2026-09-20", "lon1"),
        (167007435, "cache-01 2026-09-21", "lon1"),
        (167007906, "mail-01 2026-09-20", "nyc3"),
        (167008582, "mail-01 2026-09-21", "nyc3"),
        (167009144, "legacy-erp.qcow2", "nyc3"),
    ]
