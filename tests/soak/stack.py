"""The project as the README has it set up: Prefect's server, deployments and a worker, and how to kill them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from deployments.sandbox import Sandbox
from flows.temporary_server import LOOPBACK, free_port
from tests.end_to_end.worker import STARTED, Worker
from tests.soak.history import PrefectApi
from tests.soak.watch import Watch

ROOT = Path(__file__).resolve().parents[2]
CODE = ("flows", "tasks", "deployments", "prefect.yaml")
LONGEST_COMMAND = timedelta(minutes=5)
LONGEST_START = timedelta(minutes=4)
LONGEST_END = timedelta(seconds=60)
NIGHTLY = "replicate-backups/nightly"
NIGHTLY_HOUR = 3
LONGEST_SOAK = timedelta(minutes=70)

# To set one up costs a minute of CPU time; more at once would only make each of them slower.
_setting_up = threading.BoundedSemaphore(2)


class CommandFailed(Exception):
    """A command of the README has failed."""


class Stack:
    """One machine set up as the README says.

    Args:
        watch: The scenario that it belongs to.
        folder: Where its logs and its home go.
        sandbox: The API.
        code: The project's code.
    """

    def __init__(self, watch: Watch, folder: Path, sandbox: Sandbox, code: Path = ROOT) -> None:
        self.watch = watch
        self.folder = folder
        self.sandbox = sandbox
        self.code = code
        self._port = free_port()
        self.api = PrefectApi(f"http://{LOOPBACK}:{self._port}/api")
        self.server: subprocess.Popen[bytes] | None = None
        self.worker: Worker | None = None
        self._workers: list[Worker] = []

    def __enter__(self) -> Self:
        (self.folder / "home").mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill_worker_and_runs()
        self.kill_server()
        self.api.close()

    def set_up(self) -> None:
        """Follow the README: server, set-up, deployments, worker."""
        with _setting_up:
            self.watch.pause(0)
            self.start_server()
            self.deploy()
            self.start_worker()

    def deploy(self) -> None:
        """Set up what the deployments need, and deploy them."""
        self.command("deployments.setup")
        self.watch.say("set up")
        self.command("prefect", "--no-prompt", "deploy", "--all")
        self.watch.say("deployed")
        now = datetime.now(UTC)
        due = now.replace(hour=NIGHTLY_HOUR, minute=0, second=0)
        if now <= due <= now + LONGEST_SOAK or due + timedelta(days=1) <= now + LONGEST_SOAK:
            self.watch.say("it is nearly 03:00 UTC: the nightly schedule is paused, its run would disturb the scenario")
            self.api.pause_schedules(NIGHTLY)

    def environment(self) -> dict[str, str]:
        """Compose what a new user has in a shell after the README's exports."""
        return {**self._fresh_shell(), "PREFECT_API_URL": self.api.url, **self.sandbox.environment()}

    def server_shell(self) -> dict[str, str]:
        """Compose what the README has in the other shell, in which the server is started."""
        exported = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        return {**self._fresh_shell(), **exported}

    def command(self, *module: str, status: int = 0) -> str:
        """Run a command of the README in the project's directory.

        Args:
            module: A module and its arguments.
            status: The exit status that is expected.

        Returns:
            What it printed.

        Raises:
            CommandFailed: It ended with another status.
        """
        done = subprocess.run(
            [sys.executable, "-m", *module],
            env=self.environment(),
            cwd=self.code,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LONGEST_COMMAND.total_seconds(),
            check=False,
        )
        if done.returncode != status:
            raise CommandFailed(f"{' '.join(module)} ended with status {done.returncode}: {done.stdout}")
        return done.stdout

    def start_server(self) -> None:
        """Start Prefect's server, and wait until it answers."""
        port = str(self._port)
        server = self._spawn("server", self.server_shell(), "prefect", "--no-prompt", "server", "start", "--port", port)
        self.server = server

        def answers() -> bool:
            if server.poll() is not None:
                raise CommandFailed(f"prefect server start ended with status {server.returncode}: see {self.folder}")
            return httpx.get(f"{self.api.url}/health", timeout=5, trust_env=False).is_success

        self.watch.until("Prefect's server answers", answers, LONGEST_START)
        self.watch.say("the server answers")

    def end_server(self) -> None:
        """End the server in order, as systemd does."""
        if self.server:
            self.server.terminate()
            self.server.wait(LONGEST_END.total_seconds())
            self.server = None
            self.watch.say("the server has ended on SIGTERM")

    def kill_server(self) -> None:
        if self.server:
            self.server.kill()
            self.server.wait()
            self.server = None
            self.watch.say("the server was killed")

    def start_worker(self) -> None:
        """Start a worker, and wait until it says that it has started."""
        process = self._spawn("worker", self.environment(), "prefect", "worker", "start", "--pool", "digitalocean")
        worker = Worker(process, self._log("worker"))
        self._workers.append(worker)
        self.worker = worker
        before = worker.said().count(STARTED)

        def has_started() -> bool:
            if process.poll() is not None:
                raise CommandFailed(f"prefect worker start ended with status {process.returncode}: {worker.said()}")
            return worker.said().count(STARTED) > before

        self.watch.until("the worker has started", has_started, LONGEST_START)
        self.watch.say("the worker has started")

    def kill_worker(self) -> None:
        """Kill the worker, and nothing else."""
        if self.worker:
            self.freeze_worker()
            self.worker.runs()
            self.worker.process.kill()
            self.worker.process.wait()
            self.worker = None
            self.watch.say("the worker was killed")

    def kill_worker_and_runs(self) -> None:
        """Kill the worker and every run, those of earlier workers included."""
        self.kill_worker()
        for pid in self.run_pids():
            _signal(pid, signal.SIGKILL)

    def reboot(self) -> None:
        """Kill everything at once, and restart server and worker."""
        self.freeze_worker()
        self.kill_server()
        self.kill_worker_and_runs()
        self.start_server()
        self.start_worker()

    def freeze_worker(self) -> None:
        """Stop the worker, so that it starts no run."""
        if self.worker:
            _signal(self.worker.process.pid, signal.SIGSTOP)

    def freeze_pending(self, run_id: str) -> bool:
        """Stop the process of a run if it has one and is still Pending; returns whether it is."""
        pid = int(self.api.run(run_id)["infrastructure_pid"] or 0)
        if pid not in self.run_pids():
            return False
        _signal(pid, signal.SIGSTOP)
        if self.api.state(run_id).type == "PENDING":
            return True
        _signal(pid, signal.SIGCONT)
        raise CommandFailed(f"run {run_id} was no longer Pending when its process was found")

    def run_pids(self) -> set[int]:
        """List the processes of runs that are alive."""
        return {pid for worker in self._workers for pid in worker.runs()}

    def pid_of(self, run_id: str) -> int:
        """Find the process of a run.

        Raises:
            CommandFailed: It has none that is alive.
        """
        pid = int(self.api.run(run_id)["infrastructure_pid"] or 0)
        if pid not in self.run_pids():
            raise CommandFailed(f"run {run_id} has no process that is alive: {pid}")
        return pid

    def kill_run(self, run_id: str) -> None:
        _signal(self.pid_of(run_id), signal.SIGKILL)
        self.watch.say(f"the process of run {run_id} was killed")

    def upgrade(self) -> None:
        """Replace the code in place, as `git pull` does."""
        for name in CODE:
            place = self.code / name
            shutil.rmtree(place) if place.is_dir() else place.unlink()
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, place)

    def _fresh_shell(self) -> dict[str, str]:
        kept = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONDONTWRITEBYTECODE")
        return {**{name: os.environ[name] for name in kept if name in os.environ}, "HOME": str(self.folder / "home")}

    def _spawn(self, name: str, environment: dict[str, str], *module: str) -> subprocess.Popen[bytes]:
        with self._log(name).open("ab") as output:
            # In its own process group: Ctrl-C is for the soak, which ends everything itself.
            return subprocess.Popen(
                [sys.executable, "-m", *module],
                env=environment,
                cwd=self.code,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _log(self, name: str) -> Path:
        path = self.folder / f"{name}.log"
        path.touch()
        return path


def _signal(pid: int, number: signal.Signals) -> None:
    # It may end in this moment.
    with suppress(ProcessLookupError):
        os.kill(pid, number)
