"""Rebuilding Droplets, and drills: whatever goes wrong, nothing is created twice, left behind or destroyed wrongly."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from prefect import Flow, State
from prefect.states import get_state_exception

from deployments.sandbox import Fault, FaultKind, Sandbox
from deployments.sandbox.faults import ACTION_FAULTS, LIMIT_FAULTS, LIST_FAULTS
from flows.drill_restore import drill_restore
from flows.restore_droplets import restore_droplets
from flows.results import Incomplete
from tasks.digitalocean import DigitalOceanError
from tests.end_to_end.accounts import add_snapshots
from tests.end_to_end.prefect_server import PrefectView
from tests.torture.conftest import is_full
from tests.torture.crash_points import CrashPoint, Tripwire
from tests.torture.ledger import Ledger, Verdict
from tests.torture.test_crashes import report_crashed
from tests.torture.trials import (
    ACTIONS_SPEED,
    FAULT_SECONDS,
    HTTP_TIMEOUT_SECONDS,
    LIMIT_SECONDS,
    LIMITS_SPEED,
    LONG_TIMEOUT_MINUTES,
    MOST_RUNS_AFTERWARDS,
    RATE_ALONE,
    RATE_OF_LIMITS,
    files_that_tell,
)

ROOT = Path(__file__).parents[2]
TITLE = "Rebuilding Droplets"
REGION = "ams3"
DROPLETS = 3
SPEED = 1200
LONGEST_SECONDS = 120
CREATING, OF_ONE = "^/v2/droplets$", r"^/v2/droplets/\d+$"
RESTORE, DRILL = "restore_droplets", "drill_restore"
TIMEOUT_MINUTES = 10 / 60
FLOWS: dict[str, Flow[..., Any]] = {RESTORE: restore_droplets, DRILL: drill_restore}
PARAMETERS: dict[str, dict[str, Any]] = {
    RESTORE: {"region": REGION, "dry_run": False},
    DRILL: {"regions": [REGION], "sample": DROPLETS},
}
OPTIONS = {
    RESTORE: ["--region", REGION, "--no-dry-run"],
    DRILL: ["--regions", REGION, "--sample", str(DROPLETS)],
}
KINDS = [kind for kind in FaultKind if kind not in ACTION_FAULTS]

CONDITIONS = """\
`restore_droplets` and `drill_restore` with three Droplets. Each kind of fault hits 5% of the requests at random (except
429s) and always the first creation, or the first destruction in a drill where it can hit one; faults of lists hit the
first list. Runs with faults may fail. Then the faults end, creations that would never end are finished by hand, and the
flow runs again until it is Completed. *Actions* are Droplets created, *deletions* Droplets destroyed.

