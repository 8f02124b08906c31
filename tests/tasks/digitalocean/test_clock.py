from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from tasks.digitalocean.clock import Clock, ServerClock

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


class StoppedClock(Clock):
    def monotonic(self) -> float:
        return 0.0

    def unix(self) -> float:
        return NOON.timestamp()


def heard(date: str | None) -> datetime:
    clock = ServerClock(StoppedClock())
    clock.update({} if date is None else {"date": date})
    return clock.now()


def test_a_server_whose_clock_is_minutes_ahead_is_believed() -> None:
    assert heard(format_datetime(NOON + timedelta(minutes=7), usegmt=True)) == NOON + timedelta(minutes=7)


def test_a_difference_of_a_second_is_none() -> None:
    assert heard(format_datetime(NOON - timedelta(seconds=1), usegmt=True)) == NOON


def test_without_a_date_or_with_nonsense_for_one_our_own_time_counts() -> None:
    assert heard(None) == heard("yesterday") == NOON
