"""Which runs took snapshots, and whether they completed.

A label on each flow run holds the time in the names of its snapshots, and its job: the flow and the Droplets. Without a
shared Prefect server, and if it does not answer, nothing is known.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from prefect import get_run_logger
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterStartTime,
)
from prefect.client.schemas.objects import StateType
from prefect.runtime import flow_run

from flows.liveness import current_heartbeat, runs_matching
from flows.snapshots.planning import FINISH_WITHIN, TIME_FORMAT
from tasks.accounts import for_account
from tasks.api_task import run_blocking
from tasks.prefect_client import PREFECT_ERRORS, client_without_retries, retried

RUN_LABEL = "digitalocean.snapshots"
FLOWS = ("snapshot-droplets", "replicate-backups")
# A run may have waited for others for hours before it began to take snapshots.
LONGEST_WAIT = timedelta(days=1)
LONGEST_REQUEST_SECONDS = 20.0


def job_of(droplet_tag: str | None, droplet_ids: Collection[int] | None) -> str:
    """Name the job of the current run: a run finishes only runs of the same job.

    So a snapshot before an upgrade does not finish the night's run, whose snapshot of the Droplet may be hours old.
    """
    ids = ",".join(map(str, sorted(droplet_ids))) if droplet_ids is not None else "all"
    return f"{flow_run.flow_name} {(droplet_tag or 'all').lower()} {ids}"


def read_finished_runs(job: str, account: str) -> dict[datetime, bool]:
    """Read whether the work of recent runs is finished, or none of this job's, by the time in their snapshots' names.

    Args:
        job: The job of the current run.
        account: Its account; runs of other accounts do not count.
    """
    if current_heartbeat.get() is None:
        return {}
    try:
        return run_blocking(retried(lambda: _read(job, for_account(RUN_LABEL, account))))
    except PREFECT_ERRORS as error:
        get_run_logger().warning("Could not find out whether the last run that took snapshots completed: %s", error)
        return {}


def note_run_time(run_time: datetime, job: str, account: str) -> None:
    """Note on this flow run which time the names of its snapshots in an account hold, and its job."""
    heartbeat = current_heartbeat.get()
    if heartbeat is None:
        return

    async def write() -> None:
        async with client_without_retries(LONGEST_REQUEST_SECONDS) as client:
            await heartbeat.write(client, **{for_account(RUN_LABEL, account): f"{run_time:{TIME_FORMAT}} {job}"})

    try:
        run_blocking(retried(write))
    except PREFECT_ERRORS as error:
        get_run_logger().warning("Could not note the time of the snapshots on this flow run: %s", error)


async def _read(job: str, label: str) -> dict[datetime, bool]:
    async with client_without_retries(LONGEST_REQUEST_SECONDS) as client:
        return await _finished(client, job, label)


async def _finished(client: PrefectClient, job: str, label: str) -> dict[datetime, bool]:
    since = datetime.now(UTC) - FINISH_WITHIN - LONGEST_WAIT
    recent = FlowRunFilter(start_time=FlowRunFilterStartTime(after_=since))
    finished: dict[datetime, bool] = {}
    async for run in runs_matching(client, recent, FLOWS):
        # The latest run with a time decides: it may have finished an earlier one.
        time, own_job = _read_label(run.labels.get(label))
        if time:
            finished.setdefault(time, run.state_type == StateType.COMPLETED or own_job != job)
    return finished


def _read_label(label: object) -> tuple[datetime | None, str]:
    time, _, job = str(label).partition(" ")
    try:
        return datetime.strptime(time, TIME_FORMAT).replace(tzinfo=UTC), job
    except ValueError:
        return None, ""
