"""The report of a run that takes snapshots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import fsum

from flows.reporting.report import (
    BAD_OUTCOMES,
    CONTINUES,
    Outcome,
    Problem,
    RunReport,
    SnapshotRow,
    added_snapshots,
    count,
    estimated_snapshots,
    gb,
)

# Snapshots that a run has added to the account, or would add.
ADDED = frozenset({Outcome.TAKEN, Outcome.PLANNED, Outcome.STARTED})


class SnapshotReport(RunReport):
    """The report of a run that takes snapshots.

    Attributes:
        rows: One per Droplet.
        dry_run: Whether nothing was to be changed.
        price_per_gb_month: Monthly price of a GB of snapshots in US dollars; 0 to report no costs.
    """

    rows: tuple[SnapshotRow, ...] = ()
    dry_run: bool = False
    price_per_gb_month: float = 0.0

    @property
    def totals(self) -> dict[Outcome, int]:
        """Number of Droplets by outcome."""
        counts = Counter(row.outcome for row in self.rows)
        return {outcome: counts[outcome] for outcome in Outcome if counts[outcome]}

    @property
    def bad_rows(self) -> tuple[SnapshotRow, ...]:
        """The Droplets without a snapshot of this run."""
        return tuple(row for row in self.rows if row.outcome in BAD_OUTCOMES)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What went wrong, once per Droplet."""
        return tuple(
            Problem(row.source, row.image_id, (), everywhere=True, error=row.error or row.reason, reason=row.reason)
            for row in self.bad_rows
        )

    @property
    def added(self) -> str:
        """What the run has added or would add, such as `12.5 GB of snapshots, $0.75 a month`."""
        describe = estimated_snapshots if self.dry_run else added_snapshots
        return describe(size_of_added(self.rows), self.price_per_gb_month, number_unsized(self.rows))

    @property
    def summary(self) -> str:
        """The run in one line."""
        counts = ", ".join(f"{number} {outcome.replace('_', ' ')}" for outcome, number in self.totals.items())
        droplets = f"snapshots of {count(len(self.rows), 'Droplet')}: {counts or 'nothing to do'}"
        if self.dry_run:
            return f"Dry run, {droplets}; would add {self.added}; {self.spent}"
        return f"{droplets[0].upper()}{droplets[1:]}; added {self.added}; {self.spent}"

    @property
    def failure(self) -> str:
        """How many snapshots were not taken, and the first reason; empty on success."""
        if not self.bad_rows:
            return ""
        how_many = f"{len(self.bad_rows)} of {count(len(self.rows), 'snapshot')}"
        if self.interrupted:
            return f"{how_many} not taken yet. {CONTINUES}"
        first = self.bad_rows[0]
        return f"{how_many} not taken (first: {first.source}: {first.error or first.reason})"


def size_of_added(rows: Iterable[SnapshotRow]) -> float:
    """Add up the known sizes of new snapshots, in GB."""
    return fsum(row.size_gigabytes or 0.0 for row in rows if row.outcome in ADDED)


def number_unsized(rows: Iterable[SnapshotRow]) -> int:
    """Count the new snapshots of unknown size."""
    return sum(row.size_gigabytes is None for row in rows if row.outcome in ADDED)


def snapshot_table(report: SnapshotReport) -> list[dict[str, str]]:
    """Make the table of a run that takes snapshots, failures first; one row per Droplet."""
    return [
        {
            "Outcome": row.outcome.replace("_", " "),
            "Droplet": row.source,
            "Snapshot": str(row.image_id or ""),
            "GB": "" if row.size_gigabytes is None else gb(row.size_gigabytes).removesuffix(" GB"),
            "Name": row.image_name,
            "Why": row.error or row.note,
        }
        for row in sorted(report.rows, key=lambda row: row.outcome not in BAD_OUTCOMES)
    ]
