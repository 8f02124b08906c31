"""Which runs ping, and with what, seen from the monitor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prefect import Flow, State
from prefect.flow_engine import run_flow
from pydantic import SecretStr

import flows.ping
from deployments.sandbox import Fault, FaultKind, Sandbox
from flows.prune_snapshots import prune_snapshots
from flows.replicate_backups import replicate_backups
from flows.report_coverage import report_coverage
from tasks.credentials import DigitalOceanCredentials
from tests.end_to_end.accounts import REGIONS, resize
from tests.end_to_end.prefect_server import PrefectView
from tests.end_to_end.test_command_line import command
from tests.flows.monitor import SECRET, Monitor, Ping, hangs, monitor

# Runs a flow as a deployment of this name.
Deployed = Callable[..., State[Any]]


@pytest.fixture
def deployed(prefect_view: PrefectView) -> Deployed:
    client = prefect_view.client

    def run(name: str, flow: Flow[Any, Any], **parameters: Any) -> State[Any]:
        deployment_id = client.create_deployment(client.create_flow(flow), name)
        flow_run = client.create_flow_run_from_deployment(deployment_id, parameters=parameters)
        state = run_flow(flow, flow_run=flow_run, parameters=parameters, return_type="state")
        assert isinstance(state, State)
        return state

    return run


@pytest.fixture
def told(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Monitor]:
    """A healthy monitor that is set as the one to ping."""
    resize(sandbox, 2)
    # A busy machine may be slow.
    monkeypatch.setattr(flows.ping, "LONGEST_SECONDS", 60)
    with monitor() as running:
        monkeypatch.setenv("DIGITALOCEAN_PING_URL", running.url)
        yield running


def test_a_nightly_run_pings_start_and_success_with_its_summary(told: Monitor, deployed: Deployed) -> None:
    state = deployed("nightly", replicate_backups, regions=REGIONS)
    assert state.is_completed()
    assert "2 images in 3 regions" in str(state.message)
    assert told.pings == [Ping("POST", "/start", ""), Ping("POST", "", str(state.message))]


@pytest.mark.thorough
def test_pings_are_no_api_requests(told: Monitor, deployed: Deployed, sandbox: Sandbox) -> None:
    state = deployed("nightly", report_coverage)
    assert told.signals() == ["/start", ""]
    assert state.result().usage.requests == len(sandbox.record.requests)


def test_a_nightly_run_that_fails_pings_failure_without_the_error(
    told: Monitor, deployed: Deployed, sandbox: Sandbox
) -> None:
    sandbox.faults.add(Fault(FaultKind.ACTION_ERRORED, "POST", "/actions", times=100))
    state = deployed("nightly", replicate_backups, regions=REGIONS)
    assert state.is_failed()
    start, end = told.pings
    assert (start.signal, end.signal) == ("/start", "/fail")
    assert "failed" in end.body
    assert str(state.message) not in end.body


def test_a_nightly_run_that_cannot_begin_pings_failure(
    told: Monitor, deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_wrong")
    assert deployed("nightly", replicate_backups).is_failed()
    assert told.pings == [Ping("POST", "/start", ""), Ping("POST", "/fail", "")]


def test_pruning_within_a_nightly_run_sends_no_pings_of_its_own(told: Monitor, deployed: Deployed) -> None:
    assert deployed("nightly", replicate_backups, regions=REGIONS, prune=True).is_completed()
    assert told.signals() == ["/start", ""]


def test_runs_of_other_deployments_and_from_python_send_nothing(told: Monitor, deployed: Deployed) -> None:
    assert deployed("manual", replicate_backups, regions=REGIONS).is_completed()
    assert replicate_backups(regions=REGIONS, return_state=True).is_completed()
    assert told.pings == []


def test_the_nightly_run_of_another_account_pings_and_no_other_deployment_with_such_a_name(
    told: Monitor, deployed: Deployed, sandbox: Sandbox
) -> None:
    DigitalOceanCredentials(token=SecretStr(sandbox.token), api_url=sandbox.url).save("prod", overwrite=True)
    assert deployed("nightly-shop", report_coverage, credentials="prod").is_completed()
    assert deployed("nightly-prod", report_coverage).is_completed()
    assert deployed("nightly", report_coverage, credentials="prod").is_completed()
    assert told.pings == []
    assert deployed("nightly-prod", report_coverage, credentials="prod").is_completed()
    assert told.signals() == ["/start", ""]


@pytest.mark.parametrize(("flow", "parameters"), [(replicate_backups, {"dry_run": True}), (prune_snapshots, {})])
@pytest.mark.thorough(after=1)
def test_a_dry_run_sends_nothing(
    told: Monitor, deployed: Deployed, flow: Flow[Any, Any], parameters: dict[str, Any]
) -> None:
    assert deployed("nightly", flow, **parameters).is_completed()
    assert told.pings == []


def test_a_monitor_that_hangs_is_only_a_warning(
    sandbox: Sandbox, deployed: Deployed, prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows.ping, "LONGEST_SECONDS", 1)
    with monitor(hangs) as running:
        monkeypatch.setenv("DIGITALOCEAN_PING_URL", running.url)
        state = deployed("nightly", report_coverage)
        assert not running.ended.is_set()
    assert state.is_completed()
    log = prefect_view.log_text_of(prefect_view.run_of(state))
    assert "Could not send the start ping" in log
    assert "Could not send the success ping" in log
    assert SECRET not in log


def test_a_url_that_is_not_valid_keeps_no_deployed_run_from_its_work(
    sandbox: Sandbox, deployed: Deployed, prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITALOCEAN_PING_URL", SECRET)
    state = deployed("nightly", report_coverage)
    assert state.is_completed()
    log = prefect_view.log_text_of(prefect_view.run_of(state))
    assert "DIGITALOCEAN_PING_URL: expected a URL" in log
    assert SECRET not in log


def test_a_command_with_a_url_that_is_not_valid_ends_with_a_sentence(sandbox: Sandbox) -> None:
    done = command("report_coverage", DIGITALOCEAN_PING_URL=SECRET)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "DIGITALOCEAN_PING_URL: expected a URL such as" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert sandbox.record.requests == []
