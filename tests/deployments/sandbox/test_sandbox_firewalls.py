"""What surrounds Droplets: firewalls, tags, networks, sizes, and SSH keys with their own rate limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from deployments.sandbox import Fault, FaultKind, Sandbox
from tests.deployments.sandbox.sandbox_clock import SandboxClock
from tests.deployments.sandbox.test_sandbox_resources import SIZE

SSH = {"protocol": "tcp", "ports": "22", "sources": {"addresses": ["192.0.2.0/24"]}}
ALL_OUT = {"protocol": "udp", "ports": "0", "destinations": {"addresses": ["0.0.0.0/0", "::/0"]}}
VPC = {"id", "urn", "name", "description", "region", "ip_range", "created_at", "default"}
FIREWALL = {
    "id", "status", "created_at", "pending_changes", "name", "droplet_ids", "tags", "inbound_rules", "outbound_rules",
}  # fmt: skip
LIMIT_HEADERS = ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")
REFUSED_FIREWALLS = {
    "no name": ({"inbound_rules": [SSH]}, 422),
    "a bad name": ({"name": "a b", "inbound_rules": [SSH]}, 422),
    "the name of another": ({"name": "databases", "inbound_rules": [SSH]}, 409),
    "no rules": ({"name": "new"}, 422),
    "a bad protocol": ({"name": "new", "inbound_rules": [SSH | {"protocol": "gre"}]}, 422),
    "bad ports": ({"name": "new", "inbound_rules": [SSH | {"ports": "ssh"}]}, 422),
    "no sources": ({"name": "new", "inbound_rules": [{"protocol": "tcp", "ports": "22"}]}, 422),
    "an unknown tag": ({"name": "new", "inbound_rules": [SSH], "tags": ["unknown"]}, 422),
    "an unknown tag in a rule": ({"name": "new", "inbound_rules": [SSH | {"sources": {"tags": ["unknown"]}}]}, 422),
    "an unknown Droplet": ({"name": "new", "inbound_rules": [SSH], "droplet_ids": [7]}, 422),
    "tags that are no list": ({"name": "new", "inbound_rules": [SSH], "tags": "dr"}, 422),
}


def test_sizes_tell_the_regions_where_they_are_available(client: Any) -> None:
    sizes = {size["slug"]: size for size in client.sizes.list()["sizes"]}
    assert all(set(size) >= SIZE for size in sizes.values())
    assert sizes["gpu-h100x1-80gb"]["regions"] == ["tor1"]
    assert "sfo1" not in sizes["s-1vcpu-1gb"]["regions"]
    assert client.droplets.list()["droplets"][0]["size"] in sizes.values()


def test_each_region_has_a_default_network_and_one_has_another(client: Any) -> None:
    networks = client.vpcs.list(per_page=200)["vpcs"]
    assert all(set(network) == VPC for network in networks)
    regions = [region["slug"] for region in client.regions.list()["regions"]]
    assert [network["region"] for network in networks if network["default"]] == regions
    assert [network["region"] for network in networks if not network["default"]] == ["nyc3"]
    assert len({network["ip_range"] for network in networks}) == len(networks)
    assert client.vpcs.get(networks[0]["id"])["vpc"] == networks[0]
    assert client.vpcs.get("5a4981aa-9653-4bd1-bef5-d6bff52042e4")["id"] == "not_found"


def test_droplets_are_in_the_default_network_of_their_region(client: Any, sandbox: Sandbox) -> None:
    for droplet in client.droplets.list()["droplets"]:
        vpc = sandbox.account.vpcs[droplet["vpc_uuid"]]
        assert (vpc.region, vpc.default) == (droplet["region"]["slug"], True)
        assert droplet["networks"]["v4"][0]["ip_address"].startswith(f"{vpc.prefix}.")


def test_ssh_keys_are_found_by_id_and_by_fingerprint(client: Any) -> None:
    keys = client.ssh_keys.list()["ssh_keys"]
    assert [set(key) for key in keys] == [{"id", "fingerprint", "public_key", "name"}] * 2
    assert client.ssh_keys.get(keys[0]["id"])["ssh_key"] == keys[0]
    assert client.ssh_keys.get(keys[1]["fingerprint"])["ssh_key"] == keys[1]
    assert client.ssh_keys.get(1)["id"] == "not_found"


def test_ssh_keys_have_their_own_limit_and_spend_nothing_of_the_tokens(
    http: httpx.Client, sandbox: Sandbox, clock: SandboxClock
) -> None:
    headers = http.get("/v2/account").headers
    before = {name: headers[name] for name in LIMIT_HEADERS}
    key_id = next(iter(sandbox.account.ssh_keys))
    for path in ["/v2/account/keys", f"/v2/account/keys/{key_id}"] * 5:
        answer = http.get(path)
        assert answer.status_code == 200
        assert {name: answer.headers[name] for name in LIMIT_HEADERS} == before
    clock.move(20)
    refused = http.get("/v2/account/keys")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "40")
    assert {name: refused.headers[name] for name in LIMIT_HEADERS} == before
    assert http.get("/v2/droplets").status_code == 200
    assert sandbox.limits.hour.remaining == 4998
    assert not any(seen.counted for seen in sandbox.record.requests if "keys" in seen.path)
    clock.move(40)
    assert http.get("/v2/account/keys").status_code == 200


def test_ssh_keys_are_served_when_the_tokens_limit_is_used_up(http: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.neighbour(requests=250)
    assert http.get("/v2/account").status_code == 429
    assert http.get("/v2/account/keys").status_code == 200


def test_the_speed_shortens_the_window_of_ssh_keys(
    start: Callable[..., Sandbox], connect: Callable[[Sandbox], httpx.Client], clock: SandboxClock
) -> None:
    http = connect(start(speed=60))
    assert [http.get("/v2/account/keys").status_code for _ in range(11)] == [200] * 10 + [429]
    clock.move(1)
    assert http.get("/v2/account/keys").status_code == 200


def test_injected_limits_do_not_count_for_ssh_keys(http: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(FaultKind.BURST_LIMIT))
    assert http.get("/v2/account/keys").status_code == 429
    assert sandbox.limits.keys.remaining == 10


def test_a_firewall_is_created_changed_and_deleted(client: Any, sandbox: Sandbox, clock: SandboxClock) -> None:
    droplet_id = next(iter(sandbox.account.droplets))
    body = {"name": "recovered", "inbound_rules": [SSH], "outbound_rules": [ALL_OUT], "droplet_ids": [droplet_id]}
    new = client.firewalls.create(body | {"tags": ["dr"]})["firewall"]
    assert set(new) == FIREWALL
    assert {field: new[field] for field in body} == body
    assert (new["status"], new["tags"]) == ("waiting", ["dr"])
    assert new["pending_changes"] == [{"droplet_id": droplet_id, "removing": False, "status": "waiting"}]
    clock.move(5)
    settled = client.firewalls.get(new["id"])["firewall"]
    assert (settled["status"], settled["pending_changes"]) == ("succeeded", [])
    assert settled in client.firewalls.list()["firewalls"]
    changed = client.firewalls.update(new["id"], {"name": "recovered", "inbound_rules": [SSH]})["firewall"]
    assert (changed["droplet_ids"], changed["tags"], changed["outbound_rules"]) == ([], [], [])
    client.firewalls.delete(new["id"])
    assert client.firewalls.get(new["id"])["id"] == "not_found"
    assert [record.tags for record in sandbox.record.firewalls_created] == [("dr",)]
    assert [record.firewall_id for record in sandbox.record.firewalls_deleted] == [new["id"]]


def test_an_account_has_a_firewall_for_a_tag_and_one_for_droplets(client: Any) -> None:
    by_tag, by_id = client.firewalls.list()["firewalls"]
    assert (by_tag["tags"], by_tag["droplet_ids"]) == (["env:prod"], [])
    assert [client.droplets.get(one)["droplet"]["name"] for one in by_id["droplet_ids"]] == ["db-01"]


@pytest.mark.parametrize("what", REFUSED_FIREWALLS)
def test_what_is_no_firewall_is_refused_and_leaves_nothing(http: httpx.Client, sandbox: Sandbox, what: str) -> None:
    body, status = REFUSED_FIREWALLS[what]
    assert http.post("/v2/firewalls", json=body).status_code == status
    assert len(sandbox.account.firewalls) == 2
    assert sandbox.record.firewalls_created == []


def test_a_refused_change_leaves_a_firewall_as_it_was(http: httpx.Client) -> None:
    first = http.get("/v2/firewalls").json()["firewalls"][0]
    path = f"/v2/firewalls/{first['id']}"
    assert http.put(path, json={"name": "new", "inbound_rules": [SSH], "tags": ["unknown"]}).status_code == 422
    assert http.get(path).json()["firewall"] == first
    assert http.put(path, json={"name": first["name"], "inbound_rules": [SSH]}).status_code == 200
    assert http.put("/v2/firewalls/x", json={}).status_code == http.delete("/v2/firewalls/x").status_code == 404


def test_ports_for_all_are_zero(http: httpx.Client) -> None:
    rules = [SSH | {"ports": "all"}, SSH | {"protocol": "icmp", "ports": ""}, SSH | {"ports": "8000-9000"}]
    new = http.post("/v2/firewalls", json={"name": "new", "inbound_rules": rules}).json()["firewall"]
    assert [rule["ports"] for rule in new["inbound_rules"]] == ["0", "0", "8000-9000"]


def test_a_destroyed_droplet_leaves_its_firewalls(http: httpx.Client) -> None:
    by_id = http.get("/v2/firewalls").json()["firewalls"][1]
    http.delete(f"/v2/droplets/{by_id['droplet_ids'][0]}")
    assert http.get(f"/v2/firewalls/{by_id['id']}").json()["firewall"]["droplet_ids"] == []


def test_a_deleted_tag_is_gone_from_droplets_images_and_firewalls(http: httpx.Client, sandbox: Sandbox) -> None:
    snapshot = http.get("/v2/snapshots").json()["snapshots"][0]
    tagged = {"resources": [{"resource_id": snapshot["id"], "resource_type": "image"}]}
    http.post("/v2/tags/env:prod/resources", json=tagged)
    assert http.delete("/v2/tags/env:prod").status_code == 204
    assert http.get("/v2/tags/env:prod").status_code == http.delete("/v2/tags/env:prod").status_code == 404
    assert http.get("/v2/droplets?tag_name=env:prod").json()["droplets"] == []
    assert not any("env:prod" in droplet.tags for droplet in sandbox.account.droplets.values())
    assert not any("env:prod" in image.tags for image in sandbox.account.images.values())
    assert not any("env:prod" in firewall.tags for firewall in sandbox.account.firewalls.values())
