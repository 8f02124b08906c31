"""Merges the coverage reports of several accounts: pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import fsum

from flows.reporting.coverage_report import CoverageReport

SEVERAL_ACCOUNTS = "several"


def merge_reports(reports: Sequence[CoverageReport], unread: Mapping[str, str]) -> CoverageReport:
    """Make one report of several accounts, in which the names of Droplets begin with their account.

    Args:
        reports: The report of each account, at least one.
        unread: Why other accounts could not be read, by name.
    """
    named = [_with_account(each) for each in reports]
    audits = [audit for each in named for audit in each.droplets]
    return named[0].model_copy(
        update={
            "account": SEVERAL_ACCOUNTS,
            "unread_accounts": dict(unread),
            "droplets": tuple(sorted(audits, key=lambda each: (each.urgency, each.droplet))),
            "rows": tuple(row for each in named for row in each.rows),
            "regions": _union(each.regions for each in named),
            "doubtful_regions": _union(each.doubtful_regions for each in named),
            "without_backups": tuple(source for each in named for source in each.without_backups),
            "added_gb": fsum(each.added_gb for each in named),
            "added_unsized": sum(each.added_unsized for each in named),
            "proven": {source: at for each in named for source, at in each.proven.items()},
            "unproven": tuple(source for each in named for source in each.unproven),
            "unkept": sum(each.unkept for each in named),
            "unkept_gb": fsum(each.unkept_gb for each in named),
            "of_deleted": sum(each.of_deleted for each in named),
            "of_deleted_gb": fsum(each.of_deleted_gb for each in named),
            "plans_known": all(each.plans_known for each in named),
            "unread": tuple(note for each in named for note in each.unread),
        }
    )


def _with_account(report: CoverageReport) -> CoverageReport:
    """Put the name of the account before the name of each Droplet."""
    prefix = f"{report.account}: "
    return report.model_copy(
        update={
            "droplets": tuple(
                each.model_copy(update={"droplet": prefix + each.droplet, "account": report.account})
                for each in report.droplets
            ),
            "rows": tuple(each.model_copy(update={"source": prefix + each.source}) for each in report.rows),
            "without_backups": tuple(prefix + each for each in report.without_backups),
            "proven": {prefix + source: at for source, at in report.proven.items()},
            "unproven": tuple(prefix + each for each in report.unproven),
            "unread": tuple(prefix + each for each in report.unread),
        }
    )


def _union(parts: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """List what is in any of the parts, each once."""
    return tuple(dict.fromkeys(each for part in parts for each in part))
