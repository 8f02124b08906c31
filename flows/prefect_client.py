"""Requests to Prefect's server without retries, for those that are repeated soon anyway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

# What Prefect's client raises while the server is unavailable, overloaded or restarting.
PREFECT_ERRORS = (httpx.HTTPError, ObjectNotFound, RuntimeError, TimeoutError)


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
