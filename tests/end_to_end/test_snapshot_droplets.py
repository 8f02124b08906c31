"""Taking snapshots of Droplets, and copying them, from Prefect and from the command line."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prefect import State
from prefect.states import get_state_exception

from deployments.sandbox import Behavior, Droplet, Fault, FaultKind, Image, Sandbox
from flows.parameters import ContradictoryParameters
from flows.replicate_backups import replicate_backups
from flows.reporting.events import SNAPSHOTS_COMPLETED, SNAPSHOTS_FAILED
from flows.reporting.report import gb
from flows.reporting.snapshot_report import SnapshotReport
from flows.results import Incomplete
from flows.snapshot_droplets import SNAPSHOTS_KEY, snapshot_droplets
from flows.snapshots.planning import run_time_of
from tests.end_to_end.accounts import (
    MANAGED_TAG,
    REGIONS,
    changes,
    goals,
    images_of,
    meanwhile,
    outcomes,
    pairs,
    report_of,
    started,
)
from tests.end_to_end.prefect_server import PrefectView, until
from tests.end_to_end.rebuilding import ctrl_c_when

ROOT = Path(__file__).parents[2]
# A gigabyte takes a few milliseconds.
SPEED = 12_000


@pytest.fixture
def sandbox(start: Callable[..., Sandbox]) -> Sandbox:
    return start(speed=SPEED)


def droplets_of(sandbox: Sandbox) -> list[Droplet]:
    return list(sandbox.account.droplets.values())


def own(sandbox: Sandbox, droplet: Droplet | None = None) -> list[Image]:
    """The snapshots that this project took, of one Droplet or of all."""
    return [
        image
        for image in images_of(sandbox, "snapshot")
        if run_time_of(image.name) and (droplet is None or image.droplet_id == droplet.id)
    ]


def taken(sandbox: Sandbox) -> list[int]:
    """The Droplets of which a snapshot was started, once for each."""
    return sorted(action.resource_id for action in started(sandbox, "snapshot"))


def snapshots_of(state: State[Any]) -> SnapshotReport:
    if state.is_completed():
        report = state.result()
    else:
        error = get_state_exception(state)
        assert isinstance(error, Incomplete), state
        report = error.report
    assert isinstance(report, SnapshotReport)
    return report


def outcomes_by_droplet(state: State[Any]) -> dict[int, str]:
    return {row.droplet_id: str(row.outcome) for row in snapshots_of(state).rows}


def finish_snapshots(sandbox: Sandbox) -> None:
    """Let the snapshots that would never be taken be there now."""
    now = time.time()
    for action in started(sandbox, "snapshot"):
        if not action.fate.ends and action.status == "in-progress" and action.snapshot:
            action.status, action.ends_at = "completed", now
            sandbox.account.add_image(action.snapshot)


@contextmanager
def listening(logger: str) -> Iterator[io.StringIO]:
    """What a logger says during the block."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    logging.getLogger(logger).addHandler(handler)
    try:
        yield said
    finally:
        logging.getLogger(logger).removeHandler(handler)


