"""Accounts side by side on one Prefect server: each sandbox accepts only its own token, and refuses any other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httpx
import pytest
from prefect import State

from deployments.prefect_server import clean_environment, prefect_server
from deployments.sandbox import Fault, FaultKind, Sandbox
from flows.image_action_history import image_action_history
from flows.replicate_backups import replicate_backups
from flows.report_coverage import report_coverage
from flows.reporting.coverage_report import CoverageReport
from flows.reporting.events import REPLICATION_COMPLETED
from tasks.connection import connect
from tasks.credentials import DigitalOceanCredentials
from tests.end_to_end.accounts import REGIONS, report_of, resize, started
from tests.end_to_end.databases import PrefectHome
from tests.end_to_end.prefect_server import PrefectView, until
from tests.end_to_end.worker import PS, worker
from tests.soak.history import PrefectApi

ROOT = Path(__file__).resolve().parents[2]
SPEED = 1200
NIGHTLY, NIGHTLY_OF_PROD = "replicate-backups/nightly", "replicate-backups/nightly-prod"
MANUAL = "replicate-backups/manual"
LONGEST_SECONDS = 180
FAILED = "A copy of backups has failed"
UNAUTHORIZED = 401


@dataclass(frozen=True)
class Accounts:
    """The default account, whose token is in the environment, and another one."""

    default: Sandbox
    prod: Sandbox


@pytest.fixture
def accounts() -> Iterator[Accounts]:
    with ExitStack() as running:
        default, prod = (running.enter_context(Sandbox(speed=SPEED, droplets=2, seed=seed)) for seed in (1, 2))
        for each in (default, prod):
            resize(each, 2)
        yield Accounts(default, prod)
        for each in (default, prod):
            assert each.record.requests, "nothing was asked of this account"
            assert UNAUTHORIZED not in each.record.requests_by_status(), "a request carried the other token"
        # A sandbox would have noticed.
        wrong = {"authorization": f"Bearer {default.token}"}
        assert httpx.get(f"{prod.url}/v2/account", headers=wrong).status_code == UNAUTHORIZED
        assert prod.record.requests_by_status()[UNAUTHORIZED] == 1


def credentials_of(sandbox: Sandbox) -> DigitalOceanCredentials:
    windows = [[window.limit, window.seconds] for window in (sandbox.limits.burst, sandbox.limits.hour)]
    return DigitalOceanCredentials(token=sandbox.token, api_url=sandbox.url, rate_limits=windows)


@pytest.fixture
def saved(accounts: Accounts, prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch) -> Accounts:
    """The accounts, with a block for `prod`; the environment leads to the other."""
    for name, value in accounts.default.environment().items():
        monkeypatch.setenv(name, value)
    credentials_of(accounts.prod).save("prod", overwrite=True)
    return accounts


def droplet_names(sandbox: Sandbox) -> set[str]:
    return {f"{each.name} ({each.id})" for each in sandbox.account.droplets.values()}


def test_a_run_with_a_name_works_on_that_account_and_needs_no_token_in_the_environment(
    saved: Accounts, prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DIGITALOCEAN_TOKEN")
    # A task and a page that are retried.
    saved.prod.faults.add(Fault(FaultKind.ERROR_BEFORE, "GET"), Fault(FaultKind.BURST_LIMIT, "POST", "/actions"))
    state = replicate_backups(regions=REGIONS[:1], credentials="prod", return_state=True)
    assert state.is_completed(), state.message
    assert {row.source for row in report_of(state).rows} == droplet_names(saved.prod)
    assert len(started(saved.prod)) == 2

    run = prefect_view.run_of(state)
    assert run.name.startswith("@prod: all Droplets -> fra1")
    assert run.parameters["credentials"] == "prod"
    assert "replication-coverage-prod" in prefect_view.artifacts_of(run)
    assert {label for label in run.labels if label.startswith("digitalocean.claimed")} == {
        "digitalocean.claimed-images-prod"
    }
    (event,) = prefect_view.events_of(run, REPLICATION_COMPLETED)
    assert event.resource.id == "digitalocean.account.prod"
    assert event.payload["account"] == "prod"
    # The other account's own run.
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", saved.default.token)
    ours = replicate_backups(regions=REGIONS[:1], return_state=True)
    assert prefect_view.run_of(ours).name.startswith("all Droplets -> fra1")
    assert {row.source for row in report_of(ours).rows} == droplet_names(saved.default)


def test_code_may_pass_a_block_that_is_not_saved_and_its_token_is_stored_nowhere(
    saved: Accounts, prefect_view: PrefectView, capfd: pytest.CaptureFixture[str]
) -> None:
    block = cast(DigitalOceanCredentials, DigitalOceanCredentials.load("prod"))
    unsaved = credentials_of(saved.prod)
    for given, account in ((block, "@prod"), (unsaved, "unsaved")):
        state = replicate_backups(regions=REGIONS[:1], prune=True, credentials=given, return_state=True)
        assert state.is_completed(), state.message
        assert prefect_view.run_of(state).name.startswith(f"{account}: ")
        prefect_view.logs_of(prefect_view.run_of(state))
    failed = image_action_history([4711], credentials=unsaved, return_state=True)
    assert failed.is_failed()
    assert connect().client.rate_limiter is not block.get_client().rate_limiter
    assert report_coverage(return_state=True).is_completed()
    stored = b"".join(prefect_view.home.contents().values())
    said = "".join(capfd.readouterr()) + repr(state) + repr(failed) + repr(report_of(state))
    for sandbox in (saved.default, saved.prod):
        assert sandbox.token.encode() not in stored
        assert sandbox.token not in said


def test_one_report_covers_several_accounts_and_names_the_one_that_cannot_be_read(
    saved: Accounts, prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsaved = [credentials_of(each) for each in (saved.default, saved.prod)]
    nameless = report_coverage(credentials=unsaved, return_state=True)
    assert nameless.is_failed()
    assert "save the credentials blocks" in str(nameless.message)
    credentials_of(saved.default).save("default", overwrite=True)
    both = report_coverage(regions=REGIONS, credentials=["default", "prod"], return_state=True)
    assert both.is_completed(), both.message
    report = report_of(both)
    assert isinstance(report, CoverageReport)
    assert {each.droplet for each in report.droplets} == {
        f"{account}: {name}"
        for account, sandbox in (("default", saved.default), ("prod", saved.prod))
        for name in droplet_names(sandbox)
    }
    assert report.usage.requests == len(saved.default.record.requests) + len(saved.prod.record.requests)
    assert "replication-coverage-several" in prefect_view.artifacts_of(prefect_view.run_of(both))

    credentials_of(saved.prod).model_copy(update={"api_url": "http://127.0.0.1:9"}).save("gone", overwrite=True)
    monkeypatch.setenv("DIGITALOCEAN_HTTP_RETRY_MAX", "0")
    partly = report_coverage(regions=REGIONS, credentials="prod,gone", return_state=True)
    assert partly.is_failed()
    assert str(partly.message).startswith("account gone is not in this report: ")
    partial = report_of(partly)
    assert isinstance(partial, CoverageReport)
    assert {each.account for each in partial.droplets} == {"prod"}


@pytest.mark.parametrize("flow", [replicate_backups, report_coverage])
def test_a_missing_block_is_reported_with_those_that_there_are(
    saved: Accounts, prefect_view: PrefectView, flow: Callable[..., State]
) -> None:
    state = flow(credentials="missing", return_state=True)
    assert state.is_failed()
    assert "credentials 'missing': there is no such block (there are: " in str(state.message)
    assert "prod" in str(state.message)
    assert "digitalocean-backups setup --account missing" in str(state.message)
    for account in (None, "prod"):
        assert report_coverage(regions=REGIONS, credentials=account, return_state=True).is_completed()


@dataclass(frozen=True)
class Deployed:
    """A server with the nightly deployments of both accounts.

    Attributes:
        home: The server's folder and database.
        api: The server's API.
        environment: For a worker.
    """

    home: PrefectHome
    api: PrefectApi
    environment: dict[str, str]


@pytest.fixture
def deployed(prefect_home: Callable[[str], PrefectHome], accounts: Accounts, tmp_path: Path) -> Iterator[Deployed]:
    home = prefect_home("accounts")
    with prefect_server(home.folder, environment=home.environment) as url:
        base = {
            **clean_environment(tmp_path / "client"),
            "PREFECT_API_URL": f"{url}/api",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
        }
        default, prod = ({**base, **each.environment()} for each in (accounts.default, accounts.prod))

        def run(environment: dict[str, str], *command: str, status: int = 0) -> str:
            done = subprocess.run(
                [sys.executable, "-m", *command], env=environment, cwd=ROOT, check=False, capture_output=True, text=True
            )
            assert done.returncode == status, done.stderr
            return done.stdout + done.stderr

        run(default, "deployments.setup")
        said = run(default, "deployments.setup", "--account", "prod", status=1)
        assert "is the token of account 'default': set it to that of 'prod'" in said
        said = run(prod, "deployments.setup", "--account", "prod", "--nightly", status=1)
        assert "`make deploy` first" in said
        run(default, "prefect", "--no-prompt", "deploy", "--name", NIGHTLY, "--name", MANUAL)
        said = run(prod, "deployments.setup", "--account", "prod", "--nightly")
        assert "deployment replicate-backups/nightly-prod          created" in said
        assert "created" not in run(prod, "deployments.setup", "--account", "prod", "--nightly", "--check")
        api = PrefectApi(base["PREFECT_API_URL"])
        # As if the default account's were in `.env`.
        again = run(default, "deployments.setup", "--account", "prod", "--nightly")
        assert "updated" not in again
        # The token of neither is in the worker's environment.
        without = {name: value for name, value in default.items() if name != "DIGITALOCEAN_TOKEN"}
        yield Deployed(home, api, without)
        api.close()


@pytest.mark.skipif(not PS, reason="ps is not installed")
def test_deployed_runs_of_two_accounts_go_on_side_by_side_and_share_nothing(
    deployed: Deployed, accounts: Accounts, tmp_path: Path
) -> None:
    api = deployed.api

    def end_of(run: str) -> str:
        until(lambda: api.state(run).is_final, LONGEST_SECONDS)
        return api.state(run).type

    with worker(deployed.environment, ROOT, tmp_path / "worker.log") as running:
        runs = [api.begin(each, regions=REGIONS[:2]) for each in (NIGHTLY, NIGHTLY_OF_PROD)]
        assert [end_of(each) for each in runs] == ["COMPLETED", "COMPLETED"], running.said()
        # Without its credentials, a run of the other account has no token at all, instead of the wrong one.
        forgetful = api.begin(NIGHTLY_OF_PROD, credentials=None, dry_run=True)
        assert end_of(forgetful) == "FAILED"
        assert "DIGITALOCEAN_TOKEN: this deployment is another account's" in api.state(forgetful).message
        # Each account's failures trigger its own automation only, whichever deployment has started the run.
        failures = {
            api.begin(MANUAL, credentials="prod", droplet_tag="missing"): f"{FAILED} (prod)",
            api.begin(MANUAL, droplet_tag="missing"): FAILED,
        }
        assert [end_of(each) for each in failures] == ["FAILED"] * 2
        noticed = until(lambda: alarms_of(api, failures) if len(alarms_of(api, failures)) == 2 else {}, LONGEST_SECONDS)
        assert noticed == {run: {automation} for run, automation in failures.items()}
        log = running.said()

    for sandbox in (accounts.default, accounts.prod):
        assert len(started(sandbox)) >= 4
        mine = {image.id for image in sandbox.account.images.values()}
        assert {action.resource_id for action in started(sandbox)} <= mine
    limits = httpx.post(f"{api.url}/v2/concurrency_limits/filter", json={}, trust_env=False).json()
    names = {each["name"] for each in limits}
    assert {"digitalocean-api-requests", "digitalocean-api-requests-prod"} <= names
    stored = b"".join(deployed.home.contents().values())
    assert b"digitalocean-credentials" in stored
    for sandbox in (accounts.default, accounts.prod):
        assert sandbox.token.encode() not in stored
        assert sandbox.token not in log + "".join(map(api.log, [*runs, *failures]))


def alarms_of(api: PrefectApi, runs: Collection[str]) -> dict[str, set[str]]:
    """Which automations were triggered for each of these runs, if any."""
    found: dict[str, set[str]] = {}
    for alarm in api.alarms():
        if alarm.run_id in runs:
            found.setdefault(alarm.run_id, set()).add(alarm.automation)
    return found
