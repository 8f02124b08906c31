"""However much goes wrong at once, nothing is lost, nothing done twice, nothing kept silent, nothing told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deployments.sandbox import Sandbox
from tests.end_to_end.prefect_server import PrefectView
from tests.torture.ledger import Ledger
from tests.torture.trials import ALL_TOGETHER, FLOWS, PRUNING, SEEDS, Trial, files_that_tell, undergo

TITLE = "Faults, all together"
CONDITIONS = """\
As above, but with every kind at once, at random, on 20% of the requests: three seeds for each flow. Where snapshots are
taken, one start of a snapshot is always hit."""


IN_EVERY_TEST_RUN = [Trial(ALL_TOGETHER, flow, SEEDS[0]) for flow in ("replicate_backups", PRUNING)]
FULL = [Trial(ALL_TOGETHER, flow, seed) for flow in FLOWS for seed in SEEDS]


@pytest.mark.parametrize(
    "trial",
    [
        pytest.param(trial, id=str(trial), marks=() if trial in IN_EVERY_TEST_RUN else pytest.mark.torture)
        for trial in FULL
    ],
)
def test_many_faults_at_once_lead_to_nothing_lost_done_twice_or_concealed(
    trial: Trial,
    start: Callable[..., Sandbox],
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    verdict = undergo(trial, start, ledger, monkeypatch, caplog)
    assert verdict.problems == {}
    assert set(verdict.faults) <= set(trial.kinds)
    assert bool(verdict.starts_hit) == trial.takes_snapshots


def test_the_token_is_in_none_of_prefects_files_after_all_these_faults(
    prefect_view: PrefectView, ledger: Ledger
) -> None:
    assert files_that_tell(prefect_view, ledger) == []
