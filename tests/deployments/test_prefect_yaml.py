"""The deployments: what `prefect deploy --all` reads."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow
from ruamel.yaml import YAML

from deployments.server_resources.automations import EVENT_TRIGGER
from deployments.server_resources.secret_blocks import PING_BLOCK
from deployments.server_resources.work_pool import EVENT_QUEUE, POOL
from flows.names import FLOWS
from flows.reporting.events import BACKUP_COMPLETED
from tasks.credentials import BLOCK_TYPE

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "prefect.yaml").read_text()
DEPLOYMENTS: list[dict[str, Any]] = YAML(typ="safe").load(TEXT)["deployments"]


def flows_here() -> dict[str, Flow[Any, Any]]:
    """The flows of this project, by entrypoint."""
    found = {}
    for path in sorted((ROOT / "flows").glob("*.py")):
        module = import_module(f"flows.{path.stem}")
        for name, each in vars(module).items():
            if isinstance(each, Flow) and each.fn.__module__ == module.__name__:
                found[f"flows/{path.name}:{name}"] = each
    return found


def title(deployment: dict[str, Any]) -> str:
    return f"{flows_here()[deployment['entrypoint']].name}/{deployment['name']}"


def test_every_flow_has_a_deployment_and_every_deployment_a_flow() -> None:
    assert flows_here()
    assert {deployment["entrypoint"] for deployment in DEPLOYMENTS} == set(flows_here())


def test_no_two_deployments_have_the_same_name() -> None:
    titles = [title(deployment) for deployment in DEPLOYMENTS]
    assert len(titles) == len(set(titles))


def test_the_deployments_have_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {deployment["version"] for deployment in DEPLOYMENTS} == {version}


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=title)
def test_every_deployment_uses_the_pool_that_setup_creates_and_has_a_description(deployment: dict[str, Any]) -> None:
    assert deployment["work_pool"]["name"] == POOL
    assert deployment["description"].strip()


def test_the_file_does_not_refer_to_the_blocks_with_secrets() -> None:
    assert BLOCK_TYPE not in TEXT
    assert PING_BLOCK not in TEXT


def test_the_list_of_flows_names_all_of_them() -> None:
    assert sorted(FLOWS) == sorted(flow.name for flow in flows_here().values())


def test_the_automation_for_missing_runs_watches_an_existing_nightly_deployment() -> None:
    (nightly,) = (deployment for deployment in DEPLOYMENTS if deployment["name"] == "nightly")
    assert nightly["schedules"]


def test_notifications_cover_the_failures_of_the_deployments_own_trigger() -> None:
    triggers = [trigger for deployment in DEPLOYMENTS for trigger in deployment.get("triggers", [])]
    assert [trigger["name"] for trigger in triggers] == [EVENT_TRIGGER]


def test_no_deployment_has_a_concurrency_limit_which_a_server_restart_would_break() -> None:
    assert not [title(deployment) for deployment in DEPLOYMENTS if "concurrency_limit" in deployment]


def test_only_runs_started_by_events_use_the_limited_queue() -> None:
    queues = {title(each): each["work_pool"].get("work_queue_name") for each in DEPLOYMENTS}
    started_by_events = {title(each) for each in DEPLOYMENTS if each.get("triggers")}
    assert started_by_events == {name for name, queue in queues.items() if queue == EVENT_QUEUE}
    assert {queue for name, queue in queues.items() if name not in started_by_events} == {None}


def test_the_event_that_starts_a_run_is_the_one_that_is_sent() -> None:
    triggers = [trigger for deployment in DEPLOYMENTS for trigger in deployment.get("triggers", [])]
    assert [trigger["expect"] for trigger in triggers] == [[BACKUP_COMPLETED]]


@pytest.mark.parametrize("page", ["plans.md", "accounts.md"])
def test_the_example_of_a_page_can_be_added_to_the_file(page: str) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "deployments" / page).read_text(), re.DOTALL)
    both: list[dict[str, Any]] = YAML(typ="safe").load(TEXT + example)["deployments"]
    titles = [title(deployment) for deployment in both]
    assert len(titles) == len(set(titles)) > len(DEPLOYMENTS)
    for deployment in both[len(DEPLOYMENTS) :]:
        assert deployment["schedules"]
        flows_here()[deployment["entrypoint"]].validate_parameters(deployment["parameters"])
