"""The report on who is protected: one audit per Droplet."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from enum import StrEnum
from math import fsum

from pydantic import BaseModel, ConfigDict, Field, computed_field

from flows.reporting.report import ReplicationReport, count, gb, listed, monthly
from tasks.accounts import DEFAULT_ACCOUNT

# Lines per kind of problem in a list.
MOST_LINES = 10
BOTH = 2


class FindingKind(StrEnum):
    """The kind of a problem, the most urgent first."""

    NO_BACKUPS = "no_backups"
    OVERDUE = "overdue"
    MISSING_COPY = "missing_copy"
    OLD_COPY = "old_copy"
    UNPROVEN = "unproven"
    VOLUMES = "volumes"


class Finding(BaseModel):
    """A problem of a Droplet.

    Attributes:
        what: The problem, without the name of the Droplet, so that equal problems have equal texts.
    """

    model_config = ConfigDict(frozen=True)

    kind: FindingKind
    what: str


class UncoveredVolume(BaseModel):
    """A volume, which no backup or snapshot of its Droplet contains.

    Attributes:
        name: Empty if the token may not read volumes.
        size_gib: Its size in GiB; None if unknown.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    name: str = ""
    size_gib: int | None = None

    def __str__(self) -> str:
        size = f" ({self.size_gib} GiB)" if self.size_gib else ""
        return f"{self.name}{size}"


class DropletAudit(BaseModel):
    """What protects a Droplet, and what does not.

    Attributes:
        droplet: Its name and ID; in a report on several accounts, after the name of its account.
        account: Name of its account.
        plan: The name of its backup plan; `own snapshots` if it has only snapshots that this project made, `none`, or
            `unknown`.
        schedule: The plan with the beginning of its window in UTC, such as `weekly SUN 20:00`.
        next_window_start: When its next backup window begins; None if unknown.
        newest_at: When its newest backup was made, even if it was converted to a snapshot since; None if it has none.
        newest_age_hours: Its age.
        overdue_since: The end of the last backup window, if that has passed without a backup.
        ages: Age of its newest copy in hours, by target region; None if there is none.
        proven_at: When a restore was last proven; None if never, or if the tags cannot be read.
        volumes: Its volumes, which nothing covers.
        snapshots: How many snapshots of it this project made.
        snapshots_gb: Their size in GB; a snapshot counts once, whatever the number of its regions.
        snapshots_price: Their monthly price in US dollars; 0 if costs are left out.
        meets_objective: Whether it meets what was asked for: see `CoverageReport.objective`.
        problems: The most urgent first.
    """

    model_config = ConfigDict(frozen=True)

    droplet: str
    account: str = DEFAULT_ACCOUNT
    droplet_id: int
    plan: str
    schedule: str = ""
    next_window_start: datetime | None = None
    newest_at: datetime | None = None
    newest_age_hours: float | None = None
    overdue_since: datetime | None = None
    ages: dict[str, float | None] = {}
    proven_at: datetime | None = None
    volumes: tuple[UncoveredVolume, ...] = ()
    snapshots: int = 0
    snapshots_gb: float = 0.0
    snapshots_price: float = 0.0
    meets_objective: bool = True
    problems: tuple[Finding, ...] = ()

    def has(self, kind: FindingKind) -> bool:
        """Whether it has a problem of a kind."""
        return any(each.kind == kind for each in self.problems)

    @property
    def urgency(self) -> int:
        """Place of its most urgent problem among the kinds; a Droplet without problems comes last."""
        kinds = list(FindingKind)
        return min((kinds.index(each.kind) for each in self.problems), default=len(kinds))

    @property
    def volumes_text(self) -> str:
        """Such as `pgdata (100 GiB), logs (20 GiB)`, or `2 volumes` if their names are unknown."""
        named = [str(each) for each in self.volumes if each.name]
        unnamed = count(len(self.volumes) - len(named), "volume") if len(named) < len(self.volumes) else ""
        return ", ".join([*named, *([unnamed] if unnamed else [])])


