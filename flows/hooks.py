"""How others learn that a run has ended: by events that they can chain after."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from prefect import State
from prefect.runtime import flow_run
from prefect.states import get_state_exception

from flows.reporting.events import announce_result
from flows.reporting.pruning_report import PruningOutcome, PruningReport
from flows.reporting.report import ReplicationReport
from flows.results import Incomplete

P = ParamSpec("P")
ReportT = TypeVar("ReportT")


def announces_result(completed: str, failed: str) -> Callable[[Callable[P, ReportT]], Callable[P, ReportT]]:
    """Send an event when a flow ends; not for a dry run.

    Goes under `@flow` and over `@ends_plainly`, by whose state it judges.

    Args:
        completed: The event when all was done.
        failed: The event when it was not.
    """

    def decorate(function: Callable[P, ReportT]) -> Callable[P, ReportT]:
        @wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> ReportT:
            try:
                state = cast(State[Any], function(*args, **kwargs))
            except Exception as error:
                _announce(failed, f"{type(error).__name__}: {error}", None)
                raise
            if state.is_completed():
                _announce(completed, state.message, state.data)
            else:
                failure = get_state_exception(state)
                _announce(failed, state.message, failure.report if isinstance(failure, Incomplete) else None)
            return cast(ReportT, state)

        return wrapper

    return decorate


def _announce(event: str, message: str | None, report: Any) -> None:
    if getattr(report, "dry_run", flow_run.parameters.get("dry_run")):
        return
    tag = flow_run.parameters.get("droplet_tag")
    announce_result(
        event, {"message": message, "flow_run_name": flow_run.name, "droplet_tag": tag, **_contents(report)}
    )


def _contents(report: Any) -> dict[str, Any]:
    if isinstance(report, ReplicationReport):
        return {
            "image_ids": sorted({row.image_id for row in report.rows}),
            "regions": list(report.regions),
            "totals": {str(outcome): number for outcome, number in report.totals.items()},
        }
    if isinstance(report, PruningReport):
        return {"image_ids": [row.image_id for row in report.having(PruningOutcome.DELETED)]}
    return {}
