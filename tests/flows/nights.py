"""Nights on end in one account: backups come, runs copy them or new snapshots, and prune; each morning is checked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from deployments.sandbox import Account, Droplet, Fault, FaultKind, Faults, Image, RequestLog
from deployments.sandbox.faults import IMAGE_FAULTS, LIST_FAULTS
from flows.retention.rule import RetentionRule
from tests.torture.judging import duplicate_conversions
from tests.torture.snapshots import SNAPSHOT, STARTING, duplicate_snapshots, tells_time

TAG = "prefect:replicated"


def moment(image: Image) -> datetime:
    """When an image was made, as the API says it."""
    return datetime.fromtimestamp(int(image.created_at), UTC)


def made_by_us(account: Account, droplet_id: int) -> list[datetime]:
    """The moments of a Droplet's snapshots that this project made, the newest first."""
    own = [each for each in account.images.values() if each.droplet_id == droplet_id and TAG in each.tags]
    return sorted((moment(each) for each in own if each.type == "snapshot"), reverse=True)


def that_stay(moments: Iterable[datetime], rule: RetentionRule) -> list[datetime]:
    """What a rule keeps of snapshots of these moments, the newest first; computed in another way than the rule does."""
    oldest_first = sorted(moments)
    stay = set(oldest_first[-1:]) | set(oldest_first[::-1][: rule.keep_last])
    for how_many, period in ((rule.keep_daily, "%Y-%m-%d"), (rule.keep_weekly, "%G-%V"), (rule.keep_monthly, "%Y-%m")):
        newest = {each.strftime(period): each for each in oldest_first}
        stay |= set(sorted(newest.values(), reverse=True)[:how_many])
    return sorted(stay, reverse=True)


def go_wrong(
    faults: Faults,
    record: RequestLog,
    night: int,
    *,
    rate: float,
    seed: int,
    at_random: Collection[FaultKind] = IMAGE_FAULTS,
    seconds: float = 1.0,
    starts: str = "/actions$",
) -> None:
    """Have a share of all requests go wrong at random, and besides where it hurts most what has been seen least there.

    Args:
        faults: What goes wrong in the sandbox.
        record: What has gone wrong so far.
        night: Which night it is; in one, two starts of actions go wrong for certain, in the next two deletions.
        rate: The share.
        seed: What is drawn from.
        at_random: What goes wrong at random.
        seconds: As in `Fault`.
        starts: A regular expression for the paths of the starts of actions that go wrong for certain.
    """
    faults.at_random(rate, at_random, seed=seed * 1000 + night, seconds=seconds)
    method, path = ("DELETE", "/v2/images/1") if night % 2 else ("POST", "/v2/images/1/actions")
    at_work = "" if night % 2 else starts
    least_seen = _least_seen(record, method, path, at_work)[:2]
    faults.add(*(Fault(kind, method, at_work, seconds=seconds) for kind in least_seen))
    faults.add(*(Fault(kind, "GET") for kind in _least_seen(record, "GET", "/v2/snapshots") if kind in LIST_FAULTS))


def _least_seen(record: RequestLog, method: str, path: str, at_work: str = "") -> list[FaultKind]:
    """The kinds that such a request can suffer, those first that such requests have suffered least."""
    hits = Counter(seen.fault for seen in record.requests if seen.method == method and re.search(at_work, seen.path))
    return sorted((kind for kind in IMAGE_FAULTS if Fault(kind).matches(method, path)), key=lambda kind: hits[kind])


