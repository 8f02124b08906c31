"""What a drill says about itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from flows.reporting.drill_report import DrillOutcome, DrillReport, DrillRow, NotDestroyed
from flows.reporting.tables import table_of
from tasks.digitalocean import Usage
from tests.flows.images import NOW

LEFT = NotDestroyed(droplet_id=7, name="web-01-drill", price_hourly=0.00893, why="422 pending event")
USAGE = Usage(requests=12, too_many_requests=1)


def row(droplet_id: int = 1, outcome: DrillOutcome = DrillOutcome.PROVEN, **other: Any) -> DrillRow:
    wanted = {
        "droplet": f"web-{droplet_id:02d} ({droplet_id})",
        "droplet_id": droplet_id,
        "image_id": 10 + droplet_id,
        "region": "fra1",
        "size": "s-1vcpu-1gb",
        "price_hourly": 0.009,
        "outcome": outcome,
    }
    return DrillRow(**wanted | other)


def failed(droplet_id: int = 1, error: str = "it was not active within the time limit") -> DrillRow:
    return row(droplet_id, DrillOutcome.FAILED, error=error)


def planned(*droplet_ids: int) -> list[DrillRow]:
    return [row(each, DrillOutcome.PLANNED) for each in droplet_ids]


def report(*rows: DrillRow, **other: Any) -> DrillReport:
    return DrillReport(**{"rows": rows, "max_droplets": 5, "usage": USAGE} | other)


def test_a_successful_drill_says_how_many_droplets_are_proven_and_what_they_cost() -> None:
    done = report(row(1), row(2), row(3))
    assert done.summary == (
        "Drill with 3 Droplets: 3 proven, $0.027 for each hour begun; 12 API requests, 1 answered with 429"
    )
    assert done.failure == ""
    assert done.notes == ()


def test_a_summary_counts_each_outcome_and_what_was_cleaned_up() -> None:
    mixed = report(row(1), failed(2), row(3), cleaned_up=1)
    assert mixed.summary.startswith("Drill with 3 Droplets: 1 failed, 2 proven, 1 Droplet of earlier drills destroyed,")
    assert "2 Droplets of earlier drills destroyed" in report(row(), cleaned_up=2).summary


def test_a_dry_run_is_called_one_and_does_not_fail_because_of_the_number() -> None:
    dry = report(*planned(1, 2), dry_run=True, max_droplets=1)
    assert dry.summary.startswith("Dry run, drill with 2 Droplets: 2 planned, $0.018 for each hour begun; ")
    assert dry.failure == ""


def test_more_droplets_than_allowed_are_a_failure_that_says_so() -> None:
    assert report(*planned(1, 2), max_droplets=2).failure == ""
    assert report(*planned(1, 2), max_droplets=1).failure == (
        "Nothing was created: 2 Droplets would be more than max_droplets (1)"
    )


def test_a_failure_says_how_many_of_how_many_and_names_the_first_with_its_reason() -> None:
    assert report(row(1), failed(2), failed(3, "no capacity")).failure == (
        "2 of 3 Droplets not proven (first: web-02 (2) from image 12 in fra1: it was not active within the time limit)"
    )


def test_a_droplet_that_is_not_destroyed_fails_even_a_proven_drill_with_its_id_and_price_per_hour() -> None:
    failure = report(row(1), not_destroyed=(LEFT,)).failure
    assert "Droplet 7, web-01-drill ($0.009 an hour): 422 pending event" in failure
    assert "not proven" not in failure


def test_all_that_is_not_destroyed_is_named_before_what_is_not_proven() -> None:
    other = NotDestroyed(droplet_id=8, name="db-01-drill", price_hourly=None, why="403 forbidden")
    failure = report(failed(1), not_destroyed=(LEFT, other)).failure
    first, second, third = (
        failure.index(each) for each in ("Droplet 7, ", "Droplet 8, db-01-drill: 403 forbidden", "1 of 1 Droplet not")
    )
    assert first < second < third
    assert failure[0].isupper()


def test_what_is_proven_but_not_recorded_is_a_failure() -> None:
    assert report(row(1), not_recorded="POST /v2/tags: 403").failure == (
        "The proofs could not be recorded, so the next drill repeats them: POST /v2/tags: 403"
    )


def test_droplets_without_a_copy_are_named_in_a_warning_and_do_not_fail_the_drill() -> None:
    warned = report(row(1), unprotected=("db-01 (5)", "db-02 (6)"))
    assert warned.failure == ""
    assert warned.notes == ("Cannot drill db-01 (5), db-02 (6): no copy outside the Droplet's own region.",)


def test_the_table_shows_failures_first_and_the_evidence_of_each_droplet() -> None:
    evidence: dict[str, Any] = {
        "image_created_at": NOW - timedelta(days=1),
        "new_droplet_id": 99,
        "seconds_to_active": 41.4,
        "seconds_to_probe": 0.0,
        "destroyed_at": NOW,
    }
    lines = table_of(report(row(1, **evidence), *planned(2), failed(3, "no capacity")))
    assert [line["Outcome"] for line in lines] == ["failed", "planned", "proven"]
    assert lines[2] == {
        "Outcome": "proven",
        "Droplet": "web-01 (1)",
        "From image": "11",
        "Made": "2026-11-22 03:00",
        "In": "fra1",
        "Size": "s-1vcpu-1gb",
        "Seconds to active": "41",
        "To the probe": "0",
        "Destroyed": "2026-11-23 03:00",
        "Notes": "",
    }
    assert lines[0]["Notes"] == "no capacity"


@pytest.mark.parametrize("cell", ["Made", "Seconds to active", "To the probe", "Destroyed", "Notes"])
def test_what_is_not_known_is_an_empty_cell(cell: str) -> None:
    (line,) = table_of(report(*planned(1)))
    assert line[cell] == ""


def test_a_droplet_without_an_image_has_a_dash_and_no_price() -> None:
    bare = failed(1, "no copy").model_copy(update={"image_id": None, "size": "", "price_hourly": 0.0})
    (line,) = table_of(report(bare))
    assert (line["From image"], line["Size"]) == ("-", "")
