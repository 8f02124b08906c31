"""Runs that want the same images wait for each other; all others are at work at the same time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from prefect import State, flow
from prefect.client.schemas import FlowRun
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Paused, Pending, Running

from deployments.sandbox import Image, Sandbox
from flows import image_locks, liveness
from flows.image_locks import LOCKED_LABEL, MUTEX, MUTEX_DECAY_PER_SECOND, MUTEX_SLOTS
from flows.liveness import RENEWED_LABEL, end_dead_runs
from flows.transfer_images import transfer_images
from tests.end_to_end.accounts import (
    finish_all,
    goals,
    images_of,
    make_transfers_endless,
    meanwhile,
    newest_backups,
    outcomes,
    pairs,
    report_of,
    resize,
    started,
)
from tests.end_to_end.prefect_server import PrefectView, until

ROOT = Path(__file__).resolve().parents[2]
REGION = "fra1"

MakeRun: TypeAlias = Callable[[Image, State[Any]], FlowRun]


@pytest.fixture(autouse=True)
def _runs_look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_locks, "SECONDS_BETWEEN_ATTEMPTS", 0.1)


@pytest.fixture
def make_run(prefect_view: PrefectView) -> Iterator[MakeRun]:
    """Makes runs that have locked an image and send no heartbeats."""
    made: list[FlowRun] = []

    def make(image: Image, state: State[Any]) -> FlowRun:
        run = prefect_view.client.create_flow_run(transfer_images, parameters={"image_ids": [image.id]}, state=state)
        prefect_view.client.update_flow_run_labels(run.id, {LOCKED_LABEL: f"7 {image.id}"})
        made.append(run)
        return run

    yield make
    for run in made:
        prefect_view.client.set_flow_run_state(run.id, Crashed(), force=True)


def at_work(view: PrefectView) -> list[FlowRun]:
    running = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING]))
    return view.client.read_flow_runs(flow_run_filter=FlowRunFilter(state=running))


def has_looked_twice(view: PrefectView) -> bool:
    """Whether a run that has locked nothing has found another's lock, and looked again."""
    return any(int(run.labels.get(RENEWED_LABEL, 0)) > 4 and not run.labels.get(LOCKED_LABEL) for run in at_work(view))


def transfer(image: Image) -> State[Any]:
    state: State[Any] = transfer_images([image.id], [REGION], return_state=True)
    return state


