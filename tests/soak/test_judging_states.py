from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.soak.__main__ import LANES
from tests.soak.checks import APPROVAL_AUTOMATION, EVENT_AUTOMATION, is_false, ran_without_a_break, went_through
from tests.soak.events import most_at_once
from tests.soak.history import Alarm, SeenState
from tests.soak.table import SCENARIOS, section
from tests.soak.watch import SeenRun, Watch

BEGINNING = datetime(2026, 11, 25, 3, tzinfo=UTC)
TYPES = {"Late": "SCHEDULED", "Submitting": "PENDING", "AwaitingRetry": "SCHEDULED"}


def history(*names: str, begins: float = 0) -> list[SeenState]:
    """States that follow each other minute after minute."""
    return [
        SeenState(name, TYPES.get(name, name.upper()), BEGINNING + timedelta(minutes=begins + minute), "")
        for minute, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    "names",
    [
        ("Scheduled", "Pending", "Submitting", "Running", "Completed"),
        ("Scheduled", "Late", "Pending", "Running", "Completed"),
        ("Running", "Completed"),
    ],
)
def test_a_run_that_ran_until_it_was_completed_had_no_interruption(names: tuple[str, ...]) -> None:
    assert ran_without_a_break(history(*names))


def test_a_run_that_asked_a_person_went_through_exactly_its_states() -> None:
    expected = ("Running", "Paused", "Running", "Completed")
    assert went_through(history("Scheduled", "Late", "Pending", *expected), *expected)
    assert not went_through(history("Pending", "Running", "Completed"), *expected)
    assert not went_through(history("Pending", "Running", "Paused", *expected), *expected)
    assert not went_through(history("Pending", *expected[:-1], "Crashed"), *expected)
    assert not went_through(history("Pending", "Running", "Paused", "Pending", "Running", "Completed"), *expected)
    assert not went_through([], *expected)


@pytest.mark.parametrize(
    ("automation", "run_id", "false"),
    [
        (APPROVAL_AUTOMATION, "asked", False),
        (APPROVAL_AUTOMATION, "died", True),
        ("A copy of backups has died", "asked", True),
        ("A copy of backups has died", "died", False),
        ("A copy of backups has failed", "other", True),
        (EVENT_AUTOMATION, "", False),
        ("No copy of backups for a day", "", True),
    ],
)
def test_an_automation_is_triggered_falsely_unless_its_run_has_given_it_a_reason(
    automation: str, run_id: str, false: bool
) -> None:
    assert is_false(Alarm(automation, run_id, BEGINNING), died={"died"}, asked={"asked"}) is false


@pytest.mark.parametrize(
    "names",
    [
        ("Scheduled", "Pending", "Running", "Crashed"),
        ("Scheduled", "Pending", "Running", "Crashed", "Completed"),
        ("Scheduled", "Pending", "Running", "AwaitingRetry", "Completed"),
        ("Scheduled", "Pending", "Running", "Running", "Completed"),
        ("Scheduled", "Pending", "Running"),
        ("Scheduled", "Pending", "Completed"),
        (),
    ],
)
def test_a_run_with_any_other_state_had_an_interruption(names: tuple[str, ...]) -> None:
    assert not ran_without_a_break(history(*names))


def test_pending_and_running_runs_count_as_concurrent_and_waiting_ones_do_not() -> None:
    first = history("Scheduled", "Pending", "Running", "Completed")
    beside = history("Scheduled", "Pending", "Running", "Completed", begins=1)
    after = history("Scheduled", "Pending", "Running", "Completed", begins=3)
    assert most_at_once([first, beside, after]) == 2
    assert most_at_once([first]) == 1


def test_a_failed_check_is_named_in_the_section() -> None:
    watch = Watch("restart", began=BEGINNING)
    watch.check(True, "the sun rises")
    watch.check(False, "the run lived", "Crashed 03:04:05")
    watch.runs.append(SeenRun("the run", history("Running", "Crashed"), dead_for=timedelta(minutes=12)))
    text = section([watch], BEGINNING, BEGINNING + timedelta(minutes=40))
    assert "1 of 2 checks failed" in text
    assert "restart: the run lived; seen: Crashed 03:04:05" in text
    assert "Running 0:00, Crashed 1:00" in text


def test_the_table_describes_every_scenario() -> None:
    assert {name for lane in LANES for name in lane.scenarios} == set(SCENARIOS)