@dataclass
class Nights:
    """What has come of an account's nights so far, by the sandbox's own record.

    Attributes:
        account: The account.
        record: What was asked and done.
        rule: What is to be kept.
        regions: Where the newest recovery points are to be.
        from_snapshots: Whether runs take snapshots and copy these, so that the backups stay as they are.
        points: The moments of each Droplet's nightly recovery points: of its backups, or of the snapshots taken of it.
        by_others: The snapshots and custom images that this project did not make.
        runs: How many runs there were.
        incomplete: How many of these left something undone, and so were run again.
        most: The most snapshots of one Droplet after a night.
    """

    account: Account
    record: RequestLog
    rule: RetentionRule
    regions: Sequence[str]
    from_snapshots: bool = False
    points: dict[int, list[datetime]] = field(default_factory=dict)
    by_others: frozenset[int] = frozenset()
    runs: int = 0
    incomplete: int = 0
    most: int = 0
    _evening: dict[int, int] = field(default_factory=dict)
    _tonight: set[int | None] = field(default_factory=set)
    _deleted_before: int = 0
    _started_before: int = 0
    _backups: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        self.by_others = frozenset(
            each.id for each in self.account.images.values() if each.type in {"snapshot", "custom"} and not each.public
        )

    def begin(self, now: float) -> list[Image]:
        """Let a night's backups be made."""
        self._deleted_before, self._started_before = len(self.record.deleted), len(self.record.actions)
        self._evening = {droplet_id: len(made_by_us(self.account, droplet_id)) for droplet_id in self.points}
        new = self.account.back_up_droplets(now)
        self._backups = frozenset(each.id for each in self.account.images.values() if each.type == "backup")
        self._tonight = set()
        if not self.from_snapshots:
            self._note_points(new)
        return new

    def _note_points(self, images: Iterable[Image]) -> None:
        for image in images:
            assert image.droplet_id is not None
            self.points.setdefault(image.droplet_id, []).append(moment(image))
            self._tonight.add(image.droplet_id)

    def _check_snapshots(self) -> None:
        """See that the night has one snapshot of each Droplet, and that the backups are still backups."""
        started = self.record.actions[self._started_before :]
        taken = [action for action in started if action.type == SNAPSHOT and action.status == "completed"]
        assert sorted(action.resource_id for action in taken) == sorted(self.account.droplets)
        assert duplicate_snapshots(started) == []
        assert {action.type for action in started} <= {SNAPSHOT, "transfer"}
        assert all(self.account.images[image_id].type == "backup" for image_id in self._backups)
        snapshots = [action.snapshot for action in taken if action.snapshot]
        assert all(tells_time(snapshot) for snapshot in snapshots)
        self._note_points(snapshots)

    def check(self, droplets: Iterable[Droplet]) -> None:
        """See that a night has left what it should: neither less nor more.

        Args:
            droplets: All Droplets there have been.
        """
        if self.from_snapshots:
            self._check_snapshots()
        for droplet in droplets:
            left = made_by_us(self.account, droplet.id)
            assert left == that_stay(self.points[droplet.id], self.rule), droplet.name
            assert len(left) <= self.most_of_the_rule
            self.most = max(self.most, len(left))
            # Each snapshot was made before any was deleted: there never was more than the night's own besides.
            gone = [each for each in self.record.deleted[self._deleted_before :] if each.droplet_id == droplet.id]
            assert len(left) + len(gone) == self._evening.get(droplet.id, 0) + (droplet.id in self._tonight)
            own = [image for image in self.account.images.values() if image.droplet_id == droplet.id]
            points = [image for image in own if image.type == "backup" or TAG in image.tags]
            newest = max(points, key=lambda image: image.created_at)
            assert newest.type == "snapshot"
            assert moment(newest) == self.points[droplet.id][-1]
            assert set(self.regions) <= set(newest.regions)
        assert self.by_others <= self.account.images.keys()
        assert all(TAG in deletion.tags for deletion in self.record.deleted)
        assert len({deletion.image_id for deletion in self.record.deleted}) == len(self.record.deleted)
        assert self.record.duplicate_transfers() == []
        assert duplicate_conversions(self.record.actions) == []

    @property
    def most_of_the_rule(self) -> int:
        """How many snapshots a rule keeps of a Droplet at most."""
        rule = self.rule
        return max(1, rule.keep_last + rule.keep_daily + rule.keep_weekly + rule.keep_monthly)

    @property
    def faults(self) -> Counter[FaultKind]:
        """How often each kind of fault happened."""
        return Counter(seen.fault for seen in self.record.requests if seen.fault)

    @property
    def starts_hit(self) -> set[FaultKind]:
        """The kinds of fault that hit the start of a snapshot."""
        posts = (seen for seen in self.record.requests if seen.method == "POST" and re.search(STARTING, seen.path))
        return {seen.fault for seen in posts if seen.fault}

    @property
    def figures(self) -> Mapping[str, int]:
        """What there was to survive, and what was done."""
        kinds = Counter(action.type for action in self.record.actions)
        return {
            "runs": self.runs,
            "left something undone": self.incomplete,
            "requests": len(self.record.requests),
            "hit by a fault": self.faults.total(),
            "snapshots started": kinds[SNAPSHOT],
            "conversions": kinds["convert"],
            "transfers": kinds["transfer"],
            "snapshots deleted": len(self.record.deleted),
            "most of a Droplet": self.most,
            "the rule keeps at most": self.most_of_the_rule,
        }