def test_runs_on_different_images_run_in_parallel_and_one_on_the_same_image_waits_and_finds_it_done(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    resize(sandbox, 2)
    wanted, other = newest_backups(sandbox)
    make_transfers_endless(sandbox, [wanted], regions=1)
    options = ["--image-ids", str(wanted.id), "--regions", REGION, "--timeout-minutes", "1"]
    with subprocess.Popen(
        [sys.executable, "-m", "flows.transfer_images", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as first:
        until(lambda: started(sandbox), within_seconds=60)
        (its_run,) = at_work(prefect_view)
        assert its_run.labels[LOCKED_LABEL] == str(wanted.id)

        beside = transfer(other)
        assert outcomes(report_of(beside)) == {(other.id, REGION): "transferred"}
        assert "Waiting for" not in prefect_view.log_text_of(prefect_view.run_of(beside))
        assert first.poll() is None

        with meanwhile(lambda: has_looked_twice(prefect_view), lambda: finish_all(sandbox)):
            second = transfer(wanted)
        output = first.communicate(timeout=120)[0]
    assert first.returncode == 0, output
    assert outcomes(report_of(second)) == {(wanted.id, REGION): "already_there"}
    said = prefect_view.log_text_of(prefect_view.run_of(second))
    assert said.count(f"Waiting for '{its_run.name}', which has locked some of what this run needs") == 1
    assert goals(started(sandbox)) == pairs([wanted, other], [REGION])
    assert sorted(action.resource_id for action in started(sandbox, "convert")) == sorted([wanted.id, other.id])


def test_the_lock_of_a_silent_run_holds_until_the_run_is_dead_and_the_wait_says_when(
    sandbox: Sandbox, prefect_view: PrefectView, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    resize(sandbox, 2)
    image = images_of(sandbox, "snapshot")[0]
    monkeypatch.setattr(image_locks, "SILENT_AFTER", timedelta())
    silent = make_run(image, Running())
    with meanwhile(
        lambda: has_looked_twice(prefect_view), lambda: monkeypatch.setattr(liveness, "DEAD_AFTER", timedelta())
    ):
        state = transfer(image)
    assert outcomes(report_of(state)) == {(image.id, REGION): "transferred"}
    log = prefect_view.log_text_of(prefect_view.run_of(state))
    assert f"Waiting for '{silent.name}', which has locked some of what this run needs" in log
    assert "heartbeats are missing" in log
    assert "locks expire after 12 minutes" in log


def test_how_long_a_run_has_been_silent_is_measured_by_the_server(
    sandbox: Sandbox, prefect_view: PrefectView, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    resize(sandbox, 2)
    image = images_of(sandbox, "snapshot")[0]
    monkeypatch.setattr(liveness, "DEAD_AFTER", timedelta(seconds=2))
    make_run(image, Running())
    assert outcomes(report_of(transfer(image))) == {(image.id, REGION): "transferred"}


@pytest.mark.thorough
def test_a_run_with_nothing_to_do_waits_for_no_other_run(
    sandbox: Sandbox, prefect_view: PrefectView, make_run: MakeRun
) -> None:
    resize(sandbox, 2)
    image = images_of(sandbox, "snapshot")[0]
    assert outcomes(report_of(transfer(image))) == {(image.id, REGION): "transferred"}
    make_run(image, Running())
    state = transfer(image)
    assert outcomes(report_of(state)) == {(image.id, REGION): "already_there"}
    labels = prefect_view.run_of(state).labels
    assert LOCKED_LABEL not in labels


@pytest.mark.thorough
def test_a_paused_run_keeps_its_locks_regardless_of_missing_heartbeats(
    sandbox: Sandbox, prefect_view: PrefectView, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    resize(sandbox, 2)
    image = images_of(sandbox, "snapshot")[0]
    monkeypatch.setattr(liveness, "DEAD_AFTER", timedelta())
    paused = make_run(image, Running())
    prefect_view.client.set_flow_run_state(paused.id, Paused(timeout_seconds=3600), force=True)

    def resume_and_end() -> None:
        assert started(sandbox) == []
        prefect_view.client.set_flow_run_state(paused.id, Completed(), force=True)

    with meanwhile(lambda: has_looked_twice(prefect_view), resume_and_end):
        state = transfer(image)
    assert outcomes(report_of(state)) == {(image.id, REGION): "transferred"}


@pytest.mark.parametrize(
    ("before", "after"), [(Pending(), "Crashed"), (Running(), "Crashed"), (Cancelling(), "Cancelled")], ids=str
)
@pytest.mark.thorough(after=1)
def test_a_run_ends_dead_runs(
    sandbox: Sandbox,
    prefect_view: PrefectView,
    make_run: MakeRun,
    monkeypatch: pytest.MonkeyPatch,
    before: State[Any],
    after: str,
) -> None:
    resize(sandbox, 2)
    other, image = newest_backups(sandbox)
    dead = make_run(other, before)
    monkeypatch.setattr(liveness, "DEAD_AFTER", timedelta())
    make_transfers_endless(sandbox, [image], regions=1)

    def has_ended_it() -> bool:
        return prefect_view.client.read_flow_run(dead.id).state_name == after

    with meanwhile(has_ended_it, lambda: until_started_then_finish(sandbox)):
        state = transfer_images([image.id], [REGION], timeout_minutes=1, return_state=True)
    assert state.is_completed()
    ended = prefect_view.client.read_flow_run(dead.id).state
    assert ended
    assert f"{before.name}, without a heartbeat" in str(ended.message)


def until_started_then_finish(sandbox: Sandbox) -> None:
    until(lambda: started(sandbox), within_seconds=60)
    finish_all(sandbox)


@pytest.mark.thorough
def test_a_run_leaves_live_runs_and_other_flows_alone(
    sandbox: Sandbox, prefect_view: PrefectView, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    resize(sandbox, 2)
    other, image = newest_backups(sandbox)
    living = make_run(other, Running())
    foreign = prefect_view.client.create_flow_run(not_of_this_project, state=Running())
    searched: list[bool] = []

    async def search(*arguments: Any) -> None:
        await end_dead_runs(*arguments)
        searched.append(True)

    monkeypatch.setattr(liveness, "end_dead_runs", search)
    make_transfers_endless(sandbox, [image], regions=1)
    with meanwhile(lambda: searched, lambda: until_started_then_finish(sandbox)):
        assert transfer_images([image.id], [REGION], timeout_minutes=1, return_state=True).is_completed()
    assert prefect_view.client.read_flow_run(living.id).state_name == "Running"
    assert prefect_view.client.read_flow_run(foreign.id).state_name == "Running"
    prefect_view.client.set_flow_run_state(foreign.id, Crashed(), force=True)


@flow
def not_of_this_project() -> None:
    """Never run."""


@pytest.mark.thorough
def test_the_locks_of_finished_runs_block_no_other_run(
    sandbox: Sandbox, prefect_view: PrefectView, make_run: MakeRun
) -> None:
    resize(sandbox, 2)
    image = images_of(sandbox, "snapshot")[0]
    ends: list[State[Any]] = [Completed(), Failed(), Crashed(), Cancelled()]
    for end in ends:
        make_run(image, end)
    state = transfer(image)
    assert outcomes(report_of(state)) == {(image.id, REGION): "transferred"}
    assert "Waiting for" not in prefect_view.log_text_of(prefect_view.run_of(state))


def test_locks_are_released_at_the_end(sandbox: Sandbox, prefect_view: PrefectView) -> None:
    resize(sandbox, 2)
    state = transfer(images_of(sandbox, "snapshot")[0])
    assert state.is_completed()
    labels = prefect_view.run_of(state).labels
    assert labels[LOCKED_LABEL] == ""
    assert int(labels[RENEWED_LABEL]) >= 3
    assert prefect_view.client.read_global_concurrency_limit_by_name(MUTEX).active_slots == 0


def test_a_run_renews_its_locks_as_long_as_it_works(
    sandbox: Sandbox, prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch
) -> None:
    resize(sandbox, 2)
    monkeypatch.setattr(liveness, "HEARTBEAT", timedelta(seconds=0.1))
    image = newest_backups(sandbox)[0]
    make_transfers_endless(sandbox, [image], regions=1)

    def has_renewed_it() -> bool:
        claimed = [run.labels for run in at_work(prefect_view) if run.labels.get(LOCKED_LABEL) == str(image.id)]
        # What is not yet started could not be let end.
        waits = any(not action.fate.ends for action in started(sandbox))
        return waits and any(int(labels[RENEWED_LABEL]) > 9 for labels in claimed)

    with meanwhile(has_renewed_it, lambda: finish_all(sandbox)):
        state = transfer_images([image.id], [REGION], timeout_minutes=1, return_state=True)
    assert state.is_completed()


@pytest.mark.thorough
def test_a_dry_run_locks_nothing(sandbox: Sandbox, prefect_view: PrefectView) -> None:
    image = images_of(sandbox, "snapshot")[0]
    state = transfer_images([image.id], [REGION], dry_run=True, return_state=True)
    assert LOCKED_LABEL not in prefect_view.run_of(state).labels


def test_a_mutex_taken_by_a_dead_run_expires_without_a_lease(
    sandbox: Sandbox, prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As after a restart of the server: the slot is taken, and nothing is left of the run that took it.
    prefect_view.client.upsert_global_concurrency_limit_by_name(MUTEX, MUTEX_SLOTS, 1 / 3)
    prefect_view.client.increment_concurrency_slots([MUTEX], MUTEX_SLOTS, "rate_limit")
    monkeypatch.setattr(image_locks, "MUTEX_DECAY_PER_SECOND", 1 / 3)
    assert prefect_view.client.read_global_concurrency_limit_by_name(MUTEX).active_slots == 1
    image = images_of(sandbox, "snapshot")[0]
    assert outcomes(report_of(transfer(image))) == {(image.id, REGION): "transferred"}
    assert prefect_view.client.read_global_concurrency_limit_by_name(MUTEX).active_slots == 0


@pytest.mark.thorough
def test_a_mutex_left_by_version_0_2_is_corrected_by_the_first_run(sandbox: Sandbox, prefect_view: PrefectView) -> None:
    prefect_view.client.upsert_global_concurrency_limit_by_name(MUTEX, MUTEX_SLOTS, 0.0)
    stuck = GlobalConcurrencyLimitUpdate(active_slots=1)
    prefect_view.client.update_global_concurrency_limit(MUTEX, stuck)
    image = images_of(sandbox, "snapshot")[0]
    with meanwhile(lambda: decay_of_mutex(prefect_view) > 0, lambda: free_mutex(prefect_view)):
        assert outcomes(report_of(transfer(image))) == {(image.id, REGION): "transferred"}
    assert decay_of_mutex(prefect_view) == pytest.approx(MUTEX_DECAY_PER_SECOND)


def decay_of_mutex(view: PrefectView) -> float:
    return view.client.read_global_concurrency_limit_by_name(MUTEX).slot_decay_per_second


def free_mutex(view: PrefectView) -> None:
    """Spare the test the minute after which it frees itself."""
    view.client.update_global_concurrency_limit(MUTEX, GlobalConcurrencyLimitUpdate(active_slots=0))
