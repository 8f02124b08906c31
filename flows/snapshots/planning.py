"""Which Droplets need a snapshot: a pure function from the account's state to a plan.

The API has no idempotency key, and an action does not tell the ID of its snapshot. So the name of a snapshot holds the
time of the run that took it, such as `web-01 prefect 2026-11-26T03:00:00Z`. A run that finishes a killed one takes what
is missing under the same time.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from math import fsum

from flows.actions import BELIEVE_ACTIONS_FOR
from flows.replication.recovery_points import Candidate, Selection, attached_volumes, is_tagged, name_of
from tasks.digitalocean import Action, Droplet, Image, Snapshot, TakeSnapshot

TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
SNAPSHOT = "snapshot"
NAME = re.compile(r".* prefect (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)")
# A later run takes new snapshots instead of finishing this one: as long as `replicate_backups` may take by default.
FINISH_WITHIN = timedelta(hours=6)
# A run that did not wait leaves its snapshots untagged, and the next night's run tags them. A user who removes the tag
# later, to keep a snapshot, does not get it back.
TAG_WITHIN = timedelta(days=2)
# Times of actions and snapshots are compared with this tolerance.
MOST_BETWEEN_TIMES = timedelta(minutes=1)


@dataclass(frozen=True)
class SnapshotStep:
    """What to do about one Droplet.

    Attributes:
        name: The name of the snapshot to take.
        there: The snapshot that it already has; None if one is missing.
        note: Why that snapshot is enough.
        running: An action in progress that takes a snapshot, or one whose snapshot is not listed yet.
        estimated_gb: The expected size of a new snapshot; None if there is nothing to estimate it from.
        refusal: Why no snapshot can be taken; empty if one can.
    """

    droplet: Droplet
    name: str
    there: Image | None = None
    note: str = ""
    running: Action | None = None
    estimated_gb: float | None = None
    refusal: str = ""

    @property
    def source(self) -> str:
        """Name and ID of the Droplet."""
        return name_of(self.droplet)

    @property
    def missing(self) -> bool:
        """Whether a snapshot has to be taken or waited for."""
        return self.there is None and not self.refusal

    @property
    def request(self) -> TakeSnapshot:
        """The request that takes the snapshot."""
        return TakeSnapshot(name=self.name)


@dataclass(frozen=True)
class SnapshotPlan:
    """What to do about all Droplets.

    Attributes:
        run_time: The time in the names of the snapshots.
        untagged: IDs of earlier snapshots of this project that lack the managed tag.
    """

    steps: tuple[SnapshotStep, ...]
    run_time: datetime
    untagged: tuple[int, ...] = ()

    @property
    def missing(self) -> tuple[SnapshotStep, ...]:
        """The Droplets that need a snapshot."""
        return tuple(step for step in self.steps if step.missing)

    @property
    def estimated_gb(self) -> float:
        """The expected size of the new snapshots."""
        return fsum(step.estimated_gb or 0.0 for step in self.missing)

    @property
    def unsized(self) -> int:
        """Number of new snapshots that are not in `estimated_gb`."""
        return sum(step.estimated_gb is None for step in self.missing)


@dataclass(frozen=True)
class Holdings:
    """The account's state, as far as it matters for new snapshots.

    Attributes:
        droplets: The Droplets to protect.
        snapshots: The account's snapshots of Droplets.
        actions: Actions that take snapshots of these Droplets, in progress or completed recently.
        unread: Why the actions of some Droplets are unknown, by Droplet ID.
        backups: Other images of these Droplets, to estimate sizes; may be empty.
        finished_runs: Whether the runs with these times have completed, as far as it is known.
    """

    droplets: Sequence[Droplet]
    snapshots: Sequence[Snapshot]
    actions: Sequence[Action] = ()
    unread: Mapping[int, str] = field(default_factory=dict)
    backups: Sequence[Image] = ()
    finished_runs: Mapping[datetime, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class SnapshotChoice:
    """The chosen Droplets, and what to do about them.

    Attributes:
        droplets: The Droplets.
        plan: Which of them need a snapshot.
        listed: How many snapshots the account has.
        began: When the run chose for the first time.
        job: Names the flow and the chosen Droplets.
        gone: Why Droplets that were named cannot be snapshotted, by ID.
    """

    droplets: tuple[Droplet, ...]
    plan: SnapshotPlan
    listed: int
    began: datetime
    job: str = ""
    gone: Mapping[int, str] = field(default_factory=dict)

    @property
    def selection(self) -> Selection:
        """The snapshots that are there already, to be copied."""
        return Selection(
            tuple(Candidate(step.there, step.source, step.droplet.id) for step in self.plan.steps if step.there),
            volumes=attached_volumes(self.droplets),
            snapshots=self,
        )


def snapshot_name(droplet_name: str, run_time: datetime) -> str:
    """Make the name of a Droplet's snapshot."""
    return f"{droplet_name} prefect {run_time.astimezone(UTC):{TIME_FORMAT}}"


