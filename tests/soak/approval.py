"""Plans wait for a person while Prefect's server is away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.end_to_end.accounts import changes
from tests.end_to_end.rebuilding import have_copies
from tests.soak.checks import check_alarms, check_went_through, ended, paused
from tests.soak.history import ACCEPTED, PrefectApi, SeenState
from tests.soak.plan import RECOGNISED_WITHIN, SEEN_WITHIN, SOON, Plan
from tests.soak.rebuild import HOME, REGION, RESTORE, restored
from tests.soak.stack import Stack
from tests.soak.watch import Watch

# The default of `approval_timeout_hours`.
APPROVAL_TIMEOUT = timedelta(hours=12)
# Between an answer and the moment when a waiting run knows it, on two cores that are busy with others.
ANSWER_SEEN_WITHIN = timedelta(minutes=2)
ENDS = ("rejected", "cancelled", "approved")
WHY_NOT = "nyc3 is back"


def approval(watch: Watch, stack: Stack, plan: Plan) -> None:
    """Three restores wait for a person while the server is away: one is then rejected, one cancelled, one approved."""
    api, sandbox, record = stack.api, stack.sandbox, stack.sandbox.record
    originals = {droplet.id: droplet.name for droplet in sandbox.account.droplets.values()}
    have_copies(sandbox, [REGION])
    parameters: dict[str, Any] = {"region": REGION, "from_region": HOME, "dry_run": False, "approve": True}
    runs = {api.begin(RESTORE, **parameters): f"the restore that is {end}" for end in ENDS}
    rejected, cancelled, approved = runs
    for run_id, label in runs.items():
        paused(watch, api, label, run_id, SOON + SOON)
    # They pass through the server's memory, so the server must not go away before they have arrived.
    watch.until("each pause has triggered an automation", lambda: len(api.alarms()) >= len(runs), SOON)
    watch.pause(plan.shortened(1).total_seconds())

    down_at = datetime.now(UTC)
    stack.end_server()
    watch.pause(plan.outage.total_seconds())
    stack.start_server()
    back_at = datetime.now(UTC)
    watch.say(f"the server was away for {(back_at - down_at) / timedelta(minutes=1):.1f} min")
    unlike = {label: api.state(run_id) for run_id, label in runs.items() if api.state(run_id).name != "Paused"}
    watch.check(not unlike, "all restores still wait after the restart", unlike)
    unnamed = [name for name in originals.values() if name.replace("-", r"\-") not in api.question(approved)]
    watch.check(not unnamed, "the form still shows the plan after the restart", unnamed)
    watch.check(
        api.pause_ends_at(approved) - api.state(approved).at > APPROVAL_TIMEOUT,
        "the pause expires on the server only after the run has stopped waiting",
        api.pause_ends_at(approved),
    )

    answer = api.resume(rejected, create=False, reason=WHY_NOT)
    answered_at = datetime.now(UTC)
    watch.check(answer == ACCEPTED, "a rejection right after the restart is accepted", answer)
    seen = _check_ends_soon(watch, api, runs[rejected], rejected, answered_at, "Running", "Cancelled")
    watch.check(WHY_NOT in seen.message, "its message gives the reason", seen.message)
    api.cancel(cancelled)
    _check_ends_soon(watch, api, runs[cancelled], cancelled, datetime.now(UTC), "Cancelling", "Cancelled")
    watch.check(not changes(sandbox), "nothing was created or changed until the approval", changes(sandbox))

    until = back_at + RECOGNISED_WITHIN / plan.quick
    watch.pause((until - datetime.now(UTC)).total_seconds())
    state = api.state(approved)
    watch.check(
        state.name == "Paused",
        f"the third one has waited for {(datetime.now(UTC) - state.at) // timedelta(minutes=1)} minutes, "
        f"{(datetime.now(UTC) - back_at) // timedelta(minutes=1)} of them since the restart",
        state,
    )
    answer = api.resume(approved, create=True)
    watch.check(answer == ACCEPTED, "an approval is accepted after that", answer)
    ended(watch, api, runs[approved], approved, SEEN_WITHIN)
    check_went_through(watch, api, runs[approved], approved, "Running", "Paused", "Running", "Completed")
    watch.check(restored(sandbox) == dict.fromkeys(originals, 1), "each Droplet is rebuilt once", restored(sandbox))
    watch.check(record.created_twice() == [], "no Droplet was created twice")
    watch.check(record.originals_destroyed() == [], "no original was destroyed")
    watch.requests = len(record.requests)
    check_alarms(watch, api, asked=runs)
    sent = api.count_events("recovery.completed"), api.count_events("recovery.failed")
    watch.check(sent == (1, 0), "only the restore that was approved has sent the event of its end", sent)


def _check_ends_soon(
    watch: Watch, api: PrefectApi, label: str, run_id: str, answered_at: datetime, *names: str
) -> SeenState:
    """Wait until a run that waited has ended, and check that this is soon after the answer; returns its last state."""
    end = ended(watch, api, label, run_id, RECOGNISED_WITHIN)
    took = end.at - answered_at
    watch.check(took <= ANSWER_SEEN_WITHIN, f"{label} ends within {ANSWER_SEEN_WITHIN.seconds} s of that", took)
    check_went_through(watch, api, label, run_id, "Running", "Paused", *names)
    return end
