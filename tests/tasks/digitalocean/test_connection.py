"""One client and one budget for the whole process, whatever thread or event loop asks; over the true network."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from deployments.sandbox import Fault, FaultKind, Sandbox
from tasks.api_task import run_blocking
from tasks.connection import connect
from tasks.digitalocean import (
    ActedOn,
    ConfigurationError,
    Connection,
    NotFound,
    Region,
    TransferImage,
    UsageCounter,
    track_usage,
)
from tasks.digitalocean.idempotency import post_once

ResultT = TypeVar("ResultT")
THREADS = 8


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with Sandbox(speed=600) as sandbox:
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        yield sandbox


def in_threads(do: Callable[[], ResultT]) -> list[ResultT]:
    """Do something in many threads at the same moment."""
    ready = threading.Barrier(THREADS)

    def together() -> ResultT:
        ready.wait()
        return do()

    with ThreadPoolExecutor(THREADS) as pool:
        return [done.result() for done in [pool.submit(together) for _ in range(THREADS)]]


async def regions_from_here() -> list[Region]:
    return await connect().client.list_regions()


def regions_blocking() -> list[Region]:
    return run_blocking(connect().client.list_regions())


def test_all_threads_share_one_connection(sandbox: Sandbox) -> None:
    assert len({id(connection) for connection in in_threads(connect)}) == 1


@pytest.mark.usefixtures("sandbox")
def test_other_settings_are_another_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    first = connect()
    monkeypatch.setenv("DIGITALOCEAN_HTTP_RETRY_MAX", "1")
    assert connect() is not first
    monkeypatch.delenv("DIGITALOCEAN_HTTP_RETRY_MAX")
    assert connect() is first


def test_without_settings_there_is_no_connection() -> None:
    with pytest.raises(ConfigurationError, match="DIGITALOCEAN_TOKEN"):
        connect()


def test_threads_and_event_loops_get_the_same_results(sandbox: Sandbox) -> None:
    blocking = in_threads(regions_blocking)
    asynchronous = in_threads(lambda: asyncio.run(regions_from_here()))
    assert len({tuple(region.slug for region in regions) for regions in [*blocking, *asynchronous]}) == 1
    assert len(sandbox.record.requests) == 2 * THREADS


def test_threads_and_event_loops_share_one_request_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox(speed=600, requests_per_minute=5) as sandbox:
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        in_threads(regions_blocking)
        in_threads(lambda: asyncio.run(regions_from_here()))
        assert sandbox.record.rate_limited() == 0
        assert sandbox.record.peak_counted(sandbox.limits.burst.seconds) <= 5


@pytest.mark.usefixtures("sandbox")
def test_work_may_submit_more_work() -> None:
    async def outer() -> list[Region]:
        return await regions_from_here()

    assert asyncio.run(connect().run(outer()))
    assert run_blocking(outer())


def test_errors_reach_the_caller(sandbox: Sandbox) -> None:
    connection = connect()
    with pytest.raises(NotFound):
        run_blocking(connection.client.get_image(1))
    with pytest.raises(NotFound):
        asyncio.run(connection.run(connection.client.get_image(1)))
    assert len(sandbox.record.requests) == 2


@pytest.mark.usefixtures("sandbox")
def test_abandoned_work_is_cancelled() -> None:
    ended = threading.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def impatient(connection: Connection) -> None:
        async with asyncio.timeout(0.01):
            await connection.run(endless())

    with pytest.raises(TimeoutError):
        asyncio.run(impatient(connect()))
    assert ended.wait(5)


def test_requests_are_attributed_to_the_run_that_caused_them(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(FaultKind.SLOW, seconds=0.01))

    def count() -> UsageCounter:
        with track_usage() as usage:
            regions_blocking()
            asyncio.run(regions_from_here())
        return usage

    assert [usage.requests for usage in in_threads(count)] == [2] * THREADS


def test_waits_in_several_event_loops_share_their_polls(sandbox: Sandbox) -> None:
    connection = connect()
    image = next(each for each in sandbox.account.images.values() if each.type == "snapshot" and not each.public)
    action = run_blocking(post_once(connection.client, image.id, TransferImage(region="atl1")))
    finished = in_threads(
        lambda: asyncio.run(connection.run(connection.poller.wait(ActedOn("image", image.id), action)))
    )
    assert {(each.id, each.status) for each in finished} == {(action.id, "completed")}
    assert len(sandbox.record.requests) < 2 * THREADS
