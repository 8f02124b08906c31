"""A run that was cut short is finished by the next one, from what the API says alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelling

from deployments.sandbox import Fault, FaultKind, Sandbox
from flows import liveness
from flows.replicate_backups import replicate_backups
from flows.results import INTERRUPTED_MESSAGE
from tests.end_to_end.accounts import (
    MANAGED_TAG,
    REGIONS,
    Operator,
    finish_all,
    goals,
    meanwhile,
    newest_backups,
    outcomes,
    pairs,
    report_of,
    resize,
    started,
)
from tests.end_to_end.prefect_server import PrefectView


def test_a_run_that_died_between_converting_and_copying_is_finished_by_the_next(sandbox: Sandbox) -> None:
    resize(sandbox, 2)
    images = newest_backups(sandbox)
    operator = Operator(sandbox)
    operator.tag(images[0])
    operator.convert(images[0])
    report = report_of(replicate_backups(regions=REGIONS, return_state=True))
    assert outcomes(report) == dict.fromkeys(pairs(images, REGIONS), "transferred")
    assert sorted(action.resource_id for action in started(sandbox, "convert")) == sorted(each.id for each in images)


def test_copies_in_progress_are_adopted_and_never_started_twice(sandbox: Sandbox) -> None:
    resize(sandbox, 2)
    images = newest_backups(sandbox)
    operator = Operator(sandbox)
    operator.tag(images[0])
    operator.convert(images[0])
    sandbox.faults.add(Fault(FaultKind.ACTION_ENDLESS))
    running = operator.transfer(images[0], "fra1")
    with meanwhile(lambda: len(started(sandbox)) == len(images) * len(REGIONS), lambda: finish_all(sandbox)):
        report = report_of(replicate_backups(regions=REGIONS, return_state=True))
    expected = dict.fromkeys(pairs(images, REGIONS), "transferred") | {(images[0].id, "fra1"): "adopted"}
    assert outcomes(report) == expected
    assert [row.action_id for row in report.rows if row.outcome == "adopted"] == [running]
    assert goals(started(sandbox)) == pairs(images, REGIONS)


@pytest.mark.thorough
def test_backups_that_cannot_be_tagged_are_tagged_once_they_are_snapshots(
    start_with_behavior: Callable[..., Sandbox],
) -> None:
    sandbox = start_with_behavior(taggable_backups=False)
    resize(sandbox, 2)
    images = newest_backups(sandbox)
    assert replicate_backups(regions=REGIONS, return_state=True).is_completed()
    assert all(image.tags == [MANAGED_TAG] for image in images)
    again = replicate_backups(regions=REGIONS, return_state=True)
    assert outcomes(report_of(again)) == dict.fromkeys(pairs(images, REGIONS), "already_there")


def test_an_untagged_conversion_is_recognized_by_its_action(
    start_with_behavior: Callable[..., Sandbox],
) -> None:
    sandbox = start_with_behavior(taggable_backups=False)
    resize(sandbox, 2)
    images = newest_backups(sandbox)
    Operator(sandbox).convert(images[0])
    report = report_of(replicate_backups(regions=REGIONS, return_state=True))
    assert outcomes(report) == dict.fromkeys(pairs(images, REGIONS), "transferred")
    assert len(started(sandbox, "convert")) == len(images)


@pytest.mark.thorough
def test_an_untagged_conversion_is_recognized_even_if_it_was_the_last_backup(
    start: Callable[..., Sandbox],
) -> None:
    sandbox = start(backups_per_droplet=1)
    resize(sandbox, 2)
    images = newest_backups(sandbox)
    Operator(sandbox).convert(images[0])
    report = report_of(replicate_backups(regions=REGIONS, return_state=True))
    assert outcomes(report) == dict.fromkeys(pairs(images, REGIONS), "transferred")


def test_nothing_is_started_twice_if_images_lag_behind_their_actions(
    start_with_behavior: Callable[..., Sandbox],
) -> None:
    # Four seconds of this machine's, longer than the first run takes.
    sandbox = start_with_behavior(lag_seconds=4800, feed_lag_seconds=240, duplicate_transfers="accept")
    resize(sandbox, 2)
    images = newest_backups(sandbox)
    assert replicate_backups(regions=REGIONS, return_state=True).is_completed()
    assert not any(image.shown_type(sandbox.record.requests[-1].at) == "snapshot" for image in images)
    again = replicate_backups(regions=REGIONS, return_state=True)
    assert outcomes(report_of(again)) == dict.fromkeys(pairs(images, REGIONS), "already_there")
    assert goals(started(sandbox)) == pairs(images, REGIONS)


def test_images_locked_after_their_conversion_are_copied_once_unlocked(
    start_with_behavior: Callable[..., Sandbox],
) -> None:
    sandbox = start_with_behavior(lock_seconds=1200)
    resize(sandbox, 2)
    images = newest_backups(sandbox)
    report = report_of(replicate_backups(regions=REGIONS, return_state=True))
    assert outcomes(report) == dict.fromkeys(pairs(images, REGIONS), "transferred")
    assert goals(started(sandbox)) == pairs(images, REGIONS)


def test_a_deployed_run_that_is_cancelled_ends_even_if_its_worker_does_not_end_it(
    sandbox: Sandbox, prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "HEARTBEAT", timedelta(seconds=0.5))
    resize(sandbox, 2)
    sandbox.faults.add(Fault(FaultKind.ACTION_ENDLESS, "POST", "/actions", times=100))

    def cancel() -> None:
        (run,) = prefect_view.client.read_flow_runs(flow_run_filter=in_states(StateType.RUNNING))
        # As in a process that a worker has started.
        monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(run.id))
        prefect_view.client.set_flow_run_state(run.id, Cancelling())

    with meanwhile(lambda: started(sandbox, "convert"), cancel):
        state = replicate_backups(regions=REGIONS, return_state=True)
    assert state.is_cancelled()
    assert INTERRUPTED_MESSAGE in str(state.message)
    assert prefect_view.run_of(state).state_name == "Cancelled"
    # Once, however many heartbeats its end takes.
    assert prefect_view.log_text_of(prefect_view.run_of(state)).count("its worker has not ended it") == 1


def in_states(*types: StateType) -> FlowRunFilter:
    return FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types))))
