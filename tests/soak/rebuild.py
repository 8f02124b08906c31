"""Rebuilding Droplets as deployed, with kills in between."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from deployments.sandbox import Sandbox
from tests.end_to_end.accounts import add_snapshots
from tests.soak.checks import check_alarms, check_died, check_lived, ended
from tests.soak.plan import RECOGNISED_WITHIN, SEEN_WITHIN, SOON, Plan
from tests.soak.stack import Stack
from tests.soak.watch import Watch

HOME, REGION = "nyc3", "ams3"
DRILL, DRILL_WEEKLY, RESTORE = "drill-restore/manual", "drill-restore/weekly", "restore-droplets/manual"
# A creation takes 20 to 60 s, and its Droplet is destroyed soon after.
LONGEST_DRILL = timedelta(minutes=4)


def rebuild(watch: Watch, stack: Stack, plan: Plan) -> None:
    """A drill is killed, and the next one cleans up; a region is lost, and a restore is killed with its worker."""
    api, sandbox, record = stack.api, stack.sandbox, stack.sandbox.record
    originals = sorted(sandbox.account.droplets)
    for droplet in sandbox.account.droplets.values():
        droplet.region = HOME
        add_snapshots(sandbox, droplet, 0, regions=[HOME, REGION])

    drill = api.begin(DRILL, sample=len(originals))
    watch.until("the drill has created its Droplets", lambda: len(record.created) == len(originals), SOON)
    killed_at = datetime.now(UTC)
    stack.kill_run(drill)
    check_died(watch, api, "the drill that is killed", drill, killed_at, SOON)
    watch.check(len(record.left_behind()) == len(originals), "it leaves its Droplets behind")
    watch.check(len(record.firewalls_created) == 1, "a firewall isolates them")
    next_drill = api.begin(DRILL_WEEKLY)
    ended(watch, api, "the next drill", next_drill, LONGEST_DRILL + SOON)
    check_lived(watch, api, "the next drill", next_drill)
    watch.check(record.left_behind() == [], "it has destroyed them, and its own")
    watch.check(len(record.created) == len(originals) + 1, "it has rebuilt one Droplet")

    sandbox.account.lose_region(HOME)
    restore = api.begin(RESTORE, region=REGION, from_region=HOME, dry_run=False)
    drilled = len(record.created)
    watch.until("the restore has created a Droplet", lambda: len(record.created) > drilled, SOON)
    killed_at = datetime.now(UTC)
    stack.kill_worker_and_runs()
    stack.start_worker()
    later = api.begin(RESTORE, region=REGION, from_region=HOME, dry_run=False)
    check_died(watch, api, "the restore killed with its worker", restore, killed_at, RECOGNISED_WITHIN)
    ended(watch, api, "the restore that finishes its work", later, RECOGNISED_WITHIN + SEEN_WITHIN)
    check_lived(watch, api, "the restore that finishes its work", later)
    watch.check(restored(sandbox) == dict.fromkeys(originals, 1), "each Droplet is rebuilt once")
    watch.check(record.created_twice() == [], "no Droplet was created twice")
    watch.check(record.originals_destroyed() == [], "no original was destroyed")
    watch.requests = len(record.requests)
    check_alarms(watch, api, {drill: "the drill that is killed", restore: "the restore killed with its worker"})


def restored(sandbox: Sandbox) -> dict[int, int]:
    """How many Droplets there are that were rebuilt from each original."""
    start = "prefect:restored:"
    tags = [tag for droplet in sandbox.account.droplets.values() for tag in droplet.tags if tag.startswith(start)]
    return dict(Counter(int(tag.removeprefix(start)) for tag in tags))
