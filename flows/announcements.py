"""How others learn that a run has ended: by events that they can chain after."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from prefect import State
from prefect.runtime import flow_run
from prefect.states import get_state_exception

from flows.endings import Incomplete
from tasks.reporting.events import REPLICATION_COMPLETED, REPLICATION_FAILED, announce_end
from tasks.reporting.report import ReplicationReport

P = ParamSpec("P")
ReportT = TypeVar("ReportT")


def announces_its_end(function: Callable[P, ReportT]) -> Callable[P, ReportT]:
    """Send `replication.completed` or `replication.failed` when a flow that copies images ends; not for a dry run.

    Goes under `@flow` and over `@ends_plainly`, by whose state it judges.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> ReportT:
        try:
            state = cast(State[Any], function(*args, **kwargs))
        except Exception as error:
            _announce(REPLICATION_FAILED, f"{type(error).__name__}: {error}", None)
            raise
        if state.is_completed():
            _announce(REPLICATION_COMPLETED, state.message, state.data)
        else:
            failure = get_state_exception(state)
            _announce(REPLICATION_FAILED, state.message, failure.report if isinstance(failure, Incomplete) else None)
        return cast(ReportT, state)

    return wrapper


def _announce(event: str, message: str | None, report: Any) -> None:
    parameters = flow_run.parameters
    if parameters.get("dry_run"):
        return
    payload = {"message": message, "flow_run_name": flow_run.name, "droplet_tag": parameters.get("droplet_tag")}
    if isinstance(report, ReplicationReport):
        payload |= {
            "image_ids": sorted({row.image_id for row in report.rows}),
            "regions": list(report.regions),
            "totals": {str(outcome): number for outcome, number in report.totals.items()},
        }
    announce_end(event, payload)
