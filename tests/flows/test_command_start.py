"""What a command does before Prefect is imported, and what it says meanwhile."""

from __future__ import annotations

import subprocess
import sys
from queue import Queue
from typing import Any

import pytest
from prefect.server.api.server import SubprocessASGIServer

from flows import messages, temporary_server
from flows.command_start import module_to_run
from flows.messages import waiting_messages


@pytest.mark.parametrize(
    ("argv", "original", "module"),
    [
        (["-m", "--dry-run"], ["python", "-m", "flows.replicate_backups", "--dry-run"], "flows.replicate_backups"),
        (["-m"], ["python", "-X", "dev", "-W", "error", "-mflows.report_coverage"], "flows.report_coverage"),
        (["-m", "-m"], ["python", "-m", "deployments.setup", "-m"], "deployments.setup"),
        (["/bin/pytest"], ["python", "-m", "pytest", "-m", "flows.replicate_backups"], ""),
        (["-c"], ["python", "-c", "import flows"], ""),
        ([], [], ""),
    ],
)
def test_the_module_about_to_run_is_known_while_its_package_is_imported(
    monkeypatch: pytest.MonkeyPatch, argv: list[str], original: list[str], module: str
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", original)
    assert module_to_run() == module


def test_a_long_wait_repeats_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "SECONDS_BETWEEN_MESSAGES", 0.001)
    said: Queue[str] = Queue()
    with waiting_messages("Waiting for the server", said.put):
        assert [said.get(timeout=30).split(",")[0] for _ in range(3)] == ["Waiting for the server"] * 3


def test_the_temporary_server_runs_like_the_one_that_prefect_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should Prefect start its own in another way one day, ours has to follow."""
    started: list[tuple[list[str], dict[str, str]]] = []

    def start(args: list[str], env: dict[str, str], **_options: Any) -> None:
        started.append((args, env))

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(SubprocessASGIServer, "_instances", {})
    SubprocessASGIServer(port=1)._run_uvicorn_command()
    ((arguments, environment),) = started
    for name in temporary_server.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    added = {name for name in environment if name.startswith("PREFECT__") or name == "PREFECT_UI_ENABLED"}
    assert {name: environment[name] for name in added} == temporary_server.ENVIRONMENT
    assert arguments[1:3] == ["-m", "uvicorn"]
    assert arguments[-4:] == ["--log-level", "error", "--lifespan", "on"]
