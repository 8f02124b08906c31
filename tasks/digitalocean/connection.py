"""One client per token and process, shared by all threads and event loops.

Prefect runs tasks in the flow's event loop, in threads, and in event loops that live only as long as one task. Open
connections, the rate limiter and the poller must outlive them all, so they run in an event loop in its own thread.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

from tasks.digitalocean.client import DigitalOceanClient
from tasks.digitalocean.poller import ActionPoller
from tasks.digitalocean.rate_limiter import DistributedLimit
from tasks.digitalocean.settings import Settings

ResultT = TypeVar("ResultT")
LONGEST_CLOSE_SECONDS = 2

# Makes sure that connections and the event loop are created only once, also with many threads.
_creating = threading.RLock()


class Connection:
    """A client with its rate limiter and poller, usable from any thread and event loop.

    Args:
        settings: Token, URL and limits.
        account: Name of the account, for messages, locks and reports.
        distributed_limit: The limit shared with other processes; None for none.
    """

    def __init__(self, settings: Settings, account: str, distributed_limit: DistributedLimit | None = None) -> None:
        self.settings = settings
        self.account = account
        self.client = DigitalOceanClient(settings, distributed_limit=distributed_limit, loop=_loop())
        self.poller = ActionPoller(self.client)

    async def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run work in the connection's event loop and await it."""
        if asyncio.get_running_loop() is _loop():
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, _loop()))


def start_in_background(work: Coroutine[Any, Any, ResultT]) -> Future[ResultT]:
    """Start work in the connections' event loop without waiting for it."""
    return asyncio.run_coroutine_threadsafe(work, _loop())


_connections: dict[tuple[Settings, str], Connection] = {}


def connection_for(
    settings: Settings, account: str, distributed_limit: Callable[[], DistributedLimit | None] = lambda: None
) -> Connection:
    """Get or create the process's connection for these settings.

    Args:
        settings: Token, URL and limits.
        account: Name of the account.
        distributed_limit: Creates the limit that a new connection shares with other processes.
    """
    with _creating:
        key = settings, account
        if key not in _connections:
            _connections[key] = Connection(settings, account, distributed_limit())
            atexit.register(_close, _connections[key])
        return _connections[key]


def _loop() -> asyncio.AbstractEventLoop:
    with _creating:
        return _running_loop()


@cache
def _running_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=_run_for_ever, args=[loop], name="digitalocean", daemon=True).start()
    return loop


def _run_for_ever(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop forever: if a task raises SystemExit, only that task fails."""
    while True:
        with suppress(SystemExit, KeyboardInterrupt):
            loop.run_forever()


def _close(connection: Connection) -> None:
    closing = asyncio.run_coroutine_threadsafe(connection.client.aclose(), _loop())
    with suppress(TimeoutError):
        closing.result(LONGEST_CLOSE_SECONDS)
