"""A temporary Prefect server on this machine, with its own folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from flows.prefect_settings import PROCESS_SETTINGS, PROXY_VARIABLES
from flows.temporary_server import LOOPBACK, ServerDidNotStart, free_port, is_healthy

LONGEST_START_SECONDS = 300
LONGEST_STOP_SECONDS = 20
POLL_SECONDS = 0.2


def clean_environment(home: Path) -> dict[str, str]:
    """Compose an environment without the user's settings for Prefect, DigitalOcean and the network.

    Args:
        home: Prefect's folder.
    """
    # Everything is on loopback, where proxies and certificates can only break things.
    left_out = {*PROXY_VARIABLES, "SSL_CERT_FILE", "SSL_CERT_DIR"}
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "DIGITALOCEAN_")) and name not in left_out
    }
    return {**kept, **PROCESS_SETTINGS, "PREFECT_HOME": str(home), "PREFECT_CLI_PROMPT": "false"}


@contextmanager
def prefect_server(home: Path, *, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run a Prefect server while the `with` block lasts.

    Args:
        home: Its folder, for database and log; created if missing.
        environment: Additional settings, such as the URL of another database.

    Yields:
        The URL of its UI; the API is below it, at `/api`.

    Raises:
        ServerDidNotStart: It exited, or did not respond in time.
    """
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    log = home / "server.log"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", LOOPBACK, "--port", str(port)]
    settings = {**clean_environment(home), "PREFECT_UI_API_URL": f"{url}/api", **(environment or {})}
    with log.open("wb") as output:
        # In its own process group: Ctrl-C reaches only the parent process, which then stops the server cleanly.
        server = subprocess.Popen(  # noqa: S603  # the command is ours
            command, env=settings, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait_until_healthy(server, port, log)
            yield url
        finally:
            end(server)


def end(server: subprocess.Popen[bytes]) -> None:
    """Stop a server cleanly, or kill it if that takes too long or is interrupted.

    Args:
        server: Its process, which may have exited already.
    """
    server.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            server.wait(LONGEST_STOP_SECONDS)
    finally:
        # Also when a second Ctrl-C interrupts the wait.
        server.kill()
        server.wait()


def _wait_until_healthy(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + LONGEST_START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ServerDidNotStart(f"Prefect's server exited with status {server.returncode}; see {log}")
        if is_healthy(port):
            return
        time.sleep(POLL_SECONDS)
    raise ServerDidNotStart(f"Prefect's server did not respond within {LONGEST_START_SECONDS} s; see {log}")
