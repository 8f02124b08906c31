from __future__ import annotations

import asyncio
import inspect
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial, wraps
from pathlib import Path
from typing import Any

import certifi
import prefect.context
import pytest
from hypothesis import HealthCheck, settings
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_SSL_CERT_FILE, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from deployments.prefect_server import prefect_server
from tests.end_to_end.databases import PrefectHome, databases
from tests.end_to_end.prefect_server import PrefectView, viewing
from tests.virtual_time import run

FOLDER = Path(__file__).parent
BROWSER = "tests/browser/"
# Of several processes, none is left with a long module in the end.
LONGEST_FIRST = [
    "long_runs",
    "production",
    "first_command",
    "run_form",
    "restore_form",
    "setup",
    "drill_restore",
    "replicate_backups",
    "restore_droplets",
    "prune_snapshots",
    "snapshot_droplets",
    "server",
    "several_accounts",
    "restore_approval",
    "secrecy",
    "rebuilding",
    "image_locks",
    "report_coverage",
    "faults_together",
    "fault_matrix",
    "crashes",
    "snapshot_crashes",
    "sixty_nights",
    "odd_responses_end_to_end",
    "command_line",
    "prefect_under_strain",
    "events",
    "named_images",
    "two_runs_at_once",
    "interrupted_runs",
    "distributed_rate_limit",
    "retention_in_the_long_run",
    "execution_stateful",
]
# By default, events are stored after up to five seconds, and a test that looks for them would wait for that.
PROMPT_EVENTS = {"PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "0.5"}
# A busy machine is slow, and that is no failure.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=20)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=200)
settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="every test, and more examples for each property")


def pytest_configure(config: pytest.Config) -> None:
    """Let tests interrupt the commands that they start.

    A shell starts background jobs with SIGINT ignored, and commands started from there would inherit that.
    """
    if config.getoption("--thorough"):
        settings.load_profile("thorough")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Callable[[str], PrefectHome]]:
    """Makes folders for Prefect servers, with a database that is migrated already."""
    ours = tmp_path_factory.getbasetemp()
    # The processes of pytest-xdist have their folders in one.
    with databases((ours if worker_id == "master" else ours.parent) / "databases") as shared:
        yield lambda name: shared.new(tmp_path_factory.mktemp(name))


# Here and not in the folders that use it: a fixture that two conftest.py define is two servers, and flows would run
# through the one that was started last while tests look at the other.
@pytest.fixture(scope="session")
def prefect_view(prefect_home: Callable[[str], PrefectHome]) -> Iterator[PrefectView]:
    """One Prefect server for the tests of this process, and a look at it; flows of this process run through it."""
    home = prefect_home("prefect")
    environment = PROMPT_EVENTS | home.environment
    with prefect_server(home.folder, environment=environment) as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home.folder))
        patch.setenv("PREFECT_API_URL", f"{address}/api")
        prefect.context.refresh_global_settings_context()
        # Each flow run would wait up to a second for the end of its heartbeat; each client of Prefect's would load more
        # than a hundred certificates.
        hurried = temporary_settings(
            {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_API_SSL_CERT_FILE: one_certificate(home.folder)}
        )
        with prefect.context.root_settings_context(), hurried, viewing(home) as view:
            yield view
            # What is still to be sent must not look for a server that is gone.
            APILogHandler().flush()
            EventsWorker.drain_all(timeout=10)
    prefect.context.refresh_global_settings_context()


def one_certificate(folder: Path) -> str:
    """Make a file with one of the certificates that clients load by default."""
    first, end, _ = certifi.contents().partition("-----END CERTIFICATE-----")
    file = folder / "certificate.pem"
    file.write_text(first + end)
    return str(file)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by their folder, leave thorough ones out, and begin with the modules that take longest."""
    if not config.getoption("--thorough") and (left_out := _left_out(items)):
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        folder = item.path.relative_to(FOLDER).parts[0]
        if folder in {"browser", "end_to_end"}:
            item.add_marker(folder)
    items.sort(key=_rank)


def _left_out(items: list[pytest.Item]) -> set[pytest.Item]:
    """Find the tests that only `--thorough` runs: those marked, of parametrized ones all after the first `after`."""
    seen: Counter[str] = Counter()
    left_out = set()
    for item in items:
        if marker := item.get_closest_marker("thorough"):
            function = item.nodeid.partition("[")[0]
            if seen[function] >= marker.kwargs.get("after", 0):
                left_out.add(item)
            seen[function] += 1
    return left_out


class _LoadFileAndBrowser(LoadFileScheduling):  # type: ignore[misc]
    """Keeps a module's tests in one process, and those in the browser, which share an installation."""

    def _split_scope(self, nodeid: str) -> str:
        return BROWSER if nodeid.startswith(BROWSER) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    """Use the scheduler above for `--dist loadfile`, and xdist's own otherwise."""
    return _LoadFileAndBrowser(config, log) if config.getoption("dist") == "loadfile" else None


def _rank(item: pytest.Item) -> int:
    module = item.path.stem.removeprefix("test_")
    return LONGEST_FIRST.index(module) if module in LONGEST_FIRST else len(LONGEST_FIRST)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Run `async def` tests in virtual time, or in real time where they are marked so."""
    run_test = _runner_of(pyfuncitem)
    # Hypothesis runs what it was given, once for each example.
    of_hypothesis = getattr(pyfuncitem.obj, "hypothesis", None)
    if of_hypothesis and inspect.iscoroutinefunction(of_hypothesis.inner_test):
        of_hypothesis.inner_test = _made_synchronous(of_hypothesis.inner_test, run_test)
    elif inspect.iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = _made_synchronous(pyfuncitem.obj, run_test)
    return (yield)


def _runner_of(test: pytest.Function) -> Callable[..., Any]:
    if test.get_closest_marker("real_time"):
        return asyncio.run
    longest = test.get_closest_marker("longest")
    return partial(run, longest=longest.args[0]) if longest else run


def _made_synchronous(test: Callable[..., Any], run_test: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(test)
    def running(*arguments: Any, **named: Any) -> None:
        run_test(test(*arguments, **named))

    return running
