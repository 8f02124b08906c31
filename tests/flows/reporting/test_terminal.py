"""Reports on terminals of any width, and in pipes."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from flows.reporting.coverage_report import CoverageReport, DropletAudit, Finding, FindingKind, UncoveredVolume
from flows.reporting.pruning_report import PruningOutcome, PruningReport, PruningRow
from flows.reporting.report import (
    ActionHistory,
    ImageHistory,
    Outcome,
    ReplicationReport,
    Row,
    RunReport,
)
from flows.reporting.tables import LEGEND, MOST_REASONS
from flows.reporting.terminal import print_report, text_of
from tests.flows.images import NOW, action

ROOT = Path(__file__).parents[3]
REGIONS = ("ams3", "atl1", "blr1", "fra1", "lon1", "nyc1", "nyc3", "ric1", "sfo2", "sfo3", "sgp1", "syd1", "tor1")
DROPLETS = {167002701: "web-01 (448000739)", 167005714: "worker-01 (448001575)"}
NO_SUCH_IMAGE = "image 4711 does not exist or was deleted"
LONG_NAME = "a-droplet-with-quite-a-long-name.in-a-domain.of-its-own.example.com"


def copies(sources: dict[int, str], age_hours: float | None = None) -> list[Row]:
    return [
        Row(source=source, image_id=number, region=region, outcome=Outcome.ALREADY_THERE, age_hours=age_hours)
        for number, source in sources.items()
        for region in REGIONS
    ]


def missing(image_id: int = 4711, error: str = NO_SUCH_IMAGE) -> list[Row]:
    return [
        Row(source=str(image_id), image_id=image_id, region=region, outcome=Outcome.FAILED, error=error)
        for region in REGIONS
    ]


def replication(*rows: Row, **other: object) -> ReplicationReport:
    return ReplicationReport.model_validate({"rows": rows, "regions": REGIONS} | other)


def snapshot_row(number: int) -> PruningRow:
    return PruningRow(
        droplet=DROPLETS[167005714],
        droplet_id=448001575,
        image_id=number,
        created_at=NOW - timedelta(days=number % 100),
        regions=REGIONS,
        size_gigabytes=2.5,
        outcome=PruningOutcome.PLANNED,
        reason="no rule keeps it",
    )


def audited(name: str, droplet_id: int, **other: object) -> DropletAudit:
    return DropletAudit.model_validate({"droplet": name, "droplet_id": droplet_id, "plan": "daily"} | other)


BARE = Finding(kind=FindingKind.NO_BACKUPS, what="no backups and no snapshots made by this project")
VOLUME = UncoveredVolume(id="a", name="a-volume-with-a-name-that-is-longer-than-most", size_gib=16384)
AUDITED = CoverageReport(
    rows=tuple(
        row.model_copy(update={"droplet_id": droplet_id})
        for row in copies(DROPLETS, age_hours=47)
        for droplet_id in [448000739 if row.image_id == 167002701 else 448001575]
    ),
    regions=REGIONS,
    droplets=(
        audited("db-01 (448001093)", 448001093, schedule="none", problems=(BARE,), meets_objective=False),
        audited("web-01 (448000739)", 448000739, schedule="weekly SUN 20:00", newest_age_hours=47, overdue_since=NOW),
        audited("worker-01 (448001575)", 448001575, schedule="daily 20:00", snapshots=1, snapshots_gb=12.5),
    ),
    proven={"web-01 (448000739)": NOW},
)
WITH_VOLUMES = AUDITED.model_copy(
    update={"droplets": (audited(f"{LONG_NAME} (448001093)", 448001093, volumes=(VOLUME,)), *AUDITED.droplets[1:])}
)

REPORTS: list[RunReport] = [
    replication(
        *copies(DROPLETS),
        *missing(),
        conversions=(Row(source=LONG_NAME, image_id=167002701, outcome=Outcome.ADOPTED),),
        volumes={"web-01 (448000739)": 2},
        doubtful_regions=("tor1",),
    ),
    AUDITED,
    WITH_VOLUMES,
    replication(*copies({167002701: f"{LONG_NAME} (448000739)"})),
    PruningReport(rows=tuple(map(snapshot_row, (167002701, 167005714))), max_deletions=50),
    ReplicationReport(
        conversions=(
            Row(source=LONG_NAME, image_id=167002701, outcome=Outcome.CONVERTED, action_id=2048000001),
            Row(source="4711", image_id=4711, outcome=Outcome.FAILED, error=NO_SUCH_IMAGE),
        )
    ),
    ActionHistory(images=(ImageHistory(image_id=167002701, actions=(action(id=2048000001, status="completed"),)),)),
]


def identifiers(report: RunReport) -> set[str]:
    """The ids and slugs that a report's table names."""
    return set(re.findall(r"\b(?:\d{8,}|[a-z]{3}\d)\b", text_of(report, None).split(LEGEND)[0]))


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: type(report).__name__)
@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_case_35_no_line_is_wider_than_the_terminal_and_no_id_or_slug_is_cut(report: RunReport, width: int) -> None:
    text = text_of(report, width)
    assert max(map(cell_len, text.splitlines())) <= width
    words = set(re.findall(r"[\w-]+", text))
    assert identifiers(report) <= words
    assert "..." not in text


