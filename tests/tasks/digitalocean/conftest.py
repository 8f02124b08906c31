from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the variables and the `.env` file of the developer."""
    for name in os.environ:
        if name.upper().startswith("DIGITALOCEAN_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
