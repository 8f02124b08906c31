from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deployments.sandbox import Sandbox
from flows.image_locks import MUTEX
from flows.replicate_backups import replicate_backups
from tests.end_to_end.accounts import finish_all, goals, make_transfers_endless, newest_backups, resize, started
from tests.end_to_end.prefect_server import PrefectView, until

ROOT = Path(__file__).resolve().parents[2]


def begin() -> subprocess.Popen[str]:
    """Start the main job in a separate process."""
    return subprocess.Popen(
        [sys.executable, "-m", "flows.replicate_backups"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_of_two_concurrent_runs_the_second_waits_says_for_which_run_and_finds_nothing_to_do(
    start: Callable[..., Sandbox], prefect_view: PrefectView
) -> None:
    sandbox = start()
    resize(sandbox, 2)
    # The first run cannot end before the second has had to wait for it.
    make_transfers_endless(sandbox, newest_backups(sandbox), regions=1)
    first = begin()
    until(lambda: sum(not action.fate.ends for action in started(sandbox)) == 2, within_seconds=60)
    second = begin()
    assert second.stdout
    said = []
    for line in second.stdout:
        said.append(line)
        if "Waiting for" in line:
            finish_all(sandbox)
            break
    output = first.communicate(timeout=120)[0], "".join(said) + second.communicate(timeout=120)[0]
    assert (first.returncode, second.returncode) == (0, 0), output
    assert "Waiting for 'all Droplets -> all regions" in output[1]
    assert "0 conversions and 0 transfers to start" in output[1]
    assert len(goals(started(sandbox))) == len(set(goals(started(sandbox)))) == 2 * 11
    assert len(started(sandbox, "convert")) == 2


def test_the_first_run_creates_the_mutex_and_releases_it(sandbox: Sandbox, prefect_view: PrefectView) -> None:
    assert replicate_backups(regions=["fra1"], return_state=True).is_completed()
    limit = prefect_view.client.read_global_concurrency_limit_by_name(MUTEX)
    assert (limit.limit, limit.active_slots) == (1, 0)


@pytest.mark.thorough
def test_a_dry_run_does_not_wait_for_other_runs(start: Callable[..., Sandbox], prefect_view: PrefectView) -> None:
    sandbox = start()
    resize(sandbox, 2)
    make_transfers_endless(sandbox, newest_backups(sandbox), regions=1)
    changing = begin()
    until(lambda: sum(not action.fate.ends for action in started(sandbox)) == 2, within_seconds=60)
    assert replicate_backups(dry_run=True, return_state=True).is_completed()
    assert changing.poll() is None
    finish_all(sandbox)
    changing.communicate(timeout=120)
    assert changing.returncode == 0
