from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from deployments.sandbox import Sandbox
from flows.one_at_a_time import LOCK
from flows.replicate_backups import replicate_backups
from tests.end_to_end.accounts import resize
from tests.end_to_end.prefect_server import PrefectView, until

ROOT = Path(__file__).resolve().parents[2]


def begin() -> subprocess.Popen[str]:
    """Start the main job in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "flows.replicate_backups"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_of_two_runs_at_once_the_second_waits_says_for_whom_and_finds_nothing_to_do(
    start: Callable[..., Sandbox], prefect_view: PrefectView
) -> None:
    sandbox = start(speed=300)
    resize(sandbox, 8)
    first, second = begin(), begin()
    outputs = [first.communicate(timeout=120)[0], second.communicate(timeout=120)[0]]
    assert (first.returncode, second.returncode) == (0, 0), outputs
    assert sandbox.record.duplicate_transfers() == []
    assert len({action.resource_id for action in sandbox.record.actions if action.type == "convert"}) == sum(
        action.type == "convert" for action in sandbox.record.actions
    )
    waited = [output for output in outputs if "Waiting for 'all Droplets -> all regions" in output]
    assert len(waited) == 1
    assert "0 conversions and 0 transfers to start" in waited[0]


def test_the_lock_is_made_by_the_first_run_and_free_after_it(sandbox: Sandbox, prefect_view: PrefectView) -> None:
    assert replicate_backups(regions=["fra1"], return_state=True).is_completed()
    limit = prefect_view.client.read_global_concurrency_limit_by_name(LOCK)
    assert (limit.limit, limit.active_slots) == (1, 0)


def test_a_dry_run_waits_for_nobody(start: Callable[..., Sandbox], prefect_view: PrefectView) -> None:
    sandbox = start(speed=300)
    resize(sandbox, 8)
    changing = begin()
    until(lambda: sandbox.record.actions, within_seconds=60)
    state = replicate_backups(dry_run=True, return_state=True)
    assert changing.poll() is None
    assert state.is_completed()
    assert changing.wait(120) == 0
