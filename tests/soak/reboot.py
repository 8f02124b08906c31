"""The machine is rebooted while there is a run in every state."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from deployments.sandbox import Image
from tests.soak.account import backups, stretch
from tests.soak.checks import check_account, check_alarms, check_died, check_lived, described, ended, running, started
from tests.soak.events import AFTER_BACKUP, LIMIT
from tests.soak.history import PrefectApi
from tests.soak.plan import RECOGNISED_WITHIN, SEEN_WITHIN, SOON, Plan
from tests.soak.stack import NIGHTLY, Stack
from tests.soak.watch import Watch

# After the reboot, so that the run is Scheduled when it comes.
SCHEDULED_IN = timedelta(minutes=3)
WAITS = "aiting for "
STATES = {
    "Running": "RUNNING",
    "waiting for a lock": "RUNNING",
    "after an event, Running": "RUNNING",
    "Scheduled": "SCHEDULED",
    "Pending": "PENDING",
    "after an event, Pending": "PENDING",
    "after an event, waiting": "SCHEDULED",
    "Late": "SCHEDULED",
}


def reboot(watch: Watch, stack: Stack, plan: Plan) -> None:
    """Everything is killed at once and restarted, with runs in each state.

    Of `nightly` there are runs that are Running, waiting for an image lock, Pending, Late and Scheduled; of
    `after-backup`, whose queue admits two at once, one is Running, one Pending, and one waits.
    """
    api = stack.api
    every = backups(stack.sandbox)
    night, event, pending = every[0][0], every[1][0], every[0][1]
    stretch(stack.sandbox, night, plan.work)
    for image in [image for images in every for image in images if image is not night]:
        stretch(stack.sandbox, image, plan.shortened(3))
    runs = _begin_runs(watch, stack, every)
    for label, run_id in runs.items():
        watch.say(f"before the reboot, {label}: {described(api.states(run_id))}")
    unlike = {label: api.state(run_id) for label, run_id in runs.items() if api.state(run_id).type != STATES[label]}
    watch.check(not unlike, "the reboot found runs in each state", unlike)
    killed_at = datetime.now(UTC)
    stack.reboot()
    next_night = api.begin(NIGHTLY)
    after_pending = api.begin(NIGHTLY, image_ids=[pending.id])
    for label, run_id in (("the next nightly run", next_night), ("the run after the Pending one", after_pending)):
        running(watch, api, label, run_id, SOON)
    for label in ("Late", "Scheduled"):
        ended(watch, api, f"the run that was {label}", runs[label], SCHEDULED_IN + SEEN_WITHIN + SEEN_WITHIN)
        check_lived(watch, api, f"the run that was {label}", runs[label])
    ended(watch, api, "the run after the Pending one", after_pending, SEEN_WITHIN)
    check_lived(watch, api, "the run after the Pending one", after_pending)
    died = {
        runs[label]: f"the run that was {label}"
        for label in ("Running", "waiting for a lock", "Pending", "after an event, Running", "after an event, Pending")
    }
    for run_id, label in died.items():
        check_died(watch, api, label, run_id, killed_at, RECOGNISED_WITHIN)
    label, run_id = "the run after an event that was waiting", runs["after an event, waiting"]
    started(watch, api, label, run_id, SOON)
    # Now it waits for the nightly run, which has locked all images.
    ended(watch, api, "the next nightly run", next_night, plan.work + SEEN_WITHIN)
    check_lived(watch, api, "the next nightly run", next_night)
    ended(watch, api, label, run_id, SEEN_WITHIN)
    check_lived(watch, api, label, run_id)
    new_event = _begin_after_event(watch, api, event.id)
    ended(watch, api, "a run after a new event", new_event, SOON + SEEN_WITHIN)
    check_lived(watch, api, "a run after a new event", new_event)
    taken = api.slots_taken("events")
    watch.check(not taken, f"none of the {LIMIT} slots of the queue events is taken", taken)
    named = [images[1] for images in every[:3]]
    check_account(watch, stack, [*named, *(images[0] for images in every)])
    check_alarms(watch, api, died, events=4)


def _begin_runs(watch: Watch, stack: Stack, every: list[list[Image]]) -> dict[str, str]:
    """Begin a run for each state, and keep it there; `every` has the newest backup and an older one of each Droplet."""
    api = stack.api
    newest, older = [images[0].id for images in every], [images[1].id for images in every]
    runs = {"Running": api.begin(NIGHTLY, image_ids=newest[:1])}
    running(watch, api, "the nightly run", runs["Running"], SOON)
    watch.until("it has started a transfer", lambda: stack.sandbox.record.actions, SOON)
    runs["waiting for a lock"] = api.begin(NIGHTLY, image_ids=newest[:1])
    runs["after an event, Running"] = _begin_after_event(watch, api, newest[1])
    running(watch, api, "the run after an event", runs["after an event, Running"], SOON)
    running(watch, api, "the run that waits for an image", runs["waiting for a lock"], SOON)
    watch.until("it says that it waits", lambda: WAITS in api.log(runs["waiting for a lock"]), SOON)
    runs["Scheduled"] = api.begin(NIGHTLY, at=datetime.now(UTC) + SCHEDULED_IN, image_ids=[older[2]])
    runs["Pending"] = api.begin(NIGHTLY, image_ids=[older[0]])
    runs["after an event, Pending"] = _begin_after_event(watch, api, newest[2])
    runs["after an event, waiting"] = _begin_after_event(watch, api, newest[3])
    for label in ("Pending", "after an event, Pending"):
        _keep_pending(watch, stack, runs[label])
    stack.freeze_worker()
    runs["Late"] = api.begin(NIGHTLY, image_ids=[older[1]])
    watch.until("a run is Late", lambda: api.state(runs["Late"]).name == "Late", SOON)
    return runs


def _begin_after_event(watch: Watch, api: PrefectApi, image_id: int) -> str:
    """Send an event, and return the run that it has triggered."""
    before = api.runs_of(AFTER_BACKUP)
    api.send_backup_completed(image_ids=[image_id])

    def triggered() -> list[str]:
        return [run for run in api.runs_of(AFTER_BACKUP) if run not in before]

    return watch.until("an event has triggered a run", triggered, SOON)[0]


def _keep_pending(watch: Watch, stack: Stack, run_id: str) -> None:
    """Stop the process of a run as soon as it has one, so that the run stays Pending."""
    watch.until("a run is Pending", lambda: stack.freeze_pending(run_id), SOON)
