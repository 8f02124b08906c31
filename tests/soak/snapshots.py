"""Snapshots as the source of the nightly run: a kill of a run and its worker, and an undisturbed run."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from deployments.sandbox import Sandbox
from tests.soak.account import regions, stretch_snapshot
from tests.soak.checks import check_account, check_alarms, check_died, check_lived, ended, running
from tests.soak.plan import RECOGNISED_WITHIN, SEEN_WITHIN, SOON, Plan
from tests.soak.stack import NIGHTLY, Stack
from tests.soak.watch import Watch
from tests.torture.snapshots import SNAPSHOT, SnapshotNight, size_snapshots

# Tags of the Droplets of each run.
TO_BE_KILLED, UNDISTURBED = "soak:killed", "soak:undisturbed"
# In gigabytes. When the run is killed, the first has been taken, but not found yet; the second is still being taken.
SMALL, LARGE = 1.0, 5.0


def snapshots(watch: Watch, stack: Stack, plan: Plan) -> None:
    """Snapshots as the source: a run is killed with its worker and finished by the next, beside an undisturbed one."""
    api, sandbox = stack.api, stack.sandbox
    night = SnapshotNight(sandbox, regions(sandbox))
    small, large, other = sandbox.account.droplets.values()
    size_snapshots(sandbox.account, {small.id: SMALL, large.id: LARGE / plan.quick})
    tag(sandbox, TO_BE_KILLED, [small.id, large.id])
    tag(sandbox, UNDISTURBED, [other.id])
    api.set_parameters(NIGHTLY, source="snapshots")
    killed = api.begin(NIGHTLY, droplet_tag=TO_BE_KILLED)
    running(watch, api, "the run killed with its worker", killed, SOON)
    watch.until("it has taken one snapshot", lambda: count(sandbox, "completed") == 1, SOON + SOON)
    watch.check(count(sandbox, "in-progress") == 1, "it is killed while another snapshot is being taken")
    killed_at = datetime.now(UTC)
    stack.kill_worker_and_runs()
    stretch_snapshot(sandbox, other, plan.work)
    stack.start_worker()
    # It waits for the Droplets of the dead run until that is recognised.
    later = api.begin(NIGHTLY, droplet_tag=TO_BE_KILLED)
    undisturbed = api.begin(NIGHTLY, droplet_tag=UNDISTURBED)
    running(watch, api, "the undisturbed run", undisturbed, SOON)
    check_died(watch, api, "the run killed with its worker", killed, killed_at, RECOGNISED_WITHIN)
    ended(watch, api, "the run that finishes its work", later, plan.work + SEEN_WITHIN)
    ended(watch, api, "the undisturbed run", undisturbed, plan.work + SEEN_WITHIN + SOON)
    check_lived(watch, api, "the run that finishes its work", later)
    check_lived(watch, api, "the undisturbed run", undisturbed, at_least=plan.work)
    taken = sorted(image.droplet_id or 0 for image in night.taken())
    watch.check(taken == sorted(sandbox.account.droplets), "each Droplet has one new snapshot", taken)
    watch.check(not night.untagged(), "each new snapshot is tagged", night.untagged())
    watch.check(
        not night.too_much(), "every backup is still a backup, and no older image has changed", night.too_much()
    )
    check_account(watch, stack, night.taken())
    check_alarms(watch, api, {killed: "the run killed with its worker"})


def tag(sandbox: Sandbox, name: str, droplet_ids: Collection[int]) -> None:
    """Tag Droplets."""
    for droplet_id in droplet_ids:
        sandbox.account.tag(sandbox.account.tag_named(name), "droplet", sandbox.account.droplets[droplet_id])


def count(sandbox: Sandbox, status: str) -> int:
    """Count the actions of a status that take snapshots."""
    return sum(each.type == SNAPSHOT and each.status == status for each in sandbox.record.actions)