def run_time_of(name: str) -> datetime | None:
    """Read the time of the run that took a snapshot from its name; None if this project did not take it."""
    if not (found := NAME.fullmatch(name)):
        return None
    try:
        return datetime.strptime(found[1], TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None


@dataclass(frozen=True)
class Young:
    """Which snapshots are so young that no other is needed.

    Attributes:
        now: The time.
        began: When this run began; None if it has not waited for others.
        since: When the oldest of them may have been made; None if `max_age_hours` was not given.
    """

    now: datetime
    began: datetime | None
    since: datetime | None

    def why(self, snapshot: Snapshot) -> str:
        """Why a snapshot is enough; empty if it is not."""
        time = run_time_of(snapshot.name)
        if time and self.began and self.began.replace(microsecond=0) <= time <= self.now:
            return "taken by another run since this one began"
        made = snapshot.created_at
        return f"made {made:%Y-%m-%d %H:%M} UTC, recently enough" if self.since and made > self.since else ""


def plan_snapshots(
    holdings: Holdings,
    now: datetime,
    *,
    managed_tag: str,
    max_age_hours: int | None = None,
    regions: Collection[str] = (),
    began: datetime | None = None,
) -> SnapshotPlan:
    """Compute which Droplets need a snapshot.

    Args:
        holdings: The account's state.
        now: The time.
        managed_tag: The tag on snapshots that this project made.
        max_age_hours: Droplets with a younger managed snapshot need none; None if all need one.
        regions: Slugs of the regions that the snapshots are to be copied to, if any.
        began: When this run began; snapshots that other runs have taken since are enough. None if it has
            not waited for others.
    """
    own = _by_droplet(holdings, managed_tag)
    unfinished = _runs_to_finish([each for some in own.values() for each in some], holdings, now, managed_tag, regions)
    run_time = unfinished[0] if unfinished else now.replace(microsecond=0)
    young = Young(now, began, now - timedelta(hours=max_age_hours) if max_age_hours is not None else None)
    droplets = sorted({each.id: each for each in holdings.droplets}.values(), key=lambda each: (each.name, each.id))
    steps = [
        _step(each, own.get(each.id, []), holdings, now, run_time, unfinished=unfinished, young=young)
        for each in droplets
    ]
    untagged = tuple(
        each.id
        for some in own.values()
        for each in some
        if not is_tagged(each, managed_tag) and now - _made(each) < TAG_WITHIN
    )
    return SnapshotPlan(tuple(steps), run_time, untagged)


def _by_droplet(holdings: Holdings, managed_tag: str) -> dict[int, list[Snapshot]]:
    """This project's snapshots of each Droplet, newest first."""
    chosen = {droplet.id for droplet in holdings.droplets}
    own: dict[int, list[Snapshot]] = {}
    for each in sorted(holdings.snapshots, key=lambda each: (each.created_at, each.id), reverse=True):
        if each.resource_id in chosen and (run_time_of(each.name) or is_tagged(each, managed_tag)):
            own.setdefault(each.resource_id, []).append(each)
    return own


def _runs_to_finish(
    own: Iterable[Snapshot], holdings: Holdings, now: datetime, managed_tag: str, regions: Collection[str]
) -> list[datetime]:
    """Find the times of the runs since the last one that finished, latest first; none if a new run has to begin.

    Several, because a run adopts snapshots that were in progress, and they have the time of the run that started them.
    Prefect knows whether a run completed. Without Prefect, a snapshot that is untagged or missing in a region shows it.
    """
    runs: dict[datetime, list[Snapshot]] = {}
    for each in own:
        time = run_time_of(each.name)
        if time and timedelta(0) <= now - time < FINISH_WITHIN:
            runs.setdefault(time, []).append(each)

    def is_unfinished(time: datetime) -> bool:
        if (finished := holdings.finished_runs.get(time)) is not None:
            return not finished
        return any(not is_tagged(each, managed_tag) or not set(regions) <= set(each.regions) for each in runs[time])

    return list(takewhile(is_unfinished, sorted(runs, reverse=True)))


def _step(
    droplet: Droplet,
    own: Sequence[Snapshot],
    holdings: Holdings,
    now: datetime,
    run_time: datetime,
    *,
    unfinished: Collection[datetime],
    young: Young,
) -> SnapshotStep:
    step = SnapshotStep(droplet, snapshot_name(droplet.name, run_time), estimated_gb=_estimated_gb(droplet, holdings))
    for each in own:
        time = run_time_of(each.name)
        note = f"from the {time:%H:%M} UTC run, which did not finish" if time in unfinished else young.why(each)
        if note:
            return SnapshotStep(droplet, each.name, there=image_of(each), note=note)
    if why := holdings.unread.get(droplet.id):
        return SnapshotStep(droplet, step.name, refusal=why)
    running = next((each for each in holdings.actions if _may_be_ours(each, droplet, holdings, now)), None)
    return SnapshotStep(droplet, step.name, running=running, estimated_gb=step.estimated_gb)


def _may_be_ours(action: Action, droplet: Droplet, holdings: Holdings, now: datetime) -> bool:
    """Whether an action takes a snapshot that is not listed yet."""
    if action.resource_id != droplet.id or action.type != SNAPSHOT or action.errored:
        return False
    if action.in_progress:
        return True
    ended = action.completed_at or action.started_at
    listed = any(made_by(each, action) for each in holdings.snapshots if each.resource_id == droplet.id)
    return now - ended <= BELIEVE_ACTIONS_FOR and not listed


def made_by(snapshot: Snapshot | Image, action: Action) -> bool:
    """Whether a snapshot may be the one that a completed action of its Droplet has made, by its creation time."""
    ended = action.completed_at or action.started_at
    return action.started_at - MOST_BETWEEN_TIMES <= snapshot.created_at <= ended + MOST_BETWEEN_TIMES


def image_of(snapshot: Snapshot) -> Image:
    """Make the image that the list of images shows for a snapshot."""
    return Image(
        id=snapshot.id,
        type="snapshot",
        regions=snapshot.regions,
        created_at=snapshot.created_at,
        name=snapshot.name,
        size_gigabytes=snapshot.size_gigabytes,
        tags=snapshot.tags,
    )


def _made(snapshot: Snapshot) -> datetime:
    return run_time_of(snapshot.name) or snapshot.created_at


def _estimated_gb(droplet: Droplet, holdings: Holdings) -> float | None:
    """Estimate the size of a new snapshot: that of the Droplet's newest image."""
    images = [image_of(each) for each in holdings.snapshots if each.resource_id == droplet.id]
    images += [each for each in holdings.backups if each.id in droplet.backup_ids]
    sized = [each for each in images if each.size_gigabytes is not None]
    return max(sized, key=lambda each: (each.created_at, each.id)).size_gigabytes if sized else None
