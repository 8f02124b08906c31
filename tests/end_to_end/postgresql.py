"""A PostgreSQL of the tests' own: in a temporary folder, on loopback, gone when it is no longer needed."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deployments.prefect_server import LOOPBACK, free_port
from tests.end_to_end.prefect_server import until

DEBIAN = Path("/usr/lib/postgresql")
LONGEST_START_SECONDS = 60
LONGEST_STOP_SECONDS = 30
OWNER = "prefect"
DATABASE = "postgres"
# It is thrown away anyway, so it need not survive a power cut.
FAST = ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
NOT_IN_THE_FILE_SYSTEM = ["unix_socket_directories="]


class PostgreSQLMissing(Exception):
    """There is no PostgreSQL to start; the message says why."""


@dataclass(frozen=True)
class PostgreSQL:
    """A server that is running.

    Attributes:
        programs: The folder of its programs.
        port: Its port on loopback.
    """

    programs: Path
    port: int

    @property
    def prefect_url(self) -> str:
        """What Prefect's server calls it."""
        return f"postgresql+asyncpg://{OWNER}@{LOOPBACK}:{self.port}/{DATABASE}"

    def dump(self) -> str:
        """Everything in the database, as a back-up would have it."""
        address = ["--host", LOOPBACK, "--port", str(self.port), "--username", OWNER]
        command = [str(self.programs / "pg_dump"), *address, DATABASE]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """Run a PostgreSQL while the `with` block lasts.

    Raises:
        PostgreSQLMissing: It is not installed.
    """
    programs, user = newest_programs(), _user_to_run_as()
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        if user:
            shutil.chown(folder, user)
        data, log = folder / "data", folder / "log"
        made = ["--auth", "trust", "--username", OWNER, "--encoding", "UTF8", "--locale", "C", "--no-sync"]
        _run([str(programs / "initdb"), "--pgdata", str(data), *made], folder, user)
        settings = [part for each in (*FAST, *NOT_IN_THE_FILE_SYSTEM) for part in ("-c", each)]
        listening = ["-h", LOOPBACK, "-p", str(port)]
        with log.open("wb") as output:
            server = subprocess.Popen(
                [str(programs / "postgres"), "-D", str(data), *listening, *settings],
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=user,
                start_new_session=True,
            )
        try:
            ready = [str(programs / "pg_isready"), "--quiet", "--host", LOOPBACK, "--port", str(port)]

            def answers() -> bool:
                assert server.poll() is None, log.read_text()
                return subprocess.run(ready, check=False).returncode == 0

            until(answers, LONGEST_START_SECONDS)
            yield PostgreSQL(programs, port)
        finally:
            # Its fast way to shut down, which does not wait until everybody has gone.
            server.send_signal(signal.SIGINT)
            try:
                server.wait(LONGEST_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    finally:
        shutil.rmtree(folder)


def newest_programs() -> Path:
    """Find the folder of the newest PostgreSQL that is installed.

    Raises:
        PostgreSQLMissing: There is none.
    """
    in_path = shutil.which("initdb")
    folders = [*DEBIAN.glob("*/bin"), *([Path(in_path).resolve().parent] if in_path else [])]
    complete = [folder for folder in folders if all((folder / name).exists() for name in ("initdb", "postgres"))]
    if not complete:
        raise PostgreSQLMissing(f"PostgreSQL is not installed: no initdb in PATH, nor in {DEBIAN}/*/bin")
    return max(complete, key=_version)


def _version(programs: Path) -> int:
    said = subprocess.run([str(programs / "postgres"), "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"\d+", said)
    return int(found.group()) if found else 0


def _user_to_run_as() -> str | None:
    """Who is to run it: whoever runs the tests, unless that is root, as whom it refuses to."""
    if os.geteuid():
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in known:
            return name
    raise PostgreSQLMissing("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


def _run(command: list[str], folder: Path, user: str | None) -> None:
    # The folder in which the tests run may be closed to this user.
    done = subprocess.run(command, cwd=folder, user=user, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
