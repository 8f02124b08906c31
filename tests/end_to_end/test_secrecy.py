"""The token and the ping URL are nowhere: not in Prefect's database, not in its logs, not in what a run prints."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from deployments.prefect_server import clean_environment
from deployments.sandbox import Fault, FaultKind, Sandbox
from flows.image_action_history import image_action_history
from flows.replicate_backups import replicate_backups
from tests.end_to_end.accounts import REGIONS, make_transfers_endless, newest_backups, report_of, resize, started
from tests.end_to_end.databases import PrefectHome
from tests.end_to_end.prefect_server import PrefectView, undo_setup, until
from tests.end_to_end.worker import PS, worker
from tests.flows.monitor import SECRET, Monitor, monitor
from tests.soak.history import PrefectApi

ROOT = Path(__file__).resolve().parents[2]
NIGHTLY = "replicate-backups/nightly"
LONGEST_SECONDS = 120
WRONG_TOKEN = "dop_v1_0123456789abcdef"


def test_the_token_is_never_stored_logged_or_printed(
    sandbox: Sandbox,
    prefect_view: PrefectView,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    resize(sandbox, 2)
    caplog.set_level(logging.DEBUG)
    sandbox.faults.add(
        Fault(FaultKind.DROP_AFTER, "POST", "/actions"),
        Fault(FaultKind.HTML_OK, "POST", "/actions"),
        Fault(FaultKind.BURST_LIMIT, "GET"),
        Fault(FaultKind.ERROR_BEFORE, "GET"),
    )
    good = replicate_backups(regions=REGIONS[:1], return_state=True)
    assert good.is_completed()
    failed = image_action_history([4711], return_state=True)
    assert failed.is_failed()
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", WRONG_TOKEN)
    refused = replicate_backups(return_state=True)
    assert refused.is_failed()
    for state in (good, failed, refused):
        prefect_view.logs_of(prefect_view.run_of(state))
    prefect_view.task_runs_of(prefect_view.run_of(good).id, at_least=9)

    stored = b"".join(prefect_view.home.contents().values())
    assert b"replicate-backups" in stored
    said = "".join([*capfd.readouterr(), caplog.text, repr(good), repr(report_of(good)), repr(refused)])
    for token in (sandbox.token, WRONG_TOKEN):
        assert token.encode() not in stored
        assert token not in said


@dataclass(frozen=True)
class Deployed:
    """A server with the nightly deployment, which pings a monitor.

    Attributes:
        home: The server's folder and database.
        api: The server's API.
        environment: For a worker.
        said: What setup printed.
    """

    home: PrefectHome
    api: PrefectApi
    environment: dict[str, str]
    said: str


@pytest.fixture
def told() -> Iterator[Monitor]:
    with monitor() as running:
        yield running


@pytest.fixture
def server(prefect_view: PrefectView, sandbox: Sandbox, told: Monitor, tmp_path: Path) -> Iterator[Deployed]:
    environment = {
        **clean_environment(tmp_path / "client"),
        **sandbox.environment(),
        "PREFECT_API_URL": str(prefect_view.client.api_url),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        # So that httpx and httpcore log all that they can.
        "PREFECT_LOGGING_LEVEL": "DEBUG",
        "PREFECT_LOGGING_ROOT_LEVEL": "DEBUG",
    }
    api = PrefectApi(environment["PREFECT_API_URL"])
    said = ""
    try:
        for command in (["deployments.setup"], ["prefect", "--no-prompt", "deploy", "--name", NIGHTLY]):
            done = subprocess.run(
                [sys.executable, "-m", *command],
                env={**environment, "DIGITALOCEAN_PING_URL": told.url},
                cwd=ROOT,
                check=True,
                capture_output=True,
                text=True,
            )
            said += done.stdout + done.stderr
        yield Deployed(prefect_view.home, api, environment, said)
    finally:
        undo_setup(environment["PREFECT_API_URL"])
        api.close()


@pytest.mark.skipif(not PS, reason="ps is not installed")
def test_a_deployed_run_pings_and_the_url_is_never_stored_logged_or_printed(
    server: Deployed, sandbox: Sandbox, told: Monitor, tmp_path: Path
) -> None:
    resize(sandbox, 2)
    api = server.api
    with worker(server.environment, ROOT, tmp_path / "worker.log") as running:
        completed = api.begin(NIGHTLY, regions=REGIONS[:1])
        until(lambda: api.state(completed).is_final, LONGEST_SECONDS)
        assert api.state(completed).type == "COMPLETED"
        assert told.signals() == ["/start", ""]

        make_transfers_endless(sandbox, newest_backups(sandbox), regions=1)
        before = len(started(sandbox))
        killed = api.begin(NIGHTLY, regions=REGIONS[1:2])
        until(lambda: len(started(sandbox)) > before, LONGEST_SECONDS)
        for pid in running.runs():
            # It may have ended with another one.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: api.state(killed).is_final, LONGEST_SECONDS)
        assert api.state(killed).type == "CRASHED"
        until(lambda: told.signals()[2:] == ["/start", "/fail"], LONGEST_SECONDS)
        log = running.said()

    stored = b"".join(server.home.contents().values())
    assert b"digitalocean-ping-url" in stored
    assert "receive_response_headers" in log
    assert SECRET.encode() not in stored
    assert SECRET not in log + server.said + api.log(completed) + api.log(killed)
