"""Signs of life: each run renews a label of its flow run, and sets to Crashed what has shown no sign for too long.

Prefect's heartbeats are events. Those that a server had not yet written down are lost when its machine reboots, and a
run that was Pending then has sent none: it would stay Pending for ever, and keep its place in its work queue. A label
is a write to the flow run itself, whose time of change the server keeps.
"""

from __future__ import annotations

import asyncio
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
from flows.prefect_client import PREFECT_ERRORS, client_without_retries
from flows.prefect_settings import DEAD_AFTER, HEARTBEAT
from tasks.digitalocean import start_in_background

RENEWED_LABEL = "digitalocean.claim-renewed"
# A Prefect server on a strained machine takes its time; after that, the next renewal is due anyway.
LONGEST_RENEWAL_SECONDS = 20.0
SECONDS_AFTER_FAILED_RENEWAL = 5.0
WORRYING_FAILURES = 3
SECONDS_BETWEEN_SEARCHES = 300.0

_current: ContextVar[Heartbeat | None] = ContextVar("heartbeat", default=None)


class Heartbeat:
    """The labels of one flow run, written again and again while it is alive.

    Args:
        flow_run_id: The run.
    """

    def __init__(self, flow_run_id: UUID) -> None:
        self.flow_run_id = flow_run_id
        self._renewals = 0
        self._labels: dict[str, str] = {}
        # Prefect's server merges labels without a lock, so that of two writes at once one would be lost.
        self._writing = asyncio.Lock()

    async def write(self, client: PrefectClient, **labels: str) -> datetime | None:
        """Write the labels, which renews the sign of life.

        Args:
            client: Prefect's server.
            labels: Labels to add or to change from now on.

        Returns:
            The server's time, as it changed the run a moment ago.
        """
        async with self._writing:
            # If the answer is lost, the next renewal undoes what was asked for here.
            self._labels = dict.fromkeys(labels, "") | self._labels
            wanted, renewals = self._labels | labels, self._renewals + 1
            await client.update_flow_run_labels(self.flow_run_id, {**wanted, RENEWED_LABEL: renewals})
            self._labels, self._renewals = wanted, renewals
        return (await client.read_flow_run(self.flow_run_id)).updated

    async def keep(self) -> None:
        """Renew until cancelled, and look for dead runs now and then."""
        clock = asyncio.get_running_loop()
        search_at = clock.time()
        failures = 0
        while True:
            try:
                async with client_without_retries(LONGEST_RENEWAL_SECONDS) as client:
                    now = await self.write(client)
                    if now and clock.time() >= search_at:
                        await end_dead_runs(client, self.flow_run_id, now)
                        search_at = clock.time() + SECONDS_BETWEEN_SEARCHES
                failures = 0
            except PREFECT_ERRORS as error:
                failures += 1
                # One alone is a server whose database was locked for a moment.
                log = get_run_logger().warning if failures == WORRYING_FAILURES else get_run_logger().debug
                log("Prefect's server does not answer; this run goes on: %s", str(error) or type(error).__name__)
            await asyncio.sleep(SECONDS_AFTER_FAILED_RENEWAL if failures else HEARTBEAT.total_seconds())


@contextmanager
def heartbeat() -> Iterator[None]:
    """Show that the current flow run is alive while the block lasts.

    Does nothing without a Prefect server that other runs could share.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or not PREFECT_API_URL.value():
        yield
        return
    sign = Heartbeat(context.flow_run.id)
    token = _current.set(sign)
    keeping = start_in_background(sign.keep())
    try:
        yield
    finally:
        keeping.cancel()
        _current.reset(token)


def current_heartbeat() -> Heartbeat | None:
    """Find the sign of life of the current flow run; None if there is no server to show it to."""
    return _current.get()


def is_dead(run: FlowRun, now: datetime) -> bool:
    """Tell whether a run that has not ended has shown no sign of life for too long.

    Args:
        run: The run.
        now: The server's time.
    """
    return run.updated is not None and now - run.updated > DEAD_AFTER


async def end_dead_runs(client: PrefectClient, own_id: UUID, now: datetime) -> None:
    """Set dead runs of this project to Crashed, so that they keep neither a place in a work queue nor a lock on images.

    A paused run is not dead: it waits for a person, also without a process.

    Args:
        client: Prefect's server.
        own_id: The current run, which is alive.
        now: The server's time.
    """
    states = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    async for run in runs_in(client, states, flows=FLOWS):
        if run.id == own_id or not is_dead(run, now):
            continue
        silence = f"{DEAD_AFTER.total_seconds() / 60:.0f} minutes"
        was = run.state_name or "unfinished"
        message = f"Its process is gone: {was}, without a sign of life for {silence}. The next run finishes its work."
        # Prefect lets a run that is being cancelled become nothing but Cancelled.
        ended = Cancelled if run.state_type == StateType.CANCELLING else Crashed
        await client.set_flow_run_state(run.id, ended(message=message))
        announce_end((await client.read_flow(run.flow_id)).name, run.name, run.parameters, message)
        get_run_logger().warning("Set %r to %s: %s", run.name, ended.__name__, message)


async def runs_in(
    client: PrefectClient, states: Sequence[StateType], flows: Sequence[str] | None = None
) -> AsyncIterator[FlowRun]:
    """Read the flow runs in some states.

    Args:
        client: Prefect's server.
        states: Types of states.
        flows: Names of flows; None for all.

    Yields:
        The runs, those that started last first.
    """
    of_flows = FlowFilter(name=FlowFilterName(any_=list(flows))) if flows is not None else None
    of_states = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states))))
    offset = 0
    # As many at a time as the server likes to give.
    while runs := await client.read_flow_runs(
        flow_filter=of_flows, flow_run_filter=of_states, sort=FlowRunSort.START_TIME_DESC, offset=offset
    ):
        for run in runs:
            yield run
        offset += len(runs)
