from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import prefect.context
import pytest
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from deployments.prefect_server import prefect_server
from deployments.sandbox import Quirks, Sandbox
from tests.end_to_end.prefect_server import PrefectView, viewing

# A gigabyte takes 0.05 to 0.1 seconds, a conversion less than that.
SPEED = 1200


@pytest.fixture(scope="session", autouse=True)
def prefect_view(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectView]:
    """One Prefect server for all tests here, and a look at it; flows of this process run through it."""
    home = tmp_path_factory.mktemp("prefect")
    with prefect_server(home) as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        patch.setenv("PREFECT_API_URL", f"{address}/api")
        prefect.context.refresh_global_settings_context()
        # Each flow run would wait up to a second for the end of its heartbeat.
        hurried = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
        with prefect.context.root_settings_context(), hurried, viewing(home) as view:
            yield view
            # What is still to be sent must not look for a server that is gone.
            APILogHandler().flush()
            EventsWorker.drain_all(timeout=10)
    prefect.context.refresh_global_settings_context()


@pytest.fixture(autouse=True)
def _far_from_any_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds the settings of whoever runs it."""
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
def start_quirky(start: Callable[..., Sandbox]) -> Callable[..., Sandbox]:
    return lambda **quirks: start(quirks=Quirks(**quirks))


@pytest.fixture
def sandbox(start: Callable[..., Sandbox]) -> Sandbox:
    return start()
