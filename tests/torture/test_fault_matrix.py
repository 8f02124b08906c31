"""Whatever kind of thing goes wrong, nothing is lost, nothing done twice, nothing kept silent, nothing told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deployments.sandbox import FaultKind, Sandbox
from deployments.sandbox.faults import ACTION_FAULTS, IMAGE_FAULTS, LIST_FAULTS
from tests.end_to_end.prefect_server import PrefectView
from tests.torture.ledger import Ledger
from tests.torture.trials import (
    COPYING,
    COPYING_SNAPSHOTS,
    EACH_ONCE,
    FLOWS,
    PRUNING,
    SEEDS,
    SNAPSHOTS,
    Trial,
    files_that_tell,
    undergo,
)

TITLE = "Faults"
CONDITIONS = """\
Each kind of fault hits 5% of the requests at random (except 429s, which would stop all others for seconds) and always
one start of an action, or two where the action starts although the response does not say so. "Each kind once" hits the
first start on each of as many images. Faults of lists hit the first list, or all lists with entries of several kinds.
Three seeds for `replicate_backups`, one for each other flow, two Droplets, three regions. For `prune_snapshots`: every
kind that can hit a deletion, and always the first deletion. Runs with faults may fail. Then the faults end, actions
that would never end are finished by hand, and the flow runs again until it is Completed.

`snapshot_droplets`, and `replicate_backups` with `source="snapshots"`: every kind always hits the start of a snapshot,
which is checked, and the start of a copy; faults of lists hit the lists of actions and of snapshots. Once a run is
Completed, there is no further one, because it would take the next night's snapshots.

*Lost*: an image that is then not a snapshot or not in a region, or a snapshot that no rule keeps and that still exists.
*Too much*: a transfer or conversion that was already done or in progress, or was not requested (the sandbox accepts a
second transfer beside the first), or the deletion of a snapshot that the rule keeps or that others created. *Silent*: a
problem that neither a row nor a state message names, or a row that is wrong. With snapshots, *lost* is a Droplet
without a snapshot of the night, or with one that is not tagged or not in a region, and *too much* is a second
snapshot of a Droplet, or any change of an older image: backups remain backups."""

IN_EVERY_TEST_RUN = [
    Trial(EACH_ONCE, "replicate_backups", SEEDS[0]),
    Trial(FaultKind.DROP_AFTER, COPYING_SNAPSHOTS, SEEDS[0]),
]
FULL = [Trial(EACH_ONCE, flow, SEEDS[0]) for flow in SNAPSHOTS] + [
    Trial(fault, flow, seed)
    for fault in map(str, IMAGE_FAULTS)
    for flow in FLOWS
    if not (flow == PRUNING and FaultKind(fault) in ACTION_FAULTS)
    for seed in (SEEDS if flow == COPYING[0] else SEEDS[:1])
]


@pytest.mark.parametrize(
    "trial",
    [
        *(pytest.param(trial, id=str(trial)) for trial in IN_EVERY_TEST_RUN),
        *(
            pytest.param(trial, id=str(trial), marks=pytest.mark.torture)
            for trial in FULL
            if trial not in IN_EVERY_TEST_RUN
        ),
    ],
)
def test_no_fault_leads_to_anything_lost_done_twice_or_concealed(
    trial: Trial,
    start: Callable[..., Sandbox],
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    verdict = undergo(trial, start, ledger, monkeypatch, caplog)
    assert verdict.problems == {}
    assert verdict.faults.keys() == set(trial.kinds)
    if trial.takes_snapshots:
        assert verdict.starts_hit == set(trial.kinds) - LIST_FAULTS


def test_the_token_is_in_none_of_prefects_files_after_all_these_faults(
    prefect_view: PrefectView, ledger: Ledger
) -> None:
    assert files_that_tell(prefect_view, ledger) == []
