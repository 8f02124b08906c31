"""Old snapshots of this project are deleted by a rule: only those, only where it is safe, and never by surprise."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
from prefect import State
from prefect.client.schemas import FlowRun
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.states import Completed, Crashed, Running

from deployments.sandbox import Behavior, Droplet, Fault, FaultKind, Image, Sandbox
from deployments.sandbox.account import Fate
from flows import image_locks
from flows.image_locks import LOCKED_LABEL
from flows.liveness import RENEWED_LABEL
from flows.prune_snapshots import PRUNING_KEY, prune_snapshots
from flows.replicate_backups import replicate_backups
from flows.reporting.events import ACCOUNT, PRUNING_COMPLETED, PRUNING_FAILED, SNAPSHOT_DELETED
from flows.reporting.pruning_report import PruningReport
from flows.transfer_images import transfer_images
from tests.end_to_end.accounts import (
    MANAGED_TAG,
    REGIONS,
    add_snapshots,
    changes,
    finish_all,
    images_of,
    make_transfers_endless,
    meanwhile,
    newest_backups,
    pruning_report_of,
    report_of,
    resize,
)
from tests.end_to_end.conftest import RunHere
from tests.end_to_end.prefect_server import PrefectView
from tests.end_to_end.test_what_prefect_shows import table_in

# Each snapshot that is asked for as 0 days old is newer than all of its Droplet's backups.
TWO: dict[str, Any] = {"keep_last": 2, "keep_weekly": 0, "keep_monthly": 0, "regions": REGIONS}
TWO_OPTIONS = ["--keep-last", "2", "--keep-weekly", "0", "--keep-monthly", "0", "--regions", *REGIONS]
# Days in separate months, and so in separate weeks: the default rule keeps these and nothing older.
SEVEN_MONTHS = [35.0 * number for number in range(1, 8)]
MakeLock: TypeAlias = Callable[[Image], FlowRun]
EVENTS = (SNAPSHOT_DELETED, PRUNING_COMPLETED, PRUNING_FAILED)


def droplets_of(sandbox: Sandbox) -> list[Droplet]:
    return list(sandbox.account.droplets.values())


def deleted(sandbox: Sandbox) -> list[int]:
    """What was deleted, by the sandbox's record."""
    return [deletion.image_id for deletion in sandbox.record.deleted]


def ids(*images: Image) -> list[int]:
    return [image.id for image in images]


def outcomes(report: PruningReport) -> dict[int, str]:
    found = {row.image_id: str(row.outcome) for row in report.rows}
    assert len(found) == len(report.rows)
    return found


def reasons(report: PruningReport) -> dict[int, str]:
    return {row.image_id: row.reason for row in report.rows}


def table_of(view: PrefectView, run: FlowRun) -> list[dict[str, str]]:
    return table_in(view.artifacts_of(run), PRUNING_KEY)


# What a run does


