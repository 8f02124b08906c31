"""What every scenario has checked, by Prefect's own history and by the sandbox's record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from deployments.sandbox import Image
from tests.soak.account import lost, twice
from tests.soak.history import BEFORE_RUNNING, Alarm, PrefectApi, SeenState
from tests.soak.stack import Stack
from tests.soak.watch import SeenRun, Watch

EVENT_AUTOMATION = "Copy backups as soon as they are complete"
APPROVAL_AUTOMATION = "A rebuild waits for approval"
# Why Prefect refuses to set a run to Crashed that has ended.
HAS_ENDED = "already in terminal state"
# Prefect's server writes events down a few at a time.
SECONDS_UNTIL_EVENTS_SHOW = 15


def described(states: Iterable[SeenState]) -> str:
    """Name states with their times and, of the last one, the message."""
    listed = list(states)
    names = ", ".join(f"{state.name} {state.at:%H:%M:%S}" for state in listed)
    return f"{names} ({listed[-1].message[:200]!r})" if listed else "no states"


def ended(watch: Watch, api: PrefectApi, label: str, run_id: str, within: timedelta) -> SeenState:
    """Wait until a run is in a final state, and say which.

    Raises:
        TookTooLong: It is not.
    """

    def look() -> SeenState | None:
        state = api.state(run_id)
        return state if state.is_final else None

    state = watch.until(f"{label} has ended", look, within)
    assert state
    watch.say(f"{label} is {state.name}: {state.message[:200]}")
    return state


def running(watch: Watch, api: PrefectApi, label: str, run_id: str, within: timedelta) -> None:
    """Wait until a run is Running.

    Raises:
        TookTooLong: It is not.
    """
    watch.until(f"{label} is Running", lambda: api.state(run_id).type == "RUNNING", within)
    watch.say(f"{label} is Running")


def paused(watch: Watch, api: PrefectApi, label: str, run_id: str, within: timedelta) -> None:
    """Wait until a run is Paused.

    Raises:
        TookTooLong: It is not.
    """
    watch.until(f"{label} is Paused", lambda: api.state(run_id).type == "PAUSED", within)
    watch.say(f"{label} is Paused")


def started(watch: Watch, api: PrefectApi, label: str, run_id: str, within: timedelta) -> None:
    """Wait until a run is Running or has been.

    Raises:
        TookTooLong: It is not.
    """
    watch.until(f"{label} has started", lambda: api.run(run_id)["start_time"], within)
    watch.say(f"{label} has started")


def went_through(states: Sequence[SeenState], *expected: str) -> bool:
    """Tell whether a run, from its start to its end, had these states and no others."""
    names = tuple(state.name for state in states if state.type not in BEFORE_RUNNING)
    return names == expected == tuple(state.name for state in states[-len(expected) :])


def ran_without_a_break(states: Sequence[SeenState]) -> bool:
    """Tell whether a run had no state but Running from its start to its end, and is Completed."""
    return went_through(states, "Running", "Completed")


def check_lived(watch: Watch, api: PrefectApi, label: str, run_id: str, at_least: timedelta = timedelta()) -> None:
    """Check that a run was Running without a break from its start to its end, and is Completed.

    Args:
        watch: The scenario's.
        api: Prefect's.
        label: What the run is, in the scenario.
        run_id: The run.
        at_least: How long it was to run.
    """
    states = api.states(run_id)
    watch.runs.append(SeenRun(label, states, _longest_gap(api, run_id)))
    whole = ran_without_a_break(states)
    watch.check(whole, f"{label} had no state but Running from its start to its end", described(states))
    if whole and at_least:
        lasted = states[-1].at - states[-2].at
        watch.check(lasted >= at_least, f"{label} took at least {_minutes(at_least)}", _minutes(lasted))


def check_went_through(watch: Watch, api: PrefectApi, label: str, run_id: str, *names: str) -> None:
    """Check that a run had these states, and no others, from its start to its end.

    Args:
        watch: The scenario's.
        api: Prefect's.
        label: What the run is, in the scenario.
        run_id: The run.
        names: The names of the states, the last one being final.
    """
    states = api.states(run_id)
    watch.runs.append(SeenRun(label, states, _longest_gap(api, run_id)))
    watch.check(went_through(states, *names), f"{label} was {', then '.join(names)}", described(states))


def check_all_lived(watch: Watch, api: PrefectApi, what: str, runs: Mapping[str, str]) -> None:
    """Check the same of several runs at once.

    Args:
        watch: The scenario's.
        api: Prefect's.
        what: What the runs are together.
        runs: The runs by what each is.
    """
    histories = {label: api.states(run_id) for label, run_id in runs.items()}
    watch.runs += [SeenRun(label, states, _longest_gap(api, runs[label])) for label, states in histories.items()]
    broken = [f"{label}: {described(states)}" for label, states in histories.items() if not ran_without_a_break(states)]
    watch.check(not broken, f"{what} had no state but Running from their start to their end", broken)


def check_died(watch: Watch, api: PrefectApi, label: str, run_id: str, killed_at: datetime, within: timedelta) -> None:
    """Wait until a dead run is Crashed, and check that this is soon enough and stays so.

    Args:
        watch: The scenario's.
        api: Prefect's.
        label: What the run is, in the scenario.
        run_id: The run.
        killed_at: When it died.
        within: How soon it is to be recognised.
    """
    ended(watch, api, label, run_id, within + timedelta(minutes=5))
    states = api.states(run_id)
    crashed = next((state for state in states if state.is_final), states[-1])
    dead_for = crashed.at - killed_at
    watch.runs.append(SeenRun(label, states, _longest_gap(api, run_id), dead_for))
    watch.check(
        crashed.name == "Crashed" and states[-1] == crashed and dead_for <= within,
        f"{label} was Crashed within {_minutes(within)} of its death",
        f"after {_minutes(dead_for)}: {described(states)}",
    )


def check_account(watch: Watch, stack: Stack, images: Iterable[Image]) -> None:
    """Check by the sandbox's record that these images are everywhere, and that nothing was started twice."""
    watch.lost += lost(stack.sandbox, images)
    watch.twice += twice(stack.sandbox, watch.began)
    watch.requests += sum(seen.at >= watch.began.timestamp() for seen in stack.sandbox.record.requests)
    watch.check(not watch.lost, "every image is a snapshot in every region", watch.lost)
    watch.check(not watch.twice, "no action was started twice", watch.twice)
    refused = stack.sandbox.record.rate_limited()
    watch.check(not refused, "no request was answered with 429", refused)


