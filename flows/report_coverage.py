"""Reports which regions have each Droplet's newest recovery point, and the age of the copies."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from prefect import flow, get_run_logger

from flows.command_line import run_from_command_line
from flows.inventory import Inventory, take_inventory
from flows.names import coverage_run_name
from flows.parameters import Days, DropletTag, Hours, Regions
from flows.recovery.proofs import last_proven, read_proofs
from flows.replication.image_selection import choose_targets, newest_backups
from flows.replication.planning import plan_replication
from flows.replication.recovery_points import Selection, is_tagged, name_of
from flows.replication.rows import planned_rows, rows_of_missing
from flows.replication.run import COVERAGE_KEY
from flows.reporting.report import CoverageReport, Outcome, Row
from flows.results import explains_result, finish
from flows.retention.rule import RetentionRule
from flows.retention.stock import Stock, decide, read_stock
from tasks.connection import connect
from tasks.digitalocean import APIError, Connection, Forbidden, NotFound, track_usage
from tasks.tags import list_tags


@flow(name="report-coverage", flow_run_name=coverage_run_name)
@explains_result
def report_coverage(
    droplet_tag: DropletTag = None,
    regions: Regions = None,
    max_age_hours: Hours | None = None,
    max_days_unproven: Days | None = None,
) -> CoverageReport:
    """Report which regions have each Droplet's newest copy, how old it is, and when a restore was last proven.

    Changes nothing. Copies do not include volumes; the report names the Droplets that have any.

    Args:
        droplet_tag: Only Droplets with this tag; all if not given.
        regions: The regions to check, separated by commas or spaces; all available ones if not given. In the form,
            click the arrow to open the list.
        max_age_hours: The recovery-point objective, in hours. The run fails if the newest copy of a Droplet in a region
            is older or missing, or if a Droplet has no backups. If not given, the run only reports.
        max_days_unproven: The run fails if a Droplet's last successful drill (`drill_restore`) is older than this many
            days, or if there was none. If not given, the run only reports.

    Returns:
        The report, with one row per newest image and region: `already_there`; `planned` if `replicate_backups` would
        copy it; `failed` if the objective is missed.

    Raises:
        Incomplete: The objective is missed; its `report` says where.
        DigitalOceanError: The run could not start: a setting, a parameter or the token is wrong.
    """
    connection = connect()
    with track_usage() as counter:
        targets = choose_targets(regions, connection)
        inventory = take_inventory(droplet_tag, connection)
        selection, stock = newest_backups(inventory, connection), _stock(inventory, connection)
        # With 0, no actions are read: nothing is deleted here.
        unkept = decide(stock, RetentionRule(), targets.regions, max_deletions=0, connection=connection)
        proven = _last_proven(inventory, connection)
    now = connection.client.server_clock.now()
    plan = plan_replication(selection.candidates, targets.regions, (), now)
    copies = _newest_copies(selection, stock, connection.settings.managed_tag)
    return finish(
        CoverageReport(
            rows=tuple(
                _with_age(row, copies.get((row.droplet_id, row.region)), now, max_age_hours)
                for row in planned_rows(plan)
                if row.region
            )
            + rows_of_missing(selection, targets.regions),
            regions=targets.regions,
            doubtful_regions=targets.doubtful,
            without_backups=selection.without_backups,
            volumes=dict(selection.volumes),
            added_gb=plan.added_gb,
            added_unsized=plan.unsized_conversions,
            price_per_gb_month=connection.settings.snapshot_price_per_gb_month,
            max_age_hours=max_age_hours,
            proven=proven,
            max_days_unproven=max_days_unproven,
            unproven=_unproven(proven, now, max_days_unproven),
            unkept=len(unkept.to_delete),
            unkept_gb=unkept.gb_to_delete,
            usage=counter.usage,
        ),
        COVERAGE_KEY,
    )


def _stock(inventory: Inventory, connection: Connection) -> Stock:
    """Read older snapshots; none if the token is not allowed to."""
    try:
        return read_stock(inventory, connection)
    except (Forbidden, NotFound) as error:
        get_run_logger().warning("Could not read older snapshots; the report omits them: %s", error)
        return Stock((), {}, {})


def _last_proven(inventory: Inventory, connection: Connection) -> dict[str, datetime | None]:
    """Read when a restore of each Droplet was last proven; nothing if the tags cannot be read."""
    try:
        found = last_proven(read_proofs(list_tags(connection=connection)))
    except APIError as error:
        get_run_logger().warning("Could not read when restores were proven; the report omits it: %s", error)
        return {}
    return {name_of(droplet): found.get(droplet.id) for droplet in inventory.droplets}


def _unproven(proven: Mapping[str, datetime | None], now: datetime, max_days: int | None) -> tuple[str, ...]:
    """List the Droplets that were not proven for too long."""
    earliest = now - timedelta(days=max_days or 0)
    return tuple(name for name, at in proven.items() if max_days and (at is None or at < earliest))


def _newest_copies(
    selection: Selection, stock: Stock, managed_tag: str
) -> dict[tuple[int | None, str | None], datetime]:
    """Find the creation time of the newest recovery point, by Droplet and region."""
    points = [(each.droplet_id, each.image.regions, each.image.created_at) for each in selection.candidates]
    managed = [each for each in stock.snapshots if is_tagged(each, managed_tag) and each.id not in stock.unavailable]
    points += [(each.resource_id, each.regions, each.created_at) for each in managed]
    newest: dict[tuple[int | None, str | None], datetime] = {}
    for droplet_id, regions, made in points:
        for region in regions:
            newest[droplet_id, region] = max(newest.get((droplet_id, region), made), made)
    return newest


def _with_age(row: Row, made: datetime | None, now: datetime, max_age_hours: int | None) -> Row:
    """Add the age of the newest copy in a region; a failure if it is too old."""
    age = (now - made) / timedelta(hours=1) if made else None
    if max_age_hours is None or (age is not None and age <= max_age_hours):
        return row.model_copy(update={"age_hours": age})
    what = "no copy here" if age is None else f"the newest copy here is {age:.0f} h old"
    error = f"{what}; the objective is {max_age_hours} h"
    return row.model_copy(update={"age_hours": age, "outcome": Outcome.FAILED, "error": error})


if __name__ == "__main__":
    run_from_command_line(report_coverage)
