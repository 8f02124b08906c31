"""However much goes wrong at once, nothing is lost, nothing done twice, nothing kept silent, nothing told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deployments.sandbox import Sandbox
from tests.end_to_end.prefect_server import PrefectView
from tests.torture.ledger import Ledger
from tests.torture.trials import ALL_TOGETHER, FLOWS, SEEDS, Trial, files_that_tell, undergo

TITLE = "Faults, all together"
CONDITIONS = """\
As above, but with every kind at once, at random, on 20% of the requests: three seeds for each flow."""


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("seed", [SEEDS[0], *(pytest.param(seed, marks=pytest.mark.torture) for seed in SEEDS[1:])])
def test_many_faults_at_once_lead_to_nothing_lost_done_twice_or_concealed(
    flow: str,
    seed: int,
    start: Callable[..., Sandbox],
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    trial = Trial(ALL_TOGETHER, flow, seed)
    verdict = undergo(trial, start, ledger, monkeypatch, caplog)
    assert verdict.problems == {}
    assert set(verdict.faults) <= set(trial.kinds)


def test_the_token_is_in_none_of_prefects_files_after_all_these_faults(
    prefect_view: PrefectView, ledger: Ledger
) -> None:
    assert files_that_tell(prefect_view, ledger) == []
