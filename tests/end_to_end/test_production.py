"""Everything as a team would run it: PostgreSQL, a server on it, deployments, and a worker that carries runs out."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import FlowRun
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId, LogFilter, LogFilterFlowRunId
from prefect.client.schemas.schedules import SCHEDULE_TYPES, IntervalSchedule
from prefect.states import AwaitingRetry, Cancelling

from deployments.prefect_server import clean_environment, prefect_server
from deployments.sandbox import Fault, FaultKind, Image, Sandbox
from flows.temporary_server import LOOPBACK, free_port
from tasks.credentials import BLOCK_TYPE
from tests.end_to_end.accounts import (
    REGIONS,
    Operator,
    backups_of,
    finish_all,
    goals,
    make_transfers_endless,
    newest_backups,
    next_look_at_the_feed,
    pairs,
    resize,
    started,
)
from tests.end_to_end.conftest import SPEED
from tests.end_to_end.databases import PrefectHome
from tests.end_to_end.prefect_server import until
from tests.end_to_end.worker import POOL, PS, Worker, worker

ROOT = Path(__file__).resolve().parents[2]
CURL = shutil.which("curl") or ""
TOKEN = "dop_v1_11223344556677889900aabbccddeeff"
TAG = "copied-after-backups"
LONGEST_RUN_SECONDS = 120
LONGEST_FROM_EVENT_TO_RUN_SECONDS = 15


@dataclass(frozen=True)
class Production:
    """What a team has running.

    Attributes:
        home: The folder and database of the server.
        encryption_key: What the server encrypts secrets with.
        api: Where the server's API is.
        client: A client of the server.
        worker: The worker.
        environment: For commands from a shell.
        api_port: Where the worker's runs find DigitalOcean's API.
    """

    home: PrefectHome
    encryption_key: str
    api: str
    client: SyncPrefectClient
    worker: Worker
    environment: dict[str, str]
    api_port: int

    def deployment(self, name: str) -> UUID:
        return self.client.read_deployment_by_name(name).id

    def begin(self, name: str, **parameters: Any) -> FlowRun:
        return self.client.create_flow_run_from_deployment(self.deployment(name), parameters=parameters)

    def ended(self, run: FlowRun) -> FlowRun:
        def look() -> FlowRun | None:
            seen = self.client.read_flow_run(run.id)
            return seen if seen.state and seen.state.is_final() else None

        seen = until(look, LONGEST_RUN_SECONDS)
        assert seen
        return seen

    def runs_of(self, name: str) -> dict[UUID, FlowRun]:
        chosen = DeploymentFilter(id=DeploymentFilterId(any_=[self.deployment(name)]))
        return {run.id: run for run in self.client.read_flow_runs(deployment_filter=chosen)}

    def log_of(self, run: FlowRun) -> str:
        logs = self.client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])))
        return "\n".join(log.message for log in logs)

    def triggered(self, automation: str) -> int:
        """How often an automation was triggered."""
        body = {"filter": {"event": {"name": ["prefect.automation.triggered"]}}}
        events = self.client.request("POST", "/events/filter", json=body).json()["events"]
        return sum(event["resource"]["prefect.resource.name"] == automation for event in events)

    def tell(self, event: dict[str, Any]) -> None:
        """Send an event, as anything that has curl can."""
        content = ["--header", "content-type: application/json", "--data", json.dumps([event])]
        subprocess.run(
            [CURL, "--fail", "--silent", "--show-error", *content, f"{self.api}/events"],
            env={**self.environment, "NO_PROXY": LOOPBACK},
            check=True,
        )


@pytest.fixture(scope="module")
def production(prefect_home: Callable[[str], PrefectHome]) -> Iterator[Production]:
    if not (CURL and PS):
        pytest.skip("curl or ps is not installed")
    home = prefect_home("production")
    if home.postgresql is None:
        pytest.skip("PostgreSQL is not installed")
    # The worker keeps this address, and each test has its own account behind it.
    api_port = free_port()
    of_digitalocean = Sandbox(port=api_port, speed=SPEED, token=TOKEN).environment()
    encryption_key = base64.urlsafe_b64encode(os.urandom(32)).decode()
    of_server = {
        **home.environment,
        "PREFECT_SERVER_ENCRYPTION_KEY": encryption_key,
        # Else a schedule that is added may lie a minute before it is looked at.
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
    }
    with prefect_server(home.folder, environment=of_server) as address:
        environment = {**clean_environment(home.folder), "PREFECT_API_URL": f"{address}/api"}
        shell = {**environment, **of_digitalocean}
        run_in_shell(shell, "deployments.setup")
        run_in_shell(shell, "prefect", "--no-prompt", "deploy", "--all")
        # The token comes from the server, as in production.
        of_worker = {**shell, "PREFECT_WORKER_QUERY_SECONDS": "1"}
        del of_worker["DIGITALOCEAN_TOKEN"]
        client = SyncPrefectClient(api=f"{address}/api")
        with client, worker(of_worker, ROOT, home.folder / "worker.log") as at_work:
            yield Production(home, encryption_key, f"{address}/api", client, at_work, environment, api_port)


@pytest.fixture
def account(production: Production) -> Iterator[Sandbox]:
    """A fresh account."""
    with Sandbox(port=production.api_port, speed=SPEED, token=TOKEN, droplets=2) as sandbox:
        resize(sandbox, 2)
        yield sandbox


def run_in_shell(environment: dict[str, str], *module: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *module], env=environment, cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def assert_are_everywhere(images: list[Image], account: Sandbox) -> None:
    regions = {region.slug for region in account.account.regions.values() if region.takes_images}
    assert regions > set(REGIONS)
    assert all(image.type == "snapshot" and regions <= set(image.regions) for image in images)
    assert account.record.duplicate_transfers() == []


def state_of(run: FlowRun) -> tuple[str | None, str | None]:
    return run.state_name, run.state.message if run.state else None


def test_a_run_by_hand_copies_everything_and_the_token_is_in_plain_text_nowhere(
    production: Production, account: Sandbox
) -> None:
    images = newest_backups(account)
    said = run_in_shell(production.environment, "prefect", "deployment", "run", "replicate-backups/manual", "--watch")
    assert "Flow run finished successfully" in said
    assert_are_everywhere(images, account)
    # So the token has come to the run.
    contents = production.home.contents()
    dump = contents[production.home.database].decode()
    assert BLOCK_TYPE in dump
    assert sum(name.endswith(".log") for name in contents) == 2
    for text in contents.values():
        assert TOKEN.encode() not in text
        assert TOKEN.encode().hex().encode() not in text
        # Together with a copy of the database, it reveals the token.
        assert production.encryption_key.encode() not in text


def test_the_schedule_starts_runs(production: Production, account: Sandbox) -> None:
    images = newest_backups(account)
    nightly = production.deployment("replicate-backups/nightly")
    # The next in eight seconds; the one after it usually finds the schedule gone.
    often = IntervalSchedule(interval=timedelta(seconds=60), anchor_date=datetime.now(UTC) - timedelta(seconds=52))
    schedules: list[tuple[SCHEDULE_TYPES, bool]] = [(often, True)]
    schedule = production.client.create_deployment_schedules(nightly, schedules)[0]

    def begun() -> list[FlowRun]:
        return [run for run in production.runs_of("replicate-backups/nightly").values() if run.start_time]

    run = until(begun, LONGEST_RUN_SECONDS)[0]
    production.client.delete_deployment_schedule(nightly, schedule.id)
    run = production.ended(run)
    assert run.state_name == "Completed", state_of(run)
    assert run.auto_scheduled
    assert_are_everywhere(images, account)
    # The next of them may have been on its way to the worker already.
    for other in production.runs_of("replicate-backups/nightly").values():
        if other.state_name != "Scheduled":
            assert production.ended(other).state_name == "Completed", state_of(other)


def test_an_event_with_a_tag_copies_the_newest_backups_of_its_droplets(
    production: Production, account: Sandbox
) -> None:
    droplet = next(iter(account.account.droplets.values()))
    operator = Operator(account)
    operator.post("/v2/tags", name=TAG)
    tagged = {"resource_id": str(droplet.id), "resource_type": "droplet"}
    operator.post(f"/v2/tags/{TAG}/resources", resources=[tagged])
    images = backups_of(account, droplet)[:1]
    run = run_after_event(production, droplet_tag=TAG)
    assert run.parameters == {"image_ids": None, "droplet_tag": TAG, "credentials": None}
    assert_are_everywhere(images, account)
    assert {action.resource_id for action in account.record.actions} == {images[0].id}


@pytest.mark.parametrize(
    "payload",
    [{"image_ids": [62137902]}, {"image_ids": "62137902"}, {"image_ids": ["62137902"], "droplet_tag": ""}],
    ids=["numbers", "text", "an empty tag"],
)
def test_an_event_may_contain_ids_as_numbers_or_text_and_an_empty_tag(
    production: Production, payload: dict[str, Any]
) -> None:
    # What runs make of them: tests/flows/test_parameters.py. So none is started.
    production.client.update_work_pool(POOL, WorkPoolUpdate(is_paused=True))
    try:
        run = created_after_event(production, payload)
        assert run.parameters == {"image_ids": None, "droplet_tag": None, "credentials": None} | payload
        production.client.delete_flow_run(run.id)
    finally:
        production.client.update_work_pool(POOL, WorkPoolUpdate(is_paused=False))


def test_invalid_events_start_no_run_and_each_triggers_a_notification(production: Production, account: Sandbox) -> None:
    before = production.runs_of("replicate-backups/after-backup")
    already = production.triggered("An event has started no run")
    payloads: list[dict[str, Any]] = [{"image_id": 62137902}, {"image_ids": ["web"]}, {"droplet_tag": {"name": "dr"}}]
    for payload in payloads:
        tell_of_a_backup(production, payload)
    noticed = already + len(payloads)
    until(lambda: production.triggered("An event has started no run") >= noticed, LONGEST_RUN_SECONDS)
    assert production.runs_of("replicate-backups/after-backup") == before
    assert not account.record.requests


def tell_of_a_backup(production: Production, payload: dict[str, Any]) -> datetime:
    occurred = datetime.now(UTC)
    production.tell(
        {
            "id": str(uuid4()),
            "occurred": occurred.isoformat(),
            "event": "backup.completed",
            "resource": {"prefect.resource.id": "digitalocean.account"},
            "payload": payload,
        }
    )
    return occurred


def run_after_event(production: Production, **payload: Any) -> FlowRun:
    """Say that a backup is complete, and return the run that this has started, when it has ended."""
    run = production.ended(created_after_event(production, payload))
    assert run.state_name == "Completed", state_of(run)
    return run


def created_after_event(production: Production, payload: dict[str, Any]) -> FlowRun:
    """Say that a backup is complete, and return the run that is created for it."""
    before = production.runs_of("replicate-backups/after-backup")
    occurred = tell_of_a_backup(production, payload)

    def new() -> list[FlowRun]:
        runs = production.runs_of("replicate-backups/after-backup")
        return [run for run_id, run in runs.items() if run_id not in before]

    (run,) = until(new, LONGEST_RUN_SECONDS)
    # By the server's account; how soon the worker gets to it is the worker's affair.
    for moment in (run.created, run.expected_start_time):
        assert moment
        assert moment.timestamp() - occurred.timestamp() < LONGEST_FROM_EVENT_TO_RUN_SECONDS
    return run


def test_a_cancelled_run_and_one_whose_process_is_terminated_end_and_a_new_one_finishes_their_work(
    production: Production, account: Sandbox
) -> None:
    images = newest_backups(account)
    make_transfers_endless(account, images, regions=1)
    cancelled = production.begin("replicate-backups/manual", regions=REGIONS)
    until(lambda: sum(not action.fate.ends for action in started(account)) == 2, LONGEST_RUN_SECONDS)
    production.client.set_flow_run_state(cancelled.id, Cancelling())
    assert production.ended(cancelled).state_name == "Cancelled"
    until(lambda: not production.worker.runs(), LONGEST_RUN_SECONDS)

    terminated = production.begin("replicate-backups/manual", regions=REGIONS)
    until(next_look_at_the_feed(account), LONGEST_RUN_SECONDS)
    # As deployments/production/systemd/prefect-worker@.service does it.
    for pid in production.worker.runs():
        os.kill(pid, signal.SIGTERM)
    assert production.ended(terminated).state_name == "Crashed"

    new = production.begin("replicate-backups/manual", regions=REGIONS)
    until(next_look_at_the_feed(account), LONGEST_RUN_SECONDS)
    finish_all(account)
    new = production.ended(new)
    assert new.state_name == "Completed", state_of(new)
    assert "Waiting for" not in production.log_of(new)
    assert goals(started(account)) == pairs(images, REGIONS)
    assert account.record.duplicate_transfers() == []


# Prefect has two UIs; the button Retry of the older one asks, that of the newer one insists.
@pytest.mark.parametrize("force", [True, False], ids=["newer UI", "older UI"])
@pytest.mark.thorough(after=1)
def test_the_retry_button_makes_a_failed_run_do_what_is_missing(
    production: Production, account: Sandbox, force: bool
) -> None:
    images = newest_backups(account)
    # On every restart.
    account.faults.add(Fault(FaultKind.ACTION_ERRORED, path=f"/images/{images[0].id}/", times=None))
    run = production.ended(production.begin("replicate-backups/manual", regions=REGIONS))
    assert run.state_name == "Failed", state_of(run)
    assert goals(started(account)) == pairs(images[1:], REGIONS)
    account.faults.clear()
    production.client.set_flow_run_state(run.id, AwaitingRetry(message="Retry from the UI"), force=force)
    run = production.ended(run)
    assert run.state_name == "Completed", state_of(run)
    assert run.run_count == 2
    assert goals(started(account)) == pairs(images, REGIONS)
    assert account.record.duplicate_transfers() == []
