"""Prefect's server with its own PostgreSQL: `python -m deployments.server`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from deployments.postgresql import PostgreSQL, PostgreSQLMissing
from deployments.prefect_server import clean_environment
from flows.temporary_server import LOOPBACK, free_port
from tests.end_to_end.postgresql import temporary_folder
from tests.end_to_end.prefect_server import until
from tests.end_to_end.worker import PS, descendants

ROOT = Path(__file__).resolve().parents[2]
LONGEST_START_SECONDS = 120
LONGEST_STOP_SECONDS = 60


@dataclass
class Shell:
    """Someone who starts the server from a shell.

    Attributes:
        folder: Where PostgreSQL keeps its files.
        home: Prefect's folder.
        port: Where the server is to listen.
    """

    folder: Path
    home: Path
    port: int

    @property
    def api(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/api"

    def start(self, port: int | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "deployments.server", "--folder", str(self.folder)],
            cwd=ROOT,
            env={**clean_environment(self.home), "PREFECT_SERVER_API_PORT": str(port or self.port)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @contextmanager
    def server(self) -> Iterator[subprocess.Popen[str]]:
        """Run the server, until it has ended at the latest."""
        server = self.start()
        try:
            until(lambda: server.poll() is not None or self.answers(), LONGEST_START_SECONDS)
            assert server.poll() is None, server.stdout and server.stdout.read()
            yield server
        finally:
            server.terminate()
            server.wait(LONGEST_STOP_SECONDS)

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.api}/health", trust_env=False).is_success
        except httpx.TransportError:
            return False

    def postgresql_is_running(self) -> bool:
        return (self.folder / "data" / "postmaster.pid").exists()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    if not PS:
        pytest.skip("ps is not installed")
    with temporary_folder() as folder:
        try:
            PostgreSQL.installed(folder)
        except PostgreSQLMissing as missing:
            pytest.skip(str(missing))
        yield Shell(folder, tmp_path / "prefect", free_port())


def test_ctrl_c_stops_both_servers_and_the_next_start_uses_the_same_database(shell: Shell) -> None:
    with shell.server() as server:
        recorded = {"name": "kept", "value": 1}
        httpx.post(f"{shell.api}/variables/", json=recorded, trust_env=False).raise_for_status()
        # Where the links in notifications lead.
        settings = httpx.get(f"{shell.api}/admin/settings", trust_env=False).json()
        assert settings["ui_url"] == shell.api.removesuffix("/api")
        elsewhere = shell.start(free_port())
        said, _ = elsewhere.communicate(timeout=LONGEST_START_SECONDS)
        assert elsewhere.returncode == 3
        assert said == f"another server is using the database in {shell.folder}\n"
        # What Ctrl-C sends.
        os.killpg(server.pid, signal.SIGINT)
        said, _ = server.communicate(timeout=LONGEST_STOP_SECONDS)
        assert server.returncode == 0, said
        assert "PostgreSQL" in said
        assert "Traceback" not in said
    assert not shell.answers()
    assert not shell.postgresql_is_running()

    with shell.server() as server:
        assert httpx.get(f"{shell.api}/variables/name/kept", trust_env=False).json()["value"] == 1
        # As when the machine runs out of memory: nothing ends PostgreSQL.
        left = descendants(server.pid)
        for pid in (server.pid, *left):
            os.kill(pid, signal.SIGKILL)
        server.wait()
    assert shell.postgresql_is_running()
    with shell.server():
        assert httpx.get(f"{shell.api}/variables/name/kept", trust_env=False).json()["value"] == 1
    assert not shell.postgresql_is_running()


def test_a_port_in_use_is_named_before_anything_is_started(shell: Shell) -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        port = other.getsockname()[1]
        refused = shell.start(port)
        said, _ = refused.communicate(timeout=LONGEST_START_SECONDS)
    assert refused.returncode == 3
    assert said == (
        f"cannot listen on {LOOPBACK}:{port} (Address already in use): set PREFECT_SERVER_API_PORT to another port\n"
    )
    assert list(shell.folder.iterdir()) == []
