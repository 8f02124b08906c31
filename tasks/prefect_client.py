"""Requests to Prefect's server without retries, for those that are repeated soon anyway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.context import SettingsContext, get_settings_context
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, Settings

# What Prefect's client raises while the server is unavailable, overloaded or restarting.
PREFECT_ERRORS = (httpx.HTTPError, ObjectNotFound, RuntimeError, TimeoutError)
# Between attempts, in seconds. On SQLite, the server refuses requests for a moment while it writes something else.
PAUSES = (0.1, 0.4, 1.0, 2.0)

ResultT = TypeVar("ResultT")
# Prefect's settings in use, and the same without retries. For each copy, Prefect reads the environment and its files
# again, which takes 25 ms.
_copied: list[tuple[Settings, Settings]] = []


@contextmanager
def no_retries() -> Iterator[None]:
    """Turn off the retries of Prefect's clients, whose pauses outlast an outage by minutes, during the block."""
    context = get_settings_context()
    with SettingsContext(profile=context.profile, settings=_without_retries(context.settings)):
        yield


def _without_retries(settings: Settings) -> Settings:
    for original, copy in _copied:
        if original is settings:
            return copy
    copy = settings.copy_with_update({PREFECT_CLIENT_MAX_RETRIES: 0})
    _copied[:] = [(settings, copy)]
    return copy


@asynccontextmanager
async def without_retries(seconds: float) -> AsyncIterator[None]:
    """Do the same, with a time limit.

    Args:
        seconds: Time limit of the block.

    Raises:
        TimeoutError: The block took longer.
    """
    with no_retries():
        async with asyncio.timeout(seconds):
            yield


def new_client() -> PrefectClient:
    """Make a client that raises at once what an overloaded server answers.

    Prefect's pauses for two seconds before it raises, even if it has no retries left.
    """
    return get_client(httpx_settings={"event_hooks": {"response": [_raise_server_error]}})


async def _raise_server_error(response: httpx.Response) -> None:
    if response.is_server_error:
        response.raise_for_status()


@asynccontextmanager
async def client_without_retries(seconds: float) -> AsyncIterator[PrefectClient]:
    """Open a client without retries, with the same time limit."""
    async with without_retries(seconds), new_client() as client:
        yield client


async def retried(call: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """Make a request that matters to other runs, again for some seconds while the server is busy."""
    for pause in PAUSES:
        try:
            return await call()
        except PREFECT_ERRORS:
            await asyncio.sleep(pause)
    return await call()
