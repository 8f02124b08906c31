"""The section of tests/RELIABILITY.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from flows.prefect_settings import DEAD_AFTER
from tests.soak.watch import SeenRun, Watch

SCENARIOS = {
    "undisturbed": "The nightly run, and a second run on the same images",
    "restart": "The server is restarted midway",
    "outage": "The server is down for five minutes",
    "kills": "`kill -9` of a run, then of the worker alone",
    "both": "`kill -9` of a run and its worker",
    "events": "Twelve events within a second",
    "reboot": "A reboot, with runs in each state",
    "rebuild": "`kill -9` of a drill, then of a restore and its worker, with a region lost",
    "approval": "The server is down for five minutes while three restores wait for approval",
    "snapshots": "Snapshots as the source: `kill -9` of a run and its worker, beside an undisturbed run",
    "upgrade": "An upgrade from the version before, with a run in flight and a slot stuck",
}

CONDITIONS = f"""\
Each scenario is a machine of its own, set up as the README says, with nothing of Prefect switched off or sped up: its
server on SQLite, the deployments, a worker, and a sandbox at DigitalOcean's own speed. A run that shows no sign of
life for {DEAD_AFTER // timedelta(minutes=1)} minutes counts as dead, and the long runs take twice as long. *Lost* and
*twice* are judged by the sandbox's record (it accepts a second transfer beside the first, so that one would be seen),
the states by Prefect's history, and false alarms by the automations that were triggered."""


def section(watches: Sequence[Watch], began: datetime, ended: datetime) -> str:
    """Write what came of all scenarios.

    Args:
        watches: The scenarios.
        began: When the soak began.
        ended: When it ended.

    Returns:
        Markdown.
    """
    failed = [f"- {watch.scenario}: {failure}" for watch in watches for failure in watch.failed]
    checks = sum(len(watch.passed) + len(watch.failed) for watch in watches)
    verdict = f"{len(failed)} of {checks} checks failed:" if failed else f"All {checks} checks hold."
    took = f"The whole of it took {_minutes(ended - began)} min."
    parts = [f"{verdict} {took}" if not failed else f"{took} {verdict}", *(["\n".join(failed)] if failed else [])]
    return "\n\n".join([*parts, CONDITIONS, _scenarios(watches), _runs(watches), _checks(watches)])


def _scenarios(watches: Iterable[Watch]) -> str:
    head = ["| scenario | what happens | minutes | requests | lost | twice | checks | failed |"]
    head.append("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    rows = [
        f"| {watch.scenario} | {SCENARIOS[watch.scenario]} | {_lasted(watch)} | {watch.requests} | {len(watch.lost)} "
        f"| {len(watch.twice)} | {len(watch.passed) + len(watch.failed)} | {len(watch.failed)} |"
        for watch in watches
    ]
    return "\n".join([*head, *rows])


def _runs(watches: Iterable[Watch]) -> str:
    intro = "The runs, with the time since the scenario's beginning at which each state began:"
    head = ["| scenario | run | states | longest time between two heartbeats, s | dead until it was Crashed |"]
    head.append("| --- | --- | --- | ---: | ---: |")
    rows = [
        f"| {watch.scenario} | {run.label} | {_states(watch, run)} | {_seconds(run.longest_gap)} "
        f"| {_minutes(run.dead_for) if run.dead_for else ''} |"
        for watch in watches
        for run in watch.runs
    ]
    return "\n".join([intro, "", *head, *rows])


def _checks(watches: Iterable[Watch]) -> str:
    lines = [f"- *{watch.scenario}*: " + "; ".join(watch.passed or ["nothing"]) + "." for watch in watches]
    return "\n".join(["What was checked and holds:", "", *lines])


def _states(watch: Watch, run: SeenRun) -> str:
    return ", ".join(f"{state.name} {_minutes(state.at - watch.began)}" for state in run.states)


def _lasted(watch: Watch) -> str:
    return _minutes(watch.ended - watch.began) if watch.ended else "not ended"


def _minutes(duration: timedelta) -> str:
    seconds = round(duration.total_seconds())
    sign = "-" if seconds < 0 else ""
    return f"{sign}{abs(seconds) // 60}:{abs(seconds) % 60:02}"


def _seconds(duration: timedelta | None) -> str:
    return f"{duration.total_seconds():.0f}" if duration else ""
