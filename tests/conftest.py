from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import prefect.context
import pytest
from hypothesis import HealthCheck, settings
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from deployments.prefect_server import prefect_server
from tests.end_to_end.prefect_server import PrefectView, viewing

FOLDER = Path(__file__).parent
# A busy machine is slow, and that is no failure.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("unit", settings.get_profile("default"), max_examples=20)
settings.load_profile("default")


def pytest_configure() -> None:
    """Let tests interrupt the commands that they start.

    A shell starts background jobs with SIGINT ignored, and commands started from there would inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# Here and not in the folders that use it: a fixture that two conftest.py define is two servers, and flows would run
# through the one that was started last while tests look at the other.
@pytest.fixture(scope="session")
def prefect_view(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectView]:
    """One Prefect server for the tests of this process, and a look at it; flows of this process run through it."""
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folder."""
    for item in items:
        folder = item.path.relative_to(FOLDER).parts[0]
        if folder in {"browser", "end_to_end"}:
            item.add_marker(folder)
