"""A plan is shown to a person, and only what was approved is created."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest
from prefect import State
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas import FlowRun
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import ObjectNotFound
from prefect.flow_engine import run_flow
from prefect.input import read_flow_run_input
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import AwaitingRetry, Cancelling, Crashed, Paused, Running

from deployments.sandbox import Sandbox
from flows import hooks, liveness
from flows.image_locks import LOCKED_LABEL
from flows.liveness import RENEWED_LABEL
from flows.parameters import ContradictoryParameters
from flows.recovery import approval
from flows.recovery.approval import check_can_be_asked
from flows.reporting.events import DROPLET_RESTORED, RECOVERY_COMPLETED, RECOVERY_FAILED
from flows.reporting.restore_report import RestoreReport
from flows.restore_droplets import RESTORE_KEY, restore_droplets
from tests.end_to_end.accounts import add_snapshots, changes, meanwhile
from tests.end_to_end.prefect_server import PrefectView, until
from tests.end_to_end.rebuilding import AWAY, HOME, ctrl_c_when, have_copies, originals_of, report_in
from tests.end_to_end.strained_server import strained_server

ROOT = Path(__file__).resolve().parents[2]
EVENTS = (DROPLET_RESTORED, RECOVERY_COMPLETED, RECOVERY_FAILED)
NEEDS_A_SERVER = (
    "approve needs a Prefect server in whose UI a person can answer: set PREFECT_API_URL, or turn off approve"
)


@pytest.fixture
def sandbox(sandbox: Sandbox) -> Sandbox:
    """Two Droplets in nyc3 with copies in ams3."""
    have_copies(sandbox)
    return sandbox


@pytest.fixture(autouse=True)
def _runs_look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approval, "SECONDS_BETWEEN_POLLS", 0.1)


def restore(**parameters: Any) -> State[Any]:
    """Rebuild after approval; waits for less than the hour that is the least that the parameter accepts."""
    wanted: dict[str, Any] = {"region": AWAY, "dry_run": False, "approve": True, "approval_timeout_hours": 1 / 60}
    unchecked = cast(Any, restore_droplets.with_options(validate_parameters=False))
    return cast(State[Any], unchecked(**wanted | parameters, return_state=True))


def waiting(view: PrefectView) -> FlowRun | None:
    """The run that waits for a person."""
    paused = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED]))
    runs = view.client.read_flow_runs(flow_run_filter=FlowRunFilter(state=paused))
    return runs[0] if runs else None


def answer(view: PrefectView, **form: Any) -> None:
    """Fill in the form of the waiting run, which can be done some moments after it has paused."""

    def resumed() -> bool:
        run = waiting(view)
        return run is None or view.client.resume_flow_run(run.id, run_input=form).status == SetStateStatus.ACCEPT

    until(resumed, within_seconds=120)


def shown_to(view: PrefectView, run: FlowRun) -> str:
    """What the form of a waiting run says; empty at first."""
    assert run.state
    keys = run.state.state_details.run_input_keyset
    assert keys
    return str(read_flow_run_input(keys["description"], flow_run_id=run.id) or "")


def once_waiting(view: PrefectView, act: Callable[[], object]) -> AbstractContextManager[None]:
    return meanwhile(lambda: waiting(view), act)


def states_of(view: PrefectView, run: FlowRun) -> list[str]:
    states = sorted(view.client.read_flow_run_states(run.id), key=lambda state: state.timestamp)
    return [str(state.name) for state in states if not state.is_pending()]


def end_events(view: PrefectView, run: FlowRun) -> list[tuple[str, str]]:
    return [(event.event, event.payload.get("message", "")) for event in view.events_of(run, *EVENTS)]


def test_a_plan_is_carried_out_once_approved_and_nothing_is_locked_and_heartbeats_go_on_until_then(
    sandbox: Sandbox, prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "HEARTBEAT", timedelta(seconds=0.2))
    seen: list[FlowRun] = []
    asked: list[str] = []

    def look_and_approve() -> None:
        def heard() -> bool:
            run = waiting(prefect_view)
            if run and run.labels.get(RENEWED_LABEL) not in {each.labels.get(RENEWED_LABEL) for each in seen}:
                seen.append(run)
            return len(seen) > 1

        until(heard, within_seconds=120)
        asked.append(until(lambda: shown_to(prefect_view, seen[0]), within_seconds=120))
        assert changes(sandbox) == []
        answer(prefect_view, create=True)

    with once_waiting(prefect_view, look_and_approve):
        state = restore()
    assert state.is_completed(), state.message
    run = prefect_view.run_of(state)
    assert states_of(prefect_view, run) == ["Running", "Paused", "Running", "Completed"]
    assert not any(each.labels.get(LOCKED_LABEL) for each in seen)
    assert len(sandbox.record.created) == 2
    for droplet in originals_of(sandbox):
        if droplet.region == HOME:
            assert droplet.name.replace("-", r"\-") in asked[0]
    assert end_events(prefect_view, run)[-1] == (RECOVERY_COMPLETED, state.message)

    # Nothing is left to approve.
    again = restore()
    assert again.is_completed()
    assert len(sandbox.record.created) == 2


def test_a_rejected_plan_ends_the_run_as_cancelled_with_the_reason_and_sends_no_event(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    with once_waiting(prefect_view, lambda: answer(prefect_view, create=False, reason="nyc3 is back")):
        state = restore()
    assert state.is_cancelled()
    assert state.message == "nothing was created: the plan was not approved: nyc3 is back"
    assert {row.outcome for row in report_in(state, RestoreReport).rows} == {"planned"}
    run = prefect_view.run_of(state)
    assert "The plan was not approved: nyc3 is back." in str(prefect_view.artifacts_of(run)[RESTORE_KEY].description)
    assert end_events(prefect_view, run) == []
    assert changes(sandbox) == []


def test_a_form_without_an_answer_is_refused_and_the_run_waits_on_until_ctrl_c_rejects_the_plan(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    refused: list[SetStateStatus] = []

    def send_empty_forms() -> bool:
        if run := waiting(prefect_view):
            refused.append(prefect_view.client.resume_flow_run(run.id).status)
        return len(refused) == 2

    with ctrl_c_when(send_empty_forms):
        state = restore()
    assert refused == [SetStateStatus.REJECT] * 2
    assert state.is_cancelled()
    assert state.message == "nothing was created: the run was interrupted before the plan was approved"
    assert end_events(prefect_view, prefect_view.run_of(state)) == []
    assert changes(sandbox) == []


def test_a_run_that_nobody_answers_fails_and_says_for_how_long_it_has_waited(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    hours = 1 / 3600
    state = restore(approval_timeout_hours=hours)
    assert state.is_failed()
    assert state.message == (
        f"nothing was created: nobody approved the plan within {hours} hours (approval_timeout_hours)"
    )
    run = prefect_view.run_of(state)
    assert run.state
    assert run.state.message == state.message
    assert end_events(prefect_view, run) == [(RECOVERY_FAILED, state.message)]
    assert changes(sandbox) == []


def test_a_plan_that_changed_while_it_waited_is_not_carried_out_and_the_change_is_named(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    droplet, _ = originals_of(sandbox)
    newer: list[int] = []

    def change_and_approve() -> None:
        newer.extend(image.id for image in add_snapshots(sandbox, droplet, -1, regions=[AWAY]))
        answer(prefect_view, create=True)

    with once_waiting(prefect_view, change_and_approve):
        state = restore()
    assert state.is_failed()
    row = next(each for each in report_in(state, RestoreReport).rows if each.droplet_id == droplet.id)
    assert row.image_id == newer[0]
    start = f"nothing was created: the plan has changed since it was approved ({droplet.name} ({droplet.id}): image "
    assert str(state.message).startswith(f"{start}{newer[0]} instead of ")
    assert end_events(prefect_view, prefect_view.run_of(state)) == [(RECOVERY_FAILED, state.message)]
    assert changes(sandbox) == []


def test_a_run_asks_once_even_if_the_responses_to_its_question_are_lost(
    sandbox: Sandbox, prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_state, create_input = PrefectClient.set_flow_run_state, PrefectClient.create_flow_run_input

    async def pause_twice(self: PrefectClient, run_id: UUID, state: State[Any], force: bool = False) -> Any:
        if state.is_paused():
            await set_state(self, run_id, state, force=force)
        return await set_state(self, run_id, state, force=force)

    async def create_twice(self: PrefectClient, *given: Any, **named: Any) -> None:
        await create_input(self, *given, **named)
        await create_input(self, *given, **named)

    monkeypatch.setattr(PrefectClient, "set_flow_run_state", pause_twice)
    monkeypatch.setattr(PrefectClient, "create_flow_run_input", create_twice)
    with once_waiting(prefect_view, lambda: answer(prefect_view, create=True)):
        state = restore()
    assert state.is_completed(), state.message
    assert len(sandbox.record.created) == 2


def test_a_waiting_command_survives_a_prefect_server_that_is_gone_for_a_while(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    port = urlsplit(os.environ["PREFECT_API_URL"]).port
    assert port
    command = [sys.executable, "-m", "flows.restore_droplets", "--region", AWAY, "--no-dry-run", "--approve"]
    with strained_server(port) as server:
        run = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PREFECT_API_URL": f"http://127.0.0.1:{server.port}/api"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        until(lambda: waiting(prefect_view), within_seconds=120)
        server.be("is gone")
        until(lambda: server.refused > 2, within_seconds=120)
        server.be("well")
        answer(prefect_view, create=True)
        output = run.communicate(timeout=300)[0]
    assert run.returncode == 0, output
    assert "Waiting up to 12 hours for approval: press Resume at http://" in output
    assert len(sandbox.record.created) == 2


def test_a_waiting_run_survives_more_failed_polls_than_the_client_retries(
    sandbox: Sandbox, prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_flow_run = PrefectClient.read_flow_run
    # Each stands for a request whose retries by Prefect's client have all failed.
    failures = [httpx.ConnectError("the server is away")] * 10

    async def read_or_fail(self: PrefectClient, flow_run_id: UUID) -> FlowRun:
        if waiting(prefect_view) and failures:
            raise failures.pop()
        return await read_flow_run(self, flow_run_id)

    def approve_after_the_outage() -> None:
        until(lambda: not failures, within_seconds=120)
        answer(prefect_view, create=True)

    monkeypatch.setattr(PrefectClient, "read_flow_run", read_or_fail)
    with once_waiting(prefect_view, approve_after_the_outage):
        state = restore()
    assert state.is_completed(), state.message
    assert len(sandbox.record.created) == 2


@pytest.mark.thorough
def test_a_run_that_nobody_answered_asks_again_when_it_is_retried(sandbox: Sandbox, prefect_view: PrefectView) -> None:
    run = prefect_view.run_of(restore(approval_timeout_hours=1 / 3600))
    prefect_view.client.set_flow_run_state(run.id, AwaitingRetry(), force=True)
    parameters = {**run.parameters, "approval_timeout_hours": 1}
    with once_waiting(prefect_view, lambda: answer(prefect_view, create=True)):
        flow_run = prefect_view.client.read_flow_run(run.id)
        state = cast(State[Any], run_flow(restore_droplets, flow_run, parameters=parameters, return_type="state"))
    assert state.is_completed(), state.message
    assert len(sandbox.record.created) == 2


@pytest.mark.parametrize(("set_to", "how"), [(Cancelling(), "cancelled"), (Crashed(), "set to Crashed")], ids=str)
@pytest.mark.thorough(after=1)
def test_a_waiting_run_that_is_cancelled_or_crashed_ends_even_if_no_worker_ends_its_process(
    sandbox: Sandbox, prefect_view: PrefectView, set_to: State[Any], how: str
) -> None:
    def set_state() -> None:
        run = waiting(prefect_view)
        assert run
        prefect_view.client.set_flow_run_state(run.id, set_to, force=True)

    with once_waiting(prefect_view, set_state):
        state = restore()
    assert state.is_cancelled()
    assert state.message == f"nothing was created: the run was {how} before the plan was approved"
    assert end_events(prefect_view, prefect_view.run_of(state)) == []
    assert changes(sandbox) == []


@pytest.mark.thorough
def test_a_waiting_run_that_is_deleted_ends_at_once(
    sandbox: Sandbox, prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_flow_run = PrefectClient.read_flow_run

    async def read_deleted(self: PrefectClient, flow_run_id: UUID) -> FlowRun:
        if waiting(prefect_view):
            raise ObjectNotFound(RuntimeError("deleted"))
        return await read_flow_run(self, flow_run_id)

    monkeypatch.setattr(PrefectClient, "read_flow_run", read_deleted)
    assert restore().is_failed()
    assert changes(sandbox) == []


@pytest.mark.parametrize(("before", "announced"), [(Paused(timeout_seconds=3600), 0), (Running(), 1)], ids=str)
def test_cancelling_a_waiting_run_sends_no_event_but_cancelling_its_work_does(
    prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch, before: State[Any], announced: int
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(hooks, "announce_result", lambda event, *_: sent.append(event))
    parameters = {"region": AWAY, "dry_run": False, "approve": True}
    run = prefect_view.client.create_flow_run(restore_droplets, parameters=parameters, state=Running())
    for state in (before, Cancelling()):
        prefect_view.client.set_flow_run_state(run.id, state, force=True)
    hooks.announce_abnormal_end(restore_droplets, run, Cancelling())
    assert sent == [RECOVERY_FAILED] * announced


def test_approve_is_refused_in_a_dry_run(sandbox: Sandbox) -> None:
    state = restore(dry_run=True)
    assert state.is_failed()
    assert state.message == (
        "approve asks before it creates Droplets, and a dry run creates none: turn off either dry_run or approve"
    )
    assert sandbox.record.requests == []


def test_approve_is_refused_where_nobody_can_answer() -> None:
    with temporary_settings({PREFECT_API_URL: None}), pytest.raises(ContradictoryParameters, match=NEEDS_A_SERVER):
        check_can_be_asked(dry_run=False)
