"""Ports of 127.0.0.1 that accept connections, as those of a Droplet that is up."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from deployments.sandbox.account import LOOPBACK

STOPS_WITHIN_SECONDS = 0.02


class Listener:
    """Accepts connections and closes them at once, while the `with` block lasts.

    Args:
        port: The port; 0 for a free one.
    """

    def __init__(self, port: int = 0) -> None:
        self._server = _Server((LOOPBACK, port), socketserver.BaseRequestHandler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(STOPS_WITHIN_SECONDS,), name=f"port {self.port}", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Refuse connections from now on."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Listeners:
    """The listeners on a changing set of ports."""

    def __init__(self) -> None:
        self._open: dict[int, Listener] = {}

    def listen_on(self, ports: Iterable[int]) -> None:
        """Listen on these ports, and no longer on others."""
        wanted = set(ports)
        for port in self._open.keys() - wanted:
            self._open.pop(port).close()
        for port in wanted - self._open.keys():
            self._open[port] = Listener(port)

    def close(self) -> None:
        """Listen on no port."""
        self.listen_on(())


class _Server(socketserver.TCPServer):
    allow_reuse_address = True
    request_queue_size = 128
