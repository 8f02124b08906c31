"""What a run says it did."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from flows.reporting.coverage_report import CoverageReport, DropletAudit, Finding, FindingKind, UncoveredVolume
from flows.reporting.pruning_report import PruningOutcome, PruningReport, PruningRow
from flows.reporting.report import (
    ActionHistory,
    ImageHistory,
    Outcome,
    ReplicationReport,
    Row,
)
from flows.reporting.tables import (
    CONTROL_PANEL,
    LEGEND,
    MOST_REASONS,
    SIGNS,
    WHAT_TO_DO,
    WHAT_WENT_WRONG,
    artifact_table,
    audit_description,
    coverage_description,
    coverage_markdown,
    coverage_table,
    escaped,
    history_table,
    pruning_table,
    table_of,
)
from flows.reporting.terminal import text_of
from flows.results import Incomplete
from tasks.digitalocean import Usage
from tests.flows.images import NOW, action

MARKDOWN = MarkdownIt("gfm-like", {"linkify": False})


def row(image_id: int = 1, region: str = "nyc3", outcome: Outcome = Outcome.TRANSFERRED, **other: Any) -> Row:
    return Row(**{"source": "web (1)", "image_id": image_id, "region": region, "outcome": outcome} | other)


def report(*rows: Row, **other: Any) -> ReplicationReport:
    return ReplicationReport(**{"rows": rows, "regions": ("fra1", "nyc3")} | other)


def test_a_problem_in_several_regions_is_reported_once_without_request_ids() -> None:
    rows = tuple(
        Row(
            source="web (1)",
            image_id=7,
            region=region,
            outcome=Outcome.FAILED,
            error=f"POST /v2/images/7/actions: 422 unprocessable_entity: No. (request ID {region}-1)",
        )
        for region in ("fra1", "nyc3")
    )
    report = ReplicationReport(rows=rows, regions=("fra1", "nyc3"))
    (line,) = coverage_table(report)
    assert line["What went wrong"] == "POST /v2/images/7/actions: 422 unprocessable_entity: No."
    assert coverage_description(report).count("422") == 1


def test_totals_count_each_outcome_that_occurs_and_no_other() -> None:
    totals = report(row(), row(2), row(1, "fra1", Outcome.FAILED)).totals
    assert totals == {Outcome.TRANSFERRED: 2, Outcome.FAILED: 1}


def test_the_summary_contains_images_regions_outcomes_and_request_counts() -> None:
    done = report(row(), row(1, "fra1", Outcome.ALREADY_THERE), usage=Usage(requests=7, too_many_requests=2))
    assert done.summary == ("1 image in 2 regions: 1 already there, 1 transferred; 7 API requests, 2 answered with 429")


def test_the_summary_of_a_dry_run_says_so() -> None:
    dry = report(
        row(1, "nyc3", Outcome.PLANNED), row(2, "nyc3", Outcome.PLANNED), dry_run=True, usage=Usage(requests=1)
    )
    assert dry.summary == (
        "Dry run, 2 images in 2 regions: 2 planned; would add no snapshots; 1 API request, 0 answered with 429"
    )


@pytest.mark.parametrize(
    ("added", "words"),
    [
        ({"added_gb": 12.5}, "would add 12.5 GB of snapshots;"),
        ({"added_gb": 12.5, "price_per_gb_month": 0.06}, "would add 12.5 GB of snapshots, $0.75 a month;"),
        ({"added_gb": 1234567.891}, "would add 1234567.89 GB of snapshots;"),
        ({"added_gb": 10.0, "added_unsized": 1}, "would add at least 10 GB of snapshots;"),
    ],
)
def test_every_dry_run_and_coverage_report_says_how_much_new_snapshots_add_up_to(
    added: dict[str, Any], words: str
) -> None:
    planned = row(outcome=Outcome.PLANNED)
    assert words in report(planned, dry_run=True, **added).summary
    assert f"replicate_backups {words}" in coverage(planned, **added).summary
    assert "would add" not in report(row(), **added).summary


def test_the_summary_of_an_empty_report_is_clear() -> None:
    assert report().summary == "0 images in 2 regions: nothing to do; 0 API requests, 0 answered with 429"


def test_a_run_without_bad_rows_has_no_failure() -> None:
    good = set(Outcome) - {Outcome.FAILED, Outcome.TIMED_OUT}
    assert report(*(row(outcome=each) for each in good)).failure == ""


def test_a_failure_says_how_many_of_how_many_and_the_first_reason() -> None:
    bad = report(row(), row(2, "fra1", Outcome.FAILED, error="422: no"), row(3, "fra1", Outcome.TIMED_OUT))
    assert bad.failure == "2 of 3 copies did not arrive (first: image 2 to fra1: 422: no)"
    assert str(Incomplete(bad)) == bad.failure


def test_a_failure_without_a_reason_names_the_outcome() -> None:
    assert report(row(outcome=Outcome.TIMED_OUT)).failure.endswith("(first: image 1 to nyc3: timed out)")


def test_every_outcome_has_its_own_symbol_and_is_in_the_legend() -> None:
    # What a run has done looks the same, be it a copy, a conversion or a snapshot.
    assert len({outcome: sign for sign, outcome in zip(SIGNS.values(), SIGNS, strict=True)}) == len(Outcome)
    assert len(set(SIGNS.values())) == len(Outcome) - 2
    assert all(sign in LEGEND for sign in SIGNS.values())


def test_the_table_has_a_row_per_image_and_a_column_per_region() -> None:
    table = coverage_table(report(row(), row(1, "fra1", Outcome.ALREADY_THERE)))
    assert table == [{"Droplet": "web (1)", "Image": "1", "fra1": "✓", "nyc3": "+"}]


def test_the_table_shows_failures_first_with_each_reason_once() -> None:
    bad = [
        row(1, source="api (9)"),
        row(2, "fra1", Outcome.FAILED, source="web (2)", error="gone"),
        row(2, "nyc3", Outcome.FAILED, source="web (2)", error="gone"),
        row(3, "nyc3", Outcome.TIMED_OUT, source="db (3)", error="late"),
    ]
    table = coverage_table(report(*bad))
    assert [(line["Droplet"], line["What went wrong"]) for line in table] == [
        ("db (3)", "late"),
        ("web (2)", "gone"),
        ("api (9)", ""),
    ]


def test_the_table_shows_droplets_that_have_nothing_to_copy() -> None:
    table = coverage_table(report(row(), without_backups=("db (3)",)))
    assert table[-1] == {"Droplet": "db (3)", "Image": "no backups", "fra1": "", "nyc3": ""}


def test_all_rows_of_a_table_have_the_same_columns() -> None:
    bad = report(row(), row(2, "fra1", Outcome.FAILED, error="gone"))
    histories = ActionHistory(
        images=(ImageHistory(image_id=1, error="gone"), ImageHistory(image_id=2, actions=(action(),)))
    )
    for table in (coverage_table(bad), history_table(histories)):
        assert len({tuple(line) for line in table}) == 1


def test_rows_of_droplets_without_backups_have_the_same_columns_as_the_others() -> None:
    table = coverage_table(report(row(1, "fra1", Outcome.FAILED, error="gone"), without_backups=("db (3)",)))
    assert tuple(table[0]) == tuple(table[1])


def test_reports_on_conversions_count_and_fail_like_the_others() -> None:
    done = ReplicationReport(
        conversions=(
            Row(source="web", image_id=1, image_name="web", outcome=Outcome.CONVERTED, action_id=5),
            Row(source="2", image_id=2, outcome=Outcome.ALREADY_THERE),
            Row(source="3", image_id=3, outcome=Outcome.FAILED, error="gone"),
            Row(source="4", image_id=4, outcome=Outcome.TIMED_OUT),
        ),
        usage=Usage(requests=9),
    )
    assert done.summary == (
        "4 images: 1 already there, 1 converted, 1 failed, 1 timed out; 9 API requests, 0 answered with 429"
    )
    assert done.failure == "2 of 4 images were not converted (first: 3: gone)"
    assert coverage_table(done)[0] == {"Droplet": "3", "Image": "3", "Converted": "✗", "What went wrong": "gone"}
    assert coverage_table(done)[-1] == {"Droplet": "web", "Image": "1", "Converted": "+", "What went wrong": ""}


def test_the_conversions_of_a_run_that_copies_have_a_column_and_are_not_counted_as_copies() -> None:
    planned = report(
        row(1, "nyc3", Outcome.PLANNED),
        conversions=(Row(source="web", image_id=1, outcome=Outcome.PLANNED),),
        dry_run=True,
    )
    assert planned.totals == {Outcome.PLANNED: 1}
    assert {line["Converted"] for line in coverage_table(planned)} == {"○", ""}


def test_a_history_lists_the_newest_action_first_and_images_without_any() -> None:
    old, new = action(id=1, status="completed", minutes_ago=60), action(id=2, minutes_ago=5)
    history = ActionHistory(images=(ImageHistory(image_id=8, actions=(old, new)), ImageHistory(image_id=9)))
    table = history_table(history)
    assert [(line["Image"], line["Action"], line["Status"]) for line in table] == [
        ("8", "2", "in-progress"),
        ("8", "1", "completed"),
        ("9", "", "no actions"),
    ]
    assert history.summary == "2 actions on 2 images; 0 API requests"
    assert history.failure == ""


def test_an_unreadable_history_is_a_failure() -> None:
    history = ActionHistory(images=(ImageHistory(image_id=8), ImageHistory(image_id=9, error="404: gone")))
    assert history.failure == "1 of 2 images could not be read (first: 404: gone)"


def pruning_row(image_id: int = 1, outcome: PruningOutcome = PruningOutcome.KEPT, **other: Any) -> PruningRow:
    wanted = {"droplet": "web (7)", "droplet_id": 7, "created_at": NOW, "size_gigabytes": 2.5, "reason": "last 1 of 7"}
    return PruningRow(**{"image_id": image_id, "outcome": outcome, "regions": ("fra1", "nyc3")} | wanted | other)


def pruning(*rows: PruningRow, **other: Any) -> PruningReport:
    return PruningReport(**{"rows": rows, "dry_run": False, "max_deletions": 50} | other)


def test_a_pruning_report_gives_the_number_and_size_per_outcome() -> None:
    done = pruning(
        pruning_row(1),
        pruning_row(2, PruningOutcome.DELETED),
        pruning_row(3, PruningOutcome.DELETED, size_gigabytes=0.25),
        pruning_row(4, PruningOutcome.GONE, droplet_id=8),
        left_alone=3,
        usage=Usage(requests=9),
    )
    assert done.summary == (
        "4 snapshots of 2 Droplets: 1 kept (2.5 GB), 2 deleted (2.75 GB), 1 already gone (2.5 GB), "
        "3 left alone, which this project did not make; 9 API requests, 0 answered with 429"
    )
    assert done.failure == ""


def test_an_empty_pruning_report_is_clear() -> None:
    nothing = "0 snapshots of 0 Droplets: nothing to do; 0 API requests, 0 answered with 429"
    assert pruning().summary == nothing
    assert pruning(dry_run=True).summary == f"Dry run, {nothing}"


def test_costs_are_left_out_if_the_price_is_zero() -> None:
    rows = pruning_row(1), pruning_row(2, PruningOutcome.PLANNED, size_gigabytes=10)
    assert "a month" not in pruning(*rows, dry_run=True).summary
    assert "1 kept (2.5 GB, $0.15 a month), 1 to delete (10 GB, $0.60 a month)" in (
        pruning(*rows, dry_run=True, price_per_gb_month=0.06).summary
    )


def test_failed_pruning_says_how_many_snapshots_remain_and_the_first_reason() -> None:
    bad = pruning(
        pruning_row(1),
        pruning_row(2, PruningOutcome.DELETED),
        pruning_row(3, PruningOutcome.FAILED, error="422: no"),
        pruning_row(4, PruningOutcome.FAILED, error="500: oh"),
        pruning_row(5, PruningOutcome.GONE),
    )
    assert bad.failure == "2 of 4 snapshots were not deleted (first: 3: 422: no)"
    assert str(Incomplete(bad)) == bad.failure


def test_pruning_fails_if_too_many_snapshots_would_go_but_a_dry_run_does_not() -> None:
    rows = [pruning_row(number, PruningOutcome.PLANNED) for number in range(3)]
    assert pruning(*rows, max_deletions=2).failure == (
        "nothing was deleted: 3 snapshots exceed max_deletions (2); "
        "check the plan, and raise max_deletions if it is right"
    )
    looked = pruning(*rows, max_deletions=2, dry_run=True)
    assert looked.failure == ""
    assert "more than max_deletions (2), so nothing would be deleted" in looked.summary
    assert pruning(pruning_row(), max_deletions=0).failure == ""


def test_the_snapshot_table_shows_failures_then_deletions_then_the_rest() -> None:
    last_to_first = [
        PruningOutcome.KEPT,
        PruningOutcome.PLANNED,
        PruningOutcome.GONE,
        PruningOutcome.DELETED,
        PruningOutcome.FAILED,
    ]
    report_of_all = pruning(*(pruning_row(number, each) for number, each in enumerate(last_to_first)))
    table = pruning_table(report_of_all)
    assert [line["Outcome"] for line in table] == ["failed", "deleted", "already gone", "to delete", "kept"]
    assert table_of(report_of_all) == table
    assert set(last_to_first) == set(PruningOutcome)


def test_the_snapshot_table_describes_each_snapshot_with_its_regions_and_reason() -> None:
    kept, failed = pruning_row(1), pruning_row(2, PruningOutcome.FAILED, reason="no rule keeps it", error="422: no")
    assert pruning_table(pruning(kept, failed)) == [
        {
            "Outcome": outcome,
            "Droplet": "web (7)",
            "Snapshot": number,
            "Made": "2026-11-23 03:00",
            "GB": "2.5",
            "Why": why,
            "Regions": "fra1, nyc3",
        }
        for outcome, number, why in (("failed", "2", "422: no"), ("kept", "1", "last 1 of 7"))
    ]


def coverage(*rows: Row, **other: Any) -> CoverageReport:
    return CoverageReport(**{"rows": rows, "regions": ("fra1", "nyc3")} | other)


def test_the_age_of_copies_is_shown_in_hours_and_from_two_days_on_in_days() -> None:
    ages = {"ams3": 0.4, "fra1": 47.4, "lon1": 48.0, "nyc3": 100.0, "sfo3": None}
    rows = [
        row(region=region, outcome=Outcome.ALREADY_THERE, age_hours=age, droplet_id=1) for region, age in ages.items()
    ]
    (line,) = table_of(coverage(*rows, regions=tuple(ages), droplets=(audited(),)))
    assert [line[region] for region in ages] == ["✓ 0 h", "✓ 47 h", "✓ 2 d", "✓ 4 d", "✓"]


def test_coverage_fails_only_if_an_objective_is_set_and_missed() -> None:
    rows = row(1, "fra1", Outcome.ALREADY_THERE), row(1, "nyc3", Outcome.FAILED, error="too old")
    assert coverage(*rows, without_backups=("db (3)",)).failure == ""
    assert coverage(rows[0], max_age_hours=24).failure == ""
    assert coverage(*rows, max_age_hours=24).failure == (
        "1 of 2 copies are missing or too old (first: web (1) in nyc3: too old)"
    )
    assert coverage(rows[0], max_age_hours=24, without_backups=("db (3)", "api (4)")).failure == (
        "no backups of db (3), api (4)"
    )


def audited(
    name: str = "web (1)", droplet_id: int = 1, *problems: tuple[FindingKind, str], **other: Any
) -> DropletAudit:
    findings = tuple(Finding(kind=kind, what=what) for kind, what in problems)
    wanted = {"plan": "daily", "schedule": "daily 20:00", "meets_objective": not problems} | other
    return DropletAudit(droplet=name, droplet_id=droplet_id, problems=findings, **wanted)


NO_BACKUPS, NO_COPY = (FindingKind.NO_BACKUPS, "no backups"), (FindingKind.MISSING_COPY, "no copy in fra1")
WITH_PROBLEMS = coverage(
    row(7, "fra1", Outcome.PLANNED, droplet_id=2, source="api (2)"),
    row(7, "nyc3", Outcome.ALREADY_THERE, droplet_id=2, source="api (2)", age_hours=5.0),
    droplets=(
        audited("db (3)", 3, NO_BACKUPS, plan="none", schedule="none"),
        audited("api (2)", 2, NO_COPY, newest_age_hours=50.0, overdue_since=NOW),
        audited("web (1)", 1, NO_COPY, volumes=(UncoveredVolume(id="a", name="pgdata", size_gib=100),)),
        audited("ok (4)", 4, snapshots=3, snapshots_gb=7.5, snapshots_price=0.45, proven_at=NOW),
    ),
    of_deleted=1,
    of_deleted_gb=2.5,
    price_per_gb_month=0.06,
    proven={"db (3)": None, "ok (4)": NOW},
)


@pytest.mark.parametrize(
    ("limits", "objective"),
    [
        ({}, "a copy in fra1 and nyc3 and no overdue backup"),
        ({"plans_known": False}, "a copy in fra1 and nyc3"),
        ({"max_age_hours": 26}, "a copy in fra1 and nyc3 that is at most 26 h old"),
        ({"max_age_hours": 26, "regions": ("fra1",)}, "a copy in fra1 that is at most 26 h old"),
        (
            {"max_days_unproven": 30},
            "a copy in fra1 and nyc3, no overdue backup and a restore proven within 30 days",
        ),
    ],
)
def test_the_report_begins_with_how_many_droplets_meet_which_objective(limits: dict[str, Any], objective: str) -> None:
    shown_report = WITH_PROBLEMS.model_copy(update=limits)
    assert shown_report.headline == f"1 of 4 Droplets has {objective}"
    assert shown_report.summary.startswith(f"{shown_report.headline}; ")
    assert audit_description(shown_report).startswith(f"**{shown_report.headline}**")
    assert text_of(shown_report, None).startswith(f"{shown_report.headline}\n\nProblems:\n")


def test_problems_come_with_all_their_droplets_the_most_urgent_first() -> None:
    assert WITH_PROBLEMS.problem_lines == (
        "No backups: db (3)",
        "No copy in fra1: api (2), web (1)",
        "Volumes that are not copied: web (1) has pgdata (100 GiB)",
    )


def test_of_many_different_problems_of_a_kind_the_others_are_counted() -> None:
    many = [audited(f"web ({n})", n, (FindingKind.MISSING_COPY, f"no copy in reg{n}")) for n in range(1, 14)]
    *_, last = coverage(droplets=(*many, audited("db (99)", 99))).problem_lines
    assert last == "... and 3 more problems of this kind: see the table"


def test_the_audit_has_one_row_per_droplet_with_plan_age_costs_and_copies() -> None:
    table = {line["Droplet"]: line for line in table_of(WITH_PROBLEMS)}
    assert list(table) == ["db (3)", "api (2)", "web (1)", "ok (4)"]
    assert table["api (2)"] == {
        "Droplet": "api (2)",
        "Image": "7",
        "Backup plan": "daily 20:00",
        "Newest": "2 d overdue",
        "Proven": "never",
        "Snapshots": "",
        "Volumes": "",
        "fra1": "○",
        "nyc3": "✓ 5 h",
    }
    assert (table["db (3)"]["Image"], table["db (3)"]["Backup plan"]) == ("no backups", "none")
    assert table["web (1)"]["Volumes"] == "pgdata (100 GiB)"
    assert (table["ok (4)"]["Snapshots"], table["ok (4)"]["Proven"]) == ("7.5 GB, $0.45", "2026-11-23")


def test_the_totals_count_snapshots_of_deleted_droplets_and_those_that_no_rule_keeps() -> None:
    assert WITH_PROBLEMS.totals_text == (
        "4 snapshots made by this project: 10 GB, $0.60 a month (including 1 of deleted Droplets, 2.5 GB); "
        "replicate_backups would add no snapshots; 0 API requests, 0 answered with 429"
    )
    assert "; 1 snapshot (2.5 GB) that no rule keeps; " in coverage(unkept=1, unkept_gb=2.5).totals_text
    assert "$" not in coverage(unkept=1, unkept_gb=2.5).totals_text


def test_without_anything_to_report_there_are_no_problems_proofs_or_volumes() -> None:
    fine = coverage(droplets=(audited(),))
    assert fine.problem_lines == fine.notes == ()
    assert {"Proven", "Volumes"}.isdisjoint(table_of(fine)[0])
    assert "Problems" not in text_of(fine, 80)


def test_what_could_not_be_read_is_a_note() -> None:
    note = "Volumes are counted, but not named: 403"
    unread = coverage(droplets=(audited(),), unread=(note,))
    assert unread.notes == (note,)
    assert note in text_of(unread, None)
    assert links_in(audit_description(unread).split("\n\n")[1]) == ([], note)
    assert unread.failure == ""


def test_the_tables_of_coverage_are_escaped_with_links_to_the_control_panel() -> None:
    rows = [row(12, "fra1", source="[a](b) (7)", droplet_id=7, age_hours=5.0)]
    (line,) = artifact_table(coverage(*rows, droplets=(audited("[a](b) (7)", 7),)))
    assert line["Droplet"] == r"\[a\](b) ([7](https://cloud.digitalocean.com/droplets/7))".replace("(b)", r"\(b\)")
    assert line["Image"] == "[12](https://cloud.digitalocean.com/images/snapshots/droplets)"


def shown(name: str) -> tuple[list[str], str]:
    """What Markdown makes of an escaped name: the kinds of things in it, and the text."""
    ((_, cell),) = escaped([{"Droplet": name}])[0].items()
    (inline,) = [token for token in MARKDOWN.parse(f"x {cell} x") if token.type == "inline"]
    children = inline.children or []
    return [each.type for each in children], "".join(each.content for each in children)


def test_hostile_image_names_are_shown_verbatim() -> None:
    for name in (
        "[click](javascript:alert(1))",
        "![pixel](https://example.com/x.png)",
        "<script>alert(1)</script>",
        "a | b | c",
        "**bold** _it_ ~~gone~~ `code`",
        "\\[x](y)",
        "<https://example.com>",
    ):
        kinds, text = shown(name)
        assert set(kinds) <= {"text", "text_special"}, name
        assert text == f"x {name} x"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_no_name_of_printable_characters_can_smuggle_markup_in(name: str) -> None:
    kinds, _ = shown(name)
    assert set(kinds) <= {"text", "text_special"}


def links_in(cell: str) -> tuple[list[str], str]:
    """What Markdown makes of a cell: the addresses of its links, and the text."""
    (inline,) = [token for token in MARKDOWN.parse(f"x {cell} x") if token.type == "inline"]
    children = inline.children or []
    addresses = [str(each.attrs["href"]) for each in children if each.type == "link_open"]
    return addresses, "".join(each.content for each in children)[2:-2]


def test_droplets_and_images_in_an_artifact_link_to_the_control_panel() -> None:
    (line,) = coverage_markdown(report(row(7, source="web (1)", droplet_id=1), row(7, "fra1", droplet_id=1)))
    assert links_in(line["Droplet"]) == ([f"{CONTROL_PANEL}/droplets/1"], "web (1)")
    assert links_in(line["Image"]) == ([f"{CONTROL_PANEL}/images/snapshots/droplets"], "7")


def test_cells_without_a_droplet_or_image_have_no_link() -> None:
    named, bare = coverage_markdown(report(row(7, source="web-snapshot (1)"), without_backups=("db (3)",)))
    assert links_in(named["Droplet"]) == ([], "web-snapshot (1)")
    assert links_in(bare["Droplet"]) == ([f"{CONTROL_PANEL}/droplets/3"], "db (3)")
    assert links_in(bare["Image"]) == ([], "no backups")


def test_an_artifact_has_all_columns_of_the_table_except_the_reasons() -> None:
    bad = report(row(droplet_id=1), row(2, "fra1", Outcome.FAILED, error="a|b"), without_backups=("db (3)",))
    shown_cells = [{title: links_in(cell)[1] for title, cell in line.items()} for line in coverage_markdown(bad)]
    assert shown_cells == [
        {title: cell for title, cell in line.items() if title != WHAT_WENT_WRONG} for line in coverage_table(bad)
    ]


def test_an_artifact_begins_with_each_problem_once_per_droplet_and_reason_and_what_to_do() -> None:
    bad = report(
        row(1, "fra1", Outcome.FAILED, error="gone"),
        row(1, "nyc3", Outcome.FAILED, error="gone"),
        row(2, "nyc3", Outcome.TIMED_OUT, source="db (2)", error="late"),
    )
    summary, legend, reasons, what_to_do = coverage_description(bad).split("\n\n")
    assert summary == f"**{bad.summary}**"
    assert (legend, what_to_do) == (LEGEND, WHAT_TO_DO)
    assert reasons.splitlines() == [
        r"- web \(1\), image 1 in fra1, nyc3: gone",
        r"- db \(2\), image 2 in nyc3: late",
    ]


def test_the_artifact_of_a_successful_run_lists_no_problems() -> None:
    assert coverage_description(report(row())).split("\n\n") == [f"**{report(row()).summary}**", LEGEND]


def test_case_19_uncovered_volumes_are_counted_per_droplet() -> None:
    sentence = "Volumes are not covered, only the Droplets' own disks: db (3) has 1 volume, web (1) has 2 volumes."
    each = report(row(), volumes={"db (3)": 1, "web (1)": 2})
    assert each.notes == (sentence,)
    assert links_in(coverage_description(each).split("\n\n")[-1]) == ([], sentence)
    assert report(row()).notes == ()
    many = report(row(), volumes={f"web ({number})": 1 for number in range(30)})
    assert many.notes[0].endswith("web (19) has 1 volume, and 10 more.")


def test_requested_regions_that_are_not_offered_are_pointed_out() -> None:
    (note,) = report(row(), doubtful_regions=("moon1", "nyc2")).notes
    assert note.startswith("DigitalOcean does not list moon1, nyc2 as available for image transfers.")


def test_case_36_a_reason_that_is_the_same_for_all_regions_of_an_image_is_one_problem() -> None:
    regions = [f"reg{number}" for number in range(12)]
    error = "POST /v2/images/7/actions: 422 unprocessable_entity: No."
    rows = [
        *(row(4711, each, Outcome.FAILED, source="4711", error="there is no image 4711") for each in regions),
        *(row(7, each, Outcome.FAILED, error=f"{error} (request ID {each})") for each in regions[:2]),
        *(row(7, each) for each in regions[2:]),
        *(row(8, each, Outcome.TIMED_OUT) for each in regions),
    ]
    failed = report(*rows, regions=regions)
    assert [(each.image, each.where, each.error) for each in failed.problems] == [
        ("image 4711", "all 12 regions", "there is no image 4711"),
        ("web (1), image 7", "reg0, reg1", f"{error} (request ID reg0)"),
        ("web (1), image 8", "all 12 regions", "timed out"),
    ]
    assert [line for line in coverage_description(failed).splitlines() if line.startswith("- ")] == [
        "- image 4711 in all 12 regions: there is no image 4711",
        f"- {escaped([{'': 'web (1), image 7'}])[0]['']} in reg0, reg1: {escaped([{'': error}])[0]['']}",
        f"- {escaped([{'': 'web (1), image 8'}])[0]['']} in all 12 regions: timed out",
    ]
    reasons = {line["Image"]: line[WHAT_WENT_WRONG] for line in coverage_table(failed)}
    assert reasons == {"4711": "there is no image 4711", "7": error, "8": "timed out"}


def test_with_very_many_reasons_the_first_are_shown_and_the_others_counted() -> None:
    bad = report(*(row(each, source=f"web ({each})", outcome=Outcome.FAILED, error="gone") for each in range(1, 31)))
    items = [line for line in coverage_description(bad).splitlines() if line.startswith("- ")]
    assert len(items) == MOST_REASONS + 1
    assert items[-1].startswith(f"- and {30 - MOST_REASONS} more")


NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)


@given(name=NAMES, droplet_id=st.integers(1, 99), error=NAMES)
def test_no_name_or_error_adds_links_other_than_to_the_control_panel(name: str, droplet_id: int, error: str) -> None:
    source = f"{name} ({droplet_id})"
    failed = report(row(7, source=source, droplet_id=droplet_id, outcome=Outcome.FAILED, error=error))
    (line,) = coverage_markdown(failed)
    assert links_in(line["Droplet"]) == ([f"{CONTROL_PANEL}/droplets/{droplet_id}"], source)
    (item,) = (line for line in coverage_description(failed).splitlines() if line.startswith("- "))
    assert links_in(item.removeprefix("- ")) == ([], f"{source}, image 7 in nyc3: {error}")
