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


def test_a_server_clock_that_is_minutes_ahead_is_trusted() -> None:
    assert heard(format_datetime(NOON + timedelta(minutes=7), usegmt=True)) == NOON + timedelta(minutes=7)


def test_a_difference_of_one_second_is_ignored() -> None:
    assert heard(format_datetime(NOON - timedelta(seconds=1), usegmt=True)) == NOON


def test_without_a_valid_date_the_local_clock_is_used() -> None:
    assert heard(None) == heard("yesterday") == NOON
