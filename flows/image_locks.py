"""Locks on images, so that no two runs on the same Prefect server change an image at the same time.

A run locks its images by writing their IDs into a label of its flow run. Other runs that need one of them wait, then
choose again. A lock ends with its run, or expires when the run's heartbeats have stopped for so long that it counts as
dead (`liveness.py`). Locks survive outages of the server, and paused runs keep theirs.

Locks are acquired one at a time, under a mutex: a slot of a global concurrency limit that frees itself after a minute.
Both are in the server's database, so they survive a restart. A Prefect lease would not, and its slot would stay taken:
by default, leases are in the server's memory (`PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime
from typing import TypeAlias, TypeVar

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas import FlowRun
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from flows.liveness import Heartbeat, current_heartbeat, is_dead, runs_in
from flows.prefect_settings import DEAD_AFTER, HEARTBEAT
from tasks.accounts import for_account
from tasks.api_task import run_blocking
from tasks.prefect_client import PREFECT_ERRORS, client_without_retries, retried

MUTEX = "digitalocean-image-actions"
MUTEX_SLOTS = 1
MUTEX_SECONDS = 60
MUTEX_DECAY_PER_SECOND = MUTEX_SLOTS / MUTEX_SECONDS
LOCKED_LABEL = "digitalocean.claimed-images"
# Much less than MUTEX_SECONDS.
LONGEST_ATTEMPT_SECONDS = 20.0
SECONDS_BETWEEN_ATTEMPTS = 5.0
# Two heartbeats are missing.
SILENT_AFTER = 3 * HEARTBEAT

_holding: ContextVar[bool] = ContextVar("holding", default=False)


# The ID of an image, or what else only one run may work on.
LockKey: TypeAlias = int | str
ChoiceT = TypeVar("ChoiceT")


def snapshot_key(droplet_id: int) -> LockKey:
    """The key for taking snapshots of a Droplet."""
    return f"snapshot-{droplet_id}"


def copies_key(droplet_id: int) -> LockKey:
    """The key for copying a Droplet's newest recovery points, whose IDs may not be known yet."""
    return f"copies-{droplet_id}"


@contextmanager
def locked(
    choose: Callable[[], ChoiceT], to_change: Callable[[ChoiceT], Collection[LockKey]], account: str
) -> Iterator[ChoiceT]:
    """Choose images, and keep other runs from changing them during the block.

    Locks nothing without a shared Prefect server, nor in a run that already holds locks.

    Args:
        choose: Reads the account and chooses. Called again after waiting for another run that changed it.
        to_change: Returns the IDs of the images to change, or other keys. Only these are locked, so that a run with
            nothing to do does not wait.
        account: The account that they are in: runs of different accounts do not wait for each other.

    Yields:
        The choice.
    """
    heartbeat = current_heartbeat.get()
    if _holding.get() or heartbeat is None:
        yield choose()
        return
    locks = ImageLocks(heartbeat, account)
    choice = choose()
    while (keys := to_change(choice)) and not run_blocking(locks.acquire(keys)):
        choice = choose()
    if not keys:
        yield choice
        return
    token = _holding.set(True)
    try:
        yield choice
    finally:
        _holding.reset(token)
        run_blocking(locks.release())


class MutexTaken(Exception):
    """Another run is acquiring a lock right now."""


