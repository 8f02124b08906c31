"""Runs that want the same images wait for each other; all others are at work at the same time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from asyncio import TimerHandle
from collections.abc import Callable, Iterator
from contextvars import Context
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias, TypeVarTuple

import pytest
from prefect import State, flow
from prefect.client.schemas import FlowRun
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Crashed, Failed, Running

from deployments.sandbox import Image, Sandbox
from flows import claims
from flows.claims import CLAIM_LABEL, LEASE_SECONDS, LOCK, RENEWED_LABEL, Claim
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

Ts = TypeVarTuple("Ts")
MakeRun: TypeAlias = Callable[[Image, State[Any]], FlowRun]


@pytest.fixture(autouse=True)
def _runs_look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "SECONDS_BETWEEN_LOOKS", 0.1)


@pytest.fixture
def make_run(prefect_view: PrefectView) -> Iterator[MakeRun]:
    """Makes runs that have claimed an image, and of which nothing is heard any more."""
    made: list[FlowRun] = []

    def make(image: Image, state: State[Any]) -> FlowRun:
        run = prefect_view.client.create_flow_run(transfer_images, parameters={"image_ids": [image.id]}, state=state)
        prefect_view.client.update_flow_run_labels(run.id, {CLAIM_LABEL: f"7 {image.id}"})
        made.append(run)
        return run

    yield make
    for run in made:
        prefect_view.client.set_flow_run_state(run.id, Crashed(), force=True)


def at_work(view: PrefectView) -> list[FlowRun]:
    running = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING]))
    return view.client.read_flow_runs(flow_run_filter=FlowRunFilter(state=running))


def has_looked_twice(view: PrefectView) -> bool:
    """Whether a run that has claimed nothing has found another's claim, and looked again."""
    return any(int(run.labels.get(RENEWED_LABEL, 0)) > 1 and not run.labels.get(CLAIM_LABEL) for run in at_work(view))


def transfer(image: Image) -> State[Any]:
    state: State[Any] = transfer_images([image.id], [REGION], return_state=True)
    return state


def test_runs_on_different_images_work_side_by_side_and_one_on_the_same_waits_and_finds_it_done(
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
        assert its_run.labels[CLAIM_LABEL] == str(wanted.id)

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
    assert said.count(f"Waiting for '{its_run.name}', which has claimed some of the images") == 1
    assert goals(started(sandbox)) == pairs([wanted, other], [REGION])
    assert sorted(action.resource_id for action in started(sandbox, "convert")) == sorted([wanted.id, other.id])


def test_the_claim_of_a_run_that_is_silent_holds_only_for_a_while(
    sandbox: Sandbox, prefect_view: PrefectView, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    resize(sandbox, 2)
    image = images_of(sandbox, "snapshot")[0]
    silent = make_run(image, Running())
    with meanwhile(
        lambda: has_looked_twice(prefect_view), lambda: monkeypatch.setattr(claims, "VOID_AFTER", timedelta())
    ):
        state = transfer(image)
    assert outcomes(report_of(state)) == {(image.id, REGION): "transferred"}
    assert f"Waiting for '{silent.name}'" in prefect_view.log_text_of(prefect_view.run_of(state))


def test_the_claim_of_a_run_that_is_silent_is_void_after_a_time_that_the_server_measures(
    sandbox: Sandbox, prefect_view: PrefectView, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    resize(sandbox, 2)
    image = images_of(sandbox, "snapshot")[0]
    monkeypatch.setattr(claims, "VOID_AFTER", timedelta(seconds=2))
    make_run(image, Running())
    assert outcomes(report_of(transfer(image))) == {(image.id, REGION): "transferred"}


def test_the_claims_of_runs_that_have_ended_hold_nobody_up(
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


def test_a_claim_is_given_up_at_the_end_also_where_the_run_fails(sandbox: Sandbox, prefect_view: PrefectView) -> None:
    resize(sandbox, 2)
    custom, snapshot = images_of(sandbox, "custom")[0], images_of(sandbox, "snapshot")[0]
    for image, ends_well in ((snapshot, True), (custom, False)):
        state = transfer(image)
        assert state.is_completed() == ends_well
        labels = prefect_view.run_of(state).labels
        assert labels[CLAIM_LABEL] == ""
        assert labels[RENEWED_LABEL] == 1
    assert prefect_view.client.read_global_concurrency_limit_by_name(LOCK).active_slots == 0


def test_a_run_renews_its_claim_as_long_as_it_is_at_work(
    sandbox: Sandbox, prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch
) -> None:
    resize(sandbox, 2)
    monkeypatch.setattr(claims, "SECONDS_BETWEEN_RENEWALS", 0.1)
    image = newest_backups(sandbox)[0]
    make_transfers_endless(sandbox, [image], regions=1)

    def has_renewed() -> bool:
        claimed = [run.labels for run in at_work(prefect_view) if run.labels.get(CLAIM_LABEL) == str(image.id)]
        # What is not yet started could not be let end.
        waits = any(not action.fate.ends for action in started(sandbox))
        return waits and any(int(labels[RENEWED_LABEL]) > 3 for labels in claimed)

    with meanwhile(has_renewed, lambda: finish_all(sandbox)):
        state = transfer_images([image.id], [REGION], timeout_minutes=1, return_state=True)
    assert state.is_completed()


def test_a_dry_run_claims_nothing(sandbox: Sandbox, prefect_view: PrefectView) -> None:
    image = images_of(sandbox, "snapshot")[0]
    state = transfer_images([image.id], [REGION], dry_run=True, return_state=True)
    assert CLAIM_LABEL not in prefect_view.run_of(state).labels


class HurriedLoop(asyncio.SelectorEventLoop):
    """Lets a long pause pass at once; all that is shorter, such as the timeouts of requests, takes its true time."""

    longest = 50.0
    _ahead = 0.0

    def time(self) -> float:
        return super().time() + self._ahead

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> TimerHandle:
        if delay > self.longest:
            self._ahead += delay
            delay = 0
        return super().call_later(delay, callback, *args, context=context)


@flow
def stake(image_ids: list[int]) -> bool:
    with asyncio.Runner(loop_factory=HurriedLoop) as runner:
        return runner.run(Claim(flow_run.id).stake(image_ids))


def test_a_lock_that_nobody_alive_holds_is_freed(prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "SECONDS_BETWEEN_TRIES", LEASE_SECONDS)
    assert stake([1])
    # As after a restart of the server: the slot is taken, and no lease is known.
    prefect_view.client.update_global_concurrency_limit(LOCK, GlobalConcurrencyLimitUpdate(active_slots=1))
    state = stake([2], return_state=True)
    assert state.result()
    assert f"The lock {LOCK} is held by nobody alive: freeing it" in prefect_view.log_text_of(
        prefect_view.run_of(state)
    )
    assert prefect_view.client.read_global_concurrency_limit_by_name(LOCK).active_slots == 0
