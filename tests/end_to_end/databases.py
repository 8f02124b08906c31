"""Databases for Prefect servers, each a copy of one that is migrated: migrations are half of what a start costs.

They are on one PostgreSQL for all test processes, as in production; on SQLite where PostgreSQL is not installed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from deployments.postgresql import OWNER, PostgreSQL, PostgreSQLMissing
from deployments.prefect_server import clean_environment
from tests.end_to_end.postgresql import FAST

SQLITE = "prefect.db"
MIGRATED = "migrated"
MIGRATE = ("prefect", "server", "database", "upgrade", "--yes")
# Each Prefect server has up to 15.
CONNECTIONS = "max_connections=300"


@dataclass(frozen=True)
class PrefectHome:
    """The folder of a Prefect server, and its database.

    Attributes:
        folder: The folder.
        postgresql: Where the database is; None for SQLite, in the folder.
        database: Its name.
    """

    folder: Path
    postgresql: PostgreSQL | None = None
    database: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """The server's settings."""
        if self.postgresql is None:
            return {}
        url = f"postgresql+asyncpg://{OWNER}@/{self.database}?host={quote(str(self.postgresql.folder))}"
        return {"PREFECT_API_DATABASE_CONNECTION_URL": url}

    def contents(self) -> dict[str, bytes]:
        """All that is in the database and in the files of the folder, by name."""
        found = {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        if self.postgresql:
            found[self.database] = _run(self.postgresql, "pg_dump", self.database)
        return found


@dataclass(frozen=True)
class Databases:
    """Makes databases for Prefect servers.

    Attributes:
        shared: A folder that test processes share.
        postgresql: Where the databases are; None for SQLite.
    """

    shared: Path
    postgresql: PostgreSQL | None

    def new(self, folder: Path) -> PrefectHome:
        """Make a migrated database for the server with this folder."""
        if self.postgresql is None:
            shutil.copy(self.shared / SQLITE, folder)
            return PrefectHome(folder)
        name = f"{folder.name}-{uuid4().hex}"
        with _locked(self.shared):
            _run(self.postgresql, "createdb", "--template", MIGRATED, name)
        return PrefectHome(folder, self.postgresql, name)


@contextmanager
def databases(shared: Path) -> Iterator[Databases]:
    """Share a PostgreSQL with the other test processes while the `with` block lasts; the last one stops it.

    Args:
        shared: A folder that they share; created if missing.
    """
    shared.mkdir(exist_ok=True)
    note, own = shared / "postgresql", shared / f"process-{os.getpid()}"
    with _locked(shared):
        postgresql = PostgreSQL.installed(Path(note.read_text())) if note.exists() else _migrated(shared, note)
        own.touch()
    try:
        yield Databases(shared, postgresql)
    finally:
        with _locked(shared):
            own.unlink()
            if postgresql and not list(shared.glob("process-*")):
                postgresql.stop()
                shutil.rmtree(postgresql.folder)
                note.unlink()


def _migrated(shared: Path, note: Path) -> PostgreSQL | None:
    postgresql = _started()
    if postgresql:
        _run(postgresql, "createdb", MIGRATED)
        _migrate(PrefectHome(shared / MIGRATED, postgresql, MIGRATED))
        note.write_text(str(postgresql.folder))
    elif not (shared / SQLITE).exists():
        _migrate(PrefectHome(shared / MIGRATED))
        (shared / MIGRATED / SQLITE).rename(shared / SQLITE)
    return postgresql


def _started() -> PostgreSQL | None:
    # PostgreSQL's user cannot enter pytest's folders.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        postgresql = PostgreSQL.installed(folder)
    except PostgreSQLMissing:
        folder.rmdir()
        return None
    if postgresql.user:
        shutil.chown(folder, postgresql.user)
    postgresql.create()
    postgresql.start((*FAST, CONNECTIONS))
    return postgresql


def _migrate(home: PrefectHome) -> None:
    command = [sys.executable, "-m", *MIGRATE]
    environment = {**clean_environment(home.folder), **home.environment}
    done = subprocess.run(command, env=environment, cwd=home.folder.parent, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _run(postgresql: PostgreSQL, program: str, *arguments: str) -> bytes:
    connection = ["--host", str(postgresql.folder), "--username", OWNER]
    command = [str(postgresql.programs / program), *connection, *arguments]
    return subprocess.run(command, check=True, capture_output=True, cwd=postgresql.folder).stdout


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
