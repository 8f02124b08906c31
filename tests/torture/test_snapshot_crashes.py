"""A run that takes snapshots and dies, wherever that is, is finished by the next one: one snapshot per Droplet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deployments.sandbox import Behavior, Sandbox
from tests.end_to_end.accounts import goals, pairs, started
from tests.end_to_end.prefect_server import PrefectView
from tests.torture.conftest import is_full
from tests.torture.crash_points import TAGGING, TAKING, CrashPoint, Tripwire, snapshot_crash_points
from tests.torture.reliability import write_section
from tests.torture.snapshots import SNAPSHOT, SnapshotNight, size_snapshots
from tests.torture.test_crashes import LONGEST_SECONDS, REGIONS, SIZES, SPEED, report_crashed, running

TITLE = "Crashes while snapshots are taken"
TAKE, REPLICATE = "snapshot_droplets", "replicate_backups"
OPTIONS: dict[str, list[str]] = {TAKE: [], REPLICATE: ["--source", "snapshots", "--regions", *REGIONS]}
LARGEST = 150.0
COPIED_TO: dict[str, list[str]] = {TAKE: [], REPLICATE: REGIONS}


@dataclass(frozen=True)
class Deaths:
    """Where each of the runs dies, one after the other, before the last one is left alone."""

    flow: str
    points: tuple[CrashPoint, ...]

    def __str__(self) -> str:
        return "-then-".join([f"{self.flow}-{self.points[0]}", *map(str, self.points[1:])])

    @property
    def sizes(self) -> list[float]:
        # The first run starts with the last one, which the next run finds in progress.
        return SIZES if len(self.points) == 1 else [*SIZES[:-1], LARGEST]

    @property
    def told(self) -> str:
        return ", then ".join(f"{point.signal.name}, {point.name}" for point in self.points)


FIRST_STARTED = CrashPoint("after the first snapshot, unanswered", "POST", TAKING, carried_out=True)
NEXT_STARTED = CrashPoint("after its first snapshot, unanswered", "POST", TAKING, carried_out=True)
NEXT_TAGS = CrashPoint("before it tags the snapshots", "POST", TAGGING)
ALL = [
    Deaths(flow, (point,)) for flow in OPTIONS for point in snapshot_crash_points(len(SIZES), len(COPIED_TO[flow]))
] + [Deaths(flow, (FIRST_STARTED, second)) for flow in OPTIONS for second in (NEXT_STARTED, NEXT_TAGS)]
IN_EVERY_TEST_RUN = {"replicate_backups-sigkill-after-the-last-snapshot-unanswered"}

COLUMNS = (
    "| flow | the process dies | requests seen | snapshots, transfers started until then | what the next run started "
    "| it says |"
)
CONDITIONS = f"""\
As for the other crashes, with `python -m flows.snapshot_droplets` and `python -m flows.replicate_backups --source
snapshots`, {len(SIZES)} Droplets and {len(REGIONS)} regions. In some lines two runs die, one after the other. Checked
for each line: the last run ends with status 0; each Droplet has one new snapshot, which is tagged and, where it is to
be copied, in every region; all runs together started one snapshot per Droplet, and each transfer once; no backup was
converted, and no older image has changed."""


@pytest.fixture(scope="module")
def table(pytestconfig: pytest.Config) -> Iterator[list[str]]:
    """What came of each crash; written down at the end if it is the whole of them."""
    lines: list[str] = []
    yield lines
    if is_full(pytestconfig) and not pytestconfig.option.keyword:
        failed = len(ALL) - len(lines)
        verdict = f"{failed} of {len(ALL)} tests failed." if failed else f"All {len(ALL)} crashes were survived."
        rows = "\n".join([COLUMNS, "| --- | --- | ---: | ---: | ---: | --- |", *lines])
        write_section(TITLE, f"{verdict}\n\n{CONDITIONS}\n\n{rows}")


def counts(sandbox: Sandbox) -> tuple[int, int]:
    return len(started(sandbox, SNAPSHOT)), len(started(sandbox))


@pytest.mark.parametrize(
    "deaths",
    [
        pytest.param(deaths, id=str(deaths), marks=() if str(deaths) in IN_EVERY_TEST_RUN else pytest.mark.torture)
        for deaths in ALL
    ],
)
def test_a_run_that_dies_is_finished_by_the_next_with_one_snapshot_per_droplet(
    deaths: Deaths, tmp_path: Path, table: list[str], prefect_view: PrefectView
) -> None:
    sandbox = Sandbox(speed=SPEED, droplets=len(SIZES), behavior=Behavior(duplicate_transfers="accept"))
    size_snapshots(sandbox.account, dict(zip(sandbox.account.droplets, deaths.sizes, strict=True)))
    night = SnapshotNight(sandbox, COPIED_TO[deaths.flow])
    sandbox.faults = wire = Tripwire(deaths.points[0], sandbox.account)
    with sandbox:
        for number, point in enumerate(deaths.points):
            wire.lay(point)
            log = tmp_path / f"{number}.log"
            with running(sandbox, log, *OPTIONS[deaths.flow], flow=deaths.flow) as dying:
                wire.pid = dying.pid
                status = dying.wait(LONGEST_SECONDS)
            assert wire.tripped.is_set(), log.read_text()
            assert status != 0
            if point.is_killed:
                report_crashed(prefect_view)
        seen, before = wire.seen, counts(sandbox)
        with running(sandbox, tmp_path / "last.log", *OPTIONS[deaths.flow], flow=deaths.flow) as last:
            status = last.wait(LONGEST_SECONDS)
        said = (tmp_path / "last.log").read_text()
        assert status == 0, said
    assert night.missing() == []
    assert night.untagged() == []
    assert night.too_much() == []
    assert sorted(each.resource_id for each in started(sandbox, SNAPSHOT)) == sorted(sandbox.account.droplets)
    assert goals(started(sandbox)) == pairs(night.taken(), COPIED_TO[deaths.flow])
    assert "Traceback" not in said
    assert sandbox.token not in said
    after = counts(sandbox)
    table.append(
        f"| `{deaths.flow}` | {deaths.told} | {seen} | {before[0]}, {before[1]} "
        f"| {after[0] - before[0]}, {after[1] - before[1]} | {said.strip().splitlines()[-1]} |"
    )
