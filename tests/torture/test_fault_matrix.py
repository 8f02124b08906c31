"""Whatever kind of thing goes wrong, nothing is lost, nothing done twice, nothing kept silent, nothing told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deployments.sandbox import FaultKind, Sandbox
from deployments.sandbox.faults import ACTION_FAULTS
from tests.end_to_end.prefect_server import PrefectView
from tests.torture.ledger import Ledger
from tests.torture.trials import COPYING, EACH_ONCE, FLOWS, PRUNING, SEEDS, Trial, files_that_tell, undergo

TITLE = "Faults"
CONDITIONS = """\
Each kind befalls 5% of the requests at random (not a 429 by itself, which stops all others for seconds), and one start
of an action in any case, two where the action is started although the answer does not say so; "each kind once" befalls
the first starts on each of as many images. What only a list can suffer befalls lists: the first one, or all that hold
entries of all kinds of resources. Three seeds for `replicate_backups` and one for each other flow, two Droplets, three
regions; for `prune_snapshots` every kind that a deletion can suffer, and its first deletion does. Runs with faults may
fail; then the faults end, what would never end is finished by hand, and the flow runs again until it is Completed.

*Lost*: a chosen image that is then no snapshot or not in a region, or a snapshot that no rule keeps and that is still
there. *Too much*: a transfer or conversion that another one had done or was under way to do, or that nobody asked for
(the sandbox accepts a second transfer beside the first), or the deletion of anything that the rule keeps or that others
made. *Silent*: something that is not as it should be and that no row and no state message names, or a row that says
what is not so."""

IN_EVERY_TEST_RUN = Trial(EACH_ONCE, "replicate_backups", SEEDS[0])
FULL = [
    Trial(fault, flow, seed)
    for fault in map(str, FaultKind)
    for flow in FLOWS
    if not (flow == PRUNING and FaultKind(fault) in ACTION_FAULTS)
    for seed in (SEEDS if flow == COPYING[0] else SEEDS[:1])
]


@pytest.mark.parametrize(
    "trial",
    [
        pytest.param(IN_EVERY_TEST_RUN, id=str(IN_EVERY_TEST_RUN)),
        *(pytest.param(trial, id=str(trial), marks=pytest.mark.torture) for trial in FULL),
    ],
)
def test_whatever_goes_wrong_nothing_is_lost_done_twice_or_kept_silent(
    trial: Trial,
    start: Callable[..., Sandbox],
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    verdict = undergo(trial, start, ledger, monkeypatch, caplog)
    assert verdict.problems == {}
    assert verdict.faults.keys() == set(trial.kinds)


def test_the_token_is_in_no_file_of_prefect_after_all_that_went_wrong(
    prefect_view: PrefectView, ledger: Ledger
) -> None:
    assert files_that_tell(prefect_view, ledger) == []
