"""A client of Prefect's server that fails at once instead of trying for minutes, for what is done again soon anyway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

# What Prefect's client raises while the server is away, strained or restarting.
PREFECT_ERRORS = (httpx.HTTPError, ObjectNotFound, RuntimeError, TimeoutError)


@asynccontextmanager
async def without_retries(seconds: float) -> AsyncIterator[None]:
    """Ask Prefect's server without its client's own retries, whose pauses outlast an outage by minutes.

    Args:
        seconds: How long the whole block may take.

    Raises:
        TimeoutError: The block took longer.
    """
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        async with asyncio.timeout(seconds):
            yield


@asynccontextmanager
async def client_without_retries(seconds: float) -> AsyncIterator[PrefectClient]:
    """The same, with a client of the block's own.

    Args:
        seconds: How long the whole block may take.

    Yields:
        The client.

    Raises:
        TimeoutError: The block took longer.
    """
    async with without_retries(seconds), get_client() as client:
        yield client
