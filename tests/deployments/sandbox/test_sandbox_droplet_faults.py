"""What goes wrong with Droplets: faults, a region that goes dark, and ports that do not answer."""

from __future__ import annotations

import socket
from collections.abc import Callable

import httpx
import pytest

from deployments.sandbox import Fault, FaultKind, Listener, Sandbox
from deployments.sandbox.faults import DROPLET_FAULTS, IMAGE_FAULTS, Faults
from tests.deployments.sandbox.new_droplets import LONGEST_CREATION_SECONDS, asked, backup, created, shown
from tests.deployments.sandbox.sandbox_clock import SandboxClock

A_YEAR = 365 * 86400


def test_a_lack_of_capacity_refuses_before_anything_is_created(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults.add(Fault(FaultKind.NO_CAPACITY))
    refused = http.post("/v2/droplets", json=asked())
    assert (refused.status_code, refused.json()["id"]) == (422, "unprocessable_entity")
    assert "capacity" in refused.json()["message"]
    assert sandbox.record.created == []
    assert not sandbox.record.requests[0].worked
    created(http)


def test_a_droplet_whose_creation_errors_stays_new_and_can_be_destroyed(
    sandbox: Sandbox, http: httpx.Client, clock: SandboxClock
) -> None:
    sandbox.faults.add(Fault(FaultKind.CREATE_ERRORED))
    new = created(http)
    clock.move(LONGEST_CREATION_SECONDS)
    (action,) = http.get(f"/v2/droplets/{new['id']}/actions").json()["actions"]
    assert action["status"] == "errored"
    assert (shown(http, new["id"])["status"], shown(http, new["id"])["networks"]["v4"]) == ("new", [])
    refused = http.post(f"/v2/droplets/{new['id']}/actions", json={"type": "snapshot"})
    assert (refused.status_code, refused.json()["message"]) == (422, "Droplet is not active.")
    assert http.delete(f"/v2/droplets/{new['id']}").status_code == 204


def test_a_creation_can_run_for_ever_and_the_droplet_cannot_be_destroyed(
    sandbox: Sandbox, http: httpx.Client, clock: SandboxClock
) -> None:
    sandbox.faults.add(Fault(FaultKind.CREATE_ENDLESS))
    new = created(http)
    clock.move(A_YEAR)
    assert shown(http, new["id"])["status"] == "new"
    assert http.delete(f"/v2/droplets/{new['id']}").status_code == 422


def test_a_destroyed_droplet_can_still_be_listed_for_a_while(
    sandbox: Sandbox, http: httpx.Client, clock: SandboxClock
) -> None:
    sandbox.faults.add(Fault(FaultKind.SLOW_DELETE, seconds=30))
    droplet_id = next(iter(sandbox.account.droplets))
    assert http.delete(f"/v2/droplets/{droplet_id}").status_code == 204
    clock.move(29)
    assert droplet_id in {one["id"] for one in http.get("/v2/droplets").json()["droplets"]}
    assert http.delete(f"/v2/droplets/{droplet_id}").json()["message"] == "Droplet already has a pending event."
    clock.move(1)
    assert http.get(f"/v2/droplets/{droplet_id}").status_code == 404
    assert [record.droplet_id for record in sandbox.record.destroyed] == [droplet_id]


@pytest.mark.parametrize("kind", [FaultKind.DROP_AFTER, FaultKind.ERROR_AFTER, FaultKind.GATEWAY_TIMEOUT_AFTER])
def test_a_droplet_is_created_even_if_the_response_is_lost(
    sandbox: Sandbox, http: httpx.Client, kind: FaultKind
) -> None:
    sandbox.faults.add(Fault(kind, "POST", "/droplets$"))
    try:
        assert http.post("/v2/droplets", json=asked(tags=["recovery"])).is_server_error
    except httpx.TransportError:
        assert kind == FaultKind.DROP_AFTER
    found = http.get("/v2/droplets?tag_name=recovery").json()["droplets"]
    assert [one["id"] for one in found] == [record.droplet_id for record in sandbox.record.created]
    assert len(found) == 1


def test_no_droplet_is_created_if_the_request_is_lost(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults.add(Fault(FaultKind.DROP_BEFORE))
    with pytest.raises(httpx.TransportError):
        http.post("/v2/droplets", json=asked())
    assert sandbox.record.created == []


def test_faults_of_droplets_befall_only_requests_about_droplets() -> None:
    others = [("GET", "/v2/droplets"), ("POST", "/v2/images/1/actions"), ("POST", "/v2/droplets/1/actions")]
    for kind in DROPLET_FAULTS:
        assert not any(Fault(kind).matches(method, path) for method, path in others)
    assert Fault(FaultKind.SLOW_DELETE).matches("DELETE", "/v2/droplets/1")
    assert Fault(FaultKind.SLOW_DELETE).matches("DELETE", "/v2/droplets")
    assert not Fault(FaultKind.SLOW_DELETE).matches("DELETE", "/v2/droplets/1/actions")
    assert not Fault(FaultKind.ACTION_ERRORED).matches("POST", "/v2/droplets")
    assert {*IMAGE_FAULTS, *DROPLET_FAULTS} == set(FaultKind)


def test_random_faults_of_images_are_the_same_with_faults_of_droplets_among_them() -> None:
    def drawn(kinds: list[FaultKind]) -> list[Fault | None]:
        faults = Faults()
        faults.at_random(0.5, kinds, seed=1)
        return [faults.pick("POST", "/v2/images/1/actions") for _ in range(200)]

    assert drawn(list(FaultKind)) == drawn(list(IMAGE_FAULTS))


def test_in_a_dark_region_nothing_can_be_created_and_its_droplets_are_still_listed(
    sandbox: Sandbox, http: httpx.Client
) -> None:
    before = http.get("/v2/droplets").json()["droplets"]
    sandbox.account.lose_region("nyc3")
    regions = {region["slug"]: region for region in http.get("/v2/regions").json()["regions"]}
    assert (regions["nyc3"]["available"], regions["nyc3"]["sizes"]) == (False, [])
    refused = http.post("/v2/droplets", json=asked())
    assert (refused.status_code, refused.json()["message"]) == (422, "Region nyc3 is not available.")
    after = http.get("/v2/droplets").json()["droplets"]
    assert [(one["id"], one["status"]) for one in after] == [(one["id"], "active") for one in before]
    there = next(one["id"] for one in after if one["region"]["slug"] == "nyc3")
    assert http.post(f"/v2/droplets/{there}/actions", json={"type": "snapshot"}).status_code == 422
    assert all("nyc3" not in image.regions for image in sandbox.account.images.values())


def test_images_that_were_only_in_a_dark_region_cannot_be_used(sandbox: Sandbox, http: httpx.Client) -> None:
    lost = backup(sandbox, "nyc3")
    sandbox.account.lose_region("nyc3")
    assert http.get(f"/v2/images/{lost.id}").json()["image"]["regions"] == []
    refused = http.post("/v2/droplets", json=asked(image=lost.id, region="fra1"))
    assert "not available in region fra1" in refused.json()["message"]
    for body in ({"type": "convert"}, {"type": "transfer", "region": "fra1"}):
        answer = http.post(f"/v2/images/{lost.id}/actions", json=body)
        assert (answer.status_code, answer.json()["message"]) == (422, "Image is not available.")


def test_copies_elsewhere_survive_a_dark_region(sandbox: Sandbox, http: httpx.Client) -> None:
    image = backup(sandbox, "nyc3")
    image.regions["fra1"] = 0.0
    sandbox.account.lose_region("nyc3")
    assert http.get(f"/v2/images/{image.id}").json()["image"]["regions"] == ["fra1"]
    created(http, image=image.id, region="fra1")


def test_actions_in_a_dark_region_end_in_error(sandbox: Sandbox, http: httpx.Client, clock: SandboxClock) -> None:
    here, elsewhere = created(http), created(http, region="fra1")
    image = next(
        one
        for one in sandbox.account.images.values()
        if one.type == "snapshot" and "sfo3" in one.regions and not one.public
    )
    http.post(f"/v2/images/{image.id}/actions", json={"type": "transfer", "region": "nyc3"})
    sandbox.account.lose_region("nyc3")
    clock.move(A_YEAR)
    assert (shown(http, here["id"])["status"], shown(http, elsewhere["id"])["status"]) == ("new", "active")
    assert [action.status for action in sandbox.record.actions] == ["errored", "completed", "errored"]
    assert list(image.regions) == ["sfo3"]


def test_droplets_in_a_dark_region_get_no_backups(sandbox: Sandbox, clock: SandboxClock) -> None:
    sandbox.account.lose_region("nyc3")
    made = sandbox.account.back_up_droplets(clock())
    assert made
    assert not any("nyc3" in image.regions for image in made)


def answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=5).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    with Listener() as listener:
        return listener.port


def public_address(droplet: dict[str, object]) -> str:
    networks = droplet["networks"]
    assert isinstance(networks, dict)
    return str(next(one["ip_address"] for one in networks["v4"] if one["type"] == "public"))


def test_a_listener_answers_while_it_is_open() -> None:
    with Listener() as listener:
        assert answers("127.0.0.1", listener.port)
    assert not answers("127.0.0.1", listener.port)


def test_reachable_droplets_answer_on_their_ports_from_active_to_destroyed(
    start_with_behavior: Callable[..., Sandbox], connect: Callable[[Sandbox], httpx.Client], clock: SandboxClock
) -> None:
    sandbox = start_with_behavior(reachable_droplets=True)
    http, port = connect(sandbox), free_port()
    sandbox.account.answering_ports = {port}
    up = created(http, name="up")
    sandbox.account.answering_ports = set()
    created(http, name="silent")
    assert not answers("127.0.0.1", port)
    clock.move(LONGEST_CREATION_SECONDS)
    assert public_address(shown(http, up["id"])) == "127.0.0.1"
    assert answers("127.0.0.1", port)
    http.delete(f"/v2/droplets/{up['id']}")
    assert not answers("127.0.0.1", port)


def test_droplets_have_documentation_addresses_and_no_ports_otherwise(
    sandbox: Sandbox, http: httpx.Client, clock: SandboxClock
) -> None:
    port = free_port()
    sandbox.account.answering_ports = {port}
    new = created(http)
    clock.move(LONGEST_CREATION_SECONDS)
    assert public_address(shown(http, new["id"])).startswith("198.51.100.")
    assert not answers("127.0.0.1", port)
