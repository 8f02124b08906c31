"""A private PostgreSQL server: its files in one folder, reachable only through a socket in it."""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

# Debian and Ubuntu keep the programs outside PATH, one folder per major version.
DEBIAN = Path("/usr/lib/postgresql")
PROGRAMS = ("initdb", "pg_ctl", "postgres")
# The user that PostgreSQL's packages create.
SYSTEM_USER = "postgres"
OWNER = "prefect"
DATABASE = "postgres"
LONGEST_START_SECONDS = 60


class PostgreSQLMissing(Exception):
    """No usable PostgreSQL is installed."""


class PostgreSQLFailed(Exception):
    """PostgreSQL is installed, but could not be started."""


@dataclass(frozen=True)
class PostgreSQL:
    """A PostgreSQL server and its files.

    Attributes:
        programs: The folder of its programs.
        folder: The folder of its database, log and socket.
        user: The user that runs it; None for the current user.
    """

    programs: Path
    folder: Path
    user: str | None = None

    @classmethod
    def installed(cls, folder: Path) -> Self:
        """Find the programs that match the version of a folder's database, or the newest if it has no database yet.

        Args:
            folder: The folder.

        Returns:
            The server, which may not be running.

        Raises:
            PostgreSQLMissing: It is not installed.
            PostgreSQLFailed: Only other versions are installed.
        """
        user = _user_to_run_as()
        installed = {_major_version(programs): programs for programs in _folders_of_programs()}
        if not installed:
            raise PostgreSQLMissing(f"PostgreSQL is not installed (no initdb in PATH, nor in {DEBIAN}/*/bin)")
        version_file = folder / "data" / "PG_VERSION"
        version = int(version_file.read_text()) if version_file.exists() else max(installed)
        if version not in installed:
            raise PostgreSQLFailed(
                f"the database in {folder} needs PostgreSQL {version}, which is not installed: install it, or move the "
                "folder away to start with an empty database"
            )
        return cls(installed[version], folder, user)

    @property
    def url(self) -> str:
        """The connection URL for Prefect's server."""
        return f"postgresql+asyncpg://{OWNER}@/{DATABASE}?host={quote(str(self.folder))}"

    @property
    def data(self) -> Path:
        """The data directory; missing until `create`."""
        return self.folder / "data"

    def create(self) -> None:
        """Create an empty database.

        Raises:
            PostgreSQLFailed: initdb failed.
        """
        new = self.folder / "new"
        # A killed `create` may have left it behind.
        shutil.rmtree(new, ignore_errors=True)
        # Anyone with access to the folder may connect.
        owner = ["--username", OWNER, "--auth", "trust"]
        initdb = self._run("initdb", "--pgdata", str(new), *owner, "--encoding", "UTF8", "--locale", "C")
        if initdb.returncode:
            raise PostgreSQLFailed(f"initdb failed in {self.folder}: {initdb.stderr.strip()}")
        new.rename(self.data)

    def start(self, settings: Sequence[str] = ()) -> None:
        """Start the server, unless it is still running because its parent process was killed.

        Args:
            settings: Settings besides those of the default configuration, such as `fsync=off`.

        Raises:
            PostgreSQLFailed: It did not start.
        """
        if self._pg_ctl("status").returncode == 0:
            return
        only_socket = ["listen_addresses=", f'unix_socket_directories="{self.folder}"']
        options = shlex.join([part for each in (*only_socket, *settings) for part in ("-c", each)])
        log = self.folder / "postgresql.log"
        waiting = ["--wait", "--timeout", str(LONGEST_START_SECONDS)]
        if self._pg_ctl("start", *waiting, "--log", str(log), "--options", options).returncode:
            raise PostgreSQLFailed(f"PostgreSQL did not start: see the end of {log}")

    def stop(self) -> None:
        """Stop the server without waiting for its clients to disconnect."""
        self._pg_ctl("stop", "--mode", "fast", "--wait")

    def _pg_ctl(self, command: str, *options: str) -> subprocess.CompletedProcess[str]:
        return self._run("pg_ctl", command, "--pgdata", str(self.data), *options)

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603  # the command is ours
            [str(self.programs / program), *arguments],
            # This user may have no access to the current folder.
            cwd=self.folder,
            user=self.user,
            check=False,
            capture_output=True,
            text=True,
        )


@contextmanager
def postgresql(folder: Path, *, settings: Sequence[str] = ()) -> Iterator[PostgreSQL]:
    """Run a PostgreSQL server while the `with` block lasts.

    Args:
        folder: Its folder, which keeps the database; created if missing. Its path must be shorter than 100 characters,
            the limit for a socket's path.
        settings: Settings besides those of the default configuration, such as `fsync=off`.

    Yields:
        The server.

    Raises:
        PostgreSQLMissing: It is not installed.
        PostgreSQLFailed: It did not start, or its database is in use.
    """
    server = PostgreSQL.installed(folder.resolve())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if server.user:
        shutil.chown(folder, server.user)
    # The kernel releases the lock when this process ends, however it ends.
    with (folder / "in-use").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PostgreSQLFailed(f"another server is using the database in {folder}") from None
        if not server.data.exists():
            server.create()
        try:
            server.start(settings)
            yield server
        finally:
            server.stop()


def _folders_of_programs() -> list[Path]:
    in_path = shutil.which("initdb")
    folders = [*DEBIAN.glob("*/bin"), *([Path(in_path).resolve().parent] if in_path else [])]
    return [folder for folder in folders if all((folder / name).exists() for name in PROGRAMS)]


def _major_version(programs: Path) -> int:
    said = subprocess.run([str(programs / "postgres"), "--version"], check=True, capture_output=True, text=True).stdout  # noqa: S603  # the program was found by its name
    found = re.search(r"\d+", said)
    return int(found.group()) if found else 0


def _user_to_run_as() -> str | None:
    """Choose the user that runs it: None for the current one, unless that is root, as which PostgreSQL does not run."""
    if os.geteuid():
        return None
    if SYSTEM_USER not in {entry.pw_name for entry in pwd.getpwall()}:
        raise PostgreSQLMissing(f"PostgreSQL does not run as root, and there is no user {SYSTEM_USER}")
    return SYSTEM_USER
