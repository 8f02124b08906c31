"""`kill -9` of the worker, of a run, and of both."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.soak.account import backups, stretch
from tests.soak.checks import check_account, check_alarms, check_died, check_lived, ended, running
from tests.soak.plan import RECOGNISED_WITHIN, SEEN_WITHIN, SOON, Plan
from tests.soak.stack import NIGHTLY, Stack
from tests.soak.watch import Watch

MANUAL = "replicate-backups/manual"


def run_or_worker(watch: Watch, stack: Stack, plan: Plan) -> None:
    """A run is killed, then the worker alone; the runs that the worker has left behind go on."""
    api, sandbox = stack.api, stack.sandbox
    (first, *_), (second, *_) = backups(sandbox)
    stretch(sandbox, first, plan.work / 2)
    stretch(sandbox, second, plan.work)
    killed, orphan = api.begin(MANUAL, image_ids=[first.id]), api.begin(NIGHTLY, image_ids=[second.id])
    for label, run_id in (("the run that is killed", killed), ("the run whose worker is killed", orphan)):
        running(watch, api, label, run_id, SOON)
    watch.until("both have started transfers", lambda: _have_transfers(stack, first.id, second.id), SOON)
    watch.pause(30)
    killed_at = datetime.now(UTC)
    stack.kill_run(killed)
    check_died(watch, api, "the run that is killed", killed, killed_at, SOON)
    actions = len(sandbox.record.actions)
    later = api.begin(MANUAL, image_ids=[first.id])
    running(watch, api, "the run that finishes the work", later, SOON)
    watch.pause(plan.shortened(1).total_seconds())
    stack.kill_worker()
    watch.pause(plan.shortened(1).total_seconds())
    stack.start_worker()
    ended(watch, api, "the run that finishes the work", later, plan.work + SEEN_WITHIN)
    ended(watch, api, "the run whose worker is killed", orphan, plan.work + SEEN_WITHIN)
    check_lived(watch, api, "the run that finishes the work", later)
    check_lived(watch, api, "the run whose worker is killed", orphan, at_least=plan.work)
    new = api.begin(MANUAL)
    ended(watch, api, "a run of the new worker", new, SOON + SEEN_WITHIN)
    check_lived(watch, api, "a run of the new worker", new)
    watch.check(len(sandbox.record.actions) == actions, "the later runs have adopted what was under way")
    check_account(watch, stack, [first, second])
    check_alarms(watch, api, {killed: "the run that is killed"})


def both(watch: Watch, stack: Stack, plan: Plan) -> None:
    """A run and its worker are killed, so that only Prefect's server can recognise it."""
    api, sandbox = stack.api, stack.sandbox
    image, *_ = backups(sandbox)[0]
    # Still under way when the run is recognised as dead.
    stretch(sandbox, image, RECOGNISED_WITHIN + SEEN_WITHIN)
    run = api.begin(NIGHTLY, image_ids=[image.id])
    running(watch, api, "the run killed with its worker", run, SOON)
    watch.until("it has started transfers", lambda: _have_transfers(stack, image.id), SOON)
    # Long enough for some heartbeats.
    watch.pause(90)
    killed_at = datetime.now(UTC)
    stack.kill_worker_and_runs()
    stack.start_worker()
    check_died(watch, api, "the run killed with its worker", run, killed_at, RECOGNISED_WITHIN)
    actions = len(sandbox.record.actions)
    later = api.begin(NIGHTLY, image_ids=[image.id])
    ended(watch, api, "the run that finishes its work", later, plan.work + SEEN_WITHIN)
    check_lived(watch, api, "the run that finishes its work", later)
    watch.check(len(sandbox.record.actions) == actions, "the later run has adopted what was under way")
    check_account(watch, stack, [image])
    check_alarms(watch, api, {run: "the run killed with its worker"})


def _have_transfers(stack: Stack, *image_ids: int) -> bool:
    transferring = {action.resource_id for action in stack.sandbox.record.actions if action.type == "transfer"}
    return transferring >= set(image_ids)
