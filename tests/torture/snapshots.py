"""Nights in which snapshots are taken, judged by the sandbox's own state: one per Droplet, nothing else changed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from random import Random

from deployments.sandbox import Account, Action, Droplet, FaultKind, Image, Sandbox
from flows.reporting.report import ReplicationReport, Row, SnapshotRow
from flows.reporting.snapshot_report import SnapshotReport
from flows.snapshots.planning import run_time_of
from tests.end_to_end.accounts import MANAGED_TAG
from tests.torture.judging import Goal, untrue_rows

STARTING = r"^/v2/droplets/\d+/actions$"
SNAPSHOT = "snapshot"
# A run that was not Completed is finished by those within six hours, which use its time.
LONGEST_NIGHT_SECONDS = 6 * 3600.0


@dataclass(slots=True)
class SizedDroplet(Droplet):
    """A Droplet whose snapshots have a given size, and with it the time that they and their copies take."""

    gigabytes: float = 0.0

    def draw_image_size(self, draw: Random) -> float:
        # So that what is drawn next is the same.
        Droplet.draw_image_size(self, draw)
        return self.gigabytes


def size_snapshots(account: Account, sizes: Mapping[int, float]) -> None:
    """Set the sizes of the snapshots that will be taken, in gigabytes, by Droplet."""
    for droplet_id, gigabytes in sizes.items():
        droplet = account.droplets[droplet_id]
        same = {each.name: getattr(droplet, each.name) for each in fields(Droplet)}
        account.droplets[droplet_id] = SizedDroplet(**same, gigabytes=gigabytes)


def duplicate_snapshots(actions: Iterable[Action]) -> list[Action]:
    """The snapshots of a Droplet that were started while another one was taken, or after it.

    Args:
        actions: The actions of one night, in the order in which they started.

    Returns:
        The later one of each such pair. One that follows upon a failure is not among them.
    """
    busy_until: dict[int, float] = {}
    duplicates = []
    for action in actions:
        if action.type != SNAPSHOT:
            continue
        if action.started_at < busy_until.get(action.resource_id, -math.inf):
            duplicates.append(action)
        settled = math.inf if action.fate.outcome == "completed" else action.ends_at
        busy_until[action.resource_id] = max(settled, busy_until.get(action.resource_id, settled))
    return duplicates


@dataclass(frozen=True)
class Before:
    """An image as it was before a night."""

    type: str
    regions: frozenset[str]
    tags: tuple[str, ...]
    created_at: float

    @classmethod
    def of(cls, image: Image) -> Before:
        return cls(image.type, frozenset(image.regions), tuple(image.tags), image.created_at)


@dataclass
class SnapshotNight:
    """A night in which a snapshot is to be taken of each Droplet, and perhaps copied; it begins now.

    Attributes:
        sandbox: The sandbox.
        regions: Where the snapshots are to be; none if only with their Droplets.
        before: The images as they were before, by ID.
    """

    sandbox: Sandbox
    regions: Sequence[str] = ()
    before: Mapping[int, Before] = field(init=False)

    def __post_init__(self) -> None:
        self.before = {image.id: Before.of(image) for image in self.sandbox.account.images.values()}

    @property
    def goals(self) -> list[Goal]:
        """Each Droplet, and each region."""
        return [(droplet_id, region) for droplet_id in self.sandbox.account.droplets for region in self.regions or [""]]

    def taken(self) -> list[Image]:
        """The snapshots that were not there before."""
        images = self.sandbox.account.images
        return [image for image in images.values() if image.id not in self.before and image.type == SNAPSHOT]

    def missing(self) -> list[Goal]:
        """What is not there."""
        there = {(image.droplet_id, region) for image in self.taken() for region in ["", *image.regions]}
        return [goal for goal in self.goals if goal not in there]

    def to_tell(self) -> list[Goal]:
        return self.missing()

    def untrue(self, report: object) -> list[str]:
        assert isinstance(report, ReplicationReport | SnapshotReport)
        rows: Sequence[Row | SnapshotRow] = report.wanted if isinstance(report, ReplicationReport) else report.rows
        told = [(row.droplet_id or 0, getattr(row, "region", None) or "", str(row.outcome), row.error) for row in rows]
        return untrue_rows(told, self.missing())

    def untagged(self) -> list[str]:
        """The new snapshots that pruning would not recognize."""
        return [f"{image.name} has no tag" for image in self.taken() if MANAGED_TAG not in image.tags]

    def too_much(self) -> list[str]:
        """What was started although it had succeeded or was in progress, and what was done without being requested."""
        record, account = self.sandbox.record, self.sandbox.account
        twice = duplicate_snapshots(record.actions) + record.duplicate_transfers()
        new = {image.id for image in self.taken()}
        # IDs are unique only among resources of the same type.
        requested = {("droplet", SNAPSHOT, droplet_id) for droplet_id in account.droplets}
        requested |= {("image", "transfer", image_id) for image_id in new if self.regions}
        done = [(action.resource_type, action.type, action.resource_id) for action in record.actions]
        return [
            *(f"{action.type} of {action.resource_id} to {action.region}, again" for action in twice),
            *(f"{kind} of {what} {number}, which was not requested" for what, kind, number in set(done) - requested),
            *(f"deletion of {each.image_id}, which was not requested" for each in record.deleted),
            *(f"{image_id} is no longer as it was" for image_id in self.before if not self._is_unchanged(image_id)),
            *(f"the name of {image.name!r} does not tell its time" for image in self.taken() if not tells_time(image)),
        ]

    def _is_unchanged(self, image_id: int) -> bool:
        image = self.sandbox.account.images.get(image_id)
        return image is not None and Before.of(image) == self.before[image_id]

    def starts_hit(self) -> set[FaultKind]:
        """The kinds of fault that hit the start of a snapshot, by the sandbox's record."""
        return {
            seen.fault
            for seen in self.sandbox.record.requests
            if seen.fault and seen.method == "POST" and seen.path.startswith("/v2/droplets/")
        }


def tells_time(image: Image) -> bool:
    """Whether a snapshot's name holds the time of a run that may have taken it, or may have been finished by that."""
    run_time = run_time_of(image.name)
    return run_time is not None and -1.0 <= image.created_at - run_time.timestamp() <= LONGEST_NIGHT_SECONDS
