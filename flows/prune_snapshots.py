"""Deletes this project's old snapshots by a retention rule; keeps what recovery needs."""

from collections.abc import Iterator
from contextlib import nullcontext

from prefect import flow, get_run_logger

from flows.command_line import run_from_command_line
from flows.hooks import announce_abnormal_end
from flows.image_locks import locked
from flows.inventory import take_inventory
from flows.names import pruning_run_name
from flows.parameters import DropletTag, HowMany, OptionalAge, OptionalCredentials, Regions
from flows.replication.image_selection import choose_targets
from flows.reporting.events import announce_deletion
from flows.reporting.pruning_report import PruningOutcome, PruningReport, PruningRow
from flows.results import explains_result, finish
from flows.retention.pruning import PruningPlan
from flows.retention.rule import RetentionRule
from flows.retention.stock import Stock, decide, read_stock
from flows.waiting import waiting_for
from tasks.api_task import run_blocking
from tasks.connection import connect
from tasks.digitalocean import APIError, Connection, Forbidden, ScopeMissing, Unauthorized, track_usage
from tasks.digitalocean.errors import MOST_REFUSALS
from tasks.snapshots import delete_snapshot

PRUNING_KEY = "snapshot-retention"


@flow(
    name="prune-snapshots",
    flow_run_name=pruning_run_name,
    on_cancellation=[announce_abnormal_end],
    on_crashed=[announce_abnormal_end],
)
@explains_result
def prune_snapshots(
    droplet_tag: DropletTag = None,
    keep_last: HowMany = 7,
    keep_daily: HowMany = 0,
    keep_weekly: HowMany = 4,
    keep_monthly: HowMany = 6,
    older_than_days: OptionalAge = None,
    dry_run: bool = True,
    max_deletions: HowMany = 50,
    regions: Regions = None,
    credentials: OptionalCredentials = None,
) -> PruningReport:
    """Delete old snapshots that this project made, and keep what recovery needs.

    Keeps the newest snapshots of each Droplet, and the newest one of each of the last days, weeks and months. Always
    keeps the newest recovery point. If that is missing in a region, nothing of its Droplet is deleted. Snapshots with
    the tag `prefect:hold` are kept in addition. Snapshots that this project did not make are left alone.

    Args:
        droplet_tag: Only snapshots of Droplets with this tag; if not given, of all Droplets, including deleted ones.
        keep_last: Keep the N newest snapshots.
        keep_daily: Keep the newest snapshot of each of the last N days; days without one are skipped.
        keep_weekly: Keep the newest snapshot of each of the last N weeks, which begin on Monday; weeks without one are
            skipped.
        keep_monthly: Keep the newest snapshot of each of the last N months; months without one are skipped.
        older_than_days: Delete nothing younger than N days; no minimum age if not given.
        dry_run: Only report what would be deleted. Turn it off to delete.
        max_deletions: If more than this would be deleted, delete nothing and fail: the rule may be wrong.
        regions: The regions that need the newest recovery point, separated by commas or spaces; all available ones if
            not given.
        credentials: The account: the name of its block of the type DigitalOcean Credentials. If not given, the one
            whose token is in the environment.

    Returns:
        The report, with one row per snapshot.

    Raises:
        Incomplete: Some snapshots were not deleted, or more than `max_deletions` would be; see its `report`.
        DigitalOceanError: The run could not start: a setting, a parameter or the token is wrong.
    """
    rule = RetentionRule(keep_last, keep_daily, keep_weekly, keep_monthly, older_than_days)
    connection = connect(credentials)
    with track_usage() as counter:
        targets = choose_targets(regions, connection).regions

        def choose() -> tuple[Stock, PruningPlan]:
            stock = read_stock(take_inventory(droplet_tag, connection), connection)
            return stock, decide(stock, rule, targets, max_deletions, connection)

        def to_change(choice: tuple[Stock, PruningPlan]) -> list[int]:
            return [snapshot.id for snapshot in choice[1].to_delete]

        deletion = Deletion(connection)
        with nullcontext(choose()) if dry_run else locked(choose, to_change, connection.account) as (stock, plan):
            delete = not dry_run and not plan.exceeds(max_deletions)
            with waiting_for("Deleting snapshots", connection) if delete else nullcontext():
                rows = tuple(_rows(plan, stock, deletion if delete else None))
    report = PruningReport(
        rows=rows,
        left_alone=plan.left_alone,
        dry_run=dry_run,
        max_deletions=max_deletions,
        price_per_gb_month=connection.settings.snapshot_price_per_gb_month,
        account=connection.account,
        usage=counter.usage,
        interrupted=deletion.interrupted,
    )
    return finish(report, PRUNING_KEY)


def _rows(plan: PruningPlan, stock: Stock, deletion: "Deletion | None") -> Iterator[PruningRow]:
    """Make a row per snapshot, and delete the snapshots to delete unless `deletion` is None."""
    for verdict in plan.verdicts:
        snapshot = verdict.snapshot
        outcome, error = PruningOutcome.PLANNED if verdict.should_delete else PruningOutcome.KEPT, ""
        if verdict.should_delete and deletion:
            outcome, error = deletion.of(snapshot.id)
        row = PruningRow(
            droplet=stock.name_of(snapshot.resource_id),
            droplet_id=snapshot.resource_id,
            image_id=snapshot.id,
            image_name=snapshot.name,
            created_at=snapshot.created_at,
            regions=snapshot.regions,
            size_gigabytes=snapshot.size_gigabytes,
            outcome=outcome,
            reason=verdict.reason,
            error=error,
        )
        announce_deletion(row)
        yield row


class Deletion:
    """Deletes snapshots one by one, until the API rejects the token.

    A single 403 may be temporary. After three in a row, the token is assumed to lack the scope.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._token_refused: APIError | None = None
        self._refused_in_a_row = 0
        self.interrupted = False

    def of(self, image_id: int) -> tuple[PruningOutcome, str]:
        """Delete a snapshot; returns the outcome and the error. After Ctrl-C, deletes nothing."""
        if self.interrupted:
            return PruningOutcome.FAILED, "not deleted: the run was interrupted"
        try:
            if self._token_refused:
                raise self._token_refused.for_request("DELETE", f"/v2/images/{image_id}")
            deleted = run_blocking(delete_snapshot.run(image_id, credentials=self._connection))
        except APIError as error:
            judged = self._judged(error)
            get_run_logger().error("Snapshot %d was not deleted: %s", image_id, judged)
            return PruningOutcome.FAILED, str(judged)
        except KeyboardInterrupt:
            self.interrupted = True
            return PruningOutcome.FAILED, "interrupted during the deletion: the snapshot may be deleted"
        self._refused_in_a_row = 0
        return (PruningOutcome.DELETED if deleted else PruningOutcome.GONE), ""

    def _judged(self, error: APIError) -> APIError:
        """Note whether the token is rejected, so that further deletions are pointless."""
        if isinstance(error, Forbidden) and not isinstance(error, ScopeMissing):
            self._refused_in_a_row += 1
            if self._refused_in_a_row == MOST_REFUSALS:
                error = ScopeMissing(error.method, error.path, error.status, error.error_id, error.message)
        if isinstance(error, (Unauthorized, ScopeMissing)):
            self._token_refused = error
        return error


if __name__ == "__main__":
    run_from_command_line(prune_snapshots)
