"""Prefect's server goes away while runs are at work."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from flows.prefect_settings import DEAD_AFTER
from tests.soak.account import backups, ends_at, stretch
from tests.soak.checks import check_account, check_alarms, check_lived, ended, running
from tests.soak.plan import SEEN_WITHIN, SOON, Plan
from tests.soak.stack import NIGHTLY, Stack
from tests.soak.watch import Watch

MANUAL = "replicate-backups/manual"


def restart(watch: Watch, stack: Stack, plan: Plan) -> None:
    """In the middle of a nightly run the server ends on SIGTERM and is started again at once."""
    api, sandbox = stack.api, stack.sandbox
    images = [newest for newest, *_ in backups(sandbox)]
    for image in images:
        stretch(sandbox, image, plan.work)
    nightly = api.begin(NIGHTLY)
    running(watch, api, "the nightly run", nightly, SOON)
    watch.pause(plan.work.total_seconds() / 2)
    stack.end_server()
    stack.start_server()
    ended(watch, api, "the nightly run", nightly, plan.work + SEEN_WITHIN + SOON)
    check_lived(watch, api, "the nightly run", nightly, at_least=plan.work)
    check_account(watch, stack, images)
    check_alarms(watch, api)


def outage(watch: Watch, stack: Stack, plan: Plan) -> None:
    """The server is killed and comes back after five minutes.

    Three runs are at work: one goes on, one waits for the first one's image, one has done its work meanwhile.
    """
    api, sandbox = stack.api, stack.sandbox
    (long, *_), (short, *_) = backups(sandbox)
    stretch(sandbox, long, plan.work)
    stretch(sandbox, short, plan.shortened(10))
    runs = {
        "the run that goes on": api.begin(NIGHTLY, image_ids=[long.id]),
        "the run that ends meanwhile": api.begin(MANUAL, image_ids=[short.id]),
    }
    end = watch.until("the short transfers are under way", lambda: ends_at(sandbox, short), SOON + SOON)
    assert end
    runs["the run that waits for an image"] = api.begin(MANUAL, image_ids=[long.id])
    for label, run_id in runs.items():
        running(watch, api, label, run_id, SOON)
    watch.pause((end - datetime.now(UTC)).total_seconds() - 30 / plan.quick)
    down_at = datetime.now(UTC)
    stack.kill_server()
    watch.pause(plan.outage.total_seconds())
    up_at = datetime.now(UTC)
    stack.start_server()
    back_at = datetime.now(UTC)
    for label, run_id in runs.items():
        ended(watch, api, label, run_id, plan.work + DEAD_AFTER)
    check_lived(watch, api, "the run that goes on", runs["the run that goes on"], at_least=plan.work)
    check_lived(watch, api, "the run that ends meanwhile", runs["the run that ends meanwhile"])
    check_lived(watch, api, "the run that waits for an image", runs["the run that waits for an image"])
    recorded = api.state(runs["the run that ends meanwhile"])
    watch.check(
        down_at < end < up_at and recorded.at < back_at + DEAD_AFTER,
        "the run that ended during the outage was recorded with its true result",
        f"transfers done {end:%H:%M:%S}, server away {down_at:%H:%M:%S} to {back_at:%H:%M:%S}, {recorded}",
    )
    seen = [each for each in sandbox.record.requests if down_at.timestamp() < each.at < up_at.timestamp()]
    watch.check(seen, "the runs went on asking the API while the server was away")
    waited = api.state(runs["the run that waits for an image"]).at >= api.state(runs["the run that goes on"]).at
    watch.check(waited, "the run that waits for an image has waited until the end of the one that goes on")
    check_account(watch, stack, [long, short])
    check_alarms(watch, api)
    watch.say(f"the server was away for {(back_at - down_at) / timedelta(minutes=1):.1f} min")
