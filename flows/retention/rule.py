"""The retention rule: keep the newest snapshots, and one per day, week and month."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from flows.reporting.report import count
from tasks.digitalocean import InvalidArgument, Snapshot


@dataclass(frozen=True)
class RetentionRule:
    """Which snapshots of a Droplet to keep.

    Days, weeks and months are in UTC. Those without a snapshot are skipped, so that a gap does not expire older ones.

    Attributes:
        keep_last: Keep the N newest snapshots.
        keep_daily: Keep the newest snapshot of each of the last N days.
        keep_weekly: Keep the newest snapshot of each of the last N weeks, which begin on Monday (ISO 8601).
        keep_monthly: Keep the newest snapshot of each of the last N months.
        older_than_days: Keep all snapshots younger than N days; None for no minimum age.
    """

    keep_last: int = 7
    keep_daily: int = 0
    keep_weekly: int = 4
    keep_monthly: int = 6
    older_than_days: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and value < 0:
                raise InvalidArgument(f"{name} is {value}: expected at least 0")

    def reasons(self, snapshots: Iterable[Snapshot], now: datetime) -> dict[int, tuple[str, ...]]:
        """Say why to keep each snapshot.

        Args:
            snapshots: The snapshots of one Droplet, in any order.
            now: The time.

        Returns:
            Human-readable reasons by snapshot ID, newest first; empty if the rule does not keep the snapshot.
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
    """Sort key: oldest first."""
    return snapshot.created_at, snapshot.id


def _newest_of_each(newest_first: Sequence[Snapshot], name: str) -> list[tuple[str, Snapshot]]:
    """List the periods that have a snapshot, latest first, with the newest snapshot of each."""
    newest: dict[str, Snapshot] = {}
    for snapshot in newest_first:
        newest.setdefault(name.format(snapshot.created_at), snapshot)
    return list(newest.items())
