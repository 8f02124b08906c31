"""Snapshots that a client takes of Droplets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from deployments.sandbox import Action, Droplet, Fault, FaultKind, Sandbox
from tests.deployments.sandbox.new_droplets import LONGEST_SNAPSHOT_SECONDS, backup, shown
from tests.deployments.sandbox.sandbox_clock import NOON, SandboxClock

PENDING = "Droplet already has a pending event."
A_YEAR = 365 * 86400


def droplet_named(sandbox: Sandbox, name: str = "db-01") -> Droplet:
    return next(droplet for droplet in sandbox.account.droplets.values() if droplet.name == name)


def ask(http: httpx.Client, droplet: Droplet, **body: object) -> httpx.Response:
    return http.post(f"/v2/droplets/{droplet.id}/actions", json={"type": "snapshot", **body})


def take(sandbox: Sandbox, http: httpx.Client, droplet: Droplet, **body: object) -> Action:
    """Start a snapshot through the API."""
    ask(http, droplet, **body).raise_for_status()
    return sandbox.account.started[-1]


def names_everywhere(http: httpx.Client, droplet: Droplet) -> list[list[str]]:
    """The names of a Droplet's snapshots in each place that lists them."""
    images = {image["id"]: image for image in http.get("/v2/images?private=true&per_page=200").json()["images"]}
    snapshots = http.get("/v2/snapshots?per_page=200").json()["snapshots"]
    return [
        [images[image_id]["name"] for image_id in shown(http, droplet.id)["snapshot_ids"]],
        [each["name"] for each in http.get(f"/v2/droplets/{droplet.id}/snapshots").json()["snapshots"]],
        [each["name"] for each in snapshots if each["resource_id"] == str(droplet.id)],
        [each["name"] for each in images.values() if each["type"] == "snapshot" and each["name"] == "own"],
    ]


def test_a_snapshot_is_taken_in_the_droplets_region(client: Any, sandbox: Sandbox, clock: SandboxClock) -> None:
    droplet = client.droplets.list(name="db-01")["droplets"][0]
    action = client.droplet_actions.post(droplet["id"], {"type": "snapshot", "name": "before"})["action"]
    assert (action["type"], action["resource_type"], action["region_slug"]) == ("snapshot", "droplet", "nyc3")
    assert client.droplets.get(droplet["id"])["droplet"]["snapshot_ids"] == []
    clock.move(LONGEST_SNAPSHOT_SECONDS)
    assert client.droplet_actions.get(droplet["id"], action["id"])["action"]["status"] == "completed"
    (snapshot_id,) = client.droplets.get(droplet["id"])["droplet"]["snapshot_ids"]
    snapshot = client.snapshots.get(snapshot_id)["snapshot"]
    assert (snapshot["name"], snapshot["regions"], snapshot["min_disk_size"]) == ("before", ["nyc3"], droplet["disk"])
    assert snapshot["resource_id"] == str(droplet["id"])


def test_the_actions_of_a_droplet_are_listed_newest_first_and_are_in_the_feed(client: Any, clock: SandboxClock) -> None:
    droplet = client.droplets.list(name="web-01")["droplets"][0]
    action = client.droplet_actions.post(droplet["id"], {"type": "snapshot"})["action"]
    assert [one["type"] for one in client.droplet_actions.list(droplet["id"])["actions"]] == [
        "snapshot", "snapshot", "create",
    ]  # fmt: skip
    assert client.actions.list()["actions"][0] == action
    other = client.droplets.list(name="db-01")["droplets"][0]
    assert client.droplet_actions.get(other["id"], action["id"])["id"] == "not_found"


@pytest.mark.parametrize("body", [{"type": "resize"}, {}, {"type": "snapshot", "name": 7}])
def test_other_actions_on_droplets_are_refused(http: httpx.Client, sandbox: Sandbox, body: object) -> None:
    droplet_id = next(iter(sandbox.account.droplets))
    assert http.post(f"/v2/droplets/{droplet_id}/actions", json=body).status_code == 422
    assert http.post("/v2/droplets/7/actions", json=body).status_code == 404


def test_single_snapshots_are_read_and_deleted_and_nothing_else_is_one(http: httpx.Client, sandbox: Sandbox) -> None:
    own = http.get("/v2/snapshots").json()["snapshots"][0]
    assert http.get(f"/v2/snapshots/{own['id']}").json()["snapshot"] == own
    assert http.delete(f"/v2/snapshots/{own['id']}").status_code == 204
    assert http.get(f"/v2/snapshots/{own['id']}").status_code == 404
    assert [str(deletion.image_id) for deletion in sandbox.record.deleted] == [own["id"]]
    for image in (backup(sandbox), next(image for image in sandbox.account.images.values() if image.public)):
        for method in ("GET", "DELETE"):
            refused = http.request(method, f"/v2/snapshots/{image.id}")
            assert (refused.status_code, refused.json()["message"]) == (400, "the resource is not a snapshot")