class CoverageReport(ReplicationReport):
    """Who is protected: where the recovery points are, how old they are, and what is missing.

    Attributes:
        droplets: One audit per Droplet.
        max_age_hours: Maximum age of the newest copy in a region; None for no limit.
        proven: When a restore was last proven, by Droplet name and ID; None if never.
        max_days_unproven: Maximum age of that proof, in days; None for no limit.
        unproven: Names and IDs of Droplets whose proof is older than that, or missing.
        unkept: Number of snapshots that the default retention rule does not keep.
        unkept_gb: Their size.
        of_deleted: Number of snapshots that this project made of Droplets that no longer exist.
        of_deleted_gb: Their size.
        plans_known: Whether the backup plans could be read; if not, no backup is known to be overdue.
        unread: What could not be read, and what the report therefore leaves out.
        unread_accounts: Why accounts could not be read, by name, in a report on several.
    """

    droplets: tuple[DropletAudit, ...] = ()
    max_age_hours: int | None = None
    proven: dict[str, datetime | None] = Field(default_factory=dict)
    max_days_unproven: int | None = None
    unproven: tuple[str, ...] = ()
    unkept: int = 0
    unkept_gb: float = 0.0
    of_deleted: int = 0
    of_deleted_gb: float = 0.0
    plans_known: bool = True
    unread: tuple[str, ...] = ()
    unread_accounts: dict[str, str] = Field(default_factory=dict)

    @property
    def objective(self) -> str:
        """What is asked of a Droplet, such as `a copy in all 12 regions that is at most 26 h old`."""
        several = len(self.regions) > BOTH
        where = f"all {len(self.regions)} regions" if several else " and ".join(self.regions)
        age = f" that is at most {self.max_age_hours} h old" if self.max_age_hours is not None else ""
        wanted = [f"a copy in {where}{age}"]
        if self.max_age_hours is None and self.plans_known:
            wanted.append("no overdue backup")
        if self.max_days_unproven is not None:
            wanted.append(f"a restore proven within {count(self.max_days_unproven, 'day')}")
        return " and ".join([", ".join(wanted[:-1]), wanted[-1]] if wanted[1:] else wanted)

    @computed_field  # type: ignore[prop-decorator]  # https://docs.pydantic.dev/2.13/api/fields/#pydantic.fields.computed_field
    @property
    def headline(self) -> str:
        """Such as `17 of 20 Droplets have a copy in all 12 regions and no overdue backup`."""
        meeting = sum(each.meets_objective for each in self.droplets)
        verb = "has" if meeting == 1 else "have"
        return f"{meeting} of {count(len(self.droplets), 'Droplet')}{self._by_account} {verb} {self.objective}"

    @property
    def _by_account(self) -> str:
        """Such as ` (prod 9 of 10, shop 8 of 10)`; empty in a report on one account."""
        totals = Counter(each.account for each in self.droplets)
        meeting = Counter(each.account for each in self.droplets if each.meets_objective)
        parts = [f"{account} {meeting[account]} of {total}" for account, total in sorted(totals.items())]
        return f" ({', '.join(parts)})" if len(parts) > 1 else ""

    @property
    def totals_text(self) -> str:
        """What this project's snapshots cost, and what the run has cost."""
        sizes = [each.snapshots_gb for each in self.droplets] + [self.of_deleted_gb]
        number = sum(each.snapshots for each in self.droplets) + self.of_deleted
        deleted = f" (including {self.of_deleted} of deleted Droplets, {gb(self.of_deleted_gb)})"
        costs = f"{gb(fsum(sizes))}{monthly(fsum(sizes), self.price_per_gb_month)}"
        parts = [f"{count(number, 'snapshot')} made by this project: {costs}{deleted if self.of_deleted else ''}"]
        if self.unkept:
            parts.append(f"{count(self.unkept, 'snapshot')} ({gb(self.unkept_gb)}) that no rule keeps")
        return "; ".join([*parts, f"replicate_backups would add {self.added}", self.spent])

    @property
    def summary(self) -> str:
        """The report in one line."""
        return f"{self.headline}; {self.totals_text}"

    @property
    def problem_lines(self) -> tuple[str, ...]:
        """The problems of all Droplets, one line per problem, the most urgent first."""
        lines = [f"Account {name} is not in this report: {why}" for name, why in self.unread_accounts.items()]
        for kind in FindingKind:
            found = _lines_of(kind, self.droplets)
            more = len(found) - MOST_LINES
            lines += found[:MOST_LINES]
            lines += [f"... and {count(more, 'more problem')} of this kind: see the table"] if more > 0 else []
        # Images that cannot be read, which no Droplet's audit has.
        unread = [each for each in self.problems if each.source == str(each.image_id)]
        return (*lines, *(f"{each.image_and_regions}: {each.reason}" for each in unread))

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings about regions and unprotected Droplets, and about what could not be read."""
        unprotected = any(each.has(FindingKind.NO_BACKUPS) for each in self.droplets)
        advice = "To protect Droplets without backups, run replicate_backups with source set to snapshots."
        return (*super().notes, *([advice] if unprotected else []), *self.unread)

    @property
    def failure(self) -> str:
        """Which objectives are missed, and where; empty if they are met or not set."""
        missed = [f"account {name} is not in this report: {why}" for name, why in self.unread_accounts.items()]
        if self.unproven:
            days = count(self.max_days_unproven or 0, "day")
            missed.append(f"no restore proven within {days} for {listed(self.unproven)}")
        if self.max_age_hours is not None and self.bad_rows:
            first = self.bad_rows[0]
            where = f"{first.source} in {first.region}: {first.error}"
            missed.append(f"{len(self.bad_rows)} of {len(self.rows)} copies are missing or too old (first: {where})")
        if self.max_age_hours is not None and self.without_backups:
            missed.append(f"no backups of {listed(self.without_backups)}")
        return "; ".join(missed)


def _lines_of(kind: FindingKind, droplets: tuple[DropletAudit, ...]) -> list[str]:
    """Describe all problems of a kind, Droplets with the same problem in one line."""
    if kind == FindingKind.VOLUMES:
        have = [f"{each.droplet} has {each.volumes_text}" for each in droplets if each.volumes]
        return [f"Volumes that are not copied: {listed(have)}"] if have else []
    alike: dict[str, list[str]] = {}
    for each in droplets:
        for problem in each.problems:
            if problem.kind == kind:
                alike.setdefault(problem.what, []).append(each.droplet)
    return [f"{what[0].upper()}{what[1:]}: {listed(names)}" for what, names in alike.items()]
