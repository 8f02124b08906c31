"""Prefect's server, on PostgreSQL if that is installed: `make server`, or `python -m deployments.server`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from cyclopts import App
from prefect.settings import (
    PREFECT_API_DATABASE_CONNECTION_URL,
    PREFECT_HOME,
    PREFECT_SERVER_API_HOST,
    PREFECT_SERVER_API_PORT,
    PREFECT_UI_URL,
)

from deployments.postgresql import PostgreSQLFailed, PostgreSQLMissing, postgresql
from deployments.prefect_server import end
from flows.command_start import COULD_NOT_START, DONE

# PostgreSQL does not run as root, and the user that it runs as cannot enter root's home directory.
FOLDER_OF_ROOT = Path("/var/lib/prefect-postgresql")

app = App(name="python -m deployments.server", version_flags=[])


@app.default
def main(*, folder: Path | None = None) -> int:
    """Run Prefect's server until Ctrl-C, on a private PostgreSQL, or on SQLite if PostgreSQL is not installed.

    If PREFECT_API_DATABASE_CONNECTION_URL is set, that database is used instead. PREFECT_SERVER_API_HOST and
    PREFECT_SERVER_API_PORT set the address and port, by default 127.0.0.1 and 4200.

    Args:
        folder: PostgreSQL's files; by default `postgresql` in PREFECT_HOME, or /var/lib/prefect-postgresql as root.

    Returns:
        Exit status: 0 after Ctrl-C or SIGTERM, 3 if it could not start.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    host, port = PREFECT_SERVER_API_HOST.value(), PREFECT_SERVER_API_PORT.value()
    try:
        _check_address(host, port)
    except OSError as error:
        return complain(
            f"cannot listen on {host}:{port} ({error.strerror}): set PREFECT_SERVER_API_PORT to another port"
        )
    default_folder = PREFECT_HOME.value() / "postgresql" if os.geteuid() else FOLDER_OF_ROOT
    try:
        with ExitStack() as running:
            return serve(database(folder or default_folder, running), PREFECT_UI_URL.value() or f"http://{host}:{port}")
    except PostgreSQLFailed as error:
        return complain(str(error))
    except KeyboardInterrupt:
        return DONE


def database(folder: Path, running: ExitStack) -> str:
    """Start PostgreSQL if it is installed and no other database is configured, and say which database is used.

    Args:
        folder: PostgreSQL's files.
        running: Stops PostgreSQL when it closes.

    Returns:
        The database's URL.

    Raises:
        PostgreSQLFailed: PostgreSQL is installed, but did not start.
    """
    configured: str = PREFECT_API_DATABASE_CONNECTION_URL.value()
    sqlite = PREFECT_HOME.value() / "prefect.db"
    if configured != f"sqlite+aiosqlite:///{sqlite}":
        say("Prefect's server uses the database of PREFECT_API_DATABASE_CONNECTION_URL")
        return configured
    is_new = not (folder / "data").exists()
    try:
        server = running.enter_context(postgresql(folder))
    except PostgreSQLMissing as missing:
        say(
            f"{missing}: Prefect's server uses SQLite ({sqlite}), which is for evaluation only. "
            "It loses events when several runs are active: see deployments/production/README.md"
        )
        return configured
    say(f"Prefect's server uses PostgreSQL, with its files in {folder}")
    if is_new:
        say("The database is new and empty: run `make setup`, then deploy")
        if sqlite.exists():
            say(f"Earlier runs stay in {sqlite}, which this server does not use")
    return server.url


def serve(database_url: str, ui_url: str) -> int:
    """Run Prefect's server until it exits or this process is interrupted.

    Args:
        database_url: Its database.
        ui_url: Where its UI is, for the links in notifications.

    Returns:
        Exit status.
    """
    command = [sys.executable, "-m", "prefect", "--no-prompt", "server", "start"]
    environment = {**os.environ, "PREFECT_API_DATABASE_CONNECTION_URL": database_url, "PREFECT_UI_URL": ui_url}
    # In its own session, so that Ctrl-C reaches it only once, through this process.
    server = subprocess.Popen(command, env=environment, start_new_session=True)  # noqa: S603  # the command is ours
    try:
        status = server.wait()
    finally:
        end(server)
    return complain(f"Prefect's server exited with status {status}")


def _check_address(host: str, port: int) -> None:
    """Raise OSError, before anything is started, if Prefect's server will not be able to listen."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        # As Prefect's server does: a port with recently closed connections counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def say(sentence: str) -> None:
    """Print a message."""
    print(sentence, flush=True)  # noqa: T201


def complain(sentence: str) -> int:
    """Print an error; returns the exit status."""
    print(sentence, file=sys.stderr)  # noqa: T201
    return COULD_NOT_START


if __name__ == "__main__":
    sys.exit(app())
