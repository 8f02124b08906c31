"""A Prefect worker, started as from a shell."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.end_to_end.prefect_server import until

POOL = "digitalocean"
PS = shutil.which("ps") or ""
STARTED = "started!"
LONGEST_START_SECONDS = 90
LONGEST_STOP_SECONDS = 40


@dataclass
class Worker:
    """A worker that is running.

    Attributes:
        process: Its process.
        log: What it and the runs that it started have said.
    """

    process: subprocess.Popen[bytes]
    log: Path
    _runs: set[int] = field(default_factory=set)

    def runs(self) -> set[int]:
        """The ids of the processes that are alive of those it has started."""
        self._runs |= descendants(self.process.pid)
        self._runs = {pid for pid in self._runs if _is_alive(pid)}
        return self._runs

    def said(self) -> str:
        """What it and the runs that it started have said."""
        return self.log.read_text(errors="replace")


@contextmanager
def worker(environment: Mapping[str, str], folder: Path, log: Path) -> Iterator[Worker]:
    """Run a worker while the `with` block lasts, and end the runs that it has started with it."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running = Worker(process, log)

    def has_started() -> bool:
        assert process.poll() is None, running.said()
        return STARTED in running.said()

    try:
        until(has_started, LONGEST_START_SECONDS)
        yield running
    finally:
        running.runs()
        process.terminate()

        def has_ended() -> bool:
            # A run that was only beginning is known before its worker is gone, or never.
            running.runs()
            return process.poll() is not None

        try:
            until(has_ended, LONGEST_STOP_SECONDS)
        except AssertionError:
            process.kill()
            process.wait()
        for pid in running.runs():
            # It may end in this moment.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not running.runs(), LONGEST_STOP_SECONDS)


def descendants(ancestor: int) -> set[int]:
    listed = subprocess.run([PS, "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True).stdout
    parents = {int(pid): int(parent) for pid, parent in (line.split() for line in listed.splitlines())}
    found = {ancestor}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {ancestor}


def _is_alive(pid: int) -> bool:
    state = subprocess.run([PS, "-o", "stat=", "-p", str(pid)], check=False, capture_output=True, text=True).stdout
    return bool(state.strip()) and not state.startswith("Z")
