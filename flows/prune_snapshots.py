"""Old snapshots of this project, deleted by a rule of generations; what recovery needs is kept."""

from collections.abc import Iterator
from contextlib import nullcontext

from prefect import flow, get_run_logger

from flows.command_line import run_from_command_line
from flows.hooks import announce_abnormal_end
from flows.image_locks import locked
from flows.inventory import take_inventory
from flows.names import pruning_run_name
from flows.parameters import DropletTag, HowMany, Regions
from flows.replication.image_selection import choose_targets
from flows.reporting.events import announce_deletion
from flows.reporting.pruning_report import PruningOutcome, PruningReport, PruningRow
from flows.results import explains_result, finish
from flows.retention.pruning import Verdict
from flows.retention.rule import RetentionRule
from flows.retention.stock import Decision, decide, read_stock
from flows.waiting import waiting_for
from tasks.connection import connect
from tasks.digitalocean import APIError, Connection, Forbidden, ScopeMissing, Unauthorized, run_blocking, track_usage
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
    older_than_days: HowMany | None = None,
    dry_run: bool = True,
    max_deletions: HowMany = 50,
    regions: Regions = None,
) -> PruningReport:
    """Delete old snapshots that this project made, and keep what recovery needs.

    Of each Droplet, also of one that is gone, the newest snapshots are kept, and the newest of each of the last days,
    weeks and months. The newest recovery point stays in any case; and as long as it is not in every region it should be
    in, nothing of its Droplet is deleted. Snapshots that this project did not make are left alone.

    Args:
        droplet_tag: Only snapshots of Droplets with this tag; if not given, of all, also of Droplets that are gone.
        keep_last: Keep the N newest snapshots.
        keep_daily: Keep the newest snapshot of each of the last N days; days without one are skipped.
        keep_weekly: Keep the newest snapshot of each of the last N weeks, which begin on Monday; weeks without one are
            skipped.
        keep_monthly: Keep the newest snapshot of each of the last N months; months without one are skipped.
        older_than_days: Delete nothing younger than N days; no such limit if not given.
        dry_run: Only say what would be deleted. Switch it off to delete.
        max_deletions: If more than this would be deleted, delete nothing and fail, because a rule may be wrong.
        regions: The regions in which the newest recovery point should be, separated by commas or spaces; all available
            ones if not given.

    Returns:
        The report, with one row per snapshot.

    Raises:
        Incomplete: Some snapshots were not deleted, or too many would go; its `report` says which and why.
        DigitalOceanError: The run could not start: a setting, a parameter or the token is wrong.
    """
    rule = RetentionRule(keep_last, keep_daily, keep_weekly, keep_monthly, older_than_days)
    connection = connect()
    with track_usage() as counter:
        targets = choose_targets(regions, connection).regions

        def choose() -> Decision:
            stock = read_stock(take_inventory(droplet_tag, connection), connection)
            return decide(stock, rule, targets, max_deletions, connection)

        deletion = Deletion(connection)
        with nullcontext(choose()) if dry_run else locked(choose, lambda decision: decision.image_ids) as decision:
            delete = not dry_run and not decision.plan.exceeds(max_deletions)
            with waiting_for("Deleting snapshots", connection) if delete else nullcontext():
                rows = tuple(_rows(decision, deletion if delete else None))
    report = PruningReport(
        rows=rows,
        left_alone=decision.plan.left_alone,
        dry_run=dry_run,
        max_deletions=max_deletions,
        price_per_gib_month=connection.settings.snapshot_price_per_gib_month,
        usage=counter.usage,
        interrupted=deletion.interrupted,
    )
    return finish(report, PRUNING_KEY)


def _rows(decision: Decision, deletion: "Deletion | None") -> Iterator[PruningRow]:
    """Say what becomes of each snapshot, and delete what goes if that is wanted."""
    for verdict in decision.plan.verdicts:
        snapshot = verdict.snapshot
        outcome, error = deletion.of(snapshot.id) if verdict.should_delete and deletion else (_planned(verdict), "")
        row = PruningRow(
            droplet=decision.stock.name_of(snapshot.resource_id),
            droplet_id=snapshot.resource_id,
            image_id=snapshot.id,
            image_name=snapshot.name,
            created_at=snapshot.created_at,
            regions=snapshot.regions,
            size_gigabytes=snapshot.size_gigabytes,
            outcome=outcome,
            reason=verdict.why or ", ".join(verdict.kept_by),
            error=error,
        )
        announce_deletion(row)
        yield row


def _planned(verdict: Verdict) -> PruningOutcome:
    return PruningOutcome.PLANNED if verdict.should_delete else PruningOutcome.KEPT


class Deletion:
    """Deletes snapshots one by one, until the API refuses the token: it would refuse it for every other one.

    A 403 may pass. Only after three snapshots in a row that were refused, the token counts as lacking the scope.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._token_refused: APIError | None = None
        self._refused_in_a_row = 0
        self.interrupted = False

    def of(self, image_id: int) -> tuple[PruningOutcome, str]:
        """Delete a snapshot; returns what became of it, and what went wrong. After Ctrl-C, deletes nothing."""
        if self.interrupted:
            return PruningOutcome.FAILED, "interrupted before"
        try:
            if self._token_refused:
                raise self._token_refused.for_request("DELETE", f"/v2/images/{image_id}")
            deleted = run_blocking(delete_snapshot.run(image_id, connection=self._connection))
        except APIError as error:
            judged = self._judged(error)
            get_run_logger().error("Snapshot %d was not deleted: %s", image_id, judged)
            return PruningOutcome.FAILED, str(judged)
        except KeyboardInterrupt:
            self.interrupted = True
            return PruningOutcome.FAILED, "interrupted while it was being deleted: it may be gone"
        self._refused_in_a_row = 0
        return (PruningOutcome.DELETED if deleted else PruningOutcome.GONE), ""

    def _judged(self, error: APIError) -> APIError:
        """Find out whether the next deletions would be refused as well."""
        if isinstance(error, Forbidden) and not isinstance(error, ScopeMissing):
            self._refused_in_a_row += 1
            if self._refused_in_a_row == MOST_REFUSALS:
                error = ScopeMissing(error.method, error.path, error.status, error.error_id, error.message)
        if isinstance(error, (Unauthorized, ScopeMissing)):
            self._token_refused = error
        return error


if __name__ == "__main__":
    run_from_command_line(prune_snapshots)
