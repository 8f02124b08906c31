"""Heartbeats: each run updates a label of its flow run, and sets runs without a recent heartbeat to Crashed.

Prefect's own heartbeats are events. If the server's machine reboots, it loses unwritten events, and a Pending run has
not sent any: it would stay Pending forever, and keep its slot in the work queue. Updating a label also updates the flow
run's `updated`, which is in the server's database.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas import FlowRun
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Crashed

from flows.hooks import announce_end
from flows.names import FLOWS
from flows.prefect_settings import DEAD_AFTER, HEARTBEAT
from tasks.digitalocean import start_in_background
from tasks.prefect_client import PREFECT_ERRORS, client_without_retries

RENEWED_LABEL = "digitalocean.claim-renewed"
# A Prefect server on an overloaded machine is slow; after this time, the next renewal is nearly due anyway.
LONGEST_RENEWAL_SECONDS = 20.0
SECONDS_AFTER_FAILED_RENEWAL = 5.0
WORRYING_FAILURES = 3
SECONDS_BETWEEN_SEARCHES = 300.0


class Heartbeat:
    """Writes the labels of one flow run again and again while it runs."""

    def __init__(self, flow_run_id: UUID) -> None:
        self.flow_run_id = flow_run_id
        self._renewals = 0
        self._interrupted = False
        self._labels: dict[str, str] = {}
        # Prefect's server merges labels without a lock, so one of two concurrent writes would be lost.
        self._writing = asyncio.Lock()

    async def write(self, client: PrefectClient, **labels: str) -> datetime | None:
        """Write the labels, and `labels` from now on; returns the server's time, when it updated the run."""
        return (await self._write(client, labels)).updated

    async def _write(self, client: PrefectClient, labels: dict[str, str]) -> FlowRun:
        async with self._writing:
            # If the response is lost, the next renewal undoes this change.
            self._labels = dict.fromkeys(labels, "") | self._labels
            wanted, renewals = self._labels | labels, self._renewals + 1
            await client.update_flow_run_labels(self.flow_run_id, {**wanted, RENEWED_LABEL: renewals})
            self._labels, self._renewals = wanted, renewals
        return await client.read_flow_run(self.flow_run_id)

    async def run(self) -> None:
        """Renew the labels until cancelled, and end dead runs from time to time.

        If the run is cancelled in Prefect's UI and its worker does not end it, this does, as Ctrl-C would: after an
        outage of the server of half a minute, a worker no longer notices ("Flow run cancellation disabled").
        """
        clock = asyncio.get_running_loop()
        search_at = clock.time()
        failures = 0
        was_cancelled = False
        while True:
            try:
                async with client_without_retries(LONGEST_RENEWAL_SECONDS) as client:
                    run = await self._write(client, {})
                    cancelled = run.state_type == StateType.CANCELLING
                    if was_cancelled and cancelled:
                        self._interrupt()
                    now, was_cancelled = run.updated, cancelled
                    if now and clock.time() >= search_at:
                        await end_dead_runs(client, self.flow_run_id, now)
                        search_at = clock.time() + SECONDS_BETWEEN_SEARCHES
                failures = 0
            except PREFECT_ERRORS as error:
                failures += 1
                # A single failure is usually a database that was locked for a moment.
                log = get_run_logger().warning if failures == WORRYING_FAILURES else get_run_logger().debug
                log("Prefect's server does not answer; this run continues: %s", str(error) or type(error).__name__)
            await asyncio.sleep(SECONDS_AFTER_FAILED_RENEWAL if failures else HEARTBEAT.total_seconds())

    def _interrupt(self) -> None:
        """Interrupt the run once, if a worker has started this process for it; a second time would cut its end."""
        if self._interrupted or os.environ.get("PREFECT__FLOW_RUN_ID") != str(self.flow_run_id):
            return
        self._interrupted = True
        get_run_logger().info("The run was cancelled, and its worker has not ended it: ending")
        signal.raise_signal(signal.SIGINT)


# None without a shared Prefect server.
current_heartbeat: ContextVar[Heartbeat | None] = ContextVar("current_heartbeat", default=None)


@contextmanager
def heartbeat() -> Iterator[None]:
    """Send heartbeats of the current flow run during the block; does nothing without a shared Prefect server."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or not PREFECT_API_URL.value():
        yield
        return
    current = Heartbeat(context.flow_run.id)
    token = current_heartbeat.set(current)
    sending = start_in_background(current.run())
    try:
        yield
    finally:
        sending.cancel()
        current_heartbeat.reset(token)


def is_dead(run: FlowRun, now: datetime) -> bool:
    """Whether an unfinished run has sent no heartbeat for too long by the server's time."""
    return run.updated is not None and now - run.updated > DEAD_AFTER


async def end_dead_runs(client: PrefectClient, own_id: UUID, now: datetime) -> None:
    """Set dead runs of this project to Crashed, which frees their slots in work queues and their locks on images.

    Paused runs are not dead: they wait for a person. Those that Prefect has suspended have no process.

    Args:
        client: Prefect's server.
        own_id: ID of the current run.
        now: The server's time.
    """
    states = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    async for run in runs_in(client, states, flows=FLOWS):
        if run.id == own_id or not is_dead(run, now):
            continue
        silence = f"{DEAD_AFTER.total_seconds() / 60:.0f} minutes"
        was = run.state_name or "unfinished"
        message = (
            f"Its process is gone: it was {was}, without a heartbeat for {silence}. The next run finishes its work."
        )
        # Prefect rejects any state but Cancelled for a run that is being cancelled.
        ended = Cancelled if run.state_type == StateType.CANCELLING else Crashed
        await client.set_flow_run_state(run.id, ended(message=message))
        announce_end((await client.read_flow(run.flow_id)).name, run.name, run.parameters, message)
        get_run_logger().warning("Set %r to %s: %s", run.name, ended.__name__, message)


async def runs_in(
    client: PrefectClient, states: Sequence[StateType], flows: Sequence[str] | None = None
) -> AsyncIterator[FlowRun]:
    """Yield the flow runs in some states, the latest first; only of some flows if `flows` names them."""
    in_states = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states))))
    async for run in runs_matching(client, in_states, flows):
        yield run


async def runs_matching(
    client: PrefectClient, matching: FlowRunFilter, flows: Sequence[str] | None = None
) -> AsyncIterator[FlowRun]:
    """Yield the flow runs that match a filter, the latest first; only of some flows if `flows` names them."""
    of_flows = FlowFilter(name=FlowFilterName(any_=list(flows))) if flows is not None else None
    offset = 0
    # The server decides how many runs a page has.
    while runs := await client.read_flow_runs(
        flow_filter=of_flows, flow_run_filter=matching, sort=FlowRunSort.START_TIME_DESC, offset=offset
    ):
        for run in runs:
            yield run
        offset += len(runs)
