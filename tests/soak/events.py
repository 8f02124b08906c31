"""Twelve backups are complete within a second."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta

from tests.soak.account import backups, stretch
from tests.soak.checks import check_account, check_alarms, check_all_lived, check_lived, described, ended, running
from tests.soak.history import BEFORE_RUNNING, PrefectApi, SeenState
from tests.soak.plan import SEEN_WITHIN, SOON, Plan
from tests.soak.stack import NIGHTLY, Stack
from tests.soak.watch import Watch

AFTER_BACKUP = "replicate-backups/after-backup"
EVENTS = 12
IMAGES = 3
LIMIT = 2
# How long a run may take that has nothing to do, on two cores that are busy with others. A server on SQLite and
# Python 3.11 may freeze for a minute meanwhile: see deployments/production/README.md.
QUICK = timedelta(minutes=2)
# With the nightly run. A run's slot is free once its end is recorded; its process may still be exiting.
MOST_PROCESSES = LIMIT + 1 + 1
LONGEST_ALL = timedelta(minutes=20)


def twelve_events(watch: Watch, stack: Stack, plan: Plan) -> None:
    """Twelve events within a second name three backups; a nightly run starts meanwhile."""
    api, sandbox = stack.api, stack.sandbox
    images = [newest for newest, *_ in backups(sandbox)[-IMAGES:]]
    for image in images:
        stretch(sandbox, image, plan.shortened(3))
    before = set(api.runs_of(AFTER_BACKUP))
    first = time.monotonic()
    for number in range(EVENTS):
        api.send_backup_completed(image_ids=[images[number % IMAGES].id])
    took = time.monotonic() - first
    watch.say(f"{EVENTS} events sent within {took:.2f} s")
    processes: list[int] = []

    def begun() -> list[str]:
        processes.append(len(stack.run_pids()))
        runs = [run for run in api.runs_of(AFTER_BACKUP) if run not in before]
        return runs if len(runs) >= EVENTS else []

    runs = watch.until("there is a run for each event", begun, SOON)
    watch.until("a run after an event is Running", lambda: _of_type(api, runs, "RUNNING"), SOON)
    nightly = api.begin(NIGHTLY)
    running(watch, api, "the nightly run among them", nightly, SOON)
    waiting = _of_type(api, runs, "SCHEDULED")
    watch.check(waiting, "the nightly run started while runs after events were still waiting", waiting)

    def done() -> bool:
        processes.append(len(stack.run_pids()))
        return all(api.state(run).is_final for run in [*runs, nightly])

    watch.until("all runs have ended", done, LONGEST_ALL)
    ended(watch, api, "the nightly run among them", nightly, SEEN_WITHIN)
    named = {f"the run after event {number}": run for number, run in enumerate(runs, 1)}
    check_all_lived(watch, api, f"all {EVENTS} runs after events", named)
    check_lived(watch, api, "the nightly run among them", nightly)
    histories = {run: api.states(run) for run in runs}
    most = most_at_once(histories.values())
    watch.check(most <= LIMIT, f"at most {LIMIT} runs after events were Pending or Running at once", most)
    watch.check(max(processes) <= MOST_PROCESSES, f"at most {MOST_PROCESSES} processes", max(processes))
    idle = _without_work(histories, api)
    took_too_long = [described(states) for states in idle if states[-1].at - _began(states) > QUICK]
    watch.check(
        idle and not took_too_long,
        f"{len(idle)} runs that began when their image was done ended within {QUICK.seconds} s",
        took_too_long,
    )
    watch.check(not api.slots_taken("events"), "no slot of the queue events is taken", api.slots_taken("events"))
    check_account(watch, stack, images)
    check_alarms(watch, api, events=EVENTS)


def _of_type(api: PrefectApi, runs: Collection[str], kind: str) -> list[str]:
    return [run for run in runs if api.state(run).type == kind]


def most_at_once(histories: Iterable[list[SeenState]]) -> int:
    """Count the most runs that were Pending or Running at the same time."""
    changes = []
    for states in histories:
        begins = next(state.at for state in states if state.type != "SCHEDULED")
        changes += [(begins, 1), (states[-1].at, -1)]
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def _without_work(histories: Mapping[str, list[SeenState]], api: PrefectApi) -> list[list[SeenState]]:
    """Choose the runs that began after another run had copied their image."""
    of_image: dict[str, list[list[SeenState]]] = {}
    for run, states in histories.items():
        of_image.setdefault(str(api.run(run)["parameters"]["image_ids"]), []).append(states)
    return [
        states
        for several in of_image.values()
        for states in several
        if _began(states) >= min(several, key=_began)[-1].at
    ]


def _began(states: list[SeenState]) -> datetime:
    return next(state.at for state in states if state.type not in BEFORE_RUNNING)
