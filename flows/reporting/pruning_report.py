"""What a run that deletes snapshots did."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from flows.reporting.report import RunReport, count, gib


class PruningOutcome(StrEnum):
    """What happened to one snapshot."""

    KEPT = "kept"
    PLANNED = "to_delete"
    DELETED = "deleted"
    GONE = "already_gone"
    FAILED = "failed"


class PruningRow(BaseModel):
    """One snapshot that this project made.

    Attributes:
        droplet: The Droplet it was made of, for people.
        droplet_id: The Droplet, which may be gone.
        image_id: The snapshot.
        image_name: Its name, which is free text.
        created_at: When it was made, as a backup.
        regions: Slugs of the regions it is or was in.
        size_gigabytes: Its size, counted once however many regions it is in.
        outcome: What happened to it. `already_gone`: it was deleted by someone else meanwhile.
        reason: What keeps it, or why it goes.
        error: What went wrong, in the API's own words where it said something.
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
    """What a run that deletes snapshots did.

    Attributes:
        rows: One per snapshot that this project made, by Droplet and the newest first.
        left_alone: Snapshots that this project did not make.
        dry_run: Whether nothing was to be changed.
        max_deletions: How many snapshots were to be deleted at most.
        price_per_gib_month: What a GiB of snapshots costs a month, if the user has said so.
    """

    rows: tuple[PruningRow, ...] = ()
    left_alone: int = 0
    dry_run: bool = True
    max_deletions: int
    price_per_gib_month: float | None = None

    def having(self, *outcomes: PruningOutcome) -> tuple[PruningRow, ...]:
        """The rows that have one of these outcomes."""
        return tuple(row for row in self.rows if row.outcome in outcomes)

    @property
    def bad_rows(self) -> tuple[PruningRow, ...]:
        """Rows of what was not deleted."""
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
            parts.append(f"{self.left_alone} made by others left alone")
        if self.too_many:
            none = "none would be" if self.dry_run else "none was"
            parts.append(f"more than max_deletions ({self.max_deletions}), so {none} deleted")
        whole = f"{count(len(self.rows), 'snapshot')} of {count(len({row.droplet_id for row in self.rows}), 'Droplet')}"
        return f"{'Dry run, ' if self.dry_run else ''}{whole}: {', '.join(parts) or 'nothing to do'}; {self.spent}"

    @property
    def failure(self) -> str:
        """What was not deleted, and why; empty when all is well."""
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
                f"nothing was deleted: {planned} snapshots would go, and max_deletions is {self.max_deletions}; "
                "look at the plan, and raise max_deletions if it is right"
            )
        return ""

    @property
    def too_many(self) -> bool:
        """Whether more would go than may go at once, so that nothing does."""
        return len(self.having(PruningOutcome.PLANNED)) > self.max_deletions

    def _worth(self, rows: Sequence[PruningRow]) -> str:
        size = sum(row.size_gigabytes for row in rows)
        price = f", {size * self.price_per_gib_month:.2f} a month" if self.price_per_gib_month else ""
        return f" ({gib(size)}{price})"
