from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deployments.sandbox import Sandbox
from tests.end_to_end.accounts import resize
from tests.end_to_end.prefect_server import PrefectView, until
from tests.end_to_end.strained_server import Mood, strained_server

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("mood", ["answers 500", "is gone"])
def test_a_run_with_transfers_in_progress_survives_a_prefect_server_that(
    mood: Mood, start: Callable[..., Sandbox], prefect_view: PrefectView
) -> None:
    sandbox = start(speed=300)
    resize(sandbox, 20)
    port = urlsplit(os.environ["PREFECT_API_URL"]).port
    assert port
    with strained_server(port) as server:
        run = subprocess.Popen(
            [sys.executable, "-m", "flows.replicate_backups"],
            cwd=ROOT,
            env={**os.environ, "PREFECT_API_URL": f"http://127.0.0.1:{server.port}/api"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        until(lambda: any(action.type == "transfer" for action in sandbox.record.actions), within_seconds=60)
        server.be(mood)
        until(lambda: server.refused > 5, within_seconds=60)
        server.be("well")
        output = run.communicate(timeout=300)[0]
    assert run.returncode == 0, output
    assert sandbox.record.duplicate_transfers() == []
    assert all(
        len(image.regions) == 12 for image in sandbox.account.images.values() if image.type == "snapshot" and image.tags
    )
