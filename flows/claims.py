"""No image is changed by two runs at once, wherever they run, as long as all of them share a Prefect server.

A run claims its images: it writes their ids into the labels of its flow run. A run that wants one of them waits, and
chooses anew when the other is done. Claims are made one at a time, under a global concurrency limit with a lease. A
claim holds as long as its run is running and renews it; that of a run that died is void a minute later.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from typing import Protocol, TypeVar
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas import FlowRun
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import ConcurrencyLeaseHolder, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.settings import PREFECT_API_URL

from tasks.digitalocean import run_blocking, start_in_background

LOCK = "digitalocean-image-actions"
CLAIM_LABEL = "digitalocean.claimed-images"
RENEWED_LABEL = "digitalocean.claim-renewed"
SECONDS_BETWEEN_RENEWALS = 15
# Outlasts three renewals that failed.
VOID_AFTER = timedelta(seconds=60)
SECONDS_BETWEEN_LOOKS = 5
# The shortest lease that Prefect grants. The lock is held for a few requests only.
LEASE_SECONDS = 60
SECONDS_BETWEEN_TRIES = 0.5
# As many as Prefect's server gives at once.
RUNS_A_PAGE = 200

_claiming: ContextVar[bool] = ContextVar("claiming", default=False)


class Choice(Protocol):
    """What a run has chosen to work on."""

    @property
    def image_ids(self) -> Collection[int]:
        """The images it will change."""
        ...


ChoiceT = TypeVar("ChoiceT", bound=Choice)


@contextmanager
def claimed(choose: Callable[[], ChoiceT]) -> Iterator[ChoiceT]:
    """Choose images, and keep other runs from changing them until the end of the block.

    Claims nothing without a Prefect server that other runs could share, nor within a run that has claimed already.

    Args:
        choose: Looks at the account and chooses. Called again after a wait for another run, because that has changed
            what there is to choose from.

    Yields:
        The choice.
    """
    context = FlowRunContext.get()
    if _claiming.get() or context is None or context.flow_run is None or not PREFECT_API_URL.value():
        yield choose()
        return
    claim = Claim(context.flow_run.id)
    choice = choose()
    while not run_blocking(claim.stake(choice.image_ids)):
        choice = choose()
    keeping = start_in_background(claim.keep())
    token = _claiming.set(True)
    try:
        yield choice
    finally:
        _claiming.reset(token)
        keeping.cancel()
        run_blocking(claim.give_up())


class Claim:
    """One flow run's claim to images.

    Args:
        flow_run_id: The run.
    """

    def __init__(self, flow_run_id: UUID) -> None:
        self._flow_run_id = flow_run_id
        self._renewals = 0

    async def stake(self, image_ids: Collection[int]) -> bool:
        """Claim images; if other runs have claimed some of them, wait for those runs instead, and say so.

        Args:
            image_ids: The images.

        Returns:
            Whether they were claimed.
        """
        said: list[str] = []
        async with get_client() as client:
            while True:
                async with self._alone(client):
                    rivals = await self._rivals(client, frozenset(image_ids))
                    if not rivals and not said:
                        await client.update_flow_run_labels(self._flow_run_id, {CLAIM_LABEL: _written(image_ids)})
                        return True
                if not rivals:
                    return False
                names = sorted(repr(run.name) for run in rivals)
                if names != said:
                    get_run_logger().info("Waiting for %s, which has claimed some of the images", " and ".join(names))
                    said = names
                await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

    async def keep(self) -> None:
        """Renew the claim until cancelled."""
        async with get_client() as client:
            while True:
                await asyncio.sleep(SECONDS_BETWEEN_RENEWALS)
                try:
                    await self._renew(client)
                except (httpx.HTTPError, ObjectNotFound, RuntimeError) as error:
                    get_run_logger().warning("The claim to the images could not be renewed, trying again: %s", error)

    async def give_up(self) -> None:
        """Claim nothing any more; if that fails, the claim ends with the run."""
        try:
            async with get_client() as client:
                await client.update_flow_run_labels(self._flow_run_id, {CLAIM_LABEL: ""})
        except (httpx.HTTPError, ObjectNotFound, RuntimeError) as error:
            get_run_logger().warning("The claim could not be given up, it ends with this run: %s", error)

    async def _renew(self, client: PrefectClient) -> None:
        self._renewals += 1
        await client.update_flow_run_labels(self._flow_run_id, {RENEWED_LABEL: self._renewals})

    async def _rivals(self, client: PrefectClient, image_ids: frozenset[int]) -> list[FlowRun]:
        """Find the other runs that are alive and have claimed some of these images."""
        await self._renew(client)
        # This run was renewed a moment ago, so its own moment is the server's time.
        now = (await client.read_flow_run(self._flow_run_id)).updated
        return [
            run
            async for run in _at_work(client)
            if run.id != self._flow_run_id
            and not image_ids.isdisjoint(_read(run.labels.get(CLAIM_LABEL)))
            and (now is None or run.updated is None or now - run.updated < VOID_AFTER)
        ]

    @asynccontextmanager
    async def _alone(self, client: PrefectClient) -> AsyncIterator[None]:
        """Hold the lock for the few requests that a claim takes."""
        waiting_since = asyncio.get_running_loop().time()
        while (lease := await self._lock(client)) is None:
            await asyncio.sleep(SECONDS_BETWEEN_TRIES)
            if asyncio.get_running_loop().time() - waiting_since > 2 * LEASE_SECONDS:
                # A server that was restarted forgets leases, but not that a slot is taken.
                get_run_logger().warning("The lock %s is held by nobody alive: freeing it", LOCK)
                await client.update_global_concurrency_limit(LOCK, GlobalConcurrencyLimitUpdate(active_slots=0))
        try:
            yield
        finally:
            # If it fails, the lease runs out by itself.
            with suppress(httpx.HTTPError):
                await client.release_concurrency_slots_with_lease(lease)

    async def _lock(self, client: PrefectClient) -> UUID | None:
        with suppress(ObjectAlreadyExists):  # another run has made it in the same moment
            await client.upsert_global_concurrency_limit_by_name(LOCK, 1)
        try:
            response = await client.increment_concurrency_slots_with_lease(
                [LOCK], 1, "concurrency", LEASE_SECONDS, ConcurrencyLeaseHolder(type="flow_run", id=self._flow_run_id)
            )
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.LOCKED:
                return None
            raise
        return UUID(response.json()["lease_id"])


async def _at_work(client: PrefectClient) -> AsyncIterator[FlowRun]:
    """Go through the flow runs that have a process, those of other flows included: they may have claimed as well."""
    at_work = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.CANCELLING]))
    for offset in itertools.count(step=RUNS_A_PAGE):
        runs = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=at_work),
            sort=FlowRunSort.START_TIME_DESC,
            limit=RUNS_A_PAGE,
            offset=offset,
        )
        for run in runs:
            yield run
        if len(runs) < RUNS_A_PAGE:
            return


def _written(image_ids: Collection[int]) -> str:
    return " ".join(map(str, sorted(image_ids)))


def _read(label: object) -> frozenset[int]:
    return frozenset(int(each) for each in label.split() if each.isdecimal()) if isinstance(label, str) else frozenset()