def test_by_default_a_run_says_what_it_would_delete_and_deletes_nothing(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    newest, second, third, fourth = add_snapshots(sandbox, droplets_of(sandbox)[0], 0, 1, 2, 3)
    state = prune_snapshots(**TWO, return_state=True)
    assert state.is_completed()
    report = pruning_report_of(state)
    assert report.dry_run
    assert outcomes(report) == dict.fromkeys(ids(newest, second), "kept") | dict.fromkeys(
        ids(third, fourth), "to_delete"
    )
    assert str(state.message).startswith(
        "Dry run, 4 snapshots of 1 Droplet: 2 kept (5 GB, $0.30 a month), 2 to delete ("
    )
    run = prefect_view.run_of(state)
    assert run.name.endswith("(dry run)")
    assert [line["Outcome"] for line in table_of(prefect_view, run)] == ["to delete", "to delete", "kept", "kept"]
    assert changes(sandbox) == []
    assert prefect_view.events_of(run, *EVENTS) == []


def test_snapshots_that_no_rule_keeps_are_deleted_once_and_reported_and_a_second_run_deletes_nothing(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    first, second = droplets_of(sandbox)
    one, other = add_snapshots(sandbox, first, 0, 1, 2, 3), add_snapshots(sandbox, second, 0, 5, 9)
    gone = [*one[2:], *other[2:]]
    state = prune_snapshots(**TWO, dry_run=False, return_state=True)
    assert state.is_completed()
    assert sorted(deleted(sandbox)) == sorted(ids(*gone))
    assert sorted(seen.path for seen in changes(sandbox)) == sorted(f"/v2/images/{each.id}" for each in gone)
    report = pruning_report_of(state)
    assert outcomes(report) == dict.fromkeys(ids(*one, *other), "kept") | dict.fromkeys(ids(*gone), "deleted")
    assert reasons(report) == {
        **{each.id: "no rule keeps it" for each in gone},
        **{each.id: "last 1 of 2, newest recovery point" for each in (one[0], other[0])},
        **{each.id: "last 2 of 2" for each in (one[1], other[1])},
    }
    assert {(row.size_gigabytes, row.regions) for row in report.rows} == {(2.5, tuple(REGIONS))}
    assert {row.droplet for row in report.rows} == {f"{each.name} ({each.id})" for each in (first, second)}
    summary = "7 snapshots of 2 Droplets: 4 kept (10 GB, $0.60 a month), 3 deleted (7.5 GB, $0.45 a month)"
    assert str(state.message).startswith(summary)
    assert report.usage.requests == len(sandbox.record.requests)

    run = prefect_view.run_of(state)
    assert summary in str(prefect_view.artifacts_of(run)[PRUNING_KEY].description)
    table = table_of(prefect_view, run)
    assert [line["Snapshot"] for line in table[:3]] == [str(each.id) for each in gone]
    assert {(line["Why"], line["GB"], line["Regions"]) for line in table[:3]} == {
        ("no rule keeps it", "2.5", "fra1, sgp1, sfo3")
    }
    *deletions, end = prefect_view.events_of(run, *EVENTS)
    assert [(event.event, event.resource.id) for event in deletions] == [
        (SNAPSHOT_DELETED, f"digitalocean.image.{each.id}") for each in gone
    ]
    rows = {row.image_id: row for row in report.rows}
    assert [event.payload for event in deletions] == [
        rows[each.id].model_dump(mode="json", exclude={"error"}) for each in gone
    ]
    assert (end.event, end.resource.id) == (PRUNING_COMPLETED, ACCOUNT)
    assert end.payload == {
        "message": report.summary,
        "account": "default",
        "flow_run_name": run.name,
        "droplet_tag": None,
        "image_ids": ids(*gone),
    }

    again = prune_snapshots(**TWO, dry_run=False, return_state=True)
    assert again.is_completed()
    assert len(sandbox.record.deleted) == len(gone)
    assert set(outcomes(pruning_report_of(again)).values()) == {"kept"}
    (only,) = prefect_view.events_of(prefect_view.run_of(again), *EVENTS)
    assert (only.event, only.payload["image_ids"]) == (PRUNING_COMPLETED, [])


def test_on_the_command_line_only_no_dry_run_deletes(sandbox: Sandbox, run_here: RunHere) -> None:
    *kept, old = add_snapshots(sandbox, droplets_of(sandbox)[0], 0, 1, 2)
    looked = run_here(prune_snapshots, *TWO_OPTIONS)
    assert looked.returncode == 0, looked.stderr
    assert "Dry run, 3 snapshots of 1 Droplet: 2 kept (5 GB, $0.30 a month), 1 to delete (2.5 GB" in looked.stdout
    assert all(str(each.id) in looked.stdout for each in (*kept, old))
    assert changes(sandbox) == []
    done = run_here(prune_snapshots, *TWO_OPTIONS, "--no-dry-run")
    assert done.returncode == 0, done.stderr
    assert deleted(sandbox) == [old.id]


@pytest.mark.thorough
def test_a_minimum_age_keeps_younger_snapshots(sandbox: Sandbox) -> None:
    _, _, young, old = add_snapshots(sandbox, droplets_of(sandbox)[0], 0, 1, 29, 31)
    report = pruning_report_of(prune_snapshots(**TWO, older_than_days=30, dry_run=False, return_state=True))
    assert deleted(sandbox) == [old.id]
    assert reasons(report)[young.id] == "younger than 30 days"


def test_too_many_deletions_fail_with_the_plan_and_delete_nothing(sandbox: Sandbox, prefect_view: PrefectView) -> None:
    *_, third, fourth = add_snapshots(sandbox, droplets_of(sandbox)[0], 0, 1, 2, 3)
    state = prune_snapshots(**TWO, max_deletions=1, dry_run=False, return_state=True)
    assert state.is_failed()
    assert str(state.message).startswith("nothing was deleted: 2 snapshots exceed max_deletions (1)")
    assert changes(sandbox) == []
    report = pruning_report_of(state)
    assert [row.image_id for row in report.rows if row.outcome == "to_delete"] == ids(third, fourth)
    run = prefect_view.run_of(state)
    assert [line["Snapshot"] for line in table_of(prefect_view, run)[:2]] == [str(third.id), str(fourth.id)]
    (end,) = prefect_view.events_of(run, *EVENTS)
    assert (end.event, end.payload["image_ids"], end.payload["message"]) == (PRUNING_FAILED, [], state.message)
    assert "Traceback" not in prefect_view.log_text_of(run)

    assert prune_snapshots(**TWO, max_deletions=2, dry_run=False, return_state=True).is_completed()
    assert deleted(sandbox) == ids(third, fourth)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"keep_last": -1}, "keep_last: must be at least 0"),
        ({"droplet_tag": "missing"}, "no Droplet has the tag 'missing'"),
        ({"regions": []}, "the list of regions is empty"),
        ({"regions": ["moon 1"]}, "regions: '1' is not a region slug"),
    ],
)
@pytest.mark.thorough(after=1)
def test_invalid_parameters_end_the_run_with_a_sentence_before_any_change(
    sandbox: Sandbox, prefect_view: PrefectView, parameters: dict[str, Any], message: str
) -> None:
    add_snapshots(sandbox, droplets_of(sandbox)[0], 0, 1, 2)
    state = prune_snapshots(**{**TWO, **parameters}, dry_run=False, return_state=True)
    assert state.is_failed()
    assert message in str(state.message)
    assert changes(sandbox) == []
    assert "Traceback" not in prefect_view.log_text_of(prefect_view.run_of(state))


