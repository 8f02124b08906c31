"""The report of a pruning run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from flows.reporting.report import RunReport, count, gb, monthly


class PruningOutcome(StrEnum):
    """The outcome for one snapshot."""

    KEPT = "kept"
    PLANNED = "to_delete"
    DELETED = "deleted"
    GONE = "already_gone"
    FAILED = "failed"


class PruningRow(BaseModel):
    """One snapshot that this project made.

    Attributes:
        droplet: Name and ID of its Droplet.
        created_at: When the backup was made.
        regions: Slugs of the regions it is or was in.
        size_gigabytes: Its size, counted once, whatever the number of regions.
        outcome: `already_gone` if it was deleted by someone else.
        reason: Why it is kept or deleted.
    """

    model_config = ConfigDict(frozen=True)

    droplet: str
    droplet_id: int
    image_id: int
    image_name: str = ""
    created_at: datetime
    regions: tuple[str, ...] = ()
    size_gigabytes: float
    outcome: PruningOutcome
    reason: str
    error: str = ""


class PruningReport(RunReport):
    """The report of a pruning run.

    Attributes:
        rows: One per snapshot that this project made, by Droplet, newest first.
        left_alone: How many snapshots this project did not make.
        max_deletions: How many snapshots the run was allowed to delete.
        price_per_gb_month: Monthly price of a GB of snapshots in US dollars; 0 to report no costs.
    """

    rows: tuple[PruningRow, ...] = ()
    left_alone: int = 0
    dry_run: bool = True
    max_deletions: int
    price_per_gb_month: float = 0.0

    def having(self, *outcomes: PruningOutcome) -> tuple[PruningRow, ...]:
        """The rows with one of these outcomes."""
        return tuple(row for row in self.rows if row.outcome in outcomes)

    @property
    def bad_rows(self) -> tuple[PruningRow, ...]:
        """The snapshots that could not be deleted."""
        return self.having(PruningOutcome.FAILED)

    @property
    def summary(self) -> str:
        """The run in one line."""
        parts = [
            f"{len(rows)} {outcome.replace('_', ' ')}{self._worth(rows)}"
            for outcome in PruningOutcome
            if (rows := self.having(outcome))
        ]
        if self.left_alone:
            parts.append(f"{self.left_alone} left alone, which this project did not make")
        if self.too_many:
            none = "nothing would be" if self.dry_run else "nothing was"
            parts.append(f"more than max_deletions ({self.max_deletions}), so {none} deleted")
        whole = f"{count(len(self.rows), 'snapshot')} of {count(len({row.droplet_id for row in self.rows}), 'Droplet')}"
        return f"{'Dry run, ' if self.dry_run else ''}{whole}: {', '.join(parts) or 'nothing to do'}; {self.spent}"

    @property
    def failure(self) -> str:
        """What was not deleted, and why; empty on success."""
        if self.interrupted:
            deleted = count(len(self.having(PruningOutcome.DELETED)), "snapshot")
            return f"{deleted} deleted, {len(self.bad_rows)} left. Run the command again to finish."
        if self.bad_rows:
            first = self.bad_rows[0]
            deletions = len(self.bad_rows) + len(self.having(PruningOutcome.DELETED, PruningOutcome.GONE))
            reason = f"(first: {first.image_id}: {first.error})"
            return f"{len(self.bad_rows)} of {deletions} snapshots were not deleted {reason}"
        if self.too_many and not self.dry_run:
            planned = len(self.having(PruningOutcome.PLANNED))
            return (
                f"nothing was deleted: {planned} snapshots exceed max_deletions ({self.max_deletions}); "
                "check the plan, and raise max_deletions if it is right"
            )
        return ""

    @property
    def too_many(self) -> bool:
        """Whether more snapshots are to be deleted than allowed, so that nothing is deleted."""
        return len(self.having(PruningOutcome.PLANNED)) > self.max_deletions

    def _worth(self, rows: Sequence[PruningRow]) -> str:
        size = sum(row.size_gigabytes for row in rows)
        return f" ({gb(size)}{monthly(size, self.price_per_gb_month)})"
