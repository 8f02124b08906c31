"""Which runs took snapshots, and whether they completed.

A label on each flow run holds the time in the names of its snapshots. Without a shared Prefect server, and if it does
not answer, nothing is known.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prefect import get_run_logger
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterStartTime,
)
from prefect.client.schemas.objects import StateType

from flows.liveness import current_heartbeat, runs_matching
from flows.prefect_client import PREFECT_ERRORS, client_without_retries
from flows.snapshots.planning import FINISH_WITHIN, TIME_FORMAT
from tasks.api_task import run_blocking

TIME_LABEL = "digitalocean.snapshot-time"
FLOWS = ("snapshot-droplets", "replicate-backups")
# A run may have waited for others for hours before it began to take snapshots.
LONGEST_WAIT = timedelta(days=1)
LONGEST_REQUEST_SECONDS = 20.0


def read_finished_runs() -> dict[datetime, bool]:
    """Read whether recent runs completed, by the time in the names of their snapshots; only the latest with each."""
    if current_heartbeat.get() is None:
        return {}
    try:
        return run_blocking(_read())
    except PREFECT_ERRORS as error:
        get_run_logger().warning("Could not find out whether the last run that took snapshots completed: %s", error)
        return {}


def note_run_time(run_time: datetime) -> None:
    """Note on this flow run which time the names of its snapshots hold."""
    heartbeat = current_heartbeat.get()
    if heartbeat is None:
        return

    async def write() -> None:
        async with client_without_retries(LONGEST_REQUEST_SECONDS) as client:
            await heartbeat.write(client, **{TIME_LABEL: f"{run_time:{TIME_FORMAT}}"})

    try:
        run_blocking(write())
    except PREFECT_ERRORS as error:
        get_run_logger().warning("Could not note the time of the snapshots on this flow run: %s", error)


async def _read() -> dict[datetime, bool]:
    async with client_without_retries(LONGEST_REQUEST_SECONDS) as client:
        return await _finished(client)


async def _finished(client: PrefectClient) -> dict[datetime, bool]:
    since = datetime.now(UTC) - FINISH_WITHIN - LONGEST_WAIT
    recent = FlowRunFilter(start_time=FlowRunFilterStartTime(after_=since))
    finished: dict[datetime, bool] = {}
    async for run in runs_matching(client, recent, FLOWS):
        # A run that Prefect restarts after a crash finishes its own earlier work.
        if time := _time_of(run.labels.get(TIME_LABEL)):
            finished.setdefault(time, run.state_type == StateType.COMPLETED)
    return finished


def _time_of(label: object) -> datetime | None:
    try:
        return datetime.strptime(str(label), TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None