def test_a_snapshot_is_nowhere_before_its_action_completes_and_everywhere_afterwards(
    sandbox: Sandbox, http: httpx.Client, clock: SandboxClock
) -> None:
    droplet = droplet_named(sandbox)
    action = take(sandbox, http, droplet, name="own")
    clock.now = action.ends_at - 1
    assert names_everywhere(http, droplet) == [[], [], [], []]
    clock.now = action.ends_at
    assert names_everywhere(http, droplet) == [["own"], ["own"], ["own"], ["own"]]


def test_the_response_does_not_contain_the_id_of_the_snapshot(sandbox: Sandbox, http: httpx.Client) -> None:
    droplet = droplet_named(sandbox)
    action = ask(http, droplet, name="own").json()["action"]
    snapshot = sandbox.account.started[0].snapshot
    assert snapshot is not None
    assert str(snapshot.id) not in str(action)
    assert (action["resource_id"], action["completed_at"]) == (droplet.id, None)


def test_a_snapshot_can_appear_later_than_its_action_completes(
    start_with_behavior: Callable[..., Sandbox], connect: Callable[[Sandbox], httpx.Client], clock: SandboxClock
) -> None:
    sandbox = start_with_behavior(lag_seconds=20)
    http, droplet = connect(sandbox), droplet_named(sandbox)
    action = take(sandbox, http, droplet, name="own")
    clock.now = action.ends_at + 19
    assert http.get(f"/v2/actions/{action.id}").json()["action"]["status"] == "completed"
    assert names_everywhere(http, droplet) == [[], [], [], []]
    clock.move(1)
    assert names_everywhere(http, droplet) == [["own"], ["own"], ["own"], ["own"]]


def test_a_snapshot_appears_even_if_its_droplet_is_destroyed_before(
    start_with_behavior: Callable[..., Sandbox], connect: Callable[[Sandbox], httpx.Client], clock: SandboxClock
) -> None:
    sandbox = start_with_behavior(lag_seconds=20)
    http, droplet = connect(sandbox), droplet_named(sandbox)
    clock.now = take(sandbox, http, droplet, name="own").ends_at
    assert http.delete(f"/v2/droplets/{droplet.id}").status_code == 204
    clock.move(20)
    listed = {each["name"]: each["resource_id"] for each in http.get("/v2/snapshots").json()["snapshots"]}
    assert listed["own"] == str(droplet.id)


def test_a_snapshot_is_as_old_as_its_action_and_as_large_as_the_droplets_images(
    client: Any, sandbox: Sandbox, http: httpx.Client, clock: SandboxClock
) -> None:
    droplet = droplet_named(sandbox)
    take(sandbox, http, droplet, name="own")
    clock.move(LONGEST_SNAPSHOT_SECONDS)
    (snapshot,) = client.droplets.list_snapshots(droplet.id)["snapshots"]
    (action, *_) = client.droplet_actions.list(droplet.id)["actions"]
    assert snapshot["created_at"] == action["started_at"] < action["completed_at"]
    assert 1 <= snapshot["size_gigabytes"] <= min(30, droplet.size.disk)


def test_the_duration_depends_on_the_size_and_comes_from_the_seed(
    start: Callable[..., Sandbox], connect: Callable[[Sandbox], httpx.Client], clock: SandboxClock
) -> None:
    def durations(**knobs: Any) -> list[float]:
        sandbox = start(**knobs)
        droplet = droplet_named(sandbox)
        taken = []
        for _ in range(3):
            taken.append(take(sandbox, connect(sandbox), droplet))
            clock.move(LONGEST_SNAPSHOT_SECONDS)
        sizes = [action.snapshot.size_gigabytes for action in taken if action.snapshot]
        seconds = [action.ends_at - action.started_at for action in taken]
        assert all(50 <= sandbox.speed * each / size <= 70 for each, size in zip(seconds, sizes, strict=True))
        return seconds

    first = durations()
    assert durations() == pytest.approx(first, abs=1e-3)
    assert len(set(first)) == 3
    assert durations(seed=2) != pytest.approx(first, abs=1e-3)
    assert durations(speed=10) == pytest.approx([seconds / 10 for seconds in first], abs=1e-3)


def test_a_snapshot_without_a_name_is_named_after_the_droplet_and_the_time(
    sandbox: Sandbox, http: httpx.Client
) -> None:
    snapshot = take(sandbox, http, droplet_named(sandbox)).snapshot
    assert snapshot is not None
    assert snapshot.name == f"db-01-{int(NOON)}000"


def test_a_name_can_have_255_characters(sandbox: Sandbox, http: httpx.Client) -> None:
    droplet = droplet_named(sandbox)
    refused = ask(http, droplet, name="x" * 256)
    assert (refused.status_code, refused.json()["message"]) == (422, "Name is too long (maximum is 255 characters).")
    assert ask(http, droplet, name="x" * 255).status_code == 201


def test_two_snapshots_can_have_the_same_name(sandbox: Sandbox, http: httpx.Client, clock: SandboxClock) -> None:
    droplet = droplet_named(sandbox)
    for _ in range(2):
        take(sandbox, http, droplet, name="own")
        clock.move(LONGEST_SNAPSHOT_SECONDS)
    assert names_everywhere(http, droplet) == [["own", "own"]] * 4
    assert [action.type for action in sandbox.account.started] == ["snapshot", "snapshot"]


