"""The project as installed by the README: a Prefect server with all deployments, a worker, and a sandbox account."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deployments.prefect_server import clean_environment, prefect_server
from deployments.sandbox import Sandbox
from tests.end_to_end.databases import PrefectHome
from tests.end_to_end.worker import Worker, worker

ROOT = Path(__file__).parents[2]
# A gigabyte takes 0.05 to 0.1 seconds, a conversion less than that.
SPEED = 1200
DROPLETS = 6
LONGEST_COMMAND_SECONDS = 120


@dataclass(frozen=True)
class Installation:
    """What an installation by the README consists of.

    Attributes:
        ui: The address of Prefect's UI.
        sandbox: The account.
        worker: What starts the runs.
    """

    ui: str
    sandbox: Sandbox
    worker: Worker


@contextmanager
def installation(home: PrefectHome, **settings: str) -> Iterator[Installation]:
    """Set everything up as the README says, and keep it running while the `with` block lasts.

    Args:
        home: Of Prefect's server.
        **settings: Environment variables of the worker.
    """
    with (
        Sandbox(droplets=DROPLETS, speed=SPEED) as sandbox,
        prefect_server(home.folder, environment=home.environment) as ui,
    ):
        environment = {
            **clean_environment(home.folder),
            **sandbox.environment(),
            "PREFECT_API_URL": f"{ui}/api",
            # By default, a worker looks for new runs every ten seconds.
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            **settings,
        }
        _run("deployments.setup", environment=environment)
        _run("prefect", "--no-prompt", "deploy", "--all", environment=environment)
        # So that no nightly run starts when the tests run at night.
        _run("prefect", "--no-prompt", "deployment", "schedule", "pause", "--all", environment=environment)
        with worker(environment, ROOT, home.folder / "worker.log") as running:
            yield Installation(ui, sandbox, running)


def _run(module: str, *arguments: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST_COMMAND_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{module} ended with status {done.returncode}:\n{done.stdout}\n{done.stderr}"
