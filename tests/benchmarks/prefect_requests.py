"""How many requests, events and log lines an installation sends to Prefect's server, against Prefect Cloud's limits."""

from __future__ import annotations

import operator
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from deployments.prefect_server import clean_environment, prefect_server
from deployments.sandbox import Sandbox
from tests.benchmarks.counting_proxy import Message, Traffic, counting_proxy
from tests.benchmarks.measure import ROOT
from tests.end_to_end.postgresql import temporary_postgresql
from tests.end_to_end.worker import worker

NIGHTLY = "replicate-backups/nightly"
# DigitalOcean's limits and all waiting last as long as in life, so a minute has as many requests as in life. Only the
# images are small, so that a run takes minutes.
SPEED = 1
LARGEST_GIGABYTES = 1.0
SETTLING_SECONDS = 45
IDLE_SECONDS = 300
# A worker looks for new runs every ten seconds, and logs are sent every two.
AFTERMATH_SECONDS = 15
LONGEST_RUN_SECONDS = 3600
LONGEST_COMMAND_SECONDS = 300
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
MINUTE = 60.0
# Per minute and account: API requests, and events together with log lines.
# https://docs.prefect.io/v3/concepts/rate-limits
PLANS = {"Hobby": (625, 2_000), "Starter": (1_250, 2_800), "Team": (2_500, 8_000), "Pro": (5_000, 40_000)}


@dataclass(frozen=True)
class Load:
    """What was sent in some time.

    Attributes:
        name: What was going on.
        seconds: How long.
        requests: HTTP requests, and upgrades to a WebSocket.
        events: Events.
        logs: Log lines.
        state: The state in which the run ended; empty without a run.
        completed: Conversions and transfers of the run that are complete.
    """

    name: str
    seconds: float
    requests: Sequence[Message]
    events: Sequence[Message]
    logs: Sequence[Message]
    state: str = ""
    completed: int = 0

    @property
    def peak_requests(self) -> int:
        """Most requests in any minute."""
        return len(busiest_minute(self.requests))

    @property
    def messages(self) -> list[Message]:
        """Events and log lines, which Prefect Cloud counts together."""
        return [*self.events, *self.logs]

    @property
    def peak_messages(self) -> int:
        """Most events and log lines in any minute."""
        return len(busiest_minute(self.messages))

    @property
    def plan(self) -> str:
        """The smallest plan of Prefect Cloud whose limits per minute are not exceeded."""
        peaks = self.peak_requests, self.peak_messages
        fitting = (name for name, limits in PLANS.items() if all(map(operator.le, peaks, limits)))
        return next(fitting, "none")


@dataclass(frozen=True)
class Installation:
    """A worker whose traffic is counted.

    Attributes:
        api: Prefect's API, past the proxy.
        environment: That of a shell at the worker's machine.
        sandbox: The account.
        traffic: What the worker and its runs send.
    """

    api: str
    environment: dict[str, str]
    sandbox: Sandbox
    traffic: Traffic


def measure_idle(installed: Installation) -> Load:
    """Count what a worker sends that has nothing to do."""
    time.sleep(SETTLING_SECONDS)
    began = time.monotonic()
    time.sleep(IDLE_SECONDS)
    return _load("a worker that waits", installed.traffic, began)


def measure_run(installed: Installation, name: str) -> Load:
    """Count what a worker and one nightly run send, from the run's creation until the worker waits again."""
    time.sleep(SETTLING_SECONDS)
    began = time.monotonic()
    _command(installed.environment, "prefect", "--no-prompt", "deployment", "run", NIGHTLY)
    with httpx.Client(base_url=installed.api, trust_env=False, timeout=MINUTE) as client:
        while (state := _state(client)) not in FINAL:
            if time.monotonic() - began > LONGEST_RUN_SECONDS:
                raise RuntimeError(f"the run was still {state} after {LONGEST_RUN_SECONDS} s")
            time.sleep(1)
    time.sleep(AFTERMATH_SECONDS)
    completed = sum(action.fate.outcome == "completed" for action in installed.sandbox.record.actions)
    return _load(name, installed.traffic, began, state, completed)


