"""Measure what a run costs, and write it down: `make bench`, `make bench-fleet` and the like."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from statistics import median

import cyclopts

from deployments.sandbox import Sandbox
from flows.parameters import Source
from tasks.distributed_rate_limit import SLOTS_PER_REQUEST
from tests.benchmarks.measure import ROOT, Measurement, measure
from tests.benchmarks.picture import draw_requests
from tests.benchmarks.prefect_requests import Load, installation, kinds_table, loads_table, measure_idle, measure_run
from tests.benchmarks.restore import measure_restore, restores_table
from tests.benchmarks.results import (
    FOLDER,
    Goal,
    at_most,
    exactly,
    goals_table,
    runs_table,
    shares_table,
    write_section,
)
from tests.benchmarks.start import machine, measure_starts, starts_table
from tests.benchmarks.strategies import STRATEGIES, replay
from tests.benchmarks.workers import SPEED, accuracy, share

WORK = ROOT / ".bench"
FEW, MANY, FLEET = 20, 100, 1000
FEW_SPEED, FLEET_SPEED = 20, 10
QUOTA_GONE_FOR_SECONDS = 20 * 60
HOURLY_LIMIT = 5000
STARTS = 5
SENT_TO_PREFECT = """\
A worker of the work pool `digitalocean` with all deployments, their schedules paused, and one run of
`replicate-backups/nightly` to 12 regions, on PostgreSQL. All of it reaches Prefect's server through a proxy that
counts. The sandbox runs as fast as life, and no image is larger than 1 GB: a run then takes minutes instead of an hour,
and no minute has fewer requests because of it. The counts of a run include those of its worker, and begin with the
creation of the run.

