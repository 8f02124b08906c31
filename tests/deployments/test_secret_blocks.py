"""What the set-up says where Prefect's server answers 500 to a look at a secret."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from deployments.server_resources.secret_blocks import PING_BLOCK, read_secret
from deployments.server_resources.server_resource import SetupError
from flows.temporary_server import LOOPBACK


@contextmanager
def server(fails: Callable[[str], bool]) -> Iterator[str]:
    """Stands in for a Prefect server that answers 500 to some paths, and an empty list to all others."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            failed = fails(self.path)
            self.rfile.read(int(self.headers.get("content-length", 0)))
            # Without this, the client would ask for a token against forged requests.
            self.send_response(404 if "csrf" in self.path else 500 if failed else 200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"exception_message": "Internal Server Error"}' if failed else b"[]")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((LOOPBACK, 0), Answers) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{running.server_address[1]}/api"
        finally:
            running.shutdown()
            thread.join()


@pytest.fixture
def verdict() -> Iterator[Callable[[Callable[[str], bool]], str]]:
    with ExitStack() as running:

        def verdict(fails: Callable[[str], bool]) -> str:
            api = running.enter_context(server(fails))

            async def look() -> None:
                async with PrefectClient(api) as client:
                    await read_secret(client, PING_BLOCK)

            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), pytest.raises(SetupError) as caught:
                asyncio.run(look())
            return str(caught.value)

        yield verdict


def test_the_encryption_key_is_blamed_if_only_the_block_is_unreadable(
    verdict: Callable[[Callable[[str], bool]], str],
) -> None:
    assert "PREFECT_SERVER_ENCRYPTION_KEY" in verdict(lambda path: "block" in path)


@pytest.mark.slow
def test_the_encryption_key_is_not_blamed_if_every_request_fails(
    verdict: Callable[[Callable[[str], bool]], str],
) -> None:
    said = verdict(lambda _path: True)
    assert "ENCRYPTION_KEY" not in said
    assert "delete" not in said
    assert "PREFECT_SERVER_API_AUTH_STRING" in said
