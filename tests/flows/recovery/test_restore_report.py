"""What the report of a rebuild says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.recovery.creation import Created
from flows.recovery.markers import RESTORE
from flows.recovery.preflight import RestorePlan, Surroundings, Wish, plan_restore
from flows.recovery.rows import created_rows, planned_rows
from flows.recovery.sources import Source
from flows.reporting.restore_report import (
    BAD_OUTCOMES,
    NEXT_STEPS,
    RestoreOutcome,
    RestoreReport,
    RestoreRow,
    restore_table,
)
from flows.reporting.tables import MOST_PLANNED, MOST_REASONS, artifact_description, plan_markdown
from tasks.digitalocean import Droplet, Usage
from tests.flows.images import NOW, image
from tests.flows.recovery.recovery_examples import MEDIUM, SIZES, SMALL, droplet, source

Outcome = RestoreOutcome


def row(outcome: RestoreOutcome = Outcome.RESTORED, **other: Any) -> RestoreRow:
    usual = {"droplet": "web-01 (1)", "region": "fra1", "size": SMALL, "price_monthly": 6, "price_hourly": 0.009}
    return RestoreRow(**{**usual, "outcome": outcome, **other})


def report(*rows: RestoreRow, **other: Any) -> RestoreReport:
    usual = {"region": "fra1", "dry_run": False, "max_droplets": 25, "usage": Usage(requests=20)}
    return RestoreReport(**{**usual, "rows": rows, **other})


FAILED = row(Outcome.FAILED, droplet="db-01 (2)", error="it has no available backup or snapshot in fra1")
LEFT = row(Outcome.LEFT, error="the account's Droplet limit is reached")


@pytest.mark.parametrize(
    ("made", "summary"),
    [
        (report(), "0 Droplets in fra1: nothing to do; 20 API requests, 0 answered with 429"),
        (
            report(row(), row(), FAILED),
            (
                "3 Droplets in fra1: 1 failed, 2 restored, $0.018 an hour, $12.00 a month; "
                "20 API requests, 0 answered with 429"
            ),
        ),
        (
            report(row(Outcome.PLANNED), row(Outcome.NOT_NEEDED), LEFT, dry_run=True),
            (
                "Dry run, 3 Droplets in fra1: 1 left for later, 1 planned, 1 not needed, $0.009 an hour, $6.00 a month"
                "; 20 API requests, 0 answered with 429"
            ),
        ),
        (
            report(row(Outcome.ALREADY_RESTORED)),
            "1 Droplet in fra1: 1 already restored; 20 API requests, 0 answered with 429",
        ),
        (
            report(row(Outcome.PLANNED), row(Outcome.PLANNED), max_droplets=1),
            (
                "2 Droplets in fra1: 2 planned, more than max_droplets (1), so none is created, $0.018 an hour, "
                "$12.00 a month; 20 API requests, 0 answered with 429"
            ),
        ),
    ],
)
def test_the_summary_counts_outcomes_and_says_what_the_new_droplets_cost(made: RestoreReport, summary: str) -> None:
    assert made.summary == summary


@pytest.mark.parametrize(
    ("made", "failure"),
    [
        (report(), ""),
        (report(*(row(each) for each in Outcome if each not in BAD_OUTCOMES)), ""),
        (report(FAILED, row()), f"1 of 2 Droplets was not restored (first: db-01 (2): {FAILED.error})"),
        (report(FAILED), f"1 of 1 Droplet was not restored (first: db-01 (2): {FAILED.error})"),
        (report(LEFT, FAILED, row()), f"2 of 3 Droplets were not restored (first: web-01 (1): {LEFT.error})"),
        (
            report(FAILED, row(Outcome.PLANNED), dry_run=True),
            f"1 of 2 Droplets cannot be restored (first: db-01 (2): {FAILED.error})",
        ),
        (
            report(row(Outcome.PLANNED), row(Outcome.PLANNED), FAILED, max_droplets=1),
            (
                "nothing was created: 2 Droplets would be more than max_droplets (1); check the plan, and raise "
                "max_droplets if it is right"
            ),
        ),
        (report(row(Outcome.PLANNED), row(Outcome.PLANNED), max_droplets=1, dry_run=True), ""),
        (report(row(Outcome.PLANNED), row(Outcome.PLANNED), max_droplets=2, dry_run=True), ""),
        (
            report(row(), row(Outcome.ALREADY_RESTORED), row(Outcome.TIMED_OUT, error="late"), interrupted=True),
            "2 of 3 Droplets restored. Run the command again to finish.",
        ),
    ],
)
def test_the_failure_says_how_many_of_how_many_and_what_to_do(made: RestoreReport, failure: str) -> None:
    assert made.failure == failure


@given(outcomes=st.lists(st.sampled_from(Outcome), max_size=6), dry_run=st.booleans())
def test_a_run_fails_if_and_only_if_a_droplet_was_not_rebuilt(outcomes: list[RestoreOutcome], *, dry_run: bool) -> None:
    made = report(*(row(each, error="why") for each in outcomes), dry_run=dry_run)
    assert bool(made.failure) is any(each in BAD_OUTCOMES for each in outcomes)
    assert len(made.bad_rows) == sum(each in BAD_OUTCOMES for each in outcomes)
    restored = {Outcome.RESTORED, Outcome.ALREADY_RESTORED} & set(outcomes)
    assert made.next_steps == (NEXT_STEPS if restored and not dry_run else ())


def test_the_table_has_what_failed_first_and_a_line_per_droplet() -> None:
    restored = row(
        image_id=7,
        image_created_at=NOW,
        name="web-01-restored",
        new_droplet_id=9,
        public_ip="198.51.100.2",
        seconds=41.4,
    )
    larger = row(Outcome.PLANNED, droplet="api-01 (3)", name="api-01-restored", why_size="size c-2 is not there")
    nothing = row(Outcome.FAILED, droplet="db-01 (2)", size="", price_monthly=0, error="no copy")
    assert restore_table(report(restored, larger, nothing)) == [
        {
            "Outcome": "failed",
            "Original": "db-01 (2)",
            "From image": "-",
            "Made": "",
            "Size": "",
            "$ a month": "",
            "New Droplet": "",
            "Address": "",
            "Seconds": "",
            "Notes": "no copy",
        },
        {
            "Outcome": "planned",
            "Original": "api-01 (3)",
            "From image": "-",
            "Made": "",
            "Size": SMALL,
            "$ a month": "6.00",
            "New Droplet": "api-01-restored",
            "Address": "",
            "Seconds": "",
            "Notes": "size c-2 is not there",
        },
        {
            "Outcome": "restored",
            "Original": "web-01 (1)",
            "From image": "7",
            "Made": "2026-11-23 03:00",
            "Size": SMALL,
            "$ a month": "6.00",
            "New Droplet": "web-01-restored (9)",
            "Address": "198.51.100.2",
            "Seconds": "41",
            "Notes": "",
        },
    ]


def test_without_errors_the_table_has_no_notes() -> None:
    assert all("Notes" not in line for line in restore_table(report(row(), row(Outcome.ALREADY_RESTORED))))


# Rows


def plan(*sources: Source, droplets: tuple[Droplet, ...] = (), limit: int = 9) -> RestorePlan:
    return plan_restore(sources, Wish(RESTORE, name_suffix="-restored"), Surroundings(SIZES, droplets, limit))


RESTORED_BEFORE = droplet(50, "web-restored", "fra1", ("prefect:restored:1",), public_ip="198.51.100.2")


@pytest.mark.parametrize(
    ("planned", "outcome", "error", "name"),
    [
        (plan(source()), Outcome.PLANNED, "", "web-restored"),
        (plan(source(needed=False)), Outcome.NOT_NEEDED, "", ""),
        (plan(source(image=None, problem="no copy")), Outcome.FAILED, "no copy", ""),
        (plan(source(), droplets=(RESTORED_BEFORE,)), Outcome.ALREADY_RESTORED, "", "web-restored"),
        (
            plan(source(), limit=0),
            Outcome.LEFT,
            "the account's Droplet limit is reached: ask DigitalOcean to raise it, then run again",
            "web-restored",
        ),
    ],
)
def test_a_plan_has_a_row_per_droplet(planned: RestorePlan, outcome: RestoreOutcome, error: str, name: str) -> None:
    (only,) = planned_rows(planned)
    assert (only.droplet, only.droplet_id, only.region) == ("web (1)", 1, "fra1")
    assert (only.outcome, only.error, only.name) == (outcome, error, name)


NEW = droplet(60, "web-restored", "fra1", public_ip="198.51.100.3", private_ip="10.100.0.2")


@pytest.mark.parametrize(
    ("created", "waited", "outcome", "error"),
    [
        (Created(NEW, 5.0, 40.0, active=True), True, Outcome.RESTORED, ""),
        (Created(NEW, 5.0), False, Outcome.STARTED, ""),
        (Created(NEW), False, Outcome.ALREADY_RESTORED, ""),
        (Created(error="refused"), True, Outcome.FAILED, "refused"),
        (
            Created(NEW, 5.0),
            True,
            Outcome.TIMED_OUT,
            "it was still being created when the run ended: the next run picks it up",
        ),
        (
            Created(),
            True,
            Outcome.TIMED_OUT,
            "the run ended before it was requested: the next run requests it",
        ),
        (
            Created(requested_at=5.0),
            True,
            Outcome.TIMED_OUT,
            "the run ended while it was being requested: the next run finds it if it was created",
        ),
    ],
)
def test_a_row_says_what_became_of_a_droplet(
    created: Created, outcome: RestoreOutcome, error: str, *, waited: bool
) -> None:
    (only,) = created_rows(plan(source()), {"prefect:restored:1": created}, waited=waited)
    assert (only.outcome, only.error, only.seconds) == (outcome, error, created.seconds)
    if created.droplet:
        assert (only.new_droplet_id, only.public_ip, only.private_ip) == (60, "198.51.100.3", "10.100.0.2")


def test_a_row_has_the_image_the_size_and_the_price() -> None:
    of = image(7, min_disk_size=26, name="web 2026-11-23")
    (only,) = planned_rows(plan(source(image=of)))
    assert (only.image_id, only.image_name, only.image_created_at) == (7, "web 2026-11-23", NOW)
    assert (only.size, only.price_monthly) == (MEDIUM, 24)
    assert only.price_hourly == pytest.approx(24 / 672)
    assert only.why_size.startswith(f"size {SMALL} has a disk of 25 GB")


def test_what_was_neither_created_nor_found_keeps_its_planned_row() -> None:
    planned = plan(source(1), source(2, "db", needed=False), source(3, "api", image=None, problem="no copy"))
    rows = created_rows(planned, {"prefect:restored:1": Created(NEW, 5.0, 40.0, active=True)}, waited=True)
    assert [each.outcome for each in rows] == [Outcome.RESTORED, Outcome.NOT_NEEDED, Outcome.FAILED]


PLANNED = row(Outcome.PLANNED, name="web-01-restored", image_id=101, image_created_at=NOW)


def test_a_plan_that_was_not_carried_out_says_so_first_and_counts_as_a_failure_without_next_steps() -> None:
    stopped = report(PLANNED, row(Outcome.ALREADY_RESTORED), why_not_carried_out="nobody approved it")
    assert stopped.summary.startswith("Nothing created, 2 Droplets in fra1: 1 planned, 1 already restored, $")
    assert stopped.failure == "nothing was created: nobody approved it"
    assert stopped.next_steps == ()
    assert "\n\nNobody approved it." in artifact_description(stopped)


def test_the_question_names_price_size_and_copy_of_each_droplet_and_what_cannot_be_rebuilt() -> None:
    other = PLANNED.model_copy(update={"name": "db-01-restored", "why_size": "the original's size is not known"})
    said = plan_markdown([PLANNED, other, FAILED, row(Outcome.NOT_NEEDED)]).replace("\\", "")
    first, second = f"{SMALL}, $6.00", f"{SMALL} (the original's size is not known), $6.00"
    assert said.splitlines() == [
        "**2 Droplets in fra1, $0.018 an hour, $12.00 a month:**",
        "",
        f"- **web-01-restored**: {first} a month, from image 101 of {NOW:%Y-%m-%d %H:%M}",
        f"- **db-01-restored**: {second} a month, from image 101 of {NOW:%Y-%m-%d %H:%M}",
        "",
        "**1 Droplet cannot be rebuilt now:**",
        "",
        "- db-01 (2): it has no available backup or snapshot in fra1",
    ]


def test_the_question_about_a_thousand_droplets_states_the_whole_price_and_lists_the_first() -> None:
    said = plan_markdown([PLANNED] * 1000 + [FAILED] * 1000)
    assert said.startswith("**1000 Droplets in fra1, $9.000 an hour, $6000.00 a month:**")
    assert said.count("web") == MOST_PLANNED
    assert f"and {1000 - MOST_PLANNED} more: a dry run lists them" in said
    assert said.endswith(f"and {1000 - MOST_REASONS} more")


def test_names_in_the_question_are_not_markdown() -> None:
    assert r"\_\[x\]" in plan_markdown([PLANNED.model_copy(update={"name": "_[x]"})])
