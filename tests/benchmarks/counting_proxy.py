"""A reverse proxy in front of a Prefect server that counts what workers and runs send to it."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets import ConnectionClosed, Subprotocol
from websockets.asyncio.client import ClientConnection, connect

from flows.temporary_server import LOOPBACK, free_port

LONGEST_START_SECONDS = 30
LONGEST_STOP_SECONDS = 5
# Longer than that of the client in front of the proxy.
LONGEST_RESPONSE_SECONDS = 120
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Those of one connection, which are not passed on. httpx has decompressed the body and computes its length.
OF_CONNECTION = {"connection", "content-encoding", "content-length", "host", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True)
class Message:
    """One message to the server.

    Attributes:
        at: When, in seconds of the monotonic clock.
        kind: The method and path of a request without IDs, or the name of an event.
    """

    at: float
    kind: str


@dataclass
class Traffic:
    """What was sent to the server, in the order in which it was sent.

    Attributes:
        requests: HTTP requests, and upgrades to a WebSocket.
        events: Events, by WebSocket or HTTP.
        logs: Lines of logs, of which a request has many.
    """

    requests: list[Message] = field(default_factory=list)
    events: list[Message] = field(default_factory=list)
    logs: list[Message] = field(default_factory=list)

    def count_request(self, method: str, path: str, body: bytes = b"") -> None:
        """Count a request, and the events or log lines in it."""
        now = time.monotonic()
        kind = f"{method} {ID.sub('{id}', path.removeprefix('/api'))}"
        self.requests.append(Message(now, kind))
        if kind == "POST /logs/":
            self.logs += [Message(now, "log line") for _ in json.loads(body)]
        if kind == "POST /events":
            self.events += [Message(now, event["event"]) for event in json.loads(body)]

    def count_event(self, text: str) -> None:
        """Count a message on the WebSocket for events; its first message is not an event."""
        message: dict[str, Any] = json.loads(text)
        if "event" in message:
            self.events.append(Message(time.monotonic(), message["event"]))


@contextmanager
def counting_proxy(server: str) -> Iterator[tuple[str, Traffic]]:
    """Run a proxy while the `with` block lasts.

    Args:
        server: The server's URL, without a path.

    Yields:
        The proxy's URL, and what it counts.
    """
    traffic, port = Traffic(), free_port()
    config = uvicorn.Config(
        _app(server, traffic),
        host=LOOPBACK,
        port=port,
        log_level="error",
        timeout_graceful_shutdown=LONGEST_STOP_SECONDS,
    )
    proxy = uvicorn.Server(config)
    thread = threading.Thread(target=proxy.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + LONGEST_START_SECONDS
    while not proxy.started:
        if time.monotonic() > deadline or not thread.is_alive():
            raise RuntimeError(f"the proxy in front of {server} did not start")
        time.sleep(0.05)
    try:
        yield f"http://{LOOPBACK}:{port}", traffic
    finally:
        proxy.should_exit = True
        thread.join()


def _app(server: str, traffic: Traffic) -> Starlette:
    # The server closes idle connections, now and then in the moment in which one would be used again.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    http = httpx.AsyncClient(base_url=server, timeout=LONGEST_RESPONSE_SECONDS, trust_env=False, limits=limits)

    async def pass_on(request: Request) -> Response:
        body = await request.body()
        traffic.count_request(request.method, request.url.path, body)
        response = await http.request(
            request.method,
            str(request.url.replace(scheme="", netloc="")),
            content=body,
            headers=[each for each in request.headers.items() if each[0] not in OF_CONNECTION],
        )
        kept = {name: value for name, value in response.headers.items() if name not in OF_CONNECTION}
        return Response(response.content, response.status_code, kept)

    async def pass_on_messages(client: WebSocket) -> None:
        path = client.url.path
        traffic.count_request("WebSocket", path)
        url = f"ws{server.removeprefix('http')}{path}"
        offered = [Subprotocol(each) for each in client.scope["subprotocols"]]
        async with connect(url, subprotocols=offered or None, proxy=None, max_size=None) as upstream:
            await client.accept(upstream.subprotocol)
            both = [_up(client, upstream, traffic, path), _down(client, upstream)]
            _, pending = await asyncio.wait(map(asyncio.ensure_future, both), return_when=asyncio.FIRST_COMPLETED)
            for each in pending:
                each.cancel()

    @asynccontextmanager
    async def closing(_: Starlette) -> AsyncIterator[None]:
        async with http:
            yield

    everything = "/{path:path}"
    routes = [Route(everything, pass_on, methods=METHODS), WebSocketRoute(everything, pass_on_messages)]
    return Starlette(routes=routes, lifespan=closing)


async def _up(client: WebSocket, upstream: ClientConnection, traffic: Traffic, path: str) -> None:
    with suppress(WebSocketDisconnect, ConnectionClosed):
        while True:
            text = await client.receive_text()
            if path.endswith("/events/in"):
                traffic.count_event(text)
            await upstream.send(text)


async def _down(client: WebSocket, upstream: ClientConnection) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):
        try:
            async for message in upstream:
                await client.send_text(message if isinstance(message, str) else message.decode())
        except ConnectionClosed as closed:
            await client.close(closed.rcvd.code if closed.rcvd else 1011)
        else:
            await client.close(upstream.close_code or 1000)
