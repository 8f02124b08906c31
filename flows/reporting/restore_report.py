"""The report of a run that rebuilds Droplets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from math import fsum

from pydantic import BaseModel, ConfigDict

from flows.reporting.report import RunReport, count


class RestoreOutcome(StrEnum):
    """The outcome for one Droplet."""

    FAILED = "failed"
    TIMED_OUT = "timed_out"
    LEFT = "left_for_later"
    PLANNED = "planned"
    RESTORED = "restored"
    ALREADY_RESTORED = "already_restored"
    STARTED = "started"
    NOT_NEEDED = "not_needed"


BAD_OUTCOMES = (RestoreOutcome.FAILED, RestoreOutcome.TIMED_OUT, RestoreOutcome.LEFT)
NEXT_STEPS = (
    "Point DNS records to the new addresses.",
    "Reserved IPs cannot leave their region: use the new addresses, or create new reserved IPs.",
    "Cloud firewalls and load balancers follow tags; check those that name Droplets by ID.",
    "Volumes are not included: restore their data from your own backups.",
    "cloud-init runs again on a new Droplet; the API does not return the original's user data or SSH keys.",
)


class RestoreRow(BaseModel):
    """One Droplet to rebuild.

    Attributes:
        droplet: Name and ID of the original, or the name of the image.
        droplet_id: ID of the original; None if unknown.
        name: Name of the new Droplet, or empty.
        image_id: The image it is created from, or None.
        image_name: The image's name, which is free text.
        image_created_at: When the image was made.
        region: Slug of the region.
        size: Slug of the size, or empty.
        why_size: Why it is not the size that was asked for, or the original's.
        price_hourly: In US dollars, without backups.
        price_monthly: In US dollars, without backups.
        outcome: `left_for_later` if the account has reached its Droplet limit; `not_needed` if the original is in the
            region.
        new_droplet_id: ID of the new Droplet.
        public_ip: Its public address.
        private_ip: Its private address.
        seconds: From the request to create it until it was found active.
        error: What went wrong, with the API's message if it sent one.
    """

    model_config = ConfigDict(frozen=True)

    droplet: str
    droplet_id: int | None = None
    name: str = ""
    image_id: int | None = None
    image_name: str = ""
    image_created_at: datetime | None = None
    region: str
    size: str = ""
    why_size: str = ""
    price_hourly: float = 0.0
    price_monthly: float = 0.0
    outcome: RestoreOutcome
    new_droplet_id: int | None = None
    public_ip: str = ""
    private_ip: str = ""
    seconds: float | None = None
    error: str = ""


class RestoreReport(RunReport):
    """The report of a run that rebuilds Droplets.

    Attributes:
        rows: One per Droplet.
        region: Slug of the region.
        dry_run: Whether the run was a dry run.
        max_droplets: How many Droplets the run was allowed to create.
        why_not_carried_out: Why the plan was not carried out though it could be, such as that nobody approved it; empty
            if it was.
    """

    rows: tuple[RestoreRow, ...] = ()
    region: str
    dry_run: bool = True
    max_droplets: int
    why_not_carried_out: str = ""

    def having(self, *outcomes: RestoreOutcome) -> tuple[RestoreRow, ...]:
        """The rows with one of these outcomes."""
        return tuple(row for row in self.rows if row.outcome in outcomes)

    @property
    def bad_rows(self) -> tuple[RestoreRow, ...]:
        """The Droplets that were not rebuilt."""
        return self.having(*BAD_OUTCOMES)

    @property
    def too_many(self) -> bool:
        """Whether more Droplets are planned than allowed, so that none is created."""
        return len(self.having(RestoreOutcome.PLANNED)) > self.max_droplets

    @property
    def summary(self) -> str:
        """The run in one line."""
        totals = Counter(row.outcome for row in self.rows)
        parts = [f"{totals[each]} {each.replace('_', ' ')}" for each in RestoreOutcome if totals[each]]
        if self.too_many:
            parts.append(f"more than max_droplets ({self.max_droplets}), so none is created")
        prefix = "Dry run, " if self.dry_run else "Nothing created, " if self.why_not_carried_out else ""
        whole = f"{count(len(self.rows), 'Droplet')} in {self.region}"
        return f"{prefix}{whole}: {', '.join(parts) or 'nothing to do'}{self._costs()}; {self.spent}"

    @property
    def failure(self) -> str:
        """What was not rebuilt, and why; empty on success."""
        if self.why_not_carried_out:
            return f"nothing was created: {self.why_not_carried_out}"
        if self.interrupted:
            restored = len(self.having(RestoreOutcome.RESTORED, RestoreOutcome.ALREADY_RESTORED))
            return f"{restored} of {len(self.rows)} Droplets restored. Run the command again to finish."
        if self.too_many and not self.dry_run:
            planned = len(self.having(RestoreOutcome.PLANNED))
            return (
                f"nothing was created: {count(planned, 'Droplet')} would be more than max_droplets "
                f"({self.max_droplets}); check the plan, and raise max_droplets if it is right"
            )
        if self.bad_rows:
            first = self.bad_rows[0]
            verb = "cannot be" if self.dry_run else "was not" if len(self.bad_rows) == 1 else "were not"
            missing = f"{len(self.bad_rows)} of {count(len(self.rows), 'Droplet')} {verb} restored"
            return f"{missing} (first: {first.droplet}: {first.error})"
        return ""

    @property
    def next_steps(self) -> tuple[str, ...]:
        """What to do once Droplets are restored."""
        restored = self.having(RestoreOutcome.RESTORED, RestoreOutcome.ALREADY_RESTORED)
        return NEXT_STEPS if restored and not (self.dry_run or self.why_not_carried_out) else ()

    def _costs(self) -> str:
        rows = self.having(RestoreOutcome.PLANNED, RestoreOutcome.RESTORED, RestoreOutcome.STARTED)
        return f", {price_of(rows)}" if rows else ""


def price_of(rows: Collection[RestoreRow]) -> str:
    """Such as `$0.018 an hour, $12.00 a month`."""
    hourly, monthly = fsum(row.price_hourly for row in rows), fsum(row.price_monthly for row in rows)
    return f"${hourly:.3f} an hour, ${monthly:.2f} a month"


def restore_table(report: RestoreReport) -> list[dict[str, str]]:
    """Make the table of a restore: failed first, one row per Droplet."""
    order = list(RestoreOutcome)
    rows = sorted(report.rows, key=lambda row: order.index(row.outcome))
    return [_line(row, errors=any(each.error or each.why_size for each in rows)) for row in rows]


def _line(row: RestoreRow, *, errors: bool) -> dict[str, str]:
    line = {
        "Outcome": row.outcome.replace("_", " "),
        "Original": row.droplet,
        "From image": f"{row.image_id or '-'}",
        "Made": f"{row.image_created_at:%Y-%m-%d %H:%M}" if row.image_created_at else "",
        "Size": row.size,
        "$ a month": f"{row.price_monthly:.2f}" if row.size else "",
        "New Droplet": f"{row.name} ({row.new_droplet_id})" if row.new_droplet_id else row.name,
        "Address": row.public_ip,
        "Seconds": "" if row.seconds is None else f"{row.seconds:.0f}",
    }
    return line | ({"Notes": row.error or row.why_size} if errors else {})
