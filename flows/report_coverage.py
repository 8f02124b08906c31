"""Reports who is protected: each Droplet's backups, copies, last proven restore, volumes and costs."""

from collections.abc import Sequence
from math import fsum

from prefect import flow

from flows.audit.accounts import merge_reports
from flows.audit.droplets import Objective, audit_droplets, newest_points, snapshots_of_deleted
from flows.audit.reading import read_account
from flows.command_line import run_from_command_line
from flows.inventory import take_inventory
from flows.names import coverage_run_name
from flows.parameters import DropletTag, OptionalDays, OptionalHours, Regions, SeveralCredentials
from flows.replication.image_selection import choose_targets
from flows.replication.planning import ReplicationPlan, plan_replication
from flows.replication.rows import planned_rows, rows_of_missing
from flows.replication.run import COVERAGE_KEY
from flows.reporting.coverage_report import CoverageReport, DropletAudit, FindingKind
from flows.reporting.report import Outcome, Row
from flows.results import explains_result, finish
from flows.retention.rule import RetentionRule
from flows.retention.stock import decide
from tasks.accounts import UNSAVED_ACCOUNT
from tasks.connection import connect
from tasks.credentials import DigitalOceanCredentials, account_of
from tasks.digitalocean import Connection, DigitalOceanError, InvalidArgument, track_usage


@flow(name="report-coverage", flow_run_name=coverage_run_name)
@explains_result
def report_coverage(
    droplet_tag: DropletTag = None,
    regions: Regions = None,
    max_age_hours: OptionalHours = None,
    max_days_unproven: OptionalDays = None,
    credentials: SeveralCredentials = None,
) -> CoverageReport:
    """Report which Droplets are protected: backup plans, overdue backups, copies and their age, volumes, and costs.

    Changes nothing. Copies do not include volumes; the report names those that nothing covers.

    Args:
        droplet_tag: Only Droplets with this tag; all if not given.
        regions: The regions to check, separated by commas or spaces; all available ones if not given. In the form,
            click the arrow to open the list.
        max_age_hours: The recovery-point objective, in hours. The run fails if the newest copy of a Droplet in a region
            is older or missing, or if a Droplet has no backups. If not given, the run only reports.
        max_days_unproven: The run fails if a Droplet's last successful drill (`drill_restore`) is older than this many
            days, or if there was none. If not given, the run only reports.
        credentials: The accounts: the names of their blocks of the type DigitalOcean Credentials, separated by commas
            or spaces. If not given, the one whose token is in the environment. The run fails if one cannot be read.

    Returns:
        The report, with one audit per Droplet in `droplets`, and one row per newest image and region: `already_there`;
        `planned` if `replicate_backups` would copy it; `failed` if the objective is missed.

    Raises:
        Incomplete: The objective is missed, or one of several accounts cannot be read; its `report` says where.
        DigitalOceanError: The run could not start: a setting, a parameter or the token is wrong.
    """
    reports: list[CoverageReport] = []
    unread: dict[str, DigitalOceanError] = {}
    chosen: list[DigitalOceanCredentials | str | None] = [*credentials] if credentials else [None]
    accounts = {account_of(each): each for each in chosen}
    if sum(account_of(each) == UNSAVED_ACCOUNT for each in chosen) > 1:
        raise InvalidArgument("save the credentials blocks, so that their accounts have different names")
    with track_usage() as counter:
        for account, each in accounts.items():
            try:
                reports.append(_report_on(connect(each), droplet_tag, regions, max_age_hours, max_days_unproven))
            except DigitalOceanError as error:
                unread[account] = error
    if not reports:
        raise next(iter(unread.values()))
    several = len(accounts) > 1
    report = merge_reports(reports, {name: str(error) for name, error in unread.items()}) if several else reports[0]
    return finish(report.model_copy(update={"usage": counter.usage}), COVERAGE_KEY)


def _report_on(
    connection: Connection,
    droplet_tag: str | None,
    regions: list[str] | None,
    max_age_hours: int | None,
    max_days_unproven: int | None,
) -> CoverageReport:
    """Read an account and report on it."""
    targets = choose_targets(regions, connection)
    reading = read_account(take_inventory(droplet_tag, connection), connection)
    # With 0, no actions are read: nothing is deleted here.
    unkept = decide(reading.stock, RetentionRule(), targets.regions, max_deletions=0, connection=connection)
    now, price = connection.client.server_clock.now(), connection.settings.snapshot_price_per_gb_month
    account, objective = reading.account, Objective(targets.regions, max_age_hours, max_days_unproven)
    audits = audit_droplets(account, objective, now, price)
    newest = newest_points(account)
    plan = plan_replication(newest.candidates, targets.regions, (), now)
    deleted = snapshots_of_deleted(account, reading.stock.snapshots)
    return CoverageReport(
        account=connection.account,
        droplets=audits,
        rows=_rows(plan, audits, max_age_hours) + rows_of_missing(newest, targets.regions),
        regions=targets.regions,
        doubtful_regions=targets.doubtful,
        without_backups=newest.without_backups,
        added_gb=plan.added_gb,
        added_unsized=plan.unsized_conversions,
        price_per_gb_month=price,
        max_age_hours=max_age_hours,
        proven={each.droplet: each.proven_at for each in audits} if account.proven is not None else {},
        max_days_unproven=max_days_unproven,
        unproven=tuple(each.droplet for each in audits if each.has(FindingKind.UNPROVEN)),
        unkept=len(unkept.to_delete),
        unkept_gb=unkept.gb_to_delete,
        of_deleted=len(deleted),
        of_deleted_gb=fsum(each.size_gigabytes for each in deleted),
        plans_known=account.policies is not None,
        unread=tuple(reading.notes),
    )


def _rows(plan: ReplicationPlan, audits: Sequence[DropletAudit], max_age_hours: int | None) -> tuple[Row, ...]:
    """Make one row per newest image and region, with the age of the newest copy there."""
    ages = {each.droplet_id: each.ages for each in audits}
    return tuple(
        _with_age(row, ages.get(row.droplet_id or 0, {}).get(row.region), max_age_hours)
        for row in planned_rows(plan)
        if row.region
    )


def _with_age(row: Row, age: float | None, max_age_hours: int | None) -> Row:
    """Add the age of the newest copy in a region; a failure if it is too old."""
    if max_age_hours is None or (age is not None and age <= max_age_hours):
        return row.model_copy(update={"age_hours": age})
    what = "no copy here" if age is None else f"the newest copy here is {age:.0f} h old"
    error = f"{what}; the objective is {max_age_hours} h"
    return row.model_copy(update={"age_hours": age, "outcome": Outcome.FAILED, "error": error})


if __name__ == "__main__":
    run_from_command_line(report_coverage)
