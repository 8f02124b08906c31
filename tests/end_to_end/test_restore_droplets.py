"""Droplets are rebuilt from their copies in another region: checked first, exactly once, and from the API alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prefect import State

from deployments.sandbox import Behavior, Droplet, Fault, FaultKind, Sandbox
from flows.replicate_backups import replicate_backups
from flows.reporting.events import ACCOUNT, DROPLET_RESTORED, RECOVERY_COMPLETED, RECOVERY_FAILED
from flows.reporting.restore_report import NEXT_STEPS, RestoreReport
from flows.restore_droplets import RESTORE_KEY, restore_droplets
from tests.end_to_end.accounts import changes, meanwhile, resize
from tests.end_to_end.prefect_server import PrefectView
from tests.end_to_end.rebuilding import (
    AWAY,
    CREATING,
    HOME,
    created_in,
    ctrl_c_when,
    finish_creations,
    for_seconds,
    have_copies,
    originals_of,
    report_in,
    seen,
)
from tests.end_to_end.test_what_prefect_shows import table_in

EVENTS = (DROPLET_RESTORED, RECOVERY_COMPLETED, RECOVERY_FAILED)
FIRST = "prefect:restore-first"
MARKER = "prefect:restored:"


@pytest.fixture
def sandbox(sandbox: Sandbox) -> Sandbox:
    """Two Droplets in nyc3 with copies in ams3."""
    have_copies(sandbox)
    return sandbox


@pytest.fixture(autouse=True)
def _originals_are_never_touched(sandbox: Sandbox) -> Iterator[None]:
    yield
    assert sandbox.record.originals_destroyed() == []
    assert sandbox.record.created_twice() == []


def restore(**parameters: Any) -> State[Any]:
    wanted: dict[str, Any] = {"region": AWAY, "dry_run": False} | parameters
    return restore_droplets(**wanted, return_state=True)


def report_of(state: State[Any]) -> RestoreReport:
    return report_in(state, RestoreReport)


def outcomes(state: State[Any]) -> dict[int | None, str]:
    report = report_of(state)
    found = {row.droplet_id: str(row.outcome) for row in report.rows}
    assert len(found) == len(report.rows)
    return found


def errors(state: State[Any]) -> list[str]:
    return [row.error for row in report_of(state).rows]


def names(sandbox: Sandbox) -> list[str]:
    return [record.name for record in sandbox.record.created]


def copies_by_original(sandbox: Sandbox) -> dict[int, Droplet]:
    """The new Droplets, by the ID of the one that their tag says they stand for."""
    found = [(tag, each) for each in created_in(sandbox) for tag in each.tags if tag.startswith(MARKER)]
    assert len(found) == len(dict(found))
    return {int(tag.removeprefix(MARKER)): each for tag, each in found}


# The plan


def test_by_default_a_run_says_what_it_would_create_and_what_that_costs_and_creates_nothing(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    droplets = originals_of(sandbox)
    state = restore_droplets(AWAY, return_state=True)
    assert state.is_completed()
    assert outcomes(state) == {each.id: "planned" for each in droplets}
    monthly = sum(each.size.price_monthly for each in droplets)
    hourly = sum(round(each.size.price_monthly / 672, 5) for each in droplets)
    assert str(state.message).startswith(
        f"Dry run, 2 Droplets in {AWAY}: 2 planned, ${hourly:.3f} an hour, ${monthly:.2f} a month; "
    )
    run = prefect_view.run_of(state)
    assert run.name.endswith("(dry run)")
    assert {
        (line["Outcome"], line["New Droplet"]) for line in table_in(prefect_view.artifacts_of(run), RESTORE_KEY)
    } == {("planned", f"{each.name}-restored".replace("-", r"\-")) for each in droplets}
    assert changes(sandbox) == []
    assert prefect_view.events_of(run, *EVENTS) == []


def test_more_droplets_than_allowed_create_nothing_and_fail_with_the_plan(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    state = restore(max_droplets=1)
    assert state.is_failed()
    assert str(state.message).startswith("nothing was created: 2 Droplets would be more than max_droplets (1)")
    assert set(outcomes(state).values()) == {"planned"}
    run = prefect_view.run_of(state)
    assert [line["Outcome"] for line in table_in(prefect_view.artifacts_of(run), RESTORE_KEY)] == ["planned"] * 2
    (end,) = prefect_view.events_of(run, *EVENTS)
    assert (end.event, end.payload["message"], end.payload["droplet_ids"]) == (RECOVERY_FAILED, state.message, [])
    assert changes(sandbox) == []


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"size": "s-1vcpu-1g"}, "size s-1vcpu-1g does not exist"),
        (
            {"size": "s-1vcpu-1gb"},
            "size s-1vcpu-1gb has a disk of 25 GB, but the image needs 320 GB; sizes that fit: s-8",
        ),
        ({"ssh_keys": ["4711"]}, "the account has no SSH key 4711"),
    ],
)
@pytest.mark.thorough(after=1)
def test_what_cannot_be_created_is_found_before_anything_is_created(
    sandbox: Sandbox, wish: dict[str, Any], reason: str
) -> None:
    for image in sandbox.account.images.values():
        image.min_disk_size = 320
    state = restore(**wish)
    assert str(state.message).startswith("2 of 2 Droplets were not restored (first: ")
    assert all(reason in error for error in errors(state))
    assert changes(sandbox) == []


def test_keys_network_size_suffix_and_tags_are_as_wished(sandbox: Sandbox) -> None:
    by_id, by_fingerprint = sandbox.account.ssh_keys.values()
    state = restore(
        ssh_keys=[str(by_id.id), by_fingerprint.fingerprint],
        vpc_uuid=sandbox.account.default_vpc(AWAY).id,
        size="s-8vcpu-16gb",
        name_suffix="-dr",
        copy_tags=False,
        tags=["env:dr"],
    )
    assert state.is_completed(), state.message
    copies = copies_by_original(sandbox)
    for original in originals_of(sandbox):
        new = copies[original.id]
        assert (new.name, new.size.slug) == (f"{original.name}-dr", "s-8vcpu-16gb")
        assert set(new.ssh_key_ids) == {by_id.id, by_fingerprint.id}
        assert sorted(new.tags) == ["env:dr", "prefect:restored", f"prefect:restored:{original.id}"]


# What a run does


def test_droplets_are_rebuilt_and_reported_and_a_second_run_creates_nothing(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    droplets, images = originals_of(sandbox), {each.droplet_id: each for each in sandbox.account.images.values()}
    state = restore()
    assert state.is_completed()
    new = copies_by_original(sandbox)
    assert sorted(new) == [each.id for each in droplets]
    for original in droplets:
        copy = new[original.id]
        assert (copy.name, copy.region, copy.size) == (f"{original.name}-restored", AWAY, original.size)
        assert copy.base_image is images[original.id]
        assert set(copy.tags) == {*original.tags, "prefect:restored", f"prefect:restored:{original.id}"}
        assert copy.status == "active"
    report = report_of(state)
    assert {(row.droplet_id, row.new_droplet_id, row.public_ip, row.private_ip) for row in report.rows} == {
        (original, copy.id, copy.public_ip, copy.private_ip) for original, copy in new.items()
    }
    assert all(row.seconds for row in report.rows)
    assert str(state.message).startswith(f"2 Droplets in {AWAY}: 2 restored, $")
    assert report.usage.requests == len(sandbox.record.requests)

    run = prefect_view.run_of(state)
    artifact = prefect_view.artifacts_of(run)[RESTORE_KEY]
    assert report.summary in str(artifact.description)
    assert str(artifact.description).count("\n- ") == len(NEXT_STEPS)
    assert {line["Address"] for line in table_in(prefect_view.artifacts_of(run), RESTORE_KEY)} == {
        copy.public_ip for copy in new.values()
    }
    *restored, end = prefect_view.events_of(run, *EVENTS)
    assert {(event.event, event.resource.id) for event in restored} == {
        (DROPLET_RESTORED, f"digitalocean.droplet.{copy.id}") for copy in new.values()
    }
    rows = {row.new_droplet_id: row.model_dump(mode="json", exclude={"error"}) for row in report.rows}
    assert all(event.payload == rows[event.payload["new_droplet_id"]] for event in restored)
    assert (end.event, end.resource.id) == (RECOVERY_COMPLETED, ACCOUNT)
    assert end.payload == {
        "message": report.summary,
        "account": "default",
        "flow_run_name": run.name,
        "droplet_tag": None,
        "region": AWAY,
        "droplet_ids": [row.new_droplet_id for row in report.rows],
    }

    before = len(changes(sandbox))
    again = restore()
    assert again.is_completed()
    assert outcomes(again) == {each.id: "already_restored" for each in droplets}
    assert {row.public_ip for row in report_of(again).rows} == {copy.public_ip for copy in new.values()}
    assert len(changes(sandbox)) == before
    (end,) = prefect_view.events_of(prefect_view.run_of(again), *EVENTS)
    assert end.event == RECOVERY_COMPLETED


def test_one_droplet_without_a_copy_stops_no_other(sandbox: Sandbox) -> None:
    bare, good = originals_of(sandbox)
    for image in sandbox.account.images.values():
        if image.droplet_id == bare.id:
            image.regions.pop(AWAY, None)
    state = restore()
    assert outcomes(state) == {bare.id: "failed", good.id: "restored"}
    first = f"{bare.name} ({bare.id}): it has no available backup or snapshot in {AWAY}; the newest is in "
    assert str(state.message).startswith(f"1 of 2 Droplets was not restored (first: {first}")


@pytest.mark.thorough
def test_named_droplets_and_images_are_rebuilt_and_no_others(sandbox: Sandbox) -> None:
    first, second = originals_of(sandbox)
    assert outcomes(restore(droplet_ids=[first.id])) == {first.id: "restored"}
    image = next(
        each for each in sandbox.account.images.values() if each.droplet_id == second.id and AWAY in each.regions
    )
    state = restore(image_ids=[image.id, 4711])
    assert outcomes(state) == {second.id: "restored", None: "failed"}
    assert "image 4711 does not exist" in str(state.message)
    assert names(sandbox) == [f"{first.name}-restored", f"{second.name}-restored"]


def test_without_waiting_droplets_are_requested_and_the_next_run_waits_for_them(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(FaultKind.CREATE_ENDLESS, times=2))
    first = restore(wait=False)
    assert first.is_completed()
    assert set(outcomes(first).values()) == {"started"}
    before = len(sandbox.record.requests)
    with meanwhile(lambda: len(sandbox.record.requests) > before + 6, lambda: finish_creations(sandbox)):
        second = restore()
    assert set(outcomes(second).values()) == {"already_restored"}
    assert all(row.public_ip for row in report_of(second).rows)
    assert len(sandbox.record.created) == 2


# When something is in the way


@pytest.mark.thorough
def test_at_the_droplet_limit_those_tagged_restore_first_come_first_and_a_later_run_continues(
    start: Callable[..., Sandbox],
) -> None:
    sandbox = start(droplets=3)
    have_copies(sandbox)
    droplets = originals_of(sandbox)
    # Otherwise, they come by name.
    last = max(droplets, key=lambda each: each.name)
    sandbox.account.tag(sandbox.account.tag_named(FIRST), "droplet", last)
    sandbox.account.droplet_limit = 4
    state = restore()
    assert state.is_failed()
    assert outcomes(state) == {each.id: "left_for_later" for each in droplets} | {last.id: "restored"}
    assert "the account's Droplet limit is reached" in str(state.message)
    assert names(sandbox) == [f"{last.name}-restored"]

    sandbox.account.droplet_limit = 25
    again = restore()
    assert again.is_completed()
    assert outcomes(again) == {each.id: "restored" for each in droplets} | {last.id: "already_restored"}
    assert sandbox.record.created_twice() == []


def test_after_the_loss_of_a_region_and_of_all_droplets_they_are_rebuilt_as_they_were_recorded(
    start: Callable[..., Sandbox],
) -> None:
    sandbox = start(droplets=3)
    account = sandbox.account
    resize(sandbox, 2)
    for droplet in originals_of(sandbox):
        droplet.region = HOME
    original = originals_of(sandbox)[0]
    original.options = ("monitoring", "ipv6")
    assert replicate_backups(regions=[AWAY], return_state=True).is_completed()
    before = {each.id: (f"{each.name}-restored", each.size, {*each.tags}) for each in originals_of(sandbox)}
    account.lose_region(HOME)
    for droplet in originals_of(sandbox):
        account.delete_droplet(droplet)

    state = restore(from_region=HOME)
    assert state.is_completed(), state.message
    assert outcomes(state) == dict.fromkeys(before, "restored")
    copies = copies_by_original(sandbox)
    tags = {each: {"prefect:restored", f"{MARKER}{each}"} for each in copies}
    assert {each: (copy.name, copy.size, {*copy.tags} - tags[each]) for each, copy in copies.items()} == before
    for each in copies.values():
        assert each.vpc_uuid == account.default_vpc(AWAY).id
        assert ("ipv6" in each.options) == (each.name == f"{original.name}-restored")
    assert restore(from_region=HOME, region="sgp1").is_failed()
    assert len(sandbox.record.created) == 3


@pytest.mark.thorough
def test_a_tag_finds_droplets_that_no_longer_exist_and_a_wrong_one_is_explained(sandbox: Sandbox) -> None:
    wanted, other = originals_of(sandbox)
    sandbox.account.tag(sandbox.account.tag_named("shop"), "droplet", wanted)
    assert replicate_backups(regions=[AWAY], return_state=True).is_completed()
    for each in (wanted, other):
        sandbox.account.delete_droplet(each)
    assert outcomes(restore(droplet_tag="Shop")) == {wanted.id: "restored"}
    state = restore(droplet_tag="shopp")
    assert state.is_failed()
    assert state.message == "nothing to rebuild: no Droplet had the tag 'shopp' when it was last recorded"
    assert names(sandbox) == [f"{wanted.name}-restored"]


@pytest.mark.thorough
def test_a_run_that_reached_its_time_limit_is_finished_by_the_next_and_nothing_is_created_twice(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    sandbox.faults.add(Fault(FaultKind.CREATE_ENDLESS, "POST", CREATING, times=2))
    first = for_seconds(restore_droplets, 8, region=AWAY, dry_run=False)
    assert first.is_failed()
    assert set(outcomes(first).values()) == {"timed_out"}
    assert str(first.message).startswith("2 of 2 Droplets were not restored (first: ")
    assert "still being created when the run ended: the next run picks it up" in str(first.message)
    (end,) = prefect_view.events_of(prefect_view.run_of(first), *EVENTS)
    assert (end.event, end.payload["message"]) == (RECOVERY_FAILED, first.message)

    finish_creations(sandbox)
    second = restore()
    assert second.is_completed()
    assert set(outcomes(second).values()) == {"already_restored"}
    assert len(sandbox.record.created) == 2


def test_ctrl_c_while_droplets_are_being_created_cancels_the_run_and_the_next_finishes_it(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(FaultKind.CREATE_ENDLESS, "POST", CREATING, times=2))
    with ctrl_c_when(lambda: len(sandbox.record.created) == 2):
        first = restore()
    assert first.is_cancelled()
    assert first.message == "0 of 2 Droplets restored. Run the command again to finish."
    finish_creations(sandbox)
    assert restore().is_completed()
    assert len(sandbox.record.created) == 2
    assert sorted(copies_by_original(sandbox)) == [each.id for each in originals_of(sandbox)]


def test_a_creation_whose_response_is_lost_is_found_and_not_repeated(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(FaultKind.DROP_AFTER, "POST", CREATING, times=2))
    assert restore().is_completed()
    assert len(sandbox.record.created) == len(seen(sandbox, "POST", "/v2/droplets")) == 2


def test_a_droplet_whose_creation_failed_is_destroyed_and_created_again(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(FaultKind.CREATE_ERRORED, "POST", CREATING))
    state = restore()
    assert state.is_completed(), state.message
    assert set(outcomes(state).values()) == {"restored"}
    assert (len(sandbox.record.created), len(sandbox.record.destroyed)) == (3, 1)
    assert sandbox.record.created_twice() == sandbox.record.originals_destroyed() == []


@pytest.mark.thorough
def test_a_full_region_is_named_with_the_sizes_that_might_fit(sandbox: Sandbox) -> None:
    sandbox.account.full_regions.add(AWAY)
    state = restore()
    assert set(outcomes(state).values()) == {"failed"}
    for row in report_of(state).rows:
        assert f"may have no capacity for size {row.size}: try another size, such as s-" in row.error
    assert sandbox.record.created == []


@pytest.mark.parametrize(
    ("forbidden", "scope", "wish"),
    [
        (("GET", "/v2/snapshots"), "snapshot:read", {}),
        (("GET", "/v2/tags"), "tag:read", {}),
        (("GET", "/v2/sizes"), "sizes:read", {}),
        (("GET", "/v2/account"), "account:read", {}),
        (("GET", "/v2/account/keys"), "ssh_key:read", {"ssh_keys": ["4711"]}),
        (("GET", "/v2/vpcs"), "vpc:read", {"vpc_uuid": "00000000-0000-4000-8000-000000000000"}),
        (("POST", "/v2/droplets"), "droplet:create", {}),
    ],
)
@pytest.mark.thorough(after=2)
def test_a_missing_scope_is_named(
    sandbox: Sandbox, forbidden: tuple[str, str], scope: str, wish: dict[str, Any]
) -> None:
    sandbox.account.behavior = Behavior(out_of_scope=frozenset({forbidden}))
    state = restore(**wish)
    assert state.is_failed()
    assert f"needs the scope {scope}" in str(state.message)
    assert sandbox.record.created == []
