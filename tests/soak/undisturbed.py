"""The nightly run as it is on every night, and a second run on the same images."""

from __future__ import annotations

from tests.soak.account import backups, stretch
from tests.soak.checks import check_account, check_alarms, check_lived, ended, running
from tests.soak.plan import SEEN_WITHIN, SOON, Plan
from tests.soak.stack import NIGHTLY, Stack
from tests.soak.watch import Watch


def undisturbed(watch: Watch, stack: Stack, plan: Plan) -> None:
    """Run `nightly` with its own parameters; a run by hand on the same images waits for it and finds all done."""
    api, sandbox = stack.api, stack.sandbox
    images = [newest for newest, *_ in backups(sandbox)]
    for image in images:
        stretch(sandbox, image, plan.work)
    nightly = api.begin(NIGHTLY)
    running(watch, api, "the nightly run", nightly, SOON)
    watch.until("the nightly run has started a transfer", lambda: sandbox.record.actions, SOON)
    second = api.begin("replicate-backups/manual")
    running(watch, api, "the second run", second, SOON)
    end = ended(watch, api, "the nightly run", nightly, plan.work + SEEN_WITHIN + SOON)
    actions = len(sandbox.record.actions)
    later = ended(watch, api, "the second run", second, SOON + SEEN_WITHIN)
    check_lived(watch, api, "the nightly run", nightly, at_least=plan.work)
    check_lived(watch, api, "the second run", second)
    watch.check(later.at >= end.at, "the second run has waited for the nightly run", f"{later.at} and {end.at}")
    watch.check(len(sandbox.record.actions) == actions, "the second run has found everything done", later.message)
    check_account(watch, stack, images)
    check_alarms(watch, api)
