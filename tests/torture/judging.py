"""What a run has done, judged by the sandbox's own state: nothing lost, nothing twice, nothing silent, nothing told."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from prefect import Flow, State
from prefect.states import get_state_exception

from deployments.sandbox import Account, Action, Image, Sandbox
from flows.reporting.pruning_report import PruningReport
from flows.reporting.report import ReplicationReport
from flows.results import Incomplete
from tasks.digitalocean import DigitalOceanError
from tests.end_to_end.accounts import started

GOOD = {"already_there", "transferred", "adopted", "converted", "taken", "deleted", "already_gone"}
BAD = {"failed", "timed_out"}

Goal = tuple[int, str]
"""An image, and a region it should be in; no region where it should only be a snapshot, or be gone."""


class Told(Protocol):
    """What a run must say the truth about."""

    def to_tell(self) -> list[Goal]:
        """The goals that are not reached, which a run must say."""

    def untrue(self, report: object) -> list[str]:
        """What a report does not say, or says though it is not so."""


@dataclass(frozen=True)
class Job:
    """What a flow is asked to do.

    Attributes:
        flow: The flow.
        parameters: What it is called with.
        images: What it is to bring about: these images are snapshots ...
        regions: ... and in these regions.
        gone_from: Or instead: these images are gone from this account, and no others.
    """

    flow: Flow[..., Any]
    parameters: Mapping[str, Any]
    images: Sequence[Image]
    regions: Sequence[str] = ()
    gone_from: Account | None = None

    @property
    def goals(self) -> list[Goal]:
        return [(image.id, region) for image in self.images for region in self.regions or [""]]

    def missing(self) -> list[Goal]:
        """What is not there."""
        if self.gone_from:
            return [goal for goal in self.goals if goal[0] in self.gone_from.images]
        images = {image.id: image for image in self.images}
        return [goal for goal in self.goals if not _is_reached(images[goal[0]], goal[1])]

    def to_tell(self) -> list[Goal]:
        homes = {(image.id, region) for image in self.images if image.type == "backup" for region in image.regions}
        # A backup that was not converted in time is in its own region nevertheless.
        return [goal for goal in self.missing() if goal not in homes or self.gone_from]

    def untrue(self, report: object) -> list[str]:
        assert isinstance(report, ReplicationReport | PruningReport)
        rows = (
            [(row.image_id or 0, row.region or "", str(row.outcome), row.error) for row in report.wanted]
            if isinstance(report, ReplicationReport)
            else [(row.image_id, "", str(row.outcome), row.error) for row in report.rows]
        )
        return untrue_rows(rows, self.to_tell())


def _is_reached(image: Image, region: str) -> bool:
    return image.type == "snapshot" and (not region or region in image.regions)


def too_much(sandbox: Sandbox, job: Job) -> list[str]:
    """What was started although it had succeeded or was in progress, and what was done without being requested."""
    duplicates = sandbox.record.duplicate_transfers() + duplicate_conversions(sandbox.record.actions)
    images = {image.id for image in job.images}
    to_act_on, to_delete = (set(), images) if job.gone_from else (images, set())
    done = [(action.type, action.resource_id) for action in sandbox.record.actions]
    unasked = [each for each in done if each[1] not in to_act_on]
    unasked += [("deletion", each.image_id) for each in sandbox.record.deleted if each.image_id not in to_delete]
    return [f"{action.type} of {action.resource_id} to {action.region}, again" for action in duplicates] + [
        f"{what} of {image_id}, which was not requested" for what, image_id in unasked
    ]


def duplicate_conversions(actions: Iterable[Action]) -> list[Action]:
    """The conversions of an image that another one had converted, or was about to.

    Args:
        actions: The actions, in the order in which they started.

    Returns:
        The later one of each such pair. One that follows upon a failure is not among them.
    """
    busy_until: dict[int, float] = {}
    duplicates = []
    for action in actions:
        if action.type != "convert":
            continue
        if action.started_at < busy_until.get(action.resource_id, -math.inf):
            duplicates.append(action)
        settled = math.inf if action.fate.outcome == "completed" else action.ends_at
        busy_until[action.resource_id] = max(settled, busy_until.get(action.resource_id, settled))
    return duplicates


def kept_silent(state: State[Any], job: Told) -> list[str]:
    """What a run does not say, or says though it is not so."""
    if state.is_completed():
        wrong = [f"says Completed, but {goal} is not reached" for goal in job.to_tell()]
        return wrong + job.untrue(state.result())
    error = get_state_exception(state) if state.is_failed() else None
    if not isinstance(error, Incomplete | DigitalOceanError):
        return [f"ended {state.type.value} and explains nothing: {state.message!r} ({error!r})"]
    silent = [] if state.message and str(error) in state.message else [f"its message is {state.message!r}"]
    return silent + job.untrue(error.report) if isinstance(error, Incomplete) else silent


def untrue_rows(rows: Sequence[tuple[int, str, str, str]], missing: Sequence[Goal]) -> list[str]:
    """What rows do not say, or say though it is not so.

    Args:
        rows: Of each goal its two parts, the outcome and the error.
        missing: The goals that are not reached.
    """
    told_missing = {(number, region) for number, region, outcome, _ in rows if outcome in BAD}
    return [
        *(f"{goal} is not reached, and no row says so" for goal in missing if goal not in told_missing),
        *(f"{row} has no error" for row in rows if row[2] in BAD and not row[3]),
        *(f"{row} is not so" for row in rows if row[2] in GOOD and (row[0], row[1]) in missing),
    ]


def let_all_end(sandbox: Sandbox, now: float) -> None:
    """End actions that would never end, as DigitalOcean's support does."""
    for action in started(sandbox, "convert") + started(sandbox):
        if not action.fate.ends and action.status == "in-progress":
            image = sandbox.account.images[action.resource_id]
            action.status, action.ends_at = "completed", now
            if action.type == "convert":
                image.type = "snapshot"
            else:
                image.regions.setdefault(action.region, now)
    let_snapshots_end(sandbox.account, now)


def let_snapshots_end(account: Account, now: float) -> None:
    """The same for actions that take snapshots."""
    for action in account.started:
        if action.snapshot and not action.fate.ends and action.status == "in-progress":
            action.status, action.ends_at = "completed", now
            account.add_image(action.snapshot)