def test_case_35_on_80_columns_the_regions_are_split_into_blocks_with_all_droplets_each() -> None:
    text = text_of(replication(*copies(DROPLETS)), 80)
    blocks = text.split("\n\n")[:2]
    assert [line.split() for line in (blocks[0].splitlines()[0], blocks[1].splitlines()[0])] == [
        ["Droplet", "Image", *REGIONS[:8]],
        ["Droplet", "Image", *REGIONS[8:]],
    ]
    for block, number in zip(blocks, (8, 5), strict=True):
        assert [line.split() for line in block.splitlines()[2:]] == [
            [*source.split(), str(image_id), *["✓"] * number] for image_id, source in DROPLETS.items()
        ]


def test_on_200_columns_all_regions_are_side_by_side() -> None:
    head, *_ = text_of(replication(*copies(DROPLETS)), 200).splitlines()
    assert head.split() == ["Droplet", "Image", *REGIONS]


def test_on_80_columns_an_audit_shows_plans_first_and_then_blocks_of_regions() -> None:
    headline, problems, plans, *blocks = text_of(AUDITED, 80).split("\n\n")
    assert headline.startswith("2 of 3 Droplets have a copy in all 13 regions")
    assert problems.startswith("Problems:\n- No backups and no snapshots made by this project: db-01")
    titles, _, *lines = plans.splitlines()
    assert titles.split() == ["Droplet", "Backup", "plan", "Newest", "Proven", "Snapshots"]
    assert [line.split()[0] for line in lines] == ["db-01", "web-01", "worker-01"]
    shown = [block.splitlines()[0].split() for block in blocks if block.startswith("Droplet")]
    assert [title for titles in shown for title in titles[2:]] == list(REGIONS)
    assert {tuple(titles[:2]) for titles in shown} == {("Droplet", "Image")}


def test_on_200_columns_an_audit_is_one_table_with_every_droplet_once() -> None:
    lines = text_of(AUDITED, 200).split("\n\n")[2].splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["db-01", "web-01", "worker-01"]
    assert set(REGIONS) <= set(lines[0].split())


def test_case_36_an_unknown_image_is_a_single_problem_and_comes_first() -> None:
    failed = replication(*copies(DROPLETS), *missing())
    for width in (80, 200, None):
        lines = text_of(failed, width).splitlines()
        assert lines[2].split()[:2] == ["4711", "4711"]
        assert [line for line in lines if NO_SUCH_IMAGE in line] == [
            f"- image 4711 in all 13 regions: {NO_SUCH_IMAGE}" if width == 80 else lines[2]
        ]


