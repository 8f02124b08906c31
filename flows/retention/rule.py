"""The rule by which snapshots are kept: the newest ones, and one a day, week and month further back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from flows.reporting.report import count
from tasks.digitalocean import InvalidArgument, Snapshot


@dataclass(frozen=True)
class RetentionRule:
    """What is kept of the snapshots of one Droplet; what no part of it keeps may go.

    Days, weeks and months are those of UTC. Only those count in which there is a snapshot, so that a time without any
    does not use up what was kept from before it.

    Attributes:
        keep_last: The so many newest are kept.
        keep_daily: Of each of the last so many days, the newest is kept.
        keep_weekly: Of each of the last so many weeks, the newest is kept; weeks begin on Monday (ISO 8601).
        keep_monthly: Of each of the last so many months, the newest is kept.
        older_than_days: What is younger than so many days is kept, whatever the rest says; None for no such limit.
    """

    keep_last: int = 7
    keep_daily: int = 0
    keep_weekly: int = 4
    keep_monthly: int = 6
    older_than_days: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and value < 0:
                raise InvalidArgument(f"{name} is {value}; 0 or more is needed")

    def reasons(self, snapshots: Iterable[Snapshot], now: datetime) -> dict[int, tuple[str, ...]]:
        """Say which parts of the rule keep each snapshot.

        Args:
            snapshots: The snapshots of one Droplet, in any order.
            now: The time.

        Returns:
            The reasons, for people, by the snapshot's id; none where nothing keeps it. The newest comes first.
        """
        newest_first = sorted(snapshots, key=age_order, reverse=True)
        reasons: dict[int, list[str]] = {snapshot.id: [] for snapshot in newest_first}
        for place, snapshot in enumerate(newest_first[: self.keep_last], start=1):
            reasons[snapshot.id].append(f"last {place} of {self.keep_last}")
        for periods, name in (
            (self.keep_daily, "day {:%Y-%m-%d}"),
            (self.keep_weekly, "week {:%G-W%V}"),
            (self.keep_monthly, "month {:%Y-%m}"),
        ):
            for period, snapshot in _newest_of_each(newest_first, name)[:periods]:
                reasons[snapshot.id].append(period)
        if self.older_than_days is not None:
            for snapshot in newest_first:
                if now - snapshot.created_at < timedelta(days=self.older_than_days):
                    reasons[snapshot.id].append(f"younger than {count(self.older_than_days, 'day')}")
        return {image_id: tuple(each) for image_id, each in reasons.items()}


def age_order(snapshot: Snapshot) -> tuple[datetime, int]:
    """What snapshots are ordered by, the oldest first."""
    return snapshot.created_at, snapshot.id


def _newest_of_each(newest_first: Sequence[Snapshot], name: str) -> list[tuple[str, Snapshot]]:
    """Name the periods in which there is a snapshot, the latest first, each with its newest."""
    newest: dict[str, Snapshot] = {}
    for snapshot in newest_first:
        newest.setdefault(name.format(snapshot.created_at), snapshot)
    return list(newest.items())
