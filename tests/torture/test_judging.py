from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

from prefect import State
from prefect.states import Completed, Failed

from deployments.sandbox import Action, Deletion, Image, Sandbox
from deployments.sandbox.account import Fate
from flows.prune_snapshots import prune_snapshots
from flows.replicate_backups import replicate_backups
from flows.reporting.pruning_report import PruningOutcome, PruningReport, PruningRow
from flows.reporting.report import Outcome, ReplicationReport, Row
from flows.results import Incomplete
from tests.end_to_end.accounts import add_snapshots
from tests.torture.judging import Job, duplicate_conversions, kept_silent, too_much
from tests.torture.reliability import read_sections, write_section

WORKS, FAILS, NEVER_ENDS = Fate(), Fate(outcome="errored"), Fate(ends=False)


def conversion(number: int, start: float, end: float, fate: Fate = WORKS) -> Action:
    return Action(number, "convert", 7, "image", "nyc3", start, end, start, fate)


def test_a_conversion_during_or_after_a_successful_one_is_a_duplicate() -> None:
    first, beside, after = conversion(1, 0, 10), conversion(2, 5, 12), conversion(3, 50, 60)
    assert duplicate_conversions([first, beside, after]) == [beside, after]


def test_a_conversion_after_a_failed_one_is_not_a_duplicate_but_a_concurrent_one_is() -> None:
    failed, beside, anew = conversion(1, 0, 10, FAILS), conversion(2, 9, 20), conversion(3, 10, 20)
    assert duplicate_conversions([failed, anew]) == []
    assert duplicate_conversions([failed, beside]) == [beside]


def test_any_conversion_during_one_that_never_ends_is_a_duplicate() -> None:
    endless, beside = conversion(1, 0, math.inf, NEVER_ENDS), conversion(2, 9999, 10000)
    assert duplicate_conversions([endless, beside]) == [beside]


def test_writing_a_section_keeps_the_others_and_replaces_its_own(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    write_section("Faults", "old", page)
    write_section("Crashes", "none", page)
    write_section("Faults", "new", page)
    sections = read_sections(page)
    assert list(sections) == ["Crashes", "Faults"]
    assert sections["Crashes"].endswith("none")
    assert sections["Faults"].endswith("new")


def job_on(image: Image) -> Job:
    return Job(replicate_backups, {}, [image], ["fra1"])


def image_in(*regions: str) -> Image:
    return Image(7, "web-01", "snapshot", dict.fromkeys(regions, 0.0), 0.0, 25, 2.0)


def report_with(*outcomes: Outcome, error: str = "") -> ReplicationReport:
    rows = (Row(source="web-01", image_id=7, region="fra1", outcome=outcome, error=error) for outcome in outcomes)
    return ReplicationReport(rows=tuple(rows), regions=("fra1",))


def test_reporting_something_missing_as_completed_is_silent() -> None:
    done: State[ReplicationReport] = Completed(data=report_with(Outcome.TRANSFERRED))
    assert kept_silent(done, job_on(image_in("nyc3", "fra1"))) == []
    assert kept_silent(done, job_on(image_in("nyc3"))) != []


def test_failing_without_naming_what_is_missing_or_why_is_silent() -> None:
    def failed(report: ReplicationReport) -> State[object]:
        error = Incomplete(report)
        return Failed(message=str(error), data=error)

    job = job_on(image_in("nyc3"))
    assert kept_silent(failed(report_with(Outcome.FAILED, error="refused")), job) == []
    assert kept_silent(failed(report_with(Outcome.FAILED)), job) != []
    assert kept_silent(failed(report_with()), job) != []


def test_failing_with_an_error_that_explains_nothing_is_silent() -> None:
    assert kept_silent(Failed(message="boom", data=RuntimeError("boom")), job_on(image_in("nyc3"))) != []


def test_a_snapshot_left_behind_is_missing_and_one_wrongly_deleted_is_too_much() -> None:
    sandbox = Sandbox(droplets=1)
    old, kept = add_snapshots(sandbox, next(iter(sandbox.account.droplets.values())), 2, 1)
    job = Job(prune_snapshots, {}, [old], gone_from=sandbox.account)
    assert job.missing() == [(old.id, "")]
    for image in (old, kept):
        sandbox.account.deleted.append(Deletion.of(image, 0.0))
        sandbox.account.delete_image(image)
    assert job.missing() == []
    assert too_much(sandbox, job) == [f"deletion of {kept.id}, which was not requested"]


def test_a_row_that_reports_an_existing_snapshot_as_deleted_is_wrong() -> None:
    sandbox = Sandbox(droplets=1)
    (old,) = add_snapshots(sandbox, next(iter(sandbox.account.droplets.values())), 2)
    job = Job(prune_snapshots, {}, [old], gone_from=sandbox.account)

    def failed(outcome: PruningOutcome, error: str = "") -> State[object]:
        row = PruningRow(
            droplet="web-01", droplet_id=7, image_id=old.id, created_at=datetime.fromtimestamp(0, UTC),
            size_gigabytes=1, outcome=outcome, reason="no rule keeps it", error=error,
        )  # fmt: skip
        wrong = Incomplete(PruningReport(rows=(row,), dry_run=False, max_deletions=0))
        return Failed(message=str(wrong), data=wrong)

    assert kept_silent(failed(PruningOutcome.FAILED, error="refused"), job) == []
    assert kept_silent(failed(PruningOutcome.FAILED), job) != []
    assert kept_silent(failed(PruningOutcome.DELETED), job) != []
