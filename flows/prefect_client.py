"""Requests to Prefect's server without retries, for those that are repeated soon anyway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

# What Prefect's client raises while the server is unavailable, overloaded or restarting.
PREFECT_ERRORS = (httpx.HTTPError, ObjectNotFound, RuntimeError, TimeoutError)
# Between attempts, in seconds.
PAUSES = (0.5, 1.0, 2.0)

ResultT = TypeVar("ResultT")


@asynccontextmanager
async def without_retries(seconds: float) -> AsyncIterator[None]:
    """Turn off the retries of Prefect's clients, whose pauses outlast an outage by minutes, during the block.

    Args:
        seconds: Time limit of the block.

    Raises:
        TimeoutError: The block took longer.
    """
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        async with asyncio.timeout(seconds):
            yield


@asynccontextmanager
async def client_without_retries(seconds: float) -> AsyncIterator[PrefectClient]:
    """Open a client without retries, with the same time limit."""
    async with without_retries(seconds), get_client() as client:
        yield client


async def retried(call: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """Make a request that matters to other runs, again for some seconds while the server is busy."""
    for pause in PAUSES:
        try:
            return await call()
        except PREFECT_ERRORS:
            await asyncio.sleep(pause)
    return await call()