def test_in_a_pipe_every_image_is_one_line_with_its_reason() -> None:
    error = "422 unprocessable_entity: " + "a reason that goes on and on; " * 20
    text = text_of(replication(*copies(DROPLETS), *missing(error=error)), None)
    (line,) = [line for line in text.splitlines() if line.startswith("4711")]
    assert line.split()[: 2 + len(REGIONS)] == ["4711", "4711", *["✗"] * len(REGIONS)]
    assert line.endswith(error.strip())


def test_a_long_name_is_wrapped_and_its_id_stays_whole() -> None:
    lines = text_of(replication(*copies({167002701: f"{LONG_NAME} (448000739)"})), 80).splitlines()
    start = next(number for number, line in enumerate(lines) if "167002701" in line)
    end = next(number for number, line in enumerate(lines) if "(448000739)" in line)
    first_column = "".join(line[:26].strip() for line in lines[start : end + 1])
    assert first_column == f"{LONG_NAME}(448000739)"


def test_a_column_that_does_not_fit_goes_below_the_others() -> None:
    text = text_of(PruningReport(rows=(snapshot_row(167002701),), max_deletions=50), 80)
    head, _, first, *below = text.split("\n\n")[0].splitlines()
    assert head.split() == ["Outcome", "Droplet", "Snapshot", "Made", "GB"]
    assert "167002701" in first
    assert below == [
        "    Why: no rule keeps it",
        "    Regions: ams3, atl1, blr1, fra1, lon1, nyc1, nyc3, ric1, sfo2, sfo3, sgp1,",
        "    syd1, tor1",
    ]


def test_with_very_many_reasons_the_first_are_shown_and_the_others_counted() -> None:
    rows = [row for number in range(1, MOST_REASONS + 6) for row in missing(number, f"reason {number}")]
    text = text_of(replication(*rows), 80)
    assert text.count("- image ") == MOST_REASONS
    assert "- and 5 more: see the run's log" in text


def test_notes_and_the_summary_come_last() -> None:
    report = REPORTS[0]
    assert isinstance(report, ReplicationReport)
    assert text_of(report, None).split("\n\n")[-3:] == [*report.notes, report.summary]


def test_an_empty_report_consists_of_its_summary() -> None:
    nothing = PruningReport(max_deletions=50)
    for width in (80, None):
        assert text_of(nothing, width).replace("\n", " ") == nothing.summary


@given(st.text(min_size=1, max_size=60), st.integers(20, 120))
def test_image_names_cannot_break_lines_or_move_the_cursor(name: str, width: int) -> None:
    report = PruningReport(rows=(snapshot_row(7).model_copy(update={"droplet": name}),), max_deletions=50)
    text = text_of(report, width)
    assert all(line.isprintable() for line in text.split("\n"))
    assert max(map(cell_len, text.split("\n"))) <= width
    assert "\n".join(text_of(report, None).split("\n")[2:3]).startswith("to delete")


class Screen:
    """What stdout is where its encoding lacks the signs."""

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self.written = b""

    def write(self, text: str) -> None:
        self.written += text.encode(self.encoding)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_case_34_symbols_missing_from_the_encoding_are_replaced(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(encoding)
    monkeypatch.setattr("sys.stdout", screen)
    print_report(replication(*copies({7: "wéb (1)"}), *missing()))
    written = screen.written.decode(encoding)
    assert "= already there | + done by this run | @ already in progress" in written
    assert "x failed" in written
    assert ("wéb" if encoding == "latin-1" else "w?b") in written


def test_a_closed_pipe_is_not_an_error() -> None:
    program = (
        "from flows.reporting.report import ReplicationReport\n"
        "from flows.reporting.terminal import print_report\n"
        "input()\n"
        "print_report(ReplicationReport(without_backups=tuple(map(str, range(100_000)))))"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as process:
        assert process.stdout
        process.stdout.close()
        _, errors = process.communicate("go on\n", timeout=60)
    assert (process.returncode, errors) == (0, "")
