"""One client per token for the whole process, whatever thread or event loop asks.

Prefect runs tasks in the flow's event loop, in threads, and in event loops that live as long as one task. Open
connections, the rate budget and the waiter must outlive them all. So they live in an event loop of their own, in a
thread of its own, and everybody else sends work there.
"""

from __future__ import annotations

import asyncio
import atexit
import math
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

from tasks.digitalocean.client import DigitalOceanClient
from tasks.digitalocean.deadline import current_deadline
from tasks.digitalocean.poller import ActionPoller
from tasks.digitalocean.rate_limiter import DistributedLimit
from tasks.digitalocean.settings import Settings

ResultT = TypeVar("ResultT")
LONGEST_CLOSE_SECONDS = 2
SECONDS_BETWEEN_WAKINGS = 1.0

# What is cached is made once, also where many threads ask for it at the same moment.
_making = threading.RLock()


class Connection:
    """A client, with its budget and its waiter, that can be used from everywhere.

    Args:
        settings: Token, address and limits.
        shared_limit: What other processes with the same token wait for, too.
    """

    def __init__(self, settings: Settings, distributed_limit: DistributedLimit | None = None) -> None:
        self.settings = settings
        self.client = DigitalOceanClient(settings, distributed_limit=distributed_limit, loop=_loop())
        self.poller = ActionPoller(self.client)

    async def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Do work in the connection's event loop and wait for it without blocking."""
        if asyncio.get_running_loop() is _loop():
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, _loop()))


def start_in_background(work: Coroutine[Any, Any, ResultT]) -> Future[ResultT]:
    """Begin work in the connections' event loop and go on without waiting for it."""
    return asyncio.run_coroutine_threadsafe(work, _loop())


def run_blocking(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Do work in the connections' event loop and block this thread until it is done.

    Raises:
        DeadlineExceeded: The run's time was over before.
    """
    limit = current_deadline()
    future = start_in_background(work)
    try:
        while not future.done():
            patience = limit.patience if limit else math.inf
            if limit and not patience:
                raise limit.exceeded()
            # In pieces, so that an exception that is thrown into this thread gets through.
            wait([future], min(SECONDS_BETWEEN_WAKINGS, patience))
        return future.result()
    finally:
        # If this thread was interrupted, the work must not go on without it.
        future.cancel()


_connections: dict[Settings, Connection] = {}


def connection_for(
    settings: Settings, distributed_limit: Callable[[Settings], DistributedLimit | None] = lambda _settings: None
) -> Connection:
    """Find the process's connection for some settings, or make it.

    Args:
        settings: Token, address and limits.
        distributed_limit: Finds what a new connection shares with other processes.
    """
    with _making:
        if settings not in _connections:
            _connections[settings] = Connection(settings, distributed_limit(settings))
            atexit.register(_close, _connections[settings])
        return _connections[settings]


def _loop() -> asyncio.AbstractEventLoop:
    with _making:
        return _running_loop()


@cache
def _running_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=_run_for_ever, args=[loop], name="digitalocean", daemon=True).start()
    return loop


def _run_for_ever(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop that nothing ends: what raises SystemExit in it fails by itself, and does not leave others waiting."""
    while True:
        with suppress(SystemExit, KeyboardInterrupt):
            loop.run_forever()


def _close(connection: Connection) -> None:
    closing = asyncio.run_coroutine_threadsafe(connection.client.close(), _loop())
    with suppress(TimeoutError):
        closing.result(LONGEST_CLOSE_SECONDS)
