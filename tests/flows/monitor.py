"""A dead man's switch on localhost, which records its pings or misbehaves."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NamedTuple, TypeAlias

from flows.temporary_server import LOOPBACK

SECRET = "c0ffee00-5ec7-4e7a-b1ab-9d3f7a6e2b10"
QUERY = "create=1"
DRIP_SECONDS = 0.01
# Sends the rest of a response, until it is done or the monitor ends.
Respond: TypeAlias = Callable[["Monitor", socketserver.StreamRequestHandler], None]


class Ping(NamedTuple):
    """A request, without the secret in its path."""

    method: str
    signal: str
    body: str


@dataclass
class Monitor:
    """A monitor that is running.

    Attributes:
        url: Its ping URL.
        pings: What it was sent.
        ended: Set when the monitor ends.
    """

    url: str
    pings: list[Ping] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def signals(self) -> list[str]:
        return [ping.signal for ping in self.pings]


def answers(status: HTTPStatus, *headers: str) -> Respond:
    lines = [f"HTTP/1.1 {status} {status.phrase}", "Content-Length: 0", "Connection: close", *headers]

    def respond(_monitor: Monitor, handler: socketserver.StreamRequestHandler) -> None:
        handler.wfile.write("".join(f"{line}\r\n" for line in [*lines, ""]).encode())

    return respond


def hangs(monitor: Monitor, _handler: socketserver.StreamRequestHandler) -> None:
    monitor.ended.wait()


def drips(monitor: Monitor, handler: socketserver.StreamRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not monitor.ended.wait(DRIP_SECONDS):
        handler.wfile.write(b"x")


def sends_an_endless_body(monitor: Monitor, handler: socketserver.StreamRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not monitor.ended.is_set():
        handler.wfile.write(b"x" * 2**16)


is_healthy = answers(HTTPStatus.OK)


@contextmanager
def monitor(respond: Respond = is_healthy) -> Iterator[Monitor]:
    """Run a monitor while the `with` block lasts."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            method, target, _ = self.rfile.readline().decode().split()
            length = 0
            while line := self.rfile.readline().strip():
                name, _, value = line.decode().partition(":")
                length = int(value) if name.lower() == "content-length" else length
            path, _, query = target.partition("?")
            assert query == QUERY, target
            running.pings.append(Ping(method, path.removeprefix(f"/{SECRET}"), self.rfile.read(length).decode()))
            try:
                respond(running, self)
            except OSError:
                # The client has closed the connection.
                return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server((LOOPBACK, 0), Handler) as server:
        running = Monitor(f"http://{LOOPBACK}:{server.server_address[1]}/{SECRET}?{QUERY}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield running
        finally:
            running.ended.set()
            server.shutdown()
            thread.join()
