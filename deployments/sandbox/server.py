"""The sandbox as a server on localhost, in a thread of this process."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from random import Random
from types import TracebackType
from typing import Self

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from deployments.sandbox.account import LOOPBACK, Account
from deployments.sandbox.app import ConnectionDropped, sandbox_app
from deployments.sandbox.behavior import Behavior
from deployments.sandbox.faults import Faults
from deployments.sandbox.fixtures import make_account
from deployments.sandbox.limits import Limits
from deployments.sandbox.listeners import Listeners
from deployments.sandbox.request_log import RequestLog

Sleep = Callable[[float], Awaitable[object]]


class Sandbox:
    """A fake of the DigitalOcean API, which runs while the `with` block lasts.

    Example:
        ```python
        with Sandbox(droplets=6, speed=60) as sandbox:
            bearer = {"authorization": f"Bearer {sandbox.token}"}
            httpx.get(f"{sandbox.url}/v2/images?private=true", headers=bearer)
            assert sandbox.record.requests_by_status() == {200: 1}
        ```

    Args:
        port: The port; 0 for a free one.
        droplets: Number of Droplets.
        backups_per_droplet: Number of backups per Droplet.
        seed: Seed of the account, the durations of actions and the token.
        speed: Divides all durations, including those of the rate limits.
        token: The token; by default generated from the seed.
        requests_per_minute: The burst limit.
        requests_per_hour: The hourly limit.
        refusals_say_when: As in `Limits`.
        behavior: How it behaves where the API is not documented.
        clock: Returns the time, in Unix seconds.

    Attributes:
        account: The account's state, as of the last request.
        limits: The token's rate limits.
        faults: The faults to inject.
        record: The request log.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        droplets: int = 6,
        backups_per_droplet: int = 2,
        seed: int = 1,
        speed: float = 60.0,
        token: str | None = None,
        requests_per_minute: int = 250,
        requests_per_hour: int = 5000,
        refusals_say_when: bool = True,
        behavior: Behavior | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if speed <= 0:
            raise ValueError(f"speed must be positive, not {speed}")
        self.speed = speed
        self.token = token or token_for(seed)
        self.account = make_account(
            now=clock(),
            droplets=droplets,
            backups_per_droplet=backups_per_droplet,
            seed=seed,
            speed=speed,
            behavior=behavior,
        )
        self.limits = Limits(requests_per_minute, requests_per_hour, speed, refusals_say_when=refusals_say_when)
        self.faults = Faults()
        self.record = RequestLog.of(self.account)
        self._clock = clock
        self._listeners = Listeners()
        self._port = port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The sandbox's URL; with port 0, the port is known once it runs."""
        return f"http://{LOOPBACK}:{self._port}"

    def environment(self) -> dict[str, str]:
        """The environment variables that point a client to the sandbox, at the sandbox's speed."""
        windows = [[window.limit, window.seconds] for window in (self.limits.burst, self.limits.hour)]
        return {
            "DIGITALOCEAN_API_URL": self.url,
            "DIGITALOCEAN_TOKEN": self.token,
            "DIGITALOCEAN_RATE_LIMITS": json.dumps(windows),
            "DIGITALOCEAN_POLL_INTERVAL_SECONDS": f"{max(0.1, 5 / self.speed):g}",
            "DIGITALOCEAN_POLL_INTERVAL_MAX_SECONDS": f"{max(0.5, 120 / self.speed):g}",
        }

    def neighbour(self, *, requests: int = 0, over_seconds: float = 0.0, per_minute: float | None = None) -> int:
        """Simulate another client with the same token.

        Args:
            requests: How many requests it has just sent.
            over_seconds: The time before now over which they were spread evenly.
            per_minute: How many it sends per minute from now on, by the sped-up clock; None for no change.

        Returns:
            How many of `requests` were within the limits, and so count.
        """
        now = self._clock()
        if per_minute is not None:
            self.limits.set_neighbour(per_minute, now)
        return self.limits.spend(now, requests, over_seconds)

    def __enter__(self) -> Self:
        listener = _listen(self._port)
        self._port = listener.getsockname()[1]
        self._server = _Server(self._app)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="sandbox", daemon=True
        )
        self._thread.start()
        self._server.ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server and self._thread:
            self._server.stop()
            self._thread.join()
        self._listeners.close()

    def _app(self, sleep: Sleep) -> ASGIApp:
        app = sandbox_app(
            self.account,
            token=self.token,
            limits=self.limits,
            faults=self.faults,
            record=self.record,
            clock=self._clock,
            sleep=sleep,
        )
        return _answering(_dated(app, self._clock), self.account, self._listeners)


def token_for(seed: int) -> str:
    """Generate a token in DigitalOcean's format."""
    return f"dop_v1_{Random(seed).getrandbits(256):064x}"  # noqa: S311


def _listen(port: int) -> socket.socket:
    # Bound here because uvicorn would exit the process if the port is in use.
    # With an explicit protocol, asyncio disables Nagle's algorithm; otherwise each response takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
    except BaseException:
        listener.close()
        raise
    return listener


class _Protocol(H11Protocol):
    """Gives the application access to the connection, so that it can drop it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


def _dropping(app: ASGIApp) -> ASGIApp:
    """Turn ConnectionDropped into a dropped connection."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except ConnectionDropped:
            scope["state"]["transport"].abort()
            # If it returned sooner, uvicorn would log a missing response.
            while (await receive())["type"] != "http.disconnect":
                pass

    return guarded


def _dated(app: ASGIApp, clock: Callable[[], float]) -> ASGIApp:
    """Add the sandbox's time as the `date` header to every response without one."""

    async def dated(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start" and b"date" not in dict(message["headers"]):
                date = format_datetime(datetime.fromtimestamp(clock(), UTC), usegmt=True)
                message["headers"] = [*message["headers"], (b"date", date.encode())]
            await send(message)

        await app(scope, receive, send_dated)

    return dated


def _answering(app: ASGIApp, account: Account, listeners: Listeners) -> ASGIApp:
    """Have the account's Droplets answer on their ports before a response shows that they are active."""

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_after(message: Message) -> None:
            listeners.listen_on(account.open_ports())
            await send(message)

        await app(scope, receive, send_after)

    return answering


class _Server(uvicorn.Server):
    """A uvicorn server that signals when it is ready, and stops at once instead of at the next tick."""

    def __init__(self, make_app: Callable[[Sleep], ASGIApp]) -> None:
        self.ready = threading.Event()
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        config = uvicorn.Config(
            _dropping(make_app(self.sleep)),
            http=_Protocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
        )
        super().__init__(config)

    async def sleep(self, seconds: float) -> None:
        """Sleep, at most until the server stops."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self.ready.set()

    async def main_loop(self) -> None:
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # As in uvicorn, but without its pause of 0.1 s, which adds up over many tests.
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=1)
        await asyncio.sleep(0)

    def stop(self) -> None:
        """Stop the server, from another thread."""
        self.should_exit = True
        if self._loop:
            self._loop.call_soon_threadsafe(self._stopping.set)
