"""No image is changed by two runs at once, wherever they run, as long as all of them share a Prefect server.

A run locks its images by writing their ids into a label of its flow run. A run that needs one of them waits, and
chooses anew when the other is done. A lock ends with its run, or once its run has shown no sign of life for so long
that it is dead (`liveness.py`). It does not depend on the server being there meanwhile, and a paused run keeps it.

Locks are acquired one at a time, under a mutex: a slot of a global concurrency limit that frees itself after a minute.
Both are in the server's database, so that a restart loses neither. A lease of Prefect's would be lost, and its slot
stay taken: by default, leases are in the server's memory (`PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime
from typing import TypeVar

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas import FlowRun
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from flows.liveness import Heartbeat, current_heartbeat, is_dead, runs_in
from flows.prefect_client import PREFECT_ERRORS, client_without_retries
from flows.prefect_settings import DEAD_AFTER, HEARTBEAT
from tasks.digitalocean import run_blocking

MUTEX = "digitalocean-image-actions"
MUTEX_SLOTS = 1
MUTEX_SECONDS = 60
MUTEX_DECAY_PER_SECOND = MUTEX_SLOTS / MUTEX_SECONDS
LOCKED_LABEL = "digitalocean.claimed-images"
# Far less than the mutex lasts.
LONGEST_ATTEMPT_SECONDS = 20.0
SECONDS_BETWEEN_ATTEMPTS = 5.0
# Two renewals have failed.
SILENT_AFTER = 3 * HEARTBEAT

_holding: ContextVar[bool] = ContextVar("holding", default=False)


ChoiceT = TypeVar("ChoiceT")


@contextmanager
def locked(choose: Callable[[], ChoiceT], to_change: Callable[[ChoiceT], Collection[int]]) -> Iterator[ChoiceT]:
    """Choose images, and keep other runs from changing them until the end of the block.

    Locks nothing without a Prefect server that other runs could share, nor within a run that holds a lock already.

    Args:
        choose: Reads the account and chooses. Called again after a wait for another run, because that has changed what
            there is to choose from.
        to_change: Names the images of a choice that the run is going to change. Only these are locked, so that a run
            that has nothing to do waits for no other.

    Yields:
        The choice.
    """
    sign = current_heartbeat()
    if _holding.get() or sign is None:
        yield choose()
        return
    locks = ImageLocks(sign)
    choice = choose()
    while (image_ids := to_change(choice)) and not run_blocking(locks.acquire(image_ids)):
        choice = choose()
    if not image_ids:
        yield choice
        return
    token = _holding.set(True)
    try:
        yield choice
    finally:
        _holding.reset(token)
        run_blocking(locks.release())


class MutexTaken(Exception):
    """Another run is acquiring a lock at this moment."""


class ImageLocks:
    """One flow run's locks on images.

    Args:
        sign: The run's sign of life, which carries them.
    """

    def __init__(self, sign: Heartbeat) -> None:
        self._heartbeat = sign

    async def acquire(self, image_ids: Collection[int]) -> bool:
        """Lock images; if other runs hold some of them, wait for those runs instead, and say so.

        Args:
            image_ids: The images.

        Returns:
            Whether they are locked. If not, the wait is over, and the account has changed meanwhile.
        """
        wanted = frozenset(image_ids)
        said: set[str] = set()
        waited = False
        while True:
            try:
                holders, now = await self._attempt(wanted, waited=waited)
            except MutexTaken:
                await asyncio.sleep(SECONDS_BETWEEN_ATTEMPTS / 10)
                continue
            except PREFECT_ERRORS as error:
                reason = f"Prefect's server does not answer: {str(error) or type(error).__name__}"
            else:
                if not holders:
                    return not waited
                waited = True
                reason = _describe(holders, now)
            if reason not in said:
                get_run_logger().info(reason)
                said.add(reason)
            await asyncio.sleep(SECONDS_BETWEEN_ATTEMPTS)

    async def release(self) -> None:
        """Release the locks; if that fails, they end with the run."""
        try:
            async with client_without_retries(LONGEST_ATTEMPT_SECONDS) as client:
                await self._heartbeat.write(client, **{LOCKED_LABEL: ""})
        except PREFECT_ERRORS as error:
            get_run_logger().warning("The locks on images end with this run; releasing them failed: %s", error)

    async def _attempt(self, wanted: frozenset[int], *, waited: bool) -> tuple[list[FlowRun], datetime | None]:
        """Lock the images unless other runs hold some of them; returns those runs, and the server's time.

        Args:
            wanted: The images.
            waited: Whether it is only the end of a wait that matters, as the run has to choose anew.

        Raises:
            MutexTaken: Another run is acquiring a lock.
        """
        async with client_without_retries(LONGEST_ATTEMPT_SECONDS) as client:
            now = await self._heartbeat.write(client)
            holders = await self._holders(client, wanted, now)
            if holders or waited:
                return holders, now
            async with mutex(client):
                # Another run may have been first.
                holders = await self._holders(client, wanted, now)
                if not holders:
                    await self._heartbeat.write(client, **{LOCKED_LABEL: _written(wanted)})
        return holders, now

    async def _holders(self, client: PrefectClient, wanted: frozenset[int], now: datetime | None) -> list[FlowRun]:
        """Find the other runs that hold some of these images, runs of other flows included."""
        at_work = [StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED]
        return [
            run
            async for run in runs_in(client, at_work)
            if run.id != self._heartbeat.flow_run_id
            and not wanted.isdisjoint(_read(run.labels.get(LOCKED_LABEL)))
            and (run.state_type == StateType.PAUSED or now is None or not is_dead(run, now))
        ]


@asynccontextmanager
async def mutex(client: PrefectClient) -> AsyncIterator[None]:
    """Be the only run that acquires a lock, for the few requests that it takes.

    Args:
        client: Prefect's server.

    Raises:
        MutexTaken: Another run is.
    """
    await _take(client)
    try:
        yield
    finally:
        # If it fails, the slot frees itself.
        with suppress(*PREFECT_ERRORS):
            await client.release_concurrency_slots([MUTEX], MUTEX_SLOTS, occupancy_seconds=1)


async def _take(client: PrefectClient) -> None:
    # To be refused would set the time back from which the slot frees itself, so look first.
    with suppress(ObjectNotFound):
        limit = await client.read_global_concurrency_limit_by_name(MUTEX)
        if limit.slot_decay_per_second and limit.active_slots:
            raise MutexTaken
    with suppress(ObjectAlreadyExists):  # another run has made it in the same moment
        await client.upsert_global_concurrency_limit_by_name(MUTEX, MUTEX_SLOTS, MUTEX_DECAY_PER_SECOND)
    try:
        await client.increment_concurrency_slots([MUTEX], MUTEX_SLOTS, "rate_limit")
    except httpx.HTTPStatusError as error:
        if error.response.status_code == httpx.codes.LOCKED:
            raise MutexTaken from error
        raise


def _describe(holders: list[FlowRun], now: datetime | None) -> str:
    """Say for which runs this one waits, and until when at the latest if they are dead."""
    names = " and ".join(sorted(repr(run.name) for run in holders))
    verb = "has" if len(holders) == 1 else "have"
    reason = f"Waiting for {names}, which {verb} locked some of the images"
    silent = any(now and run.updated and now - run.updated > SILENT_AFTER for run in holders)
    if not silent:
        return reason
    minutes = f"{DEAD_AFTER.total_seconds() / 60:.0f} minutes"
    return f"{reason}; no sign of life for some time: a run counts as dead after {minutes}"


def _written(image_ids: Collection[int]) -> str:
    return " ".join(map(str, sorted(image_ids)))


def _read(label: object) -> frozenset[int]:
    return frozenset(int(each) for each in label.split() if each.isdecimal()) if isinstance(label, str) else frozenset()
