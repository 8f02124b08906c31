"""Which database `python -m deployments.server` uses."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, PREFECT_HOME, temporary_settings

from deployments import postgresql
from deployments.postgresql import PostgreSQL, PostgreSQLFailed, PostgreSQLMissing
from deployments.server import database


def test_a_database_configured_by_the_user_is_used_unchanged(tmp_path: Path) -> None:
    theirs = "postgresql+asyncpg://prefect:PASSWORD@10.0.0.5:5432/prefect"
    with temporary_settings({PREFECT_API_DATABASE_CONNECTION_URL: theirs}), ExitStack() as running:
        assert database(tmp_path / "postgresql", running) == theirs
    assert not (tmp_path / "postgresql").exists()


def test_without_postgresql_prefects_sqlite_is_used_and_the_consequences_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgresql, "DEBIAN", tmp_path)
    with temporary_settings({PREFECT_HOME: tmp_path}), ExitStack() as running:
        sqlite = PREFECT_API_DATABASE_CONNECTION_URL.value()
        assert database(tmp_path / "postgresql", running) == sqlite
    assert sqlite == f"sqlite+aiosqlite:///{tmp_path}/prefect.db"
    said = capsys.readouterr().out
    assert "PostgreSQL is not installed" in said
    assert "SQLite" in said
    assert not (tmp_path / "postgresql").exists()


def test_a_database_of_a_missing_postgresql_version_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("7\n")
    try:
        with pytest.raises(PostgreSQLFailed, match="needs PostgreSQL 7, which is not installed"):
            PostgreSQL.installed(tmp_path)
    except PostgreSQLMissing as missing:
        pytest.skip(str(missing))