# What stays, whatever the rule says


def test_unmanaged_snapshots_are_kept_and_only_counted(sandbox: Sandbox) -> None:
    droplet = droplets_of(sandbox)[0]
    newest, old = add_snapshots(sandbox, droplet, 0, 100)
    by_others = [*add_snapshots(sandbox, droplet, 1, 90, 120, tag=None), *add_snapshots(sandbox, droplet, 95, tag="dr")]
    before = [image for image in images_of(sandbox, "snapshot") if MANAGED_TAG not in image.tags]
    assert len(before) == len(by_others) + 1
    custom = images_of(sandbox, "custom")[0]
    # Users may tag anything; a custom image is not a copy of a Droplet's backup.
    sandbox.account.tag(sandbox.account.tags[MANAGED_TAG], "image", custom)
    state = prune_snapshots(**{**TWO, "keep_last": 0}, dry_run=False, return_state=True)
    assert deleted(sandbox) == [old.id]
    assert {image.id for image in (*before, custom, newest)} <= sandbox.account.images.keys()
    assert outcomes(pruning_report_of(state)) == {newest.id: "kept", old.id: "deleted"}
    assert f"{len(before)} left alone, which this project did not make" in str(state.message)


def test_a_held_snapshot_is_kept_in_addition_and_its_row_says_so(sandbox: Sandbox) -> None:
    newest, held, second, old = add_snapshots(sandbox, droplets_of(sandbox)[0], 0, 1, 2, 3)
    held.tags.append("Prefect:Hold")
    report = prune_snapshots(**TWO, dry_run=False)
    assert deleted(sandbox) == [old.id]
    assert reasons(report) == {
        newest.id: "last 1 of 2, newest recovery point",
        held.id: "held by the tag prefect:hold",
        second.id: "last 2 of 2",
        old.id: "no rule keeps it",
    }