*Lost*: a Droplet that is then not rebuilt; after a drill, a Droplet that is left behind. *Too much*: a Droplet created
while another one existed that was made for the same reason, or an original that was destroyed. *Silent*: a run that
ended otherwise than Completed, and does not say why."""


@dataclass(frozen=True)
class Trial:
    """An account, and what goes wrong while Droplets are rebuilt."""

    kind: FaultKind
    flow: str

    def __str__(self) -> str:
        return f"{self.kind}-{self.flow}"

    @property
    def seconds(self) -> float:
        return LIMIT_SECONDS if self.kind in LIMIT_FAULTS else FAULT_SECONDS


IN_EVERY_TEST_RUN = {
    "drop-after-restore_droplets",
    "error-after-drill_restore",
}
TRIALS = [
    Trial(kind, flow) for kind in KINDS for flow in (RESTORE, DRILL) if kind != FaultKind.SLOW_DELETE or flow == DRILL
]


@pytest.mark.parametrize(
    "trial",
    [
        pytest.param(trial, id=str(trial), marks=() if str(trial) in IN_EVERY_TEST_RUN else pytest.mark.torture)
        for trial in TRIALS
    ],
)
def test_no_fault_leads_to_a_droplet_that_is_missing_created_twice_or_left_behind(
    trial: Trial,
    start: Callable[..., Sandbox],
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    prefect_view: PrefectView,
) -> None:
    caplog.set_level(logging.DEBUG)
    sandbox = start(speed=LIMITS_SPEED, droplets=DROPLETS)
    monkeypatch.setenv("DIGITALOCEAN_HTTP_TIMEOUT_SECONDS", str(HTTP_TIMEOUT_SECONDS))
    sandbox.account.speed = ACTIONS_SPEED
    have_copies(sandbox)
    originals = set(sandbox.account.droplets)
    ledger.tokens.add(sandbox.token)
    with ledger.verdict(str(trial.kind), trial.flow) as verdict:
        go_wrong(trial, sandbox)
        run(trial.flow, sandbox, verdict, timeout_minutes=TIMEOUT_MINUTES)
        sandbox.faults.clear()
        finish_creations(sandbox)
        for _ in range(MOST_RUNS_AFTERWARDS):
            if run(trial.flow, sandbox, verdict):
                break
        else:
            verdict.lost.append("no run afterwards was Completed")
        judge(trial.flow, sandbox, originals, verdict)
        verdict.told += [token for token in [sandbox.token] if token in caplog.text]
        count(sandbox, verdict)
    assert verdict.problems == {}
    assert trial.kind in verdict.faults


def have_copies(sandbox: Sandbox) -> None:
    for droplet in sandbox.account.droplets.values():
        droplet.region = "nyc3"
        add_snapshots(sandbox, droplet, 0, regions=["nyc3", REGION])


def go_wrong(trial: Trial, sandbox: Sandbox) -> None:
    rate = RATE_OF_LIMITS if trial.kind in LIMIT_FAULTS else RATE_ALONE
    sandbox.faults.at_random(rate, [trial.kind], seed=1, seconds=trial.seconds)
    if trial.kind in LIST_FAULTS:
        times = None if trial.kind == FaultKind.FOREIGN_ENTRIES else 1
        sandbox.faults.add(Fault(trial.kind, "GET", times=times))
    elif trial.kind == FaultKind.SLOW_DELETE:
        sandbox.faults.add(Fault(trial.kind, "DELETE", OF_ONE, seconds=trial.seconds))
    else:
        sandbox.faults.add(Fault(trial.kind, "POST", CREATING, seconds=trial.seconds))
        if trial.flow == DRILL:
            sandbox.faults.add(Fault(trial.kind, "DELETE", OF_ONE, seconds=trial.seconds))


def run(flow: str, sandbox: Sandbox, verdict: Verdict, *, timeout_minutes: float = LONG_TIMEOUT_MINUTES) -> bool:
    """Run the flow once; returns whether it Completed."""
    # The parameter accepts only whole minutes.
    called = cast(Any, FLOWS[flow].with_options(validate_parameters=False))
    state: State[Any] = called(**PARAMETERS[flow], timeout_minutes=timeout_minutes, return_state=True)
    sandbox.account.advance(time.time())
    verdict.runs += 1
    verdict.failed_runs += state.is_failed()
    if not state.is_completed():
        error = get_state_exception(state) if state.is_failed() else None
        if not (state.is_failed() and isinstance(error, Incomplete | DigitalOceanError) and state.message):
            verdict.silent.append(f"ended {state.type.value} and explains nothing: {state.message!r} ({error!r})")
    verdict.told += [f"state of run {verdict.runs}"] * (sandbox.token in f"{state!r}{state.message}{state.data!r}")
    return bool(state.is_completed())


def finish_creations(sandbox: Sandbox) -> None:
    """End creations that would never end, as DigitalOcean's support does."""
    for droplet in sandbox.account.droplets.values():
        for action in droplet.actions:
            if action.type == "create" and not action.fate.ends and action.status == "in-progress":
                action.status, action.ends_at, droplet.status = "completed", time.time(), "active"


def judge(flow: str, sandbox: Sandbox, originals: set[int], verdict: Verdict) -> None:
    record = sandbox.record
    verdict.too_much += [f"{each.name} created again" for each in record.created_twice()]
    verdict.too_much += [f"{each.name} destroyed" for each in record.originals_destroyed()]
    verdict.lost += [f"original {each} is gone" for each in originals - set(sandbox.account.droplets)]
    left = Counter(tag for droplet in sandbox.account.droplets.values() for tag in droplet.tags)
    if flow == DRILL:
        verdict.lost += [f"{each.name} left behind" for each in record.left_behind()]
    else:
        markers = {f"prefect:restored:{each}": left[f"prefect:restored:{each}"] for each in originals}
        verdict.lost += [f"{marker}: {number} Droplets" for marker, number in markers.items() if number != 1]


