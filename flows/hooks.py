"""Sends an event and a ping when a run has ended.

A run that ends normally sends it itself (`flows/results.py`). For a run that is cancelled or crashes, the worker does,
through Prefect's hooks. If the worker is gone too, the next run that finds the run dead does (`flows/liveness.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect import Flow, State
from prefect.client.orchestration import get_client
from prefect.client.schemas import FlowRun

from flows.names import account_of_run
from flows.ping import Signal, ping
from flows.reporting.drill_report import DrillReport
from flows.reporting.events import (
    PRUNING_COMPLETED,
    PRUNING_FAILED,
    RECOVERY_COMPLETED,
    RECOVERY_FAILED,
    REPLICATION_COMPLETED,
    REPLICATION_FAILED,
    RESTORE_FAILED,
    RESTORE_PROVEN,
    SNAPSHOTS_COMPLETED,
    SNAPSHOTS_FAILED,
    announce_result,
)
from flows.reporting.pruning_report import PruningOutcome, PruningReport
from flows.reporting.report import ReplicationReport, RunReport
from flows.reporting.restore_report import RestoreOutcome, RestoreReport
from flows.reporting.snapshot_report import SnapshotReport

# The events of a complete and of an incomplete run, by flow name.
END_EVENTS = {
    "replicate-backups": (REPLICATION_COMPLETED, REPLICATION_FAILED),
    "transfer-images": (REPLICATION_COMPLETED, REPLICATION_FAILED),
    "prune-snapshots": (PRUNING_COMPLETED, PRUNING_FAILED),
    "restore-droplets": (RECOVERY_COMPLETED, RECOVERY_FAILED),
    "drill-restore": (RESTORE_PROVEN, RESTORE_FAILED),
    "snapshot-droplets": (SNAPSHOTS_COMPLETED, SNAPSHOTS_FAILED),
}
# Flows that change nothing unless `dry_run` is turned off.
DRY_BY_DEFAULT = frozenset({"prune-snapshots", "restore-droplets"})


def is_dry_run(flow_name: str | None, parameters: Mapping[str, Any], report: object = None) -> bool:
    """Whether a run changes nothing, by its report if it has one; nobody is notified of such runs."""
    rejected = isinstance(report, RunReport) and report.rejected
    return rejected or bool(getattr(report, "dry_run", parameters.get("dry_run", flow_name in DRY_BY_DEFAULT)))


def announce_end(
    flow_name: str | None,
    run_name: str | None,
    parameters: Mapping[str, Any],
    message: str | None,
    *,
    completed: bool = False,
    report: object = None,
) -> None:
    """Send the event of a run's end; none for a dry run, or for a flow that has no such event.

    Args:
        flow_name: Name of the flow.
        run_name: Name of the run.
        parameters: Its parameters.
        message: Message of its last state.
        completed: Whether it completed.
        report: Its report, if it has one.
    """
    if is_dry_run(flow_name, parameters, report) or flow_name not in END_EVENTS:
        return
    event = END_EVENTS[flow_name][0 if completed else 1]
    payload = {"message": message, "flow_run_name": run_name, "droplet_tag": parameters.get("droplet_tag")}
    announce_result(event, account_of_run(parameters, run_name), {**payload, **_contents(report)})


def announce_abnormal_end(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook for `on_cancellation` and `on_crashed` of `@flow`; sends nothing for a run cancelled instead of approved."""
    if state.is_cancelling() and _waits_for_approval(flow_run):
        return
    announce_end(flow.name, flow_run.name, flow_run.parameters, state.message or state.name)
    if not is_dry_run(flow.name, flow_run.parameters):
        # A worker runs this hook in the environment of the run, so the URL is known.
        ping(Signal.FAILURE, flow_run)


def _waits_for_approval(flow_run: FlowRun) -> bool:
    """Whether a run that is being cancelled was paused until then."""
    if not flow_run.parameters.get("approve"):
        return False
    with get_client(sync_client=True) as client:
        states = sorted(client.read_flow_run_states(flow_run.id), key=lambda state: state.timestamp)
    return [state.is_paused() for state in states if not state.is_cancelling()][-1:] == [True]


def _contents(report: object) -> dict[str, Any]:
    if isinstance(report, ReplicationReport):
        return {
            "image_ids": sorted({row.image_id for row in report.rows if row.image_id is not None}),
            "regions": list(report.regions),
            "totals": {str(outcome): number for outcome, number in report.totals.items()},
        }
    if isinstance(report, PruningReport):
        return {"image_ids": [row.image_id for row in report.having(PruningOutcome.DELETED)]}
    if isinstance(report, SnapshotReport):
        # In the form that `transfer_images` takes.
        return {"image_ids": sorted(row.image_id for row in report.rows if row.image_id is not None)}
    if isinstance(report, DrillReport):
        return {"rows": [row.model_dump(mode="json") for row in report.rows]}
    if isinstance(report, RestoreReport):
        restored = report.having(RestoreOutcome.RESTORED, RestoreOutcome.ALREADY_RESTORED)
        return {"region": report.region, "droplet_ids": [row.new_droplet_id for row in restored]}
    return {}