def is_false(alarm: Alarm, died: Collection[str], asked: Collection[str]) -> bool:
    """Tell whether an automation was triggered without a reason: a run that died or asked a person, or an event."""
    if not alarm.run_id:
        return alarm.automation != EVENT_AUTOMATION
    return alarm.run_id not in (asked if alarm.automation == APPROVAL_AUTOMATION else died)


def check_alarms(
    watch: Watch,
    api: PrefectApi,
    died: Mapping[str, str] | None = None,
    events: int = 0,
    asked: Mapping[str, str] | None = None,
) -> None:
    """Check that each dead run has triggered an automation, each question to a person one, and no other run any.

    Args:
        watch: The scenario's.
        api: Prefect's.
        died: The dead runs and what they are called in the scenario.
        events: How many events `backup.completed` were sent.
        asked: The runs that have paused once to ask a person, and what they are called in the scenario.
    """
    watch.pause(SECONDS_UNTIL_EVENTS_SHOW)
    died, asked = died or {}, asked or {}
    # The one that sets a dead run to Crashed is triggered again when it has done so, and for a run whose end the
    # server has on record but has not yet shown to its automations. Then it changes nothing and sends no notification.
    alarms = [alarm for alarm in api.alarms() if alarm.at >= watch.began and HAS_ENDED not in alarm.failure]
    of_runs = {alarm.run_id for alarm in alarms if alarm.run_id}
    false = [
        f"{alarm.automation} at {alarm.at:%H:%M:%S}, run {alarm.run_id or 'none'}"
        for alarm in alarms
        if is_false(alarm, died, asked)
    ]
    watch.check(not false, "no automation was triggered falsely", false)
    if died:
        silent = [label for run_id, label in died.items() if run_id not in of_runs]
        watch.check(not silent, f"an automation was triggered for each of {_listed(died.values())}", silent)
    if asked:
        notified = Counter(alarm.run_id for alarm in alarms if alarm.automation == APPROVAL_AUTOMATION)
        wrong = {label: notified[run_id] for run_id, label in asked.items() if notified[run_id] != 1}
        watch.check(not wrong, f"{APPROVAL_AUTOMATION!r} was triggered once for each of {len(asked)} pauses", wrong)
    answered = sum(not alarm.run_id for alarm in alarms)
    if events:
        watch.check(answered == events, f"each of {events} events has triggered one run", answered)
    failed = [f"{alarm.automation}: {alarm.failure}" for alarm in alarms if alarm.failure]
    watch.check(not failed, "no automation's action has failed", failed)


def _longest_gap(api: PrefectApi, run_id: str) -> timedelta | None:
    return max(api.heartbeat_gaps(run_id), default=None)


def _listed(labels: Collection[str]) -> str:
    return f"{len(labels)} dead runs" if len(labels) > 1 else next(iter(labels))


def _minutes(duration: timedelta) -> str:
    seconds = round(duration.total_seconds())
    return f"{seconds // 60}:{seconds % 60:02} min"
