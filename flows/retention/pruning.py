"""Which snapshots to delete: a pure function from the account's state to a plan.

Snapshots that this project did not make are never deleted, nor are those under legal hold, which have the tag
`prefect:hold`. Nor is any snapshot of a Droplet whose newest recovery point is still missing in a region: if the other
regions are lost, an older snapshot may be all that is left.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import fsum

from flows.replication.recovery_points import is_tagged
from flows.retention.rule import RetentionRule, age_order
from tasks.digitalocean import Droplet, Image, InvalidArgument, Snapshot

HOLD_TAG = "prefect:hold"


@dataclass(frozen=True)
class Verdict:
    """Whether to keep or delete a snapshot.

    Attributes:
        kept_by: Human-readable reasons to keep it; empty if it is to be deleted.
    """

    snapshot: Snapshot
    kept_by: tuple[str, ...] = ()

    @property
    def should_delete(self) -> bool:
        """Whether to delete it."""
        return not self.kept_by

    @property
    def reason(self) -> str:
        """Human-readable reason to keep or delete it."""
        return ", ".join(self.kept_by) or "no rule keeps it"


@dataclass(frozen=True)
class PruningPlan:
    """Which of this project's snapshots to keep and to delete, by Droplet, newest first.

    Attributes:
        left_alone: How many snapshots do not have the managed tag.
    """

    verdicts: tuple[Verdict, ...] = ()
    left_alone: int = 0

    @property
    def to_delete(self) -> tuple[Snapshot, ...]:
        """The snapshots to delete."""
        return tuple(verdict.snapshot for verdict in self.verdicts if verdict.should_delete)

    @property
    def gb_to_delete(self) -> float:
        """Size of the snapshots to delete, in GB; each counts once, whatever the number of its regions."""
        return fsum(snapshot.size_gigabytes for snapshot in self.to_delete)

    def exceeds(self, max_deletions: int) -> bool:
        """Whether there are more snapshots to delete than allowed, so that none may be deleted."""
        return len(self.to_delete) > max_deletions


def plan_pruning(
    snapshots: Iterable[Snapshot],
    rule: RetentionRule,
    now: datetime,
    *,
    managed_tag: str,
    regions: Collection[str],
    under_way: Collection[int | None] = (),
    backups: Mapping[int, Image] | None = None,
    unavailable: Mapping[int, str] | None = None,
) -> PruningPlan:
    """Decide which snapshots to delete.

    A held snapshot takes no place of the rule, so that setting a hold never causes a deletion. It can be the newest
    recovery point.

    Args:
        snapshots: The snapshots of Droplets, including deleted Droplets.
        rule: Which snapshots of each Droplet to keep.
        now: The time.
        managed_tag: The tag on snapshots that this project made.
        regions: Slugs of the regions that need the newest recovery point.
        under_way: IDs of images with an action in progress.
        backups: The newest backup of each Droplet that has one, by Droplet ID.
        unavailable: The statuses of snapshots that are not available, by ID. They are kept, the rule does not count
            them, and they are not recovery points.

    Raises:
        InvalidArgument: `regions` is empty.
    """
    if not regions:
        raise InvalidArgument("pruning needs at least one region for the newest recovery points")
    # A snapshot that is listed twice must not use up two places of `keep_last`.
    listed = {snapshot.id: snapshot for snapshot in snapshots}.values()
    managed = [snapshot for snapshot in listed if is_tagged(snapshot, managed_tag)]
    by_droplet: dict[int, list[Snapshot]] = {}
    for snapshot in sorted(managed, key=age_order, reverse=True):
        by_droplet.setdefault(snapshot.resource_id, []).append(snapshot)
    statuses = unavailable or {}
    verdicts: list[Verdict] = []
    for droplet_id, own in sorted(by_droplet.items()):
        backup = (backups or {}).get(droplet_id)
        unusable = {each.id: statuses[each.id] for each in own if each.id in statuses}
        usable = [each for each in own if each.id not in unusable]
        held = {each.id: (f"held by the tag {HOLD_TAG}",) for each in own if is_tagged(each, HOLD_TAG)}
        reasons = rule.reasons([each for each in usable if each.id not in held], now)
        protection = _protection(usable, backup, regions, under_way)
        verdicts += [
            Verdict(
                each,
                held.get(each.id, ())
                + ((f"status {unusable[each.id]}",) if each.id in unusable else ())
                + reasons.get(each.id, ())
                + protection.get(each.id, ()),
            )
            for each in own
        ]
    return PruningPlan(tuple(verdicts), left_alone=len(listed) - len(managed))


def newest_backup_by_droplet(droplets: Iterable[Droplet], images: Iterable[Image]) -> dict[int, Image]:
    """Find each Droplet's newest available backup, by Droplet ID.

    Includes images that were listed as backups and have become snapshots since.
    """
    known = {image.id: image for image in images}
    found = {}
    for droplet in droplets:
        own = [known[each] for each in droplet.backup_ids if each in known and known[each].available]
        if own:
            found[droplet.id] = max(own, key=lambda image: (image.created_at, image.id))
    return found


def unavailable_snapshots(snapshots: Iterable[Snapshot], images: Iterable[Image]) -> dict[int, str]:
    """Find the statuses of snapshots that are not available, by ID; `unknown` if an image is not listed.

    The list of images has the status, the list of snapshots does not.
    """
    statuses = {image.id: "" if image.available else image.status for image in images}
    return {each.id: status for each in snapshots if (status := statuses.get(each.id, "unknown"))}


def _protection(
    newest_first: Sequence[Snapshot], backup: Image | None, regions: Collection[str], under_way: Collection[int | None]
) -> dict[int, tuple[str, ...]]:
    """Find further reasons to keep the snapshots of a Droplet."""
    if not newest_first:
        return {}
    newest = newest_first[0]
    backup_is_newer = backup is not None and (backup.created_at, backup.id) > age_order(newest)
    there = backup.regions if backup is not None and backup_is_newer else newest.regions
    missing = ", ".join(sorted(set(regions) - set(there)))
    protection: dict[int, tuple[str, ...]] = {}
    for snapshot in newest_first:
        reasons = []
        if snapshot is newest:
            # DigitalOcean deletes backups after a while, and with their Droplet. So always keep the newest snapshot.
            reasons.append("newest snapshot" if backup_is_newer else "newest recovery point")
        if snapshot.id in under_way:
            reasons.append("action in progress")
        if missing:
            reasons.append(f"newest copy not yet in {missing}")
        protection[snapshot.id] = tuple(reasons)
    return protection