@contextmanager
def installation(droplets: int, folder: Path) -> Iterator[Installation]:
    """Set up the project as its README says, on PostgreSQL, with a proxy between the worker and Prefect's server.

    Args:
        droplets: How many Droplets the account has.
        folder: Where Prefect keeps its files.
    """
    with (
        temporary_postgresql() as database,
        Sandbox(droplets=droplets, speed=SPEED) as sandbox,
        prefect_server(folder, environment={"PREFECT_API_DATABASE_CONNECTION_URL": database.url}) as server,
        counting_proxy(server) as (proxy, traffic),
    ):
        for image in sandbox.account.images.values():
            image.size_gigabytes = min(image.size_gigabytes, LARGEST_GIGABYTES)
        shell = {**clean_environment(folder), **sandbox.environment(), "PREFECT_API_URL": f"{server}/api"}
        _command(shell, "deployments.setup")
        _command(shell, "prefect", "--no-prompt", "deploy", "--all")
        # So that no schedule starts a run in the meantime.
        _command(shell, "prefect", "--no-prompt", "deployment", "schedule", "pause", "--all")
        with worker({**shell, "PREFECT_API_URL": f"{proxy}/api"}, ROOT, folder / "worker.log"):
            yield Installation(f"{server}/api", shell, sandbox, traffic)


def busiest_minute(messages: Sequence[Message]) -> list[Message]:
    """Choose the messages of the 60 seconds that have most of them."""
    ordered = sorted(messages, key=lambda each: each.at)
    best, start = (0, 0), 0
    for end, message in enumerate(ordered, start=1):
        while ordered[start].at <= message.at - MINUTE:
            start += 1
        best = max(best, (start, end), key=lambda each: each[1] - each[0])
    return ordered[slice(*best)]


def loads_table(loads: Sequence[Load]) -> str:
    """Lay out what was sent, against the limits of Prefect Cloud's plans."""
    titles = (
        "what",
        "minutes",
        "API requests",
        "a minute",
        "busiest minute",
        "events",
        "log lines",
        "both in the busiest minute",
        "smallest plan by its rate limits",
    )
    lines = [f"| {' | '.join(titles)} |", "|" + " --- |" * len(titles)]
    lines += [
        f"| {each.name} | {each.seconds / MINUTE:.1f} | {len(each.requests):,} "
        f"| {len(each.requests) / each.seconds * MINUTE:.1f} | {each.peak_requests:,} | {len(each.events):,} "
        f"| {len(each.logs):,} | {each.peak_messages:,} | {each.plan} |"
        for each in loads
    ]
    return "\n".join(lines)


def kinds_table(loads: Sequence[Load]) -> str:
    """Lay out what was sent by endpoint and by name of event, the most frequent first."""
    everything = [Counter(each.kind for each in [*load.requests, *load.messages]) for load in loads]
    busiest = [
        Counter(each.kind for part in (load.requests, load.messages) for each in busiest_minute(part)) for load in loads
    ]
    titles = " | ".join(f"{load.name} | a minute | busiest" for load in loads)
    lines = [f"| request, event or log line | {titles} |", "| --- |" + " ---: |" * (3 * len(loads))]
    for kind, _ in sum(everything, Counter[str]()).most_common():
        cells = [
            f"{counts[kind]:,} | {counts[kind] / load.seconds * MINUTE:.1f} | {peak[kind]:,}"
            for load, counts, peak in zip(loads, everything, busiest, strict=True)
        ]
        lines.append(f"| `{kind}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _load(name: str, traffic: Traffic, began: float, state: str = "", completed: int = 0) -> Load:
    def since(messages: Sequence[Message]) -> list[Message]:
        return [each for each in messages if each.at >= began]

    seconds = time.monotonic() - began
    requests, events, logs = since(traffic.requests), since(traffic.events), since(traffic.logs)
    return Load(name, seconds, requests, events, logs, state, completed)


def _state(client: httpx.Client) -> str:
    newest = {"sort": "EXPECTED_START_TIME_DESC", "limit": 1}
    # The schedules are paused, so there is only the one run.
    runs = client.post("/flow_runs/filter", json=newest).raise_for_status().json()
    return str(runs[0]["state_type"])


def _command(environment: dict[str, str], *module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *module],
        env=environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LONGEST_COMMAND_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(module)} ended with status {done.returncode}:\n{done.stdout}")