def test_a_snapshot_with_an_action_in_progress_is_kept_and_its_row_says_so(sandbox: Sandbox) -> None:
    _, _, busy, old = add_snapshots(sandbox, droplets_of(sandbox)[0], 0, 1, 2, 3)
    sandbox.account.start(busy, "transfer", "ams3", time.time(), Fate(ends=False))
    state = prune_snapshots(**TWO, dry_run=False, return_state=True)
    assert state.is_completed()
    assert deleted(sandbox) == [old.id]
    report = pruning_report_of(state)
    assert (outcomes(report)[busy.id], reasons(report)[busy.id]) == ("kept", "action in progress")

    finish_all(sandbox)
    assert prune_snapshots(**TWO, dry_run=False, return_state=True).is_completed()
    assert deleted(sandbox) == ids(old, busy)


def test_a_droplet_whose_newest_recovery_point_lacks_copies_keeps_everything_and_says_why(
    sandbox: Sandbox,
) -> None:
    unsafe, safe = droplets_of(sandbox)
    (newest,) = add_snapshots(sandbox, unsafe, 0, regions=REGIONS[:1])
    older = add_snapshots(sandbox, unsafe, 2, 3)
    *_, old = add_snapshots(sandbox, safe, 0, 2, 3)
    report = pruning_report_of(prune_snapshots(**TWO, dry_run=False, return_state=True))
    assert deleted(sandbox) == [old.id]
    lacking = "newest copy not yet in sfo3, sgp1"
    assert {image_id: reasons(report)[image_id] for image_id in ids(newest, *older)} == {
        newest.id: f"last 1 of 2, newest recovery point, {lacking}",
        older[0].id: f"last 2 of 2, {lacking}",
        older[1].id: lacking,
    }

    newest.regions.update(dict.fromkeys(REGIONS, 0.0))
    assert prune_snapshots(**TWO, dry_run=False, return_state=True).is_completed()
    assert deleted(sandbox) == [old.id, older[1].id]


@pytest.mark.thorough
def test_a_newer_unavailable_snapshot_does_not_make_an_older_one_deletable(sandbox: Sandbox) -> None:
    droplet = droplets_of(sandbox)[0]
    pending, last, older, oldest = add_snapshots(sandbox, droplet, 0, 0, 2, 3)
    pending.status = "pending"
    report = pruning_report_of(prune_snapshots(**TWO, dry_run=False, return_state=True))
    assert reasons(report)[pending.id] == "status pending"
    assert deleted(sandbox) == [oldest.id]

    last.regions.pop(REGIONS[0])
    report = pruning_report_of(prune_snapshots(**TWO, dry_run=False, return_state=True))
    assert reasons(report)[older.id].endswith(f"newest copy not yet in {REGIONS[0]}")
    assert deleted(sandbox) == [oldest.id]


def test_a_backup_not_yet_copied_protects_all_older_snapshots_of_its_droplet(sandbox: Sandbox) -> None:
    droplet = droplets_of(sandbox)[0]
    snapshots = add_snapshots(sandbox, droplet, 2, 3, 4)
    report = pruning_report_of(prune_snapshots(**TWO, dry_run=False, return_state=True))
    assert deleted(sandbox) == []
    lacking = ", ".join(sorted(set(REGIONS) - {droplet.region}))
    assert reasons(report)[snapshots[0].id] == f"last 1 of 2, newest snapshot, newest copy not yet in {lacking}"
    assert reasons(report)[snapshots[2].id] == f"newest copy not yet in {lacking}"


@pytest.mark.thorough
def test_snapshots_of_a_deleted_droplet_are_pruned_but_not_by_a_run_for_a_tag(sandbox: Sandbox) -> None:
    lost, there = droplets_of(sandbox)
    lost_newest, _, lost_old = add_snapshots(sandbox, lost, 0, 1, 2)
    *_, old = add_snapshots(sandbox, there, 0, 1, 2)
    sandbox.account.tag(sandbox.account.tags["dr"], "droplet", there)
    sandbox.account.delete_droplet(lost)
    tagged = pruning_report_of(prune_snapshots("dr", **TWO, dry_run=False, return_state=True))
    assert deleted(sandbox) == [old.id]
    assert {row.droplet_id for row in tagged.rows} == {there.id}

    everything = pruning_report_of(prune_snapshots(**TWO, dry_run=False, return_state=True))
    assert deleted(sandbox) == [old.id, lost_old.id]
    assert {row.droplet for row in everything.rows if row.droplet_id == lost.id} == {f"{lost.id} (deleted)"}
    assert reasons(everything)[lost_newest.id] == "last 1 of 2, newest recovery point"