def count(sandbox: Sandbox, verdict: Verdict) -> None:
    verdict.count(sandbox)
    changing = [seen for seen in sandbox.record.requests if seen.fault and seen.path.startswith("/v2/droplets")]
    verdict.changes_hit = sum(seen.method != "GET" for seen in changing)
    verdict.actions, verdict.deletions = len(sandbox.record.created), len(sandbox.record.destroyed)


def test_the_token_is_in_none_of_prefects_files_after_all_these_faults(
    prefect_view: PrefectView, ledger: Ledger
) -> None:
    assert files_that_tell(prefect_view, ledger) == []


POINTS = {
    RESTORE: [
        CrashPoint("before the first Droplet is created", "POST", CREATING),
        CrashPoint("after the first Droplet is created, unanswered", "POST", CREATING, carried_out=True),
        CrashPoint("before the last Droplet is created", "POST", CREATING, DROPLETS),
        CrashPoint("after the last Droplet is created, unanswered", "POST", CREATING, DROPLETS, carried_out=True),
        CrashPoint("at the first look at new Droplets", "GET", r"^/v2/droplets\?.*prefect|^/v2/droplets$", 3),
    ],
    DRILL: [
        CrashPoint("before the firewall is created", "POST", "^/v2/firewalls$"),
        CrashPoint("after the firewall is created, unanswered", "POST", "^/v2/firewalls$", carried_out=True),
        CrashPoint("before the first Droplet is created", "POST", CREATING),
        CrashPoint("after the first Droplet is created, unanswered", "POST", CREATING, carried_out=True),
        CrashPoint("after the last Droplet is created, unanswered", "POST", CREATING, DROPLETS, carried_out=True),
        CrashPoint("before the first Droplet is destroyed", "DELETE", OF_ONE),
        CrashPoint("after the first Droplet is destroyed, unanswered", "DELETE", OF_ONE, carried_out=True),
        CrashPoint("after the last Droplet is destroyed, unanswered", "DELETE", OF_ONE, DROPLETS, carried_out=True),
    ],
}
CRASHES = [(flow, point) for flow, points in POINTS.items() for point in points]
CRASHES_IN_EVERY_TEST_RUN = {(DRILL, "after the last Droplet is created, unanswered")}


@pytest.mark.parametrize(
    ("flow", "point"),
    [
        pytest.param(
            flow,
            point,
            id=f"{flow}-{point}",
            marks=() if (flow, point.name) in CRASHES_IN_EVERY_TEST_RUN else pytest.mark.torture,
        )
        for flow, point in CRASHES
    ],
)
def test_a_run_that_is_killed_is_finished_by_the_next_one(
    flow: str, point: CrashPoint, tmp_path: Path, prefect_view: PrefectView, killed: list[str]
) -> None:
    sandbox = Sandbox(speed=SPEED, droplets=DROPLETS)
    sandbox.faults = wire = Tripwire(point, sandbox.account)
    have_copies(sandbox)
    originals, verdict = set(sandbox.account.droplets), Verdict("", "")
    with sandbox:
        command = [sys.executable, "-m", f"flows.{flow}", *OPTIONS[flow]]
        environment = {**os.environ, **sandbox.environment(), "PYTHONPATH": str(ROOT)}
        first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            wire.pid = first.pid
            said, _ = first.communicate(timeout=LONGEST_SECONDS)
        finally:
            first.kill()
        assert wire.tripped.is_set(), said
        assert first.returncode != 0
        report_crashed(prefect_view)
        created = len(sandbox.record.created)
        second = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False
        )
        assert second.returncode == 0, second.stdout + second.stderr
    judge(flow, sandbox, originals, verdict)
    assert verdict.problems == {}
    assert "Traceback" not in second.stdout + second.stderr
    killed.append(f"| `{flow}`, {point.name} | {created} | {len(sandbox.record.created) - created} |")


@pytest.fixture(scope="module")
def killed(pytestconfig: pytest.Config, ledger: Ledger) -> Iterator[list[str]]:
    """What came of each kill; part of the table if it is the whole of them."""
    lines: list[str] = []
    yield lines
    if is_full(pytestconfig):
        failed = len(CRASHES) - len(lines)
        ledger.remarks.append(
            f"**Kills.** The process receives SIGKILL at a request, and the same command runs again. "
            f"{f'{failed} failed.' if failed else 'All were survived.'}\n\n"
            + "\n".join(["| killed | Droplets created | created by the next run |", "| --- | ---: | ---: |", *lines])
        )
