"""Stands between a run and Prefect's server, and can make it answer as if its database were locked, or be gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

LOOPBACK = "127.0.0.1"
ANSWER = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"

Mood = Literal["well", "answers 500", "is gone"]


class StrainedServer:
    """A relay of bytes, so that web sockets pass, too.

    Args:
        port: Where Prefect's server listens.
    """

    def __init__(self, port: int) -> None:
        self._behind = port
        self.port = 0
        self.refused = 0
        self._mood: Mood = "well"
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()

    def be(self, mood: Mood) -> None:
        """Change how it answers, also to those who are connected already."""
        self._loop.call_soon_threadsafe(self._change, mood)

    def _change(self, mood: Mood) -> None:
        self._mood = mood
        if mood != "well":
            for writer in list(self._writers):
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            if self._mood == "well":
                await self._relay(reader, writer)
            else:
                self.refused += 1
                if self._mood == "answers 500":
                    await reader.readuntil(b"\r\n\r\n")
                    writer.write(ANSWER)
                    await writer.drain()
        self._writers.discard(writer)
        writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection(LOOPBACK, self._behind)
        self._writers.add(behind_writer)
        try:
            await asyncio.gather(_pump(reader, behind_writer), _pump(behind_reader, writer))
        finally:
            self._writers.discard(behind_writer)
            behind_writer.close()

    async def begin(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def end(self) -> None:
        """End all connections: what is left of one would complain in a later test that its loop is gone."""
        self._server.close()
        connections = asyncio.all_tasks() - {asyncio.current_task()}
        for each in connections:
            each.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextmanager
def strained_server(port: int) -> Iterator[StrainedServer]:
    """Run the relay in a thread while the block lasts."""
    relay = StrainedServer(port)
    thread = threading.Thread(target=relay._loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(relay.begin(), relay._loop).result()
    try:
        yield relay
    finally:
        asyncio.run_coroutine_threadsafe(relay.end(), relay._loop).result()
        relay._loop.call_soon_threadsafe(relay._loop.stop)
        thread.join()
        relay._loop.close()
