"""Prefect's temporary server, for a command from a shell if PREFECT_API_URL is not set.

Prefect would start one silently once a client needs it, after the command's imports. Here, its process starts with the
command, so that both import at the same time, and serves once the command's options and settings are checked. Then
Prefect's class `SubprocessASGIServer` takes it over. If the command is killed, the server's standard input is closed,
and the server exits.
"""

from __future__ import annotations

import atexit
import gc
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from flows.command_start import end_with_command
from flows.messages import say, waiting_messages

if TYPE_CHECKING:
    from fastapi import FastAPI

LOOPBACK = "127.0.0.1"
ROOT = Path(__file__).resolve().parent.parent
SECONDS_BETWEEN_POLLS = 0.05
POLL_TIMEOUT_SECONDS = 5.0
# As in Prefect's `SubprocessASGIServer._run_uvicorn_command`.
ENVIRONMENT = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
# Such as `sqlite3.OperationalError: unable to open database file`, the last line of a traceback.
EXCEPTION_LINE = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Warning|Interrupt): .+$", re.MULTILINE)


class ServerDidNotStart(Exception):
    """The temporary server ended, or did not answer in time."""


@dataclass(frozen=True)
class Server:
    """The server's process.

    Attributes:
        input: Write end of its standard input: it serves once something is written, and exits when it is closed.
        log: Its output, needed only if it does not start.
    """

    process: subprocess.Popen[bytes]
    input: int
    port: int
    log: IO[bytes]


_prepared: list[Server] = []


def prepare() -> None:
    """Start the server's process, which imports its modules, if a core is free and a server seems to be needed."""
    if _cores() > 1 and not _api_url_may_be_set():
        _prepared.append(_spawn())


def start(*, within_seconds: float) -> None:
    """Start the server, wait until it answers, and make Prefect use it.

    Raises:
        ServerDidNotStart: It ended, or did not answer in time.
    """
    say("PREFECT_API_URL is not set: starting a temporary Prefect server (the first time, this takes up to a minute)")
    with waiting_messages("Waiting for the temporary Prefect server to start"):
        deadline = time.monotonic() + within_seconds
        server = _prepared.pop() if _prepared else _spawn()
        # If it has ended already, _wait_until_healthy raises.
        with suppress(BrokenPipeError):
            os.write(server.input, b"\n")
        with _without_garbage_collection():
            from prefect.server.api.server import SubprocessASGIServer  # noqa: PLC0415  # two seconds of the wait

        _wait_until_healthy(server, deadline)
    owner = SubprocessASGIServer()
    owner.port, owner.server_process, owner.running = server.port, server.process, True
    atexit.register(owner.stop)


def create_app() -> FastAPI:
    """Make the server's application; called by uvicorn in the server's process."""
    with _without_garbage_collection():
        from prefect.server.api import server  # noqa: PLC0415  # slow, and only this process needs it early

    # Not through `sys.stdin`: the waiting thread would hold its lock when the process exits.
    if not os.read(sys.stdin.fileno(), 1):
        # The command ended without starting the server: its options or settings were wrong.
        os._exit(0)
    threading.Thread(target=_end_with_the_command, name="end-with-the-command", daemon=True).start()
    return server.create_app()


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Make imports a fifth faster: they create no garbage."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _end_with_the_command() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _api_url_may_be_set() -> bool:
    """Guess without Prefect whether PREFECT_API_URL is set; a wrong guess only costs a second."""
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    name = "PREFECT_API_URL"
    return name in os.environ or any(name.encode() in _contents(path) for path in (profiles, Path(".env")))


def _contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def free_port() -> int:
    """Find a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def is_healthy(port: int) -> bool:
    """Whether a Prefect server on this machine answers at a port."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=POLL_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _spawn() -> Server:
    port = free_port()
    its_input, our_end = os.pipe()
    log = tempfile.TemporaryFile()  # noqa: SIM115  # stays open until this process ends
    process = subprocess.Popen(  # noqa: S603  # the command is ours
        [
            *(sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT), "--factory", f"{__name__}:create_app"),
            *("--host", LOOPBACK, "--port", str(port), "--log-level", "error", "--lifespan", "on"),
        ],
        env={**os.environ, **ENVIRONMENT},
        stdin=its_input,
        stdout=log,
        stderr=subprocess.STDOUT,
        # Ctrl-C is for the command, which stops the server once the run's final state is recorded.
        start_new_session=True,
    )
    os.close(its_input)
    end_with_command(process)
    return Server(process, our_end, port, log)


def _wait_until_healthy(server: Server, deadline: float) -> None:
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise ServerDidNotStart(f"Prefect's temporary server could not start: {_startup_error(server)}")
        if is_healthy(server.port):
            return
        time.sleep(SECONDS_BETWEEN_POLLS)
    raise ServerDidNotStart("Prefect's temporary server did not start in time")


def _startup_error(server: Server) -> str:
    """Find the exception in the server's output."""
    server.log.seek(0)
    output = server.log.read().decode(errors="replace")
    exceptions = EXCEPTION_LINE.findall(output) or output.strip().splitlines()
    return exceptions[-1] if exceptions else f"exit status {server.process.returncode}"