def command(flow: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"flows.{flow}", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_each_completed_run_takes_a_snapshot_of_each_droplet_and_says_what_it_costs(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    first = snapshot_droplets(return_state=True)
    assert first.is_completed()
    report = snapshots_of(first)
    assert outcomes_by_droplet(first) == {each.id: "taken" for each in droplets_of(sandbox)}
    assert {row.image_id for row in report.rows} == {image.id for image in own(sandbox)}
    assert all(image.tags == [MANAGED_TAG] for image in own(sandbox))
    gigabytes = sum(image.size_gigabytes for image in own(sandbox))
    assert f"added {gb(gigabytes)} of snapshots, " in report.summary
    assert f"${gigabytes * 0.06:,.2f} a month" in report.summary
    assert report.usage.requests == len(sandbox.record.requests)
    assert all(image.type != "snapshot" for image in images_of(sandbox, "backup"))

    run = prefect_view.run_of(first)
    table = prefect_view.artifacts_of(run)[SNAPSHOTS_KEY]
    assert all(str(image.id) in str(table.data) for image in own(sandbox))
    assert "2 snapshots to take" in prefect_view.log_text_of(run)

    second = snapshot_droplets(return_state=True)
    assert outcomes_by_droplet(second) == {each.id: "taken" for each in droplets_of(sandbox)}
    assert [len(own(sandbox, each)) for each in droplets_of(sandbox)] == [2, 2]
    assert len({run_time_of(image.name) for image in own(sandbox)}) == 2

    third = snapshot_droplets(max_age_hours=1, return_state=True)
    assert outcomes_by_droplet(third) == {each.id: "already_there" for each in droplets_of(sandbox)}
    assert len(started(sandbox, "snapshot")) == 4


def test_a_dry_run_states_number_size_and_price_and_changes_nothing(sandbox: Sandbox) -> None:
    state = snapshot_droplets(dry_run=True, return_state=True)
    assert state.is_completed()
    report = snapshots_of(state)
    assert outcomes_by_droplet(state) == {each.id: "planned" for each in droplets_of(sandbox)}
    estimated = sum(row.size_gigabytes or 0 for row in report.rows)
    assert estimated > 0
    assert "2 planned; would add about " in report.summary
    assert f"${estimated * 0.06:,.2f} a month" in report.summary
    assert changes(sandbox) == []


def test_after_a_failure_the_next_run_takes_only_what_is_missing_and_the_one_after_that_all(
    sandbox: Sandbox, prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITALOCEAN_ACTION_RESTART_MAX", "0")
    bad, good = droplets_of(sandbox)
    sandbox.faults.add(Fault(FaultKind.ACTION_ERRORED, "POST", f"/droplets/{bad.id}/"))
    first = snapshot_droplets(return_state=True)
    assert first.is_failed()
    assert str(first.message).startswith("1 of 2 snapshots not taken (first: ")
    assert outcomes_by_droplet(first) == {bad.id: "failed", good.id: "taken"}

    second = snapshot_droplets(return_state=True)
    assert outcomes_by_droplet(second) == {bad.id: "taken", good.id: "already_there"}
    assert len({run_time_of(image.name) for image in own(sandbox)}) == 1

    third = snapshot_droplets(return_state=True)
    assert outcomes_by_droplet(third) == {bad.id: "taken", good.id: "taken"}
    assert [len(own(sandbox, each)) for each in (bad, good)] == [2, 2]

    (failed,) = prefect_view.events_of(prefect_view.run_of(first), SNAPSHOTS_COMPLETED, SNAPSHOTS_FAILED)
    (completed,) = prefect_view.events_of(prefect_view.run_of(second), SNAPSHOTS_COMPLETED, SNAPSHOTS_FAILED)
    assert (failed.event, completed.event) == (SNAPSHOTS_FAILED, SNAPSHOTS_COMPLETED)
    assert failed.payload["message"] == first.message


@pytest.mark.thorough
def test_named_droplets_that_do_not_exist_fail_and_the_others_are_done(sandbox: Sandbox) -> None:
    droplet, other = droplets_of(sandbox)
    state = snapshot_droplets(droplet_ids=[4711, droplet.id], return_state=True)
    assert state.is_failed()
    assert outcomes_by_droplet(state) == {droplet.id: "taken", 4711: "failed"}
    assert "there is no Droplet 4711" in str(state.message)
    assert [len(own(sandbox, each)) for each in (droplet, other)] == [1, 0]

    nobody = snapshot_droplets("no-such-tag", return_state=True)
    assert nobody.is_failed()
    assert nobody.message == "no Droplet has the tag 'no-such-tag'"


@pytest.mark.thorough
def test_without_waiting_snapshots_are_started_and_the_next_run_tags_them(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(FaultKind.ACTION_ENDLESS, "POST", times=2))
    state = snapshot_droplets(wait=False, return_state=True)
    assert outcomes_by_droplet(state) == {each.id: "started" for each in droplets_of(sandbox)}
    assert own(sandbox) == []
    finish_snapshots(sandbox)
    again = snapshot_droplets(max_age_hours=1, return_state=True)
    assert outcomes_by_droplet(again) == {each.id: "already_there" for each in droplets_of(sandbox)}
    assert [image.tags for image in own(sandbox)] == [[MANAGED_TAG]] * 2


def test_ctrl_c_ends_the_run_and_the_next_one_adopts_what_it_had_started(sandbox: Sandbox) -> None:
    endless, quick = droplets_of(sandbox)
    sandbox.faults.add(Fault(FaultKind.ACTION_ENDLESS, "POST", f"/droplets/{endless.id}/"))
    with ctrl_c_when(lambda: own(sandbox, quick)):
        state = snapshot_droplets(return_state=True)
    assert state.is_cancelled()
    assert "not taken yet. Actions that have started continue at DigitalOcean." in str(state.message)

    looked = len(sandbox.record.requests)

    def is_waiting() -> bool:
        return any(seen.path.startswith("/v2/snapshots") for seen in sandbox.record.requests[looked:])

    with meanwhile(is_waiting, lambda: finish_snapshots(sandbox)):
        again = snapshot_droplets(return_state=True)
    assert again.is_completed()
    assert taken(sandbox) == sorted([endless.id, quick.id])
    assert [image.tags for image in own(sandbox)] == [[MANAGED_TAG]] * 2


def test_of_two_runs_at_once_the_second_waits_and_each_takes_its_own(sandbox: Sandbox) -> None:
    endless, quick = droplets_of(sandbox)
    sandbox.faults.add(Fault(FaultKind.ACTION_ENDLESS, "POST", f"/droplets/{endless.id}/"))
    first = command("snapshot_droplets")
    until(lambda: len(started(sandbox, "snapshot")) == 2, within_seconds=60)

    def let_the_first_end() -> None:
        assert taken(sandbox) == sorted([endless.id, quick.id])
        finish_snapshots(sandbox)

    with listening("prefect.flow_runs") as said, meanwhile(lambda: "Waiting for" in said.getvalue(), let_the_first_end):
        second = snapshot_droplets(return_state=True)
    output, errors = first.communicate(timeout=60)
    assert first.returncode == 0, errors
    assert "Snapshots of 2 Droplets: 2 taken; added " in errors + output
    assert "Traceback" not in errors
    assert second.is_completed()
    assert taken(sandbox) == sorted([endless.id, quick.id] * 2)
    assert [len(own(sandbox, each)) for each in (endless, quick)] == [2, 2]


def test_new_snapshots_are_copied_everywhere_and_backups_stay_backups(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    backups = images_of(sandbox, "backup")
    state = replicate_backups(regions=REGIONS, source="snapshots", return_state=True)
    assert state.is_completed()
    report = report_of(state)
    assert outcomes(report) == dict.fromkeys(pairs(own(sandbox), REGIONS), "transferred")
    assert {str(row.outcome) for row in report.snapshots} == {"taken"}
    assert goals(started(sandbox)) == pairs(own(sandbox), REGIONS)
    assert started(sandbox, "convert") == []
    assert images_of(sandbox, "backup") == backups
    assert all(image.tags == [MANAGED_TAG] for image in own(sandbox))
    assert not any(image.tags for image in backups)
    assert report.added_gb == pytest.approx(sum(image.size_gigabytes for image in own(sandbox)))
    assert "a month" in prefect_view.log_text_of(prefect_view.run_of(state))

    assert replicate_backups(regions=REGIONS, source="snapshots", return_state=True).is_completed()
    assert [len(own(sandbox, each)) for each in droplets_of(sandbox)] == [2, 2]


def test_a_copy_that_failed_is_finished_by_the_next_run_without_another_snapshot(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITALOCEAN_ACTION_RESTART_MAX", "0")
    bad, good = droplets_of(sandbox)
    sandbox.faults.add(
        Fault(FaultKind.ACTION_ERRORED, "POST", "/v2/images/"),
        Fault(FaultKind.ACTION_ERRORED, "POST", f"/droplets/{bad.id}/"),
    )
    first = replicate_backups(regions=REGIONS[:1], source="snapshots", return_state=True)
    assert first.is_failed()
    assert all(
        "no snapshot of this run after 1 attempt" in row.error for row in report_of(first).snapshots if row.error
    )
    assert len(report_of(first).rows) == 2

    second = replicate_backups(regions=REGIONS[:1], source="snapshots", return_state=True)
    assert second.is_completed()
    assert [len(own(sandbox, each)) for each in (bad, good)] == [1, 1]
    assert all(REGIONS[0] in image.regions for image in own(sandbox))


@pytest.mark.thorough
def test_a_dry_run_with_snapshots_plans_a_copy_per_region_and_states_the_price(sandbox: Sandbox) -> None:
    state = replicate_backups(regions=REGIONS, source="snapshots", dry_run=True, return_state=True)
    assert state.is_completed()
    report = report_of(state)
    assert report.totals == {"planned": 2 * len(REGIONS)}
    assert {str(row.outcome) for row in report.snapshots} == {"planned"}
    assert report.added_gb > 0
    assert f"${report.added_gb * 0.06:,.2f} a month" in report.summary
    assert changes(sandbox) == []


@pytest.mark.parametrize("other", [{"image_ids": [7]}, {"newest": 2}])
@pytest.mark.thorough(after=1)
def test_parameters_that_contradict_snapshots_are_refused_before_anything_is_read(
    sandbox: Sandbox, other: dict[str, Any]
) -> None:
    with pytest.raises(ContradictoryParameters, match="snapshots"):
        replicate_backups(source="snapshots", **other)
    assert sandbox.record.requests == []


def test_without_the_scope_to_take_snapshots_the_reason_is_said_once_and_nothing_is_lost(
    start: Callable[..., Sandbox],
) -> None:
    sandbox = start(speed=SPEED, behavior=Behavior(out_of_scope=frozenset({("POST", "/v2/droplets/*/actions")})))
    state = replicate_backups(regions=REGIONS, source="snapshots", return_state=True)
    assert state.is_failed()
    assert "droplet:update" in str(state.message)
    assert report_of(state).totals == {"failed": 2 * len(REGIONS)}
    assert started(sandbox, "snapshot") == []
