"""When a backup is overdue, and when it is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flows.audit.schedule import BACKUP_TAKES, WEEKDAYS, last_window, overdue_since, schedule_of
from tasks.digitalocean import BackupPolicy, BackupWindow

# A Monday.
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def policy(plan: str = "daily", hour: int | None = 0, **other: Any) -> BackupPolicy:
    return BackupPolicy(**{"droplet_id": 7, "enabled": True, "plan": plan, "hour": hour} | other)


def window(start: datetime, hours: int = 4) -> BackupWindow:
    return BackupWindow(start=start, end=start + hours * HOUR)


def at(day: int, hour: int) -> datetime:
    return datetime(2026, 11, day, hour, tzinfo=UTC)


def test_a_daily_backup_is_overdue_once_its_window_and_the_time_that_a_backup_takes_have_passed() -> None:
    yesterdays = at(22, 1)
    end = at(23, 4)
    assert overdue_since(policy(), end + BACKUP_TAKES - HOUR, newest=yesterdays) is None
    assert overdue_since(policy(), end + BACKUP_TAKES, newest=yesterdays) == end
    assert overdue_since(policy(), end + BACKUP_TAKES, newest=at(23, 0)) is None


def test_a_weekly_backup_is_overdue_only_after_the_window_of_its_weekday() -> None:
    sundays = policy("weekly", 20, weekday="SUN")
    last_weeks = at(15, 21)
    assert overdue_since(sundays, at(22, 19), newest=last_weeks) is None
    assert overdue_since(sundays, at(23, 3), newest=last_weeks) is None
    assert overdue_since(sundays, at(23, 4), newest=last_weeks) == at(23, 0)
    assert overdue_since(sundays, at(28, 12), newest=at(22, 20)) is None


def test_the_next_window_tells_the_schedule_if_the_policy_does_not() -> None:
    following = window(at(24, 0), hours=23)
    assert last_window(policy(hour=None, next_window=following), NOON) == window(at(22, 0), hours=23)
    assert last_window(policy("weekly", None, next_window=following), NOON) == window(at(17, 0), hours=23)
    assert last_window(policy("weekly", 8), NOON) is None
    assert last_window(policy(hour=None), NOON) is None


def test_the_interval_of_a_usage_based_plan_comes_from_its_name() -> None:
    every_six_hours = policy("intra_daily_6h", 0)
    assert last_window(every_six_hours, NOON) == window(at(23, 6))
    assert overdue_since(every_six_hours, NOON + 4 * HOUR, newest=at(23, 5)) == at(23, 10)
    assert overdue_since(every_six_hours, NOON + 4 * HOUR, newest=at(23, 6)) is None


def test_of_an_unknown_plan_only_the_window_that_the_api_names_can_be_missed() -> None:
    now = NOON + BACKUP_TAKES
    assert overdue_since(policy("hourly"), now, newest=at(1, 0)) is None
    assert overdue_since(policy("hourly", next_window=window(at(23, 13))), now, newest=at(1, 0)) is None
    passed = policy("hourly", next_window=window(at(23, 8)))
    assert overdue_since(passed, now, newest=at(23, 7)) == NOON
    assert overdue_since(passed, now, newest=at(23, 8)) is None


def test_without_enabled_backups_none_is_overdue() -> None:
    assert overdue_since(policy(enabled=False), NOON, newest=None) is None


def test_a_droplet_younger_than_its_first_window_is_not_overdue() -> None:
    assert overdue_since(policy(), NOON, newest=None, created_at=at(23, 1)) is None
    assert overdue_since(policy(), NOON, newest=None, created_at=at(22, 23)) == at(23, 4)
    assert overdue_since(policy(), NOON, newest=None) == at(23, 4)


@pytest.mark.parametrize(
    ("given_policy", "text"),
    [
        (policy("daily", 20), "daily 20:00"),
        (policy("weekly", 4, weekday="SUN"), "weekly SUN 04:00"),
        (policy("weekly", None), "weekly"),
        (policy("intra_daily_4h", 0), "intra_daily_4h"),
        (policy("platinum", 0), "platinum"),
        (policy("", 0), "unknown"),
    ],
)
def test_a_schedule_is_shown_with_its_window_if_the_plan_is_known(given_policy: BackupPolicy, text: str) -> None:
    assert schedule_of(given_policy) == text


MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC))
INTERVALS = {"daily": DAY, "weekly": 7 * DAY}


def policies(*plans: str) -> st.SearchStrategy[BackupPolicy]:
    return st.builds(
        policy,
        st.sampled_from(plans),
        st.none() | st.integers(0, 23),
        weekday=st.sampled_from(["", *WEEKDAYS]),
        window_length_hours=st.none() | st.integers(1, 24),
        next_window=st.none() | st.builds(window, MOMENTS, st.integers(1, 23)),
    )


POLICIES = policies(*INTERVALS, "intra_daily_4h", "intra_daily_12h", "another", "")


@given(POLICIES, MOMENTS, st.none() | MOMENTS, st.none() | MOMENTS)
def test_a_backup_is_never_overdue_before_the_end_of_its_window(
    each: BackupPolicy, now: datetime, newest: datetime | None, created_at: datetime | None
) -> None:
    since = overdue_since(each, now, newest=newest, created_at=created_at)
    assert since is None or since + BACKUP_TAKES <= now


@given(POLICIES, MOMENTS, MOMENTS)
def test_a_newer_backup_never_makes_one_overdue(each: BackupPolicy, now: datetime, newest: datetime) -> None:
    assume(overdue_since(each, now, newest=newest) is None)
    assert overdue_since(each, now, newest=newest + DAY) is None


@given(POLICIES, MOMENTS)
def test_a_backup_in_the_last_window_is_enough(each: BackupPolicy, now: datetime) -> None:
    last = last_window(each, now - BACKUP_TAKES)
    assume(last is not None)
    assert last is not None
    assert overdue_since(each, now, newest=last.start) is None


@given(policies(*INTERVALS), MOMENTS)
def test_the_last_window_of_a_known_plan_ended_less_than_an_interval_ago(each: BackupPolicy, now: datetime) -> None:
    last = last_window(each, now)
    assume(last is not None)
    assert last is not None
    assert last.end <= now < last.end + INTERVALS[each.plan]
