"""The report of a drill."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from math import fsum

from pydantic import BaseModel, ConfigDict

from flows.reporting.report import RunReport, count, listed


class DrillOutcome(StrEnum):
    """The outcome for one Droplet."""

    FAILED = "failed"
    PLANNED = "planned"
    PROVEN = "proven"


class DrillRow(BaseModel):
    """One Droplet that was rebuilt to prove that it can be.

    Attributes:
        droplet: Name and ID of the original.
        droplet_id: ID of the original.
        image_id: The image it was rebuilt from, or None.
        image_created_at: When the image was made.
        region: Slug of the region in which it was rebuilt.
        size: Slug of the size, or empty.
        price_hourly: In US dollars.
        outcome: `proven` once it was active and, with a probe port, that port answered.
        new_droplet_id: ID of the new Droplet; None if none was created.
        seconds_to_active: From the request to create it until it was found active.
        seconds_to_probe: From then until the probe port answered; None without one.
        destroyed_at: When it was found gone; None if it was not created, or still exists.
        error: What went wrong.
    """

    model_config = ConfigDict(frozen=True)

    droplet: str
    droplet_id: int | None
    image_id: int | None = None
    image_created_at: datetime | None = None
    region: str
    size: str = ""
    price_hourly: float = 0.0
    outcome: DrillOutcome
    new_droplet_id: int | None = None
    seconds_to_active: float | None = None
    seconds_to_probe: float | None = None
    destroyed_at: datetime | None = None
    error: str = ""


class NotDestroyed(BaseModel):
    """A Droplet of a drill that still exists, and costs money.

    Attributes:
        price_hourly: In US dollars; None if the size is unknown.
        why: Why it was not destroyed.
    """

    model_config = ConfigDict(frozen=True)

    droplet_id: int
    name: str
    price_hourly: float | None
    why: str

    def __str__(self) -> str:
        price = f" (${self.price_hourly:.3f} an hour)" if self.price_hourly is not None else ""
        return f"Droplet {self.droplet_id}, {self.name}{price}: {self.why}"


class DrillReport(RunReport):
    """The report of a drill.

    Attributes:
        rows: One per Droplet.
        not_destroyed: Droplets of drills that still exist.
        not_recorded: Why the next drill does not know what this one has proven; empty if it does.
        cleaned_up: How many Droplets of earlier drills were destroyed first.
        unprotected: Names and IDs of Droplets without a copy to rebuild them from.
        dry_run: Whether the run was a dry run.
        max_droplets: How many Droplets the run was allowed to create.
    """

    rows: tuple[DrillRow, ...] = ()
    not_destroyed: tuple[NotDestroyed, ...] = ()
    not_recorded: str = ""
    cleaned_up: int = 0
    unprotected: tuple[str, ...] = ()
    dry_run: bool = False
    max_droplets: int

    @property
    def too_many(self) -> bool:
        """Whether more Droplets are planned than allowed, so that none is created."""
        return self._number(DrillOutcome.PLANNED) > self.max_droplets

    @property
    def summary(self) -> str:
        """The run in one line."""
        parts = [f"{self._number(each)} {each}" for each in DrillOutcome if self._number(each)]
        if self.cleaned_up:
            parts.append(f"{count(self.cleaned_up, 'Droplet')} of earlier drills destroyed")
        price = fsum(row.price_hourly for row in self.rows)
        costs = f", ${price:.3f} for each hour begun" if self.rows else ""
        what = "Dry run, drill" if self.dry_run else "Drill"
        return f"{what} with {count(len(self.rows), 'Droplet')}: {', '.join(parts)}{costs}; {self.spent}"

    @property
    def failure(self) -> str:
        """What was not proven or not destroyed; empty on success."""
        parts = []
        if self.not_destroyed:
            left = "; ".join(map(str, self.not_destroyed))
            parts.append(f"destroy these Droplets by hand, a drill created them and they cost money: {left}")
        if self.too_many and not self.dry_run:
            planned = count(self._number(DrillOutcome.PLANNED), "Droplet")
            parts.append(f"nothing was created: {planned} would be more than max_droplets ({self.max_droplets})")
        if failed := [row for row in self.rows if row.outcome == DrillOutcome.FAILED]:
            first = failed[0]
            parts.append(
                f"{len(failed)} of {count(len(self.rows), 'Droplet')} not proven (first: {first.droplet} from image "
                f"{first.image_id} in {first.region}: {first.error})"
            )
        if self.not_recorded:
            parts.append(f"the proofs could not be recorded, so the next drill repeats them: {self.not_recorded}")
        return ". ".join(part[0].upper() + part[1:] for part in parts)

    @property
    def notes(self) -> tuple[str, ...]:
        """A warning about Droplets that cannot be proven."""
        if not self.unprotected:
            return ()
        return (f"Cannot drill {listed(self.unprotected)}: no copy outside the Droplet's own region.",)

    def _number(self, outcome: DrillOutcome) -> int:
        return sum(row.outcome == outcome for row in self.rows)


def drill_table(report: DrillReport) -> list[dict[str, str]]:
    """Make the table of a drill: failed first, one row per Droplet."""
    order = list(DrillOutcome)
    return [_line(row) for row in sorted(report.rows, key=lambda row: order.index(row.outcome))]


def _line(row: DrillRow) -> dict[str, str]:
    return {
        "Outcome": str(row.outcome),
        "Droplet": row.droplet,
        "From image": f"{row.image_id or '-'}",
        "Made": f"{row.image_created_at:%Y-%m-%d %H:%M}" if row.image_created_at else "",
        "In": row.region,
        "Size": row.size,
        "Seconds to active": "" if row.seconds_to_active is None else f"{row.seconds_to_active:.0f}",
        "To the probe": "" if row.seconds_to_probe is None else f"{row.seconds_to_probe:.0f}",
        "Destroyed": f"{row.destroyed_at:%Y-%m-%d %H:%M}" if row.destroyed_at else "",
        "Notes": row.error,
    }
