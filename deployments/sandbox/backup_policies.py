"""Backup policies of Droplets: how often backups are made, and how long they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

HOUR = 3600.0
DAY = 24 * HOUR
WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
WINDOW_STARTS = (0, 4, 8, 12, 16, 20)
WINDOW_HOURS = 4
USAGE_BASED_INTERVALS = (4, 6, 12)
A_MONDAY = 4 * DAY
"""The first Monday, in Unix seconds."""


@dataclass(frozen=True, slots=True)
class BackupPolicy:
    """The backup policy of a Droplet whose backups are enabled.

    Args:
        plan: `daily`, `weekly`, or a usage-based plan such as `intra_daily_4h`.
        hour: The hour of the day, in UTC, when a window starts.
        weekday: The day of a weekly window, such as `SUN`; None for other plans.
        interval_hours: The time from the start of one window to the next.
        retention_days: How long a backup is kept.
    """

    plan: str
    hour: int
    weekday: str | None
    interval_hours: int
    retention_days: int

    @classmethod
    def daily(cls, hour: int = 0) -> Self:
        """A window each day; backups are kept for a week."""
        return cls("daily", hour, None, 24, 7)

    @classmethod
    def weekly(cls, hour: int = 0, weekday: str = "SUN") -> Self:
        """A window each week; backups are kept for four weeks."""
        return cls("weekly", hour, weekday, 7 * 24, 28)

    @classmethod
    def usage_based(cls, interval_hours: int = 4, retention_days: int = 7, hour: int = 0) -> Self:
        """Several windows a day.

        The description of the API does not contain such plans; these fields were sent to it in
        https://github.com/digitalocean/godo/pull/997. That all plans are called like `intra_daily_4h`, and that the
        API returns what was sent, is a guess.
        """
        return cls(f"intra_daily_{interval_hours}h", hour, None, interval_hours, retention_days)

    @property
    def is_usage_based(self) -> bool:
        """Whether it is none of the plans in the description of the API."""
        return self.plan not in ("daily", "weekly")

    def latest_window(self, now: float) -> float:
        """When the latest window started that had started by now."""
        weekday = WEEKDAYS.index(self.weekday) if self.weekday else 0
        first = A_MONDAY + weekday * DAY + self.hour * HOUR
        return now - (now - first) % (self.interval_hours * HOUR)

    def next_window(self, now: float) -> tuple[float, float]:
        """When the next window starts and ends, after the one that may be open now."""
        start = self.latest_window(now) + self.interval_hours * HOUR
        return start, start + WINDOW_HOURS * HOUR
