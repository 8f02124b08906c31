"""A run whose process dies, wherever that is, is finished by the next one: nothing lost, nothing started twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.states import Crashed

from deployments.sandbox import Behavior, Image, Sandbox
from tests.end_to_end.accounts import goals, newest_backups, pairs, started
from tests.end_to_end.prefect_server import PrefectView
from tests.torture.conftest import is_full
from tests.torture.crash_points import CrashPoint, Tripwire, crash_points
from tests.torture.judging import duplicate_conversions
from tests.torture.reliability import write_section

ROOT = Path(__file__).parents[2]
TITLE = "Crashes"
# A gigabyte takes 0.05 to 0.1 seconds: the largest are still on their way when the next run begins.
SPEED = 1200
SIZES = [2.0, 30.0, 70.0]
REGIONS = ["ams3", "lon1", "sgp1", "sfo3"]
LONGEST_SECONDS = 120

POINTS = crash_points(len(SIZES), len(REGIONS))
IN_EVERY_TEST_RUN = {"sigkill-after-the-middle-transfer-unanswered"}

COLUMNS = (
    "| the process dies | requests seen | conversions, transfers it had started | what the next run started | it says |"
)
CONDITIONS = f"""\
The process `python -m flows.replicate_backups`, with {len(SIZES)} Droplets and {len(REGIONS)} regions, receives SIGKILL
(once SIGTERM) when a given request arrives at the sandbox. *Before*: the request is not carried out. *After,
unanswered*: it is carried out, and its response is lost. Other requests in flight are carried out as well. Then the
same command runs again, undisturbed. The test sets the killed run to Crashed, as a worker does, which ends its image
locks; without that, they end when the run counts as dead, as `make soak` shows. The sandbox accepts a second transfer
beside the first, so that one would be seen. Checked for each line: the second run ends with status 0, each newest
backup is a snapshot in every region, and the two runs together started each conversion and each transfer once."""


@pytest.fixture(scope="module")
def table(pytestconfig: pytest.Config) -> Iterator[list[str]]:
    """What came of each crash; written down at the end if it is the whole of them."""
    lines: list[str] = []
    yield lines
    if is_full(pytestconfig) and not pytestconfig.option.keyword:
        failed = len(POINTS) - len(lines)
        verdict = f"{failed} of {len(POINTS)} tests failed." if failed else f"All {len(POINTS)} crashes were survived."
        rows = "\n".join([COLUMNS, "| --- | ---: | ---: | ---: | --- |", *lines])
        write_section(TITLE, f"{verdict}\n\n{CONDITIONS}\n\n{rows}")


@contextmanager
def running(
    sandbox: Sandbox, log: Path, *options: str, flow: str = "replicate_backups"
) -> Iterator[subprocess.Popen[bytes]]:
    """A flow in a separate process."""
    command = [sys.executable, "-m", f"flows.{flow}", *options]
    environment = {**os.environ, **sandbox.environment(), "PYTHONPATH": str(ROOT)}
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def resize_newest(sandbox: Sandbox) -> list[Image]:
    images = newest_backups(sandbox)
    for image, gigabytes in zip(images, SIZES, strict=True):
        image.size_gigabytes = gigabytes
    return images


def report_crashed(prefect_view: PrefectView) -> None:
    """Do what a worker does whose run's process has died: its locks end at once, not only when it counts as dead."""
    at_work = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])))
    for run in prefect_view.client.read_flow_runs(flow_run_filter=at_work):
        prefect_view.client.set_flow_run_state(run.id, Crashed(), force=True)


def counts(sandbox: Sandbox) -> tuple[int, int]:
    return len(started(sandbox, "convert")), len(started(sandbox))


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(point, id=str(point), marks=() if str(point) in IN_EVERY_TEST_RUN else pytest.mark.torture)
        for point in POINTS
    ],
)
def test_a_run_whose_process_dies_is_finished_by_the_next_and_nothing_is_started_twice(
    point: CrashPoint, tmp_path: Path, table: list[str], prefect_view: PrefectView
) -> None:
    behavior = Behavior(duplicate_transfers="accept", taggable_backups=point.taggable_backups)
    sandbox = Sandbox(speed=SPEED, droplets=len(SIZES), behavior=behavior)
    sandbox.faults = wire = Tripwire(point, sandbox.account)
    images = resize_newest(sandbox)
    with sandbox:
        with running(sandbox, tmp_path / "first.log", "--regions", *REGIONS) as first:
            wire.pid = first.pid
            status = first.wait(LONGEST_SECONDS)
        assert wire.tripped.is_set(), (tmp_path / "first.log").read_text()
        assert status != 0
        seen, before = wire.seen, counts(sandbox)
        if point.is_killed:
            report_crashed(prefect_view)
        with running(sandbox, tmp_path / "second.log", "--regions", *REGIONS) as second:
            status = second.wait(LONGEST_SECONDS)
        said = (tmp_path / "second.log").read_text()
        assert status == 0, said
    assert sandbox.record.duplicate_transfers() == []
    assert duplicate_conversions(sandbox.record.actions) == []
    assert goals(started(sandbox)) == pairs(images, REGIONS)
    assert sorted(action.resource_id for action in started(sandbox, "convert")) == sorted(image.id for image in images)
    assert all(image.type == "snapshot" and set(REGIONS) <= set(image.regions) for image in images)
    assert "Traceback" not in said
    assert sandbox.token not in said
    after = counts(sandbox)
    summary = said.strip().splitlines()[-1]
    table.append(
        f"| {point.signal.name}, {point.name} | {seen} | {before[0]}, {before[1]} "
        f"| {after[0] - before[0]}, {after[1] - before[1]} | {summary} |"
    )
