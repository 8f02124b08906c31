"""Which snapshots go: a pure function from what is to a plan.

Nothing goes that this project did not make, and nothing of a Droplet whose newest recovery point is not yet where it
should be: until then, an older one may be all that a lost region leaves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import fsum

from flows.replication.recovery_points import is_tagged
from flows.retention.rule import RetentionRule, age_order
from tasks.digitalocean import Droplet, Image, InvalidArgument, Snapshot


@dataclass(frozen=True)
class Verdict:
    """What is to become of a snapshot.

    Attributes:
        snapshot: The snapshot.
        kept_by: Everything that keeps it, for people; empty if it goes.
    """

    snapshot: Snapshot
    kept_by: tuple[str, ...] = ()

    @property
    def should_delete(self) -> bool:
        """Whether it is to be deleted."""
        return not self.kept_by

    @property
    def why(self) -> str:
        """Why it goes, for people; empty if it stays."""
        return "no rule keeps it" if self.should_delete else ""


@dataclass(frozen=True)
class PruningPlan:
    """What is to become of all snapshots of this project, by Droplet and the newest first.

    Attributes:
        verdicts: One per snapshot.
        left_alone: How many snapshots do not bear the tag, and so are nobody's business here.
    """

    verdicts: tuple[Verdict, ...] = ()
    left_alone: int = 0

    @property
    def to_delete(self) -> tuple[Snapshot, ...]:
        """The snapshots that go."""
        return tuple(verdict.snapshot for verdict in self.verdicts if verdict.should_delete)

    @property
    def kept(self) -> tuple[Snapshot, ...]:
        """The snapshots that stay."""
        return tuple(verdict.snapshot for verdict in self.verdicts if not verdict.should_delete)

    @property
    def gib_to_delete(self) -> float:
        """The size of what goes, each snapshot counted once however many regions it is in."""
        return _gib(self.to_delete)

    @property
    def gib_kept(self) -> float:
        """The size of what stays, counted in the same way."""
        return _gib(self.kept)

    def exceeds(self, max_deletions: int) -> bool:
        """Whether more would go than may go at once, so that none should."""
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
    """Decide which snapshots go.

    Args:
        snapshots: The snapshots of Droplets, also of those that are gone.
        rule: What is kept of each Droplet's.
        now: The time.
        managed_tag: The tag on snapshots that this project made.
        regions: Slugs of the regions in which a recovery point should be.
        under_way: Ids of images with an action under way.
        backups: The newest backup of each Droplet that has one, by the Droplet's id.
        unavailable: The statuses of snapshots that are not available, by id. They stay, and nothing goes because of
            them: no part of the rule counts them, and none is a recovery point.

    Returns:
        The plan.

    Raises:
        InvalidArgument: No region is named, so that nobody could tell what is safe.
    """
    if not regions:
        raise InvalidArgument("nothing is pruned without a region in which the newest recovery points should be")
    # An entry that is listed twice would take the place of another among the last to be kept.
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
        reasons = rule.reasons(usable, now)
        protection = _protection(usable, backup, regions, under_way)
        verdicts += [
            Verdict(each, (f"status {unusable[each.id]}",))
            if each.id in unusable
            else Verdict(each, reasons[each.id] + protection[each.id])
            for each in own
        ]
    return PruningPlan(tuple(verdicts), left_alone=len(listed) - len(managed))


def newest_backup_by_droplet(droplets: Iterable[Droplet], images: Iterable[Image]) -> dict[int, Image]:
    """Find each Droplet's newest backup.

    Args:
        droplets: The Droplets.
        images: The account's images.

    Returns:
        The available backups by the Droplets' ids. One that was listed as a backup and is a snapshot by now counts as
        well.
    """
    known = {image.id: image for image in images}
    found = {}
    for droplet in droplets:
        own = [known[each] for each in droplet.backup_ids if each in known and known[each].available]
        if own:
            found[droplet.id] = max(own, key=lambda image: (image.created_at, image.id))
    return found


def unavailable_snapshots(snapshots: Iterable[Snapshot], images: Iterable[Image]) -> dict[int, str]:
    """Find the snapshots that are not available: the list of snapshots does not say so, the list of images does.

    Args:
        snapshots: The snapshots.
        images: The account's images.

    Returns:
        The statuses by the snapshots' ids. One that is not among the images may be in any.
    """
    statuses = {image.id: "" if image.available else image.status for image in images}
    return {each.id: status for each in snapshots if (status := statuses.get(each.id, "unknown"))}


def _protection(
    newest_first: Sequence[Snapshot], backup: Image | None, regions: Collection[str], under_way: Collection[int | None]
) -> dict[int, tuple[str, ...]]:
    """Say what keeps each snapshot of a Droplet besides the rule."""
    if not newest_first:
        return {}
    newest = newest_first[0]
    backup_is_newer = backup is not None and (backup.created_at, backup.id) > age_order(newest)
    there = backup.regions if backup is not None and backup_is_newer else newest.regions
    lacking = ", ".join(sorted(set(regions) - set(there)))
    protection: dict[int, tuple[str, ...]] = {}
    for snapshot in newest_first:
        reasons = []
        if snapshot is newest:
            # A backup is rotated away, and is gone with its Droplet; the newest snapshot stays in any case.
            reasons.append("newest snapshot" if backup_is_newer else "newest recovery point")
        if snapshot.id in under_way:
            reasons.append("action under way")
        if lacking:
            reasons.append(f"newest copy not yet in {lacking}")
        protection[snapshot.id] = tuple(reasons)
    return protection


def _gib(snapshots: Iterable[Snapshot]) -> float:
    return fsum(snapshot.size_gigabytes for snapshot in snapshots)
