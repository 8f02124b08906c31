"""A PostgreSQL of the tests' own: in a temporary folder, gone when it is no longer needed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deployments.postgresql import PostgreSQL, postgresql

# It is thrown away anyway, so it need not survive a power cut.
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user can enter; those of pytest are closed to other users."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def temporary_postgresql(settings: Sequence[str] = FAST) -> Iterator[PostgreSQL]:
    """Run a PostgreSQL while the `with` block lasts.

    Raises:
        PostgreSQLMissing: It is not installed.
    """
    with temporary_folder() as folder, postgresql(folder, settings=settings) as running:
        yield running
