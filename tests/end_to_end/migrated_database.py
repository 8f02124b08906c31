"""A new Prefect database, migrated once for all test processes: migrations are half of what starting a server costs."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deployments.prefect_server import clean_environment

DATABASE = "prefect.db"
MIGRATE = ("prefect", "server", "database", "upgrade", "--yes")


def migrated_database(folder: Path) -> Path:
    """Find the database in a folder that test processes share, or make it."""
    folder.mkdir(exist_ok=True)
    with _locked(folder / "lock"):
        database = folder / DATABASE
        if not database.exists():
            # Under this name once it is complete.
            incomplete = folder / "incomplete"
            command = [sys.executable, "-m", *MIGRATE]
            done = subprocess.run(
                command, env=clean_environment(incomplete), cwd=folder, check=False, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout + done.stderr
            (incomplete / DATABASE).rename(database)
        return database


def copy_to(home: Path, database: Path) -> Path:
    """Make a folder for a Prefect server, whose database is migrated already."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(database, home / DATABASE)
    return home


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
