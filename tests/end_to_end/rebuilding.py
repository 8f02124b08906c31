"""What the tests ask of accounts in which Droplets are rebuilt, and of the reports on it."""

from __future__ import annotations

import _thread
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar, cast

from prefect import Flow, State
from prefect.states import get_state_exception

from deployments.sandbox import Droplet, Sandbox, SeenRequest
from deployments.sandbox.account import Image
from flows.results import Incomplete
from tests.end_to_end.accounts import add_snapshots, meanwhile

HOME, AWAY = "nyc3", "ams3"
CREATING, OF_ONE = "^/v2/droplets$", r"^/v2/droplets/\d+$"

ReportT = TypeVar("ReportT")


def have_copies(sandbox: Sandbox, regions: Sequence[str] = (AWAY,)) -> list[Image]:
    """Move all Droplets to one region, and give each a snapshot there and in others, newer than its backups."""
    copies = []
    for droplet in list(sandbox.account.droplets.values()):
        droplet.region = HOME
        copies += add_snapshots(sandbox, droplet, 0, regions=[HOME, *regions])
    return copies


def originals_of(sandbox: Sandbox) -> list[Droplet]:
    """The Droplets that the client has not created."""
    created = {record.droplet_id for record in sandbox.record.created}
    return [droplet for droplet in sandbox.account.droplets.values() if droplet.id not in created]


def created_in(sandbox: Sandbox) -> list[Droplet]:
    """The Droplets that the client has created and that still exist."""
    created = {record.droplet_id for record in sandbox.record.created}
    return [droplet for droplet in sandbox.account.droplets.values() if droplet.id in created]


def report_in(state: State[Any], kind: type[ReportT]) -> ReportT:
    """The report of a run, also of one that did not succeed."""
    if state.is_completed():
        report = state.result()
    else:
        error = get_state_exception(state)
        assert isinstance(error, Incomplete), state
        report = error.report
    assert isinstance(report, kind)
    return report


def for_seconds(flow: Flow[..., Any], seconds: float, **parameters: Any) -> State[Any]:
    """Run a flow with a time limit of seconds; the parameter accepts only whole minutes."""
    unchecked = cast(Any, flow.with_options(validate_parameters=False))
    return cast(State[Any], unchecked(**parameters, timeout_minutes=seconds / 60, return_state=True))


def finish_creations(sandbox: Sandbox) -> None:
    """Let the creations that would never end be done now."""
    for droplet in list(sandbox.account.droplets.values()):
        for action in droplet.actions:
            if action.type == "create" and not action.fate.ends and action.status == "in-progress":
                action.status, action.ends_at, droplet.status = "completed", time.time(), "active"


def seen(sandbox: Sandbox, method: str, path: str) -> list[SeenRequest]:
    """The requests with a method and a path, without its query."""
    return [each for each in sandbox.record.requests if (each.method, each.path.partition("?")[0]) == (method, path)]


def ctrl_c_when(condition: Callable[[], object]) -> AbstractContextManager[None]:
    """Interrupt the block as soon as a condition holds."""
    return meanwhile(condition, _thread.interrupt_main)
