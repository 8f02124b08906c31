from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
from prefect import Flow

from deployments.sandbox import Behavior, Sandbox
from flows.command_line import command_of
from flows.usage_errors import run_command
from tests.end_to_end.prefect_server import PrefectView

# A gigabyte takes 0.05 to 0.1 seconds, a conversion less than that.
SPEED = 1200


class RunHere(Protocol):
    """Runs the command of a flow in this process, where Prefect is imported already."""

    def __call__(self, flow: Flow[Any, Any], *options: str) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="session", autouse=True)
def _flows_of_this_process_have_a_server(prefect_view: PrefectView) -> None:
    """Every flow that a test here calls runs through it."""


@pytest.fixture(autouse=True)
def _far_from_any_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the developer's settings."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DIGITALOCEAN_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Sandbox]]:
    """Starts sandboxes, and leads the flows to the last one started."""
    with ExitStack() as running:

        def started(**knobs: Any) -> Sandbox:
            wanted: dict[str, Any] = {"speed": SPEED, "droplets": 2} | knobs
            sandbox = running.enter_context(Sandbox(**wanted))
            for name, value in sandbox.environment().items():
                monkeypatch.setenv(name, value)
            return sandbox

        yield started


@pytest.fixture
def start_with_behavior(start: Callable[..., Sandbox]) -> Callable[..., Sandbox]:
    return lambda **behavior: start(behavior=Behavior(**behavior))


@pytest.fixture
def sandbox(start: Callable[..., Sandbox]) -> Sandbox:
    return start()


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunHere:
    def run(flow: Flow[Any, Any], *options: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", [flow.name, *options])
        capsys.readouterr()
        status = run_command(command_of(flow))
        said = capsys.readouterr()
        return subprocess.CompletedProcess(options, status, said.out, said.err)

    return run
