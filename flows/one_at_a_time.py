"""One run at a time changes images, wherever it runs, as long as all runs share a Prefect server.

The lock is a global concurrency limit of Prefect's, held with a lease: it is made when it is first needed, kept as
long as its holder renews the lease, and free again when the lease of a holder that died has run out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas import FlowRun
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import ConcurrencyLeaseHolder, StateType
from prefect.context import FlowRunContext
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventResourceFilter
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import PREFECT_API_URL

from tasks.digitalocean import run_blocking, start_in_background

LOCK = "digitalocean-image-actions"
FLOWS_THAT_LOCK = ["replicate-backups", "transfer-images", "convert-backups"]
# The shortest lease that Prefect grants; renewed often enough to outlast two failures.
LEASE_SECONDS = 60
SECONDS_BETWEEN_RENEWALS = 15
SECONDS_BETWEEN_TRIES = 5
# Prefect's flow runs send a heartbeat every half minute; one that has sent none for so long has died.
LONGEST_SILENCE = timedelta(minutes=3)

_holding: ContextVar[bool] = ContextVar("holding_the_lock", default=False)


@contextmanager
def one_run_at_a_time() -> Iterator[None]:
    """Wait until no other run changes images, and keep others waiting until the end of the block.

    Does nothing without a Prefect server that other runs could share.
    """
    context = FlowRunContext.get()
    if _holding.get() or context is None or context.flow_run is None or not PREFECT_API_URL.value():
        yield
        return
    lock = RunLock(context.flow_run.id)
    run_blocking(lock.acquire())
    keeping = start_in_background(lock.keep())
    token = _holding.set(True)
    try:
        yield
    finally:
        _holding.reset(token)
        keeping.cancel()
        run_blocking(lock.release())


class RunLock:
    """The lock, as one flow run sees it.

    Args:
        flow_run_id: The run.
    """

    def __init__(self, flow_run_id: UUID) -> None:
        self._flow_run_id = flow_run_id
        self._lease_id: UUID | None = None

    async def acquire(self) -> None:
        """Wait for the lock; says for whom."""
        said = ""
        waiting_since = asyncio.get_running_loop().time()
        async with get_client() as client:
            while not await self._try(client):
                others = await self._others(client)
                sentence = (
                    f"Waiting for {', '.join(repr(run.name) for run in others) or 'the lock of a run that is gone'}"
                )
                if sentence != said:
                    get_run_logger().info("%s: one run at a time changes images", sentence)
                    said = sentence
                waited = asyncio.get_running_loop().time() - waiting_since
                if waited > 2 * LEASE_SECONDS and not await _any_alive(client, others):
                    # A server that was restarted forgets leases, but not that a slot is taken.
                    get_run_logger().warning("The lock is held by nobody alive: freeing it")
                    await client.update_global_concurrency_limit(LOCK, GlobalConcurrencyLimitUpdate(active_slots=0))
                await asyncio.sleep(SECONDS_BETWEEN_TRIES)

    async def keep(self) -> None:
        """Renew the lease until cancelled."""
        async with get_client() as client:
            while True:
                await asyncio.sleep(SECONDS_BETWEEN_RENEWALS)
                try:
                    await self._renew(client)
                except (httpx.HTTPError, RuntimeError) as error:
                    get_run_logger().warning("The lock's lease could not be renewed, trying again: %s", error)

    async def release(self) -> None:
        """Free the lock; if that fails, it is free when its lease has run out."""
        if self._lease_id is None:
            return
        try:
            async with get_client() as client:
                await client.release_concurrency_slots_with_lease(self._lease_id)
        except (httpx.HTTPError, RuntimeError) as error:
            get_run_logger().warning("The lock could not be freed, its lease will run out: %s", error)

    async def _try(self, client: PrefectClient) -> bool:
        with suppress(ObjectAlreadyExists):  # another run has made it in the same moment
            await client.upsert_global_concurrency_limit_by_name(LOCK, 1)
        try:
            response = await client.increment_concurrency_slots_with_lease(
                [LOCK], 1, "concurrency", LEASE_SECONDS, ConcurrencyLeaseHolder(type="flow_run", id=self._flow_run_id)
            )
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.LOCKED:
                return False
            raise
        answer = response.json()
        self._lease_id = UUID(answer["lease_id"]) if answer["limits"] else None
        return bool(answer["limits"])

    async def _renew(self, client: PrefectClient) -> None:
        if self._lease_id is None:
            await self._try(client)
            return
        try:
            await client.renew_concurrency_lease(self._lease_id, LEASE_SECONDS)
        except httpx.HTTPStatusError as error:
            if error.response.status_code not in {httpx.codes.NOT_FOUND, httpx.codes.GONE}:
                raise
            get_run_logger().warning("Prefect's server has forgotten the lock's lease: taking it anew")
            self._lease_id = None

    async def _others(self, client: PrefectClient) -> list[FlowRun]:
        running = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING]))
        runs = await client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=FLOWS_THAT_LOCK)),
            flow_run_filter=FlowRunFilter(state=running),
        )
        return [run for run in runs if run.id != self._flow_run_id]


async def _any_alive(client: PrefectClient, runs: list[FlowRun]) -> bool:
    """Whether any of these runs has sent a heartbeat lately, or may have."""
    if not runs:
        return False
    lately = EventFilter(
        event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}" for run in runs]),
        occurred=EventOccurredFilter(since=datetime.now(UTC) - LONGEST_SILENCE),
    )
    return bool((await client.read_events(lately, limit=1)).events)