def test_a_droplet_kept_busy_by_others_refuses_snapshots_until_it_is_done(
    sandbox: Sandbox, http: httpx.Client, clock: SandboxClock
) -> None:
    droplet = droplet_named(sandbox)
    resize = sandbox.account.keep_busy(droplet, clock(), seconds=60, kind="resize")
    refused = ask(http, droplet)
    assert (refused.status_code, refused.json()["message"]) == (422, PENDING)
    (newest, *_) = http.get(f"/v2/droplets/{droplet.id}/actions").json()["actions"]
    assert (newest["id"], newest["type"], newest["status"]) == (resize.id, "resize", "in-progress")
    assert http.get("/v2/actions").json()["actions"][0] == newest
    assert sandbox.account.started == []
    clock.move(60)
    assert ask(http, droplet).status_code == 201
    assert [action.type for action in sandbox.account.started] == ["snapshot"]


def test_an_errored_snapshot_leaves_nothing_and_frees_the_droplet(
    sandbox: Sandbox, http: httpx.Client, clock: SandboxClock
) -> None:
    droplet = droplet_named(sandbox)
    sandbox.faults.add(Fault(FaultKind.ACTION_ERRORED))
    action = take(sandbox, http, droplet, name="own")
    clock.move(LONGEST_SNAPSHOT_SECONDS)
    assert http.get(f"/v2/droplets/{droplet.id}/actions/{action.id}").json()["action"]["status"] == "errored"
    assert names_everywhere(http, droplet) == [[], [], [], []]
    assert ask(http, droplet).status_code == 201


def test_an_endless_snapshot_keeps_the_droplet_busy(sandbox: Sandbox, http: httpx.Client, clock: SandboxClock) -> None:
    droplet = droplet_named(sandbox)
    sandbox.faults.add(Fault(FaultKind.ACTION_ENDLESS))
    action = take(sandbox, http, droplet)
    clock.move(A_YEAR)
    assert http.get(f"/v2/actions/{action.id}").json()["action"]["status"] == "in-progress"
    assert ask(http, droplet).json()["message"] == PENDING


def test_an_unlisted_snapshot_action_is_found_by_its_id_only(
    sandbox: Sandbox, http: httpx.Client, clock: SandboxClock
) -> None:
    droplet = droplet_named(sandbox)
    sandbox.faults.add(Fault(FaultKind.ACTION_UNLISTED))
    action = take(sandbox, http, droplet, name="own")
    for path in ("/v2/actions", f"/v2/droplets/{droplet.id}/actions"):
        assert action.id not in {each["id"] for each in http.get(path).json()["actions"]}
    assert http.get(f"/v2/droplets/{droplet.id}/actions/{action.id}").status_code == 200
    clock.move(LONGEST_SNAPSHOT_SECONDS)
    assert names_everywhere(http, droplet) == [["own"], ["own"], ["own"], ["own"]]


def test_a_snapshot_is_taken_even_if_the_response_is_lost(sandbox: Sandbox, http: httpx.Client) -> None:
    droplet = droplet_named(sandbox)
    sandbox.faults.add(Fault(FaultKind.DROP_AFTER, "POST"))
    with pytest.raises(httpx.TransportError):
        ask(http, droplet, name="own")
    (newest, *_) = http.get(f"/v2/droplets/{droplet.id}/actions").json()["actions"]
    assert (newest["type"], [action.id for action in sandbox.account.started]) == ("snapshot", [newest["id"]])


def test_a_snapshot_that_is_slow_to_appear_is_lost_with_its_region(
    start_with_behavior: Callable[..., Sandbox], connect: Callable[[Sandbox], httpx.Client], clock: SandboxClock
) -> None:
    sandbox = start_with_behavior(lag_seconds=20)
    http, droplet = connect(sandbox), droplet_named(sandbox)
    action = take(sandbox, http, droplet, name="own")
    clock.now = action.ends_at
    http.get("/v2/account")
    sandbox.account.lose_region(droplet.region)
    clock.move(20)
    (snapshot,) = http.get(f"/v2/droplets/{droplet.id}/snapshots").json()["snapshots"]
    assert (snapshot["name"], snapshot["regions"]) == ("own", [])


def test_scopes_can_be_taken_away_for_the_actions_of_all_droplets(
    start_with_behavior: Callable[..., Sandbox], connect: Callable[[Sandbox], httpx.Client]
) -> None:
    sandbox = start_with_behavior(out_of_scope=frozenset({("POST", "/v2/droplets/*/actions")}))
    http, droplet = connect(sandbox), droplet_named(sandbox)
    refused = ask(http, droplet)
    assert (refused.status_code, refused.json()["id"]) == (403, "forbidden")
    assert http.get(f"/v2/droplets/{droplet.id}/actions").status_code == 200
    assert sandbox.account.started == []
