"""How long the first command takes until it asks DigitalOcean's API for something, with a temporary Prefect server."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from deployments.sandbox import Sandbox
from tests.benchmarks.measure import ROOT

MODULE = "flows.replicate_backups"
GIBIBYTE = 2**30


@dataclass(frozen=True)
class Start:
    """One run of a command, in seconds from its start.

    Attributes:
        first_line: When it showed anything.
        first_request: When the sandbox saw its first request.
        end: When it had ended.
        cpu_seconds: Of the command and of its temporary server.
    """

    first_line: float
    first_request: float
    end: float
    cpu_seconds: float


def measure_start(home: Path) -> Start:
    """Run a command as a user does from a shell.

    Args:
        home: The user's home, where Prefect keeps its database.

    Returns:
        How long it took.

    Raises:
        RuntimeError: The command failed.
    """
    with Sandbox(droplets=2) as sandbox:
        environment = {"HOME": str(home), "PATH": os.defpath, **sandbox.environment()}
        before, began = os.times(), time.time()
        with subprocess.Popen(
            [sys.executable, "-m", MODULE, "--dry-run"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as command:
            assert command.stdout
            line = command.stdout.readline()
            first_line = time.time()
            output = line + command.stdout.read()
        ended, after = time.time(), os.times()
        if command.returncode:
            raise RuntimeError(f"the command ended with status {command.returncode}:\n{output}")
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return Start(first_line - began, sandbox.record.requests[0].at - began, ended - began, cpu)


def measure_starts(folder: Path, times: int) -> tuple[list[Start], list[Start]]:
    """Run a command twice in each of several homes that are new.

    Args:
        folder: Where the homes are made.
        times: How many homes.

    Returns:
        The very first run of each home, and the second.
    """
    first, second = [], []
    for number in range(times):
        home = folder / f"home-{number}"
        home.mkdir(parents=True)
        first.append(measure_start(home))
        second.append(measure_start(home))
        shutil.rmtree(home)
    return first, second


def starts_table(runs: Sequence[tuple[str, Sequence[Start]]]) -> str:
    """Lay the runs out, with medians."""
    lines = ["| run | first line | first request | of each | end | CPU |", "|" + " --- |" * 6]
    lines += [
        f"| {name} | {median(each.first_line for each in starts):.1f} "
        f"| {median(each.first_request for each in starts):.1f} "
        f"| {', '.join(f'{each.first_request:.1f}' for each in starts)} "
        f"| {median(each.end for each in starts):.1f} | {median(each.cpu_seconds for each in starts):.1f} |"
        for name, starts in runs
    ]
    return "\n".join(lines)


def machine() -> str:
    """Describe the machine, and how busy it was before."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIBIBYTE
    name = names[0] if names else platform.machine()
    return f"{len(os.sched_getaffinity(0))} cores ({name}), {memory:.0f} GiB; load before: {os.getloadavg()[0]:.2f}"