class ImageLocks:
    """One flow run's locks on images of an account, which its heartbeat writes."""

    def __init__(self, heartbeat: Heartbeat, account: str) -> None:
        self._heartbeat = heartbeat
        self._label = for_account(LOCKED_LABEL, account)
        self._mutex = for_account(MUTEX, account)

    async def acquire(self, keys: Collection[LockKey]) -> bool:
        """Lock images, or wait until other runs have released them.

        Returns:
            Whether they are locked. If not, other runs have released them, and the account has changed.
        """
        wanted = frozenset(map(str, keys))
        logged: set[str] = set()
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
            if reason not in logged:
                get_run_logger().info(reason)
                logged.add(reason)
            await asyncio.sleep(SECONDS_BETWEEN_ATTEMPTS)

    async def release(self) -> None:
        """Release the locks; if that fails, they end with the run."""
        try:
            async with client_without_retries(LONGEST_ATTEMPT_SECONDS) as client:
                await retried(lambda: self._heartbeat.write(client, **{self._label: ""}))
        except PREFECT_ERRORS as error:
            get_run_logger().warning("Could not release the locks on images; they end with this run: %s", error)

    async def _attempt(self, wanted: frozenset[str], *, waited: bool) -> tuple[list[FlowRun], datetime | None]:
        """Lock the images unless other runs hold some of them; returns those runs, and the server's time.

        Args:
            wanted: What to lock.
            waited: Whether the run has waited and must choose again, so locks nothing now.

        Raises:
            MutexTaken: Another run is acquiring a lock.
        """
        async with client_without_retries(LONGEST_ATTEMPT_SECONDS) as client:
            now = await retried(lambda: self._heartbeat.write(client))
            holders = await self._holders(client, wanted, now)
            if holders or waited:
                return holders, now
            async with mutex(client, self._mutex):
                # Another run may have been faster.
                holders = await self._holders(client, wanted, now)
                if not holders:
                    await self._heartbeat.write(client, **{self._label: _written(wanted)})
        return holders, now

    async def _holders(self, client: PrefectClient, wanted: frozenset[str], now: datetime | None) -> list[FlowRun]:
        """Find the other runs that hold some of these images, of any flow."""
        states = [StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED]
        return [
            run
            async for run in runs_in(client, states)
            if run.id != self._heartbeat.flow_run_id
            and not wanted.isdisjoint(_read(run.labels.get(self._label)))
            and (run.state_type == StateType.PAUSED or now is None or not is_dead(run, now))
        ]


@asynccontextmanager
async def mutex(client: PrefectClient, name: str) -> AsyncIterator[None]:
    """Keep other runs of the account from acquiring a lock during the block.

    Raises:
        MutexTaken: Another run is acquiring a lock.
    """
    await _take(client, name)
    try:
        yield
    finally:
        # If it fails, the slot frees itself after a minute, and other runs wait that long.
        with suppress(*PREFECT_ERRORS):
            await retried(lambda: client.release_concurrency_slots([name], MUTEX_SLOTS, occupancy_seconds=1))


async def _take(client: PrefectClient, name: str) -> None:
    # Look first: a refused attempt would restart the time after which the slot frees itself.
    with suppress(ObjectNotFound):
        limit = await client.read_global_concurrency_limit_by_name(name)
        if limit.slot_decay_per_second and limit.active_slots:
            raise MutexTaken
    with suppress(ObjectAlreadyExists):  # another run created it at the same moment
        await client.upsert_global_concurrency_limit_by_name(name, MUTEX_SLOTS, MUTEX_DECAY_PER_SECOND)
    try:
        await client.increment_concurrency_slots([name], MUTEX_SLOTS, "rate_limit")
    except httpx.HTTPStatusError as error:
        if error.response.status_code == httpx.codes.LOCKED:
            raise MutexTaken from error
        raise


def _describe(holders: list[FlowRun], now: datetime | None) -> str:
    """Say which runs this one waits for, and when their locks expire if they are dead."""
    names = " and ".join(sorted(repr(run.name) for run in holders))
    verb = "has" if len(holders) == 1 else "have"
    reason = f"Waiting for {names}, which {verb} locked some of what this run needs"
    if not any(now and run.updated and now - run.updated > SILENT_AFTER for run in holders):
        return reason
    minutes = f"{DEAD_AFTER.total_seconds() / 60:.0f} minutes"
    return f"{reason}; heartbeats are missing, and locks expire after {minutes} without one"


def _written(keys: Collection[str]) -> str:
    return " ".join(sorted(keys))


def _read(label: object) -> frozenset[str]:
    return frozenset(label.split()) if isinstance(label, str) else frozenset()