Prefect Cloud limits API requests, and events together with log lines, per minute and account
([limits](https://docs.prefect.io/v3/concepts/rate-limits)). `/admin/version` and `/csrf-token` are not sent to it. To
Prefect Cloud only, a worker also sends its own log lines, which are not counted here. Nor are a worker's heartbeats,
which have a WebSocket of their own."""
SNAPSHOTS = "this project, with snapshots as the source"

app = cyclopts.App(name="python -m tests.benchmarks", version_flags=[])


@app.default
def main(
    *, fleet: bool = False, workers: bool = False, start: bool = False, restore: bool = False, prefect: bool = False
) -> int:
    """Measure, and write RESULTS.md.

    Args:
        fleet: Measure 1,000 Droplets instead of 20.
        workers: Measure several processes on one token.
        start: Measure the start of a command that brings its own Prefect server.
        restore: Measure how Droplets are rebuilt.
        prefect: Measure what is sent to Prefect's server.

    Returns:
        Exit status: 0 if every goal was reached.
    """
    shutil.rmtree(WORK, ignore_errors=True)
    chosen = [
        (fleet, bench_fleet),
        (workers, bench_workers),
        (start, bench_start),
        (restore, bench_restore),
        (prefect, bench_prefect),
    ]
    bench = next((each for wanted, each in chosen if wanted), bench_few)
    goals = bench()
    missed = [goal for goal in goals if not goal.reached]
    for goal in missed:
        say(f"not reached: {goal.measure}: {goal.figure}, goal {goal.goal}")
    return 1 if missed else 0


def bench_few() -> list[Goal]:
    """20 Droplets: alone, beside a greedy neighbour, with the quota gone; and the other ways of waiting."""
    with Sandbox(droplets=FEW, speed=FEW_SPEED) as sandbox:
        alone = run(sandbox, "this project", FEW)
    with Sandbox(droplets=FEW, speed=FEW_SPEED) as sandbox:
        taking = run(sandbox, SNAPSHOTS, FEW, source="snapshots")
    with Sandbox(droplets=FEW, speed=FEW_SPEED) as sandbox:
        sandbox.neighbour(per_minute=100)
        beside = run(sandbox, "this project, beside a neighbour with 100 requests a minute", FEW)
    with Sandbox(droplets=FEW, speed=FEW_SPEED) as sandbox:
        # Spent evenly over the last 40 minutes, so the oldest request expires in 20.
        sandbox.neighbour(requests=HOURLY_LIMIT, over_seconds=(3600 - QUOTA_GONE_FOR_SECONDS) / FEW_SPEED)
        reset_at = time.time() + QUOTA_GONE_FOR_SECONDS / FEW_SPEED
        late = run(sandbox, "this project, the hour's quota gone for 20 minutes", FEW)
    others = []
    for name in STRATEGIES:
        for droplets in (4, FEW):
            say(f"{name} with {droplets} Droplets, in virtual time")
            others.append(replay(name, droplets))
    goals = [
        at_most("requests per finished action, 20 Droplets", 1.20, alone.requests_per_action),
        exactly("429s when alone", 0, alone.too_many),
        at_most("makespan over the best possible, 20 Droplets", 1.05, alone.stretch, "{:.3f}".format),
        exactly("transfers lost", 0, alone.actions - alone.finished),
        exactly("transfers started twice", 0, alone.duplicates),
        *snapshot_goals(taking, 1.20),
        exactly("beside a neighbour: transfers lost", 0, beside.actions - beside.finished),
        at_most("beside a neighbour: 429s per request", 0.01, beside.too_many / beside.requests, "{:.4f}".format),
        exactly("quota gone: 429s", 1, late.too_many),
        exactly("quota gone: requests until the reset", 1, requests_until(late, reset_at)),
        exactly("quota gone: transfers lost", 0, late.actions - late.finished),
    ]
    text = f"{goals_table(goals)}\n\n{runs_table([alone, taking, beside, late, *others])}"
    write_section(f"{FEW} Droplets", "make bench", text)
    draw_requests([alone, *(each for each in others if each.droplets == FEW)], FOLDER / "requests.png")
    say(text)
    return goals


def bench_fleet() -> list[Goal]:
    """1,000 Droplets."""
    with Sandbox(droplets=FLEET, speed=FLEET_SPEED) as sandbox:
        alone = run(sandbox, "this project", FLEET)
    with Sandbox(droplets=FLEET, speed=FLEET_SPEED) as sandbox:
        taking = run(sandbox, SNAPSHOTS, FLEET, source="snapshots")
    per_action = 1000 * alone.cpu_seconds / alone.actions
    goals = [
        at_most("requests per finished action, 1,000 Droplets", 1.10, alone.requests_per_action),
        exactly("429s when alone", 0, alone.too_many),
        at_most("makespan over the best possible, 1,000 Droplets", 1.10, alone.stretch, "{:.3f}".format),
        exactly("actions lost", 0, alone.actions - alone.finished),
        exactly("transfers started twice", 0, alone.duplicates),
        *snapshot_goals(taking, 1.10),
        at_most("CPU of the flow's process per action, ms", 15, per_action, "{:.1f}".format),
        at_most("peak memory of the flow's process, MiB", 400, alone.memory_mib, "{:.0f}".format),
    ]
    text = f"{goals_table(goals)}\n\n{runs_table([alone, taking])}"
    write_section(f"{FLEET:,} Droplets", "make bench-fleet", text)
    say(text)
    return goals


def bench_workers() -> list[Goal]:
    """60 images, by one process and by three; and how exactly Prefect's limit counts."""
    WORK.mkdir()
    runs = []
    for name, processes, set_up in [
        ("one process", 1, True),
        ("three processes that share a limit", 3, True),
        ("three processes without a limit on Prefect's server", 3, False),
    ]:
        say(f"{name}, {SPEED} times as fast as life")
        runs.append(share(name, processes, _folder(name), set_up=set_up))
    one, three, apart = runs
    exact, coarse = accuracy(SLOTS_PER_REQUEST, WORK / "exact"), accuracy(1, WORK / "coarse")
    goals = [
        exactly("three processes: copies lost", 0, three.copies - three.finished),
        exactly("three processes: transfers started twice", 0, three.duplicates),
        at_most("three processes: 429s per request", 0.01, three.too_many / three.requests, "{:.4f}".format),
        at_most("three processes: time over that of one", 1.15, three.seconds / one.seconds, "{:.3f}".format),
        exactly("without a limit: copies lost", 0, apart.copies - apart.finished),
        at_most("what Prefect counts too much or too little", 0.01, abs(1 - exact), "{:.4f}".format),
    ]
    said = (
        f"With {SLOTS_PER_REQUEST:,} slots per request, as here, Prefect's limit frees {exact:.1%} of the slots "
        f"that it should when it is updated ten times a second; with one slot per request it frees {coarse:.1%}, "
        "because Prefect rounds down at every update."
    )
    text = f"{goals_table(goals)}\n\n{shares_table(runs)}\n\n{said}"
    write_section("Several workers on one token", "make bench-workers", text)
    say(text)
    return goals


def bench_start() -> list[Goal]:
    """The first command on a machine, and the second: from the command to its first request."""
    conditions = machine()
    say(f"{STARTS} times two commands in a new home; {conditions}")
    first, second = measure_starts(WORK, STARTS)
    goals = [
        at_most("seconds to the first request, the very first time", 20, median(each.first_request for each in first)),
        at_most("seconds to the first request, afterwards", 8, median(each.first_request for each in second)),
    ]
    table = starts_table([("the very first, which makes Prefect's database", first), ("afterwards", second)])
    said = (
        "Each is `python -m flows.replicate_backups --dry-run` without PREFECT_API_URL, with nothing set but HOME, PATH"
        f" and the sandbox's variables; medians of {STARTS}, in seconds, and the single times to the first request. "
        f"The machine: {conditions}."
    )
    text = f"{goals_table(goals)}\n\n{table}\n\n{said}"
    write_section("The start of a command", "make bench-start", text)
    say(text)
    return goals


def bench_restore() -> list[Goal]:
    """1, 10 and 100 Droplets, as fast as life."""
    _, ten, hundred = runs = [measure_restore(droplets, _folder(f"{droplets} Droplets")) for droplets in (1, 10, 100)]
    goals = [
        at_most("seconds over the best possible, 10 Droplets", 1.05, ten.stretch, "{:.3f}".format),
        at_most("seconds over the best possible, 100 Droplets", 1.05, hundred.stretch, "{:.3f}".format),
        at_most("requests, 10 Droplets", 20, ten.requests, "{:.0f}".format),
        at_most("requests, 100 Droplets", 130, hundred.requests, "{:.0f}".format),
        exactly("429s", 0, sum(each.too_many for each in runs)),
        exactly("Droplets not rebuilt", 0, sum(each.droplets - each.active for each in runs)),
        exactly("Droplets created twice", 0, sum(each.twice for each in runs)),
    ]
    said = (
        "`python -m flows.restore_droplets`, as fast as life; a creation takes 20 to 60 seconds. Seconds count from "
        "the run's first request; for the best possible, all POSTs go as early as the limits allow, and nothing else."
    )
    text = f"{goals_table(goals)}\n\n{restores_table(runs)}\n\n{said}"
    write_section("Rebuilding Droplets", "make bench-restore", text)
    say(text)
    return goals


def bench_prefect() -> list[Goal]:
    """What a worker that waits, and nightly runs, send to Prefect's server."""
    conditions, loads = machine(), list[Load]()
    for droplets in (FEW, MANY):
        say(f"{droplets} Droplets with small images, as fast as life")
        with installation(droplets, _folder(f"{droplets} Droplets")) as installed:
            if not loads:
                loads.append(measure_idle(installed))
            loads.append(measure_run(installed, f"{droplets} Droplets"))
        say(loads_table(loads))
    idle, *runs = loads
    goals = [
        at_most("a worker that waits: API requests in its busiest minute", 30, idle.peak_requests, "{:.0f}".format),
        exactly("runs that did not complete", 0, sum(each.state != "COMPLETED" for each in runs)),
    ]
    said = f"{SENT_TO_PREFECT} The machine: {conditions}."
    text = "\n\n".join([goals_table(goals), loads_table(loads), said, kinds_table(loads)])
    write_section("What is sent to Prefect", "make bench-prefect", text)
    say(text)
    return goals


def snapshot_goals(taking: Measurement, requests_per_action: float) -> list[Goal]:
    """The goals of a run that takes snapshots and copies those."""
    source = "snapshots as the source"
    return [
        at_most(f"{source}: requests per finished action", requests_per_action, taking.requests_per_action),
        exactly(f"{source}: 429s", 0, taking.too_many),
        exactly(f"{source}: actions lost", 0, taking.actions - taking.finished),
        exactly(f"{source}: actions started twice", 0, taking.duplicates),
    ]


def run(sandbox: Sandbox, name: str, droplets: int, source: Source = "backups") -> Measurement:
    """Measure one run."""
    say(f"{name}: {droplets} Droplets, {sandbox.speed:g} times as fast as life")
    return measure(sandbox, droplets=droplets, name=name, folder=_folder(name), source=source)


def requests_until(measurement: Measurement, moment: float) -> int:
    """Count the requests before a moment, in Unix seconds."""
    return sum(each < moment for each in measurement.sent_at)


def _folder(name: str) -> Path:
    return WORK / "".join(letter if letter.isalnum() else "-" for letter in name)[:40]


def say(sentence: str) -> None:
    """Report progress."""
    print(sentence, flush=True)  # noqa: T201  # progress


if __name__ == "__main__":
    sys.exit(app())
