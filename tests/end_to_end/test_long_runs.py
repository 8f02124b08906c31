"""A deployed run that lasts longer than a silent run may; `make soak` is the same for hours and with real windows."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

from deployments.prefect_server import clean_environment
from deployments.sandbox import Sandbox
from deployments.server_resources.automations import automations
from tests.end_to_end.accounts import newest_backups
from tests.end_to_end.prefect_server import PrefectView, undo_setup, until
from tests.end_to_end.worker import PS, worker
from tests.soak.account import lost, stretch
from tests.soak.history import PrefectApi

ROOT = Path(__file__).resolve().parents[2]
DEPLOYMENT = "replicate-backups/manual"
ALARM = "A copy of backups has died"
# Three heartbeats; in production, it is twenty-four of them.
DEAD_AFTER = timedelta(seconds=90)
RUN_FOR = timedelta(seconds=100)
HEARTBEATS = 3
# At this speed a conversion takes a second, and a finished transfer is seen within two.
SPEED = 60
LONGEST_SECONDS = 240


@dataclass(frozen=True)
class Deployed:
    """A server with the deployment.

    Attributes:
        api: Its API.
        environment: For commands from a shell.
    """

    api: PrefectApi
    environment: dict[str, str]


async def shorten_alarm() -> None:
    (alarm,) = [part for part in automations(None, dead_after=DEAD_AFTER) if part.automation == ALARM]
    async with get_client() as client:
        await alarm.apply(client)


@pytest.fixture
def server(prefect_view: PrefectView, account: Sandbox, tmp_path: Path) -> Iterator[Deployed]:
    """A server with the deployment, on which a run counts as dead after a short time while the test lasts."""
    environment = {
        **clean_environment(tmp_path),
        **account.environment(),
        "PREFECT_API_URL": str(prefect_view.client.api_url),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    api = PrefectApi(environment["PREFECT_API_URL"])
    try:
        for command in (["deployments.setup"], ["prefect", "--no-prompt", "deploy", "--name", DEPLOYMENT]):
            subprocess.run([sys.executable, "-m", *command], env=environment, cwd=ROOT, check=True, capture_output=True)
        asyncio.run(shorten_alarm())
        yield Deployed(api, environment)
    finally:
        undo_setup(environment["PREFECT_API_URL"])
        api.close()


@pytest.fixture
def account() -> Iterator[Sandbox]:
    with Sandbox(droplets=1, speed=SPEED) as sandbox:
        for image in newest_backups(sandbox):
            stretch(sandbox, image, RUN_FOR)
        yield sandbox


@pytest.mark.skipif(not PS, reason="ps is not installed")
def test_a_long_deployed_run_with_heartbeats_stays_running_and_triggers_no_alarm(
    server: Deployed, account: Sandbox, tmp_path: Path
) -> None:
    api = server.api
    images = newest_backups(account)
    with worker(server.environment, ROOT, tmp_path / "worker.log"):
        run = api.begin(DEPLOYMENT)
        until(lambda: api.state(run).is_final, LONGEST_SECONDS)
    states = api.states(run)
    at_work = states[[state.type for state in states].index("RUNNING") :]
    assert [state.name for state in at_work] == ["Running", "Completed"], states
    assert at_work[1].at - at_work[0].at > RUN_FOR
    assert len(api.heartbeat_gaps(run)) >= HEARTBEATS - 1
    assert [alarm for alarm in api.alarms() if alarm.run_id == run] == []
    assert lost(account, images) == []