# Bad answers


def test_a_deletion_with_a_lost_response_counts_as_done_and_is_not_repeated(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    *_, third, fourth = add_snapshots(sandbox, droplets_of(sandbox)[0], 0, 1, 2, 3)
    sandbox.faults.add(
        Fault(FaultKind.DROP_AFTER, "DELETE", f"/{third.id}$"), Fault(FaultKind.DROP_BEFORE, "DELETE", f"/{fourth.id}$")
    )
    state = prune_snapshots(**TWO, dry_run=False, return_state=True)
    assert state.is_completed()
    assert [row.outcome for row in pruning_report_of(state).rows[2:]] == ["deleted", "deleted"]
    assert deleted(sandbox) == ids(third, fourth)
    # The one that was not carried out is repeated after a check.
    assert [seen.path for seen in changes(sandbox)] == [f"/v2/images/{each.id}" for each in (third, fourth, fourth)]
    *deletions, _ = prefect_view.events_of(prefect_view.run_of(state), *EVENTS)
    assert [event.payload["image_id"] for event in deletions] == ids(third, fourth)


def test_a_permanently_failed_deletion_is_reported_in_the_apis_words_and_the_others_are_deleted(
    sandbox: Sandbox, prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITALOCEAN_HTTP_RETRY_MAX", "1")
    _, _, refused, good, broken, last = add_snapshots(sandbox, droplets_of(sandbox)[0], 0, 1, 2, 3, 4, 5)
    refused.locked_until = math.inf
    sandbox.faults.add(Fault(FaultKind.ERROR_BEFORE, "DELETE", f"/{broken.id}$", times=None))
    state = prune_snapshots(**TWO, dry_run=False, return_state=True)
    assert state.is_failed()
    assert str(state.message).startswith(f"2 of 4 snapshots were not deleted (first: {refused.id}: ")
    report = pruning_report_of(state)
    assert outcomes(report) == {
        **dict.fromkeys([row.image_id for row in report.rows[:2]], "kept"),
        **dict.fromkeys(ids(refused, broken), "failed"),
        **dict.fromkeys(ids(good, last), "deleted"),
    }
    errors = {row.image_id: row.error for row in report.rows if row.error}
    assert errors.keys() == set(ids(refused, broken))
    assert "422" in errors[refused.id]
    assert "Image already has a pending event." in errors[refused.id]
    assert "Unexpected server-side error" in errors[broken.id]
    assert deleted(sandbox) == ids(good, last)

    run = prefect_view.run_of(state)
    table = table_of(prefect_view, run)
    assert [line["Outcome"] for line in table[:2]] == ["failed", "failed"]
    assert "already has a pending event" in table[0]["Why"]
    log = prefect_view.log_text_of(run)
    assert f"Snapshot {refused.id} was not deleted: DELETE /v2/images/{refused.id}: 422" in log
    assert "Traceback" not in log
    *deletions, end = prefect_view.events_of(run, *EVENTS)
    assert [event.payload["image_id"] for event in deletions] == ids(good, last)
    assert (end.event, end.payload["image_ids"]) == (PRUNING_FAILED, ids(good, last))

    refused.locked_until = 0.0
    sandbox.faults.clear()
    assert prune_snapshots(**TWO, dry_run=False, return_state=True).is_completed()
    assert sorted(deleted(sandbox)) == sorted(ids(refused, good, broken, last))


def test_after_three_forbidden_deletions_no_more_are_requested_and_every_row_says_so(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITALOCEAN_HTTP_RETRY_MAX", "0")
    _, _, *old = add_snapshots(sandbox, droplets_of(sandbox)[0], 0, 1, 2, 3, 4, 5)
    sandbox.account.behavior = Behavior(out_of_scope=frozenset(f"/v2/images/{each.id}" for each in old))
    state = prune_snapshots(**TWO, dry_run=False, return_state=True)
    assert state.is_failed()
    rows = pruning_report_of(state).bad_rows
    assert [row.image_id for row in rows] == ids(*old)
    assert all("403 forbidden" in row.error and "image:delete" in row.error for row in rows)
    asked_for = {seen.path for seen in sandbox.record.requests if seen.method == "DELETE"}
    assert asked_for == {f"/v2/images/{each.id}" for each in old[:3]}
    assert deleted(sandbox) == []


@pytest.mark.thorough
def test_a_snapshot_deleted_elsewhere_meanwhile_is_already_gone_and_not_a_failure(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    *_, third, fourth = add_snapshots(sandbox, droplets_of(sandbox)[0], 0, 1, 2, 3)
    sandbox.faults.add(Fault(FaultKind.SLOW, "DELETE", f"/{third.id}$"))
    with meanwhile(lambda: changes(sandbox), lambda: sandbox.account.delete_image(fourth)):
        state = prune_snapshots(**TWO, dry_run=False, return_state=True)
    assert state.is_completed()
    report = pruning_report_of(state)
    assert {each: outcomes(report)[each] for each in ids(third, fourth)} == {
        third.id: "deleted",
        fourth.id: "already_gone",
    }
    *deletions, end = prefect_view.events_of(prefect_view.run_of(state), *EVENTS)
    assert [event.payload["image_id"] for event in deletions] == [third.id]
    assert end.payload["image_ids"] == [third.id]


def test_a_run_that_cannot_start_says_why_and_so_does_its_event(
    sandbox: Sandbox, prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_wrong")
    for dry_run, expected in ((False, [PRUNING_FAILED]), (True, [])):
        state = prune_snapshots(dry_run=dry_run, return_state=True)
        assert state.is_failed()
        assert "401 unauthorized" in str(state.message).lower()
        events = prefect_view.events_of(prefect_view.run_of(state), *EVENTS)
        assert [event.event for event in events] == expected


# Money


@pytest.mark.thorough
def test_costs_are_left_out_if_the_price_is_zero(
    sandbox: Sandbox, prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_snapshots(sandbox, droplets_of(sandbox)[0], 0, 1, 2)
    monkeypatch.setenv("DIGITALOCEAN_SNAPSHOT_PRICE_PER_GB_MONTH", "0")
    assert "a month" not in str(prune_snapshots(**TWO, return_state=True).message)
    monkeypatch.delenv("DIGITALOCEAN_SNAPSHOT_PRICE_PER_GB_MONTH")
    state = prune_snapshots(**TWO, return_state=True)
    assert "2 kept (5 GB, $0.30 a month), 1 to delete (2.5 GB, $0.15 a month)" in str(state.message)
    artifact = prefect_view.artifacts_of(prefect_view.run_of(state))[PRUNING_KEY]
    assert "$0.15 a month" in str(artifact.description)


# Runs beside it


@pytest.fixture
def make_lock(prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeLock]:
    """Makes a run that is at work and has locked an image."""
    monkeypatch.setattr(image_locks, "SECONDS_BETWEEN_ATTEMPTS", 0.1)
    made: list[FlowRun] = []

    def make(image: Image) -> FlowRun:
        made.append(prefect_view.client.create_flow_run(transfer_images, state=Running()))
        prefect_view.client.update_flow_run_labels(made[-1].id, {LOCKED_LABEL: str(image.id)})
        return made[-1]

    yield make
    for run in made:
        prefect_view.client.set_flow_run_state(run.id, Crashed(), force=True)


def is_waited_for(view: PrefectView) -> bool:
    """Whether a run that has locked nothing has found another's lock, and looked again."""
    running = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING]))
    runs = view.client.read_flow_runs(flow_run_filter=FlowRunFilter(state=running))
    return any(int(run.labels.get(RENEWED_LABEL, 0)) > 4 and not run.labels.get(LOCKED_LABEL) for run in runs)


def test_a_run_that_has_locked_a_snapshot_is_awaited_and_then_everything_is_read_again(
    sandbox: Sandbox, prefect_view: PrefectView, make_lock: MakeLock
) -> None:
    _, _, locked, old = add_snapshots(sandbox, droplets_of(sandbox)[0], 0, 1, 2, 3)
    rival = make_lock(locked)
    deleted_meanwhile: list[int] = []

    def end() -> None:
        deleted_meanwhile.extend(deleted(sandbox))
        # What the other run has begun is not done when it ends.
        sandbox.account.start(locked, "transfer", "ams3", time.time(), Fate(ends=False))
        prefect_view.client.set_flow_run_state(rival.id, Completed(), force=True)

    with meanwhile(lambda: is_waited_for(prefect_view), end):
        state = prune_snapshots(**TWO, dry_run=False, return_state=True)
    assert state.is_completed()
    assert deleted_meanwhile == []
    assert deleted(sandbox) == [old.id]
    assert reasons(pruning_report_of(state))[locked.id] == "action in progress"
    log = prefect_view.log_text_of(prefect_view.run_of(state))
    assert f"Waiting for '{rival.name}', which has locked some of what this run needs" in log


@pytest.mark.thorough
def test_neither_a_dry_run_nor_a_run_on_other_snapshots_waits(sandbox: Sandbox, make_lock: MakeLock) -> None:
    newest, _, old = add_snapshots(sandbox, droplets_of(sandbox)[0], 0, 1, 2)
    make_lock(newest)
    assert prune_snapshots(**TWO, return_state=True).is_completed()
    assert prune_snapshots(**TWO, dry_run=False, return_state=True).is_completed()
    assert deleted(sandbox) == [old.id]


# After replicate_backups


def pruning_in(view: PrefectView, state: State[Any]) -> list[FlowRun]:
    """The runs of `prune_snapshots` within a run."""
    parent = FlowRunFilterParentFlowRunId(any_=[view.run_of(state).id])
    return view.client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=parent))


def test_replication_prunes_by_the_default_rule_once_everything_has_arrived_and_only_if_it_is_safe(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    resize(sandbox, 2)
    lost, there = droplets_of(sandbox)
    # With the newest backup, the first six are the last seven.
    *_, seventh, old = add_snapshots(sandbox, there, *SEVEN_MONTHS, 300)
    # Nothing copies what is left of a Droplet that is gone, and what is not everywhere is not safe.
    add_snapshots(sandbox, lost, 0, regions=REGIONS[:1])
    add_snapshots(sandbox, lost, *SEVEN_MONTHS, 300)
    sandbox.account.delete_droplet(lost)
    newest = newest_backups(sandbox)
    state = replicate_backups(regions=REGIONS, prune=True, return_state=True)
    assert state.is_completed()
    assert all(set(REGIONS) <= set(image.regions) for image in newest)
    assert deleted(sandbox) == ids(seventh, old)
    methods = [(seen.method, seen.path) for seen in sandbox.record.requests]
    last_start = max(place for place, (method, _) in enumerate(methods) if method == "POST")
    assert min(place for place, (method, _) in enumerate(methods) if method == "DELETE") > last_start
    (pruning,) = pruning_in(prefect_view, state)
    assert pruning.state_name == "Completed"
    assert [event.event for event in prefect_view.events_of(pruning, *EVENTS)] == [
        SNAPSHOT_DELETED,
        SNAPSHOT_DELETED,
        PRUNING_COMPLETED,
    ]

    again = replicate_backups(regions=REGIONS, prune=True, return_state=True)
    assert again.is_completed()
    assert deleted(sandbox) == ids(seventh, old)


@pytest.mark.thorough
def test_replication_does_not_prune_by_default(sandbox: Sandbox, prefect_view: PrefectView) -> None:
    resize(sandbox, 2)
    add_snapshots(sandbox, droplets_of(sandbox)[0], *SEVEN_MONTHS, 300)
    state = replicate_backups(regions=REGIONS, return_state=True)
    assert state.is_completed()
    assert pruning_in(prefect_view, state) == []
    assert deleted(sandbox) == []


def test_replication_prunes_nothing_if_a_copy_is_missing(sandbox: Sandbox, prefect_view: PrefectView) -> None:
    resize(sandbox, 2)
    good, bad = droplets_of(sandbox)
    add_snapshots(sandbox, good, *SEVEN_MONTHS, 300)
    for image in newest_backups(sandbox):
        if image.droplet_id == bad.id:
            sandbox.faults.add(Fault(FaultKind.ACTION_ERRORED, path=f"/images/{image.id}/", times=None))
    state = replicate_backups(regions=REGIONS, prune=True, return_state=True)
    assert state.is_failed()
    assert pruning_in(prefect_view, state) == []
    assert deleted(sandbox) == []


@pytest.mark.thorough
def test_replication_without_waiting_prunes_nothing_with_missing_copies(sandbox: Sandbox) -> None:
    add_snapshots(sandbox, droplets_of(sandbox)[0], *SEVEN_MONTHS, 300)
    make_transfers_endless(sandbox, newest_backups(sandbox), len(REGIONS))
    assert replicate_backups(regions=REGIONS, wait=False, prune=True, return_state=True).is_completed()
    assert deleted(sandbox) == []


@pytest.mark.thorough
def test_a_dry_run_of_replication_says_what_it_would_prune_and_changes_nothing(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    droplet = droplets_of(sandbox)[0]
    add_snapshots(sandbox, droplet, 0, *SEVEN_MONTHS, 300)
    state = replicate_backups(regions=REGIONS, prune=True, dry_run=True, return_state=True)
    assert state.is_completed()
    (pruning,) = pruning_in(prefect_view, state)
    assert pruning.name.endswith("(dry run)")
    assert "2 to delete" in str(pruning.state and pruning.state.message)
    assert changes(sandbox) == []


def test_failed_deletions_do_not_make_successful_copies_a_failure(sandbox: Sandbox, prefect_view: PrefectView) -> None:
    resize(sandbox, 2)
    *_, seventh, old = add_snapshots(sandbox, droplets_of(sandbox)[0], *SEVEN_MONTHS, 300)
    seventh.locked_until = math.inf
    state = replicate_backups(regions=REGIONS, prune=True, return_state=True)
    assert state.is_completed()
    assert set(report_of(state).totals) == {"transferred"}
    assert deleted(sandbox) == [old.id]
    (pruning,) = pruning_in(prefect_view, state)
    assert pruning.state_name == "Failed"
    logs = prefect_view.logs_of(prefect_view.run_of(state))
    (error,) = [log.message for log in logs if log.level >= logging.ERROR]
    assert f"old snapshots were not deleted: 1 of 2 snapshots were not deleted (first: {seventh.id}: " in error


@pytest.mark.thorough
def test_replication_of_some_droplets_prunes_no_others(sandbox: Sandbox) -> None:
    resize(sandbox, 2)
    wanted, other = droplets_of(sandbox)
    # Of both, the newest recovery point is everywhere.
    *_, last, old = add_snapshots(sandbox, wanted, 0, *SEVEN_MONTHS)
    add_snapshots(sandbox, other, 0, *SEVEN_MONTHS)
    sandbox.account.tag(sandbox.account.tags["dr"], "droplet", wanted)
    if "dr" in other.tags:
        sandbox.account.untag(sandbox.account.tags["dr"], "droplet", other)
    assert replicate_backups("dr", REGIONS, prune=True, return_state=True).is_completed()
    assert deleted(sandbox) == [old.id]
    assert last.id in sandbox.account.images


@pytest.mark.thorough
def test_replication_of_named_images_does_not_prune(sandbox: Sandbox) -> None:
    resize(sandbox, 2)
    (newest, *_) = add_snapshots(sandbox, droplets_of(sandbox)[0], 0, *SEVEN_MONTHS)
    state = replicate_backups(image_ids=[newest.id], regions=REGIONS, prune=True, return_state=True)
    assert state.is_failed()
    assert "leave image_ids out, or set droplet_tag" in str(state.message)
    assert sandbox.record.requests == []
