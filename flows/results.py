"""Ends runs: publishes the report, and makes its summary or failure the message of the run's state."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from prefect import State, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from flows.hooks import announce_end, is_dry_run
from flows.liveness import heartbeat
from flows.output import outlive_readers
from flows.ping import Signal, ping
from flows.reporting.report import RunReport
from flows.reporting.tables import artifact_description, artifact_table
from tasks.accounts import for_account
from tasks.digitalocean import DigitalOceanError

INTERRUPTED_MESSAGE = "Actions that have started continue at DigitalOcean. Run the command again to finish."

P = ParamSpec("P")
ReportT = TypeVar("ReportT", bound=RunReport)


class Incomplete(Exception):
    """The run ended, but some of its work failed; `report` says which."""

    def __init__(self, report: RunReport) -> None:
        super().__init__(report)
        self.report = report

    def __str__(self) -> str:
        return self.report.failure


class Interrupted(Incomplete):
    """Ctrl-C ended the run early."""


class Rejected(Incomplete):
    """A person decided that the run ends without its work."""


@task(task_run_name="publish {key}", cache_policy=NO_CACHE, retries=3, retry_delay_seconds=2)
def publish_table(key: str, rows: list[dict[str, str]], description: str) -> None:
    """Publish a table as an artifact.

    Args:
        key: Key of the artifact.
        rows: Cells by column title, already escaped.
        description: Markdown shown above the table.
    """
    create_table_artifact(rows, key=key, description=description)


def finish(report: ReportT, artifact_key: str) -> ReportT:
    """Publish, log and return a report.

    Raises:
        Incomplete: Some of the run's work failed.
    """
    try:
        key = for_account(artifact_key, report.account)
        publish_table(key, artifact_table(report), artifact_description(report))
    except Exception as error:  # noqa: BLE001  # a missing artifact must not fail the run
        get_run_logger().warning("Could not publish the artifact %s: %s", artifact_key, error)
    get_run_logger().info(report.summary)
    for note in report.notes:
        get_run_logger().warning(note)
    if report.interrupted and report.failure:
        raise Interrupted(report)
    if report.rejected:
        raise Rejected(report)
    for problem in report.problems:
        get_run_logger().error("%s: %s", problem.image_and_regions, problem.error)
    if report.failure:
        raise Incomplete(report)
    return report


def explains_result(function: Callable[P, ReportT]) -> Callable[P, ReportT]:
    """Set the message of the run's final state to the report's summary or the error, and send the event and the pings.

    From Python, the flow still returns the report or raises the exception. After Ctrl-C, or if its plan was rejected,
    the run is Cancelled, which sends no notification. Goes under `@flow`.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> ReportT:
        outlive_readers()
        _ping(Signal.START)
        report = None
        try:
            with heartbeat():
                report = function(*args, **kwargs)
        except Incomplete as error:
            report = cast(ReportT, error.report)
            ended = Cancelled if isinstance(error, (Interrupted, Rejected)) else Failed
            state: State[Any] = ended(message=str(error), data=error)
        except KeyboardInterrupt as interruption:
            state = Cancelled(message=INTERRUPTED_MESSAGE, data=interruption)
        except DigitalOceanError as error:
            state = Failed(message=str(error), data=error)
        except Exception as error:
            _announce(f"{type(error).__name__}: {error}")
            raise
        else:
            state = Completed(message=report.summary, data=report)
        _announce(state.message, completed=state.is_completed(), report=report)
        return cast(ReportT, state)

    return wrapper


def _announce(message: str | None, *, completed: bool = False, report: RunReport | None = None) -> None:
    announce_end(flow_run.flow_name, flow_run.name, flow_run.parameters, message, completed=completed, report=report)
    _ping(Signal.SUCCESS if completed else Signal.FAILURE, report)


def _ping(signal: Signal, report: RunReport | None = None) -> None:
    context = FlowRunContext.get()
    if context and not is_dry_run(flow_run.flow_name, flow_run.parameters, report):
        # Not the error, which may quote anything.
        ping(signal, context.flow_run, report.summary if report else "")


def _says_more_than_the_state(record: logging.LogRecord) -> bool:
    """Drop Prefect's traceback of errors whose message says everything."""
    error = record.exc_info[1] if record.exc_info else None
    return not (
        isinstance(error, (DigitalOceanError, Incomplete)) and record.getMessage().startswith("Engine execution")
    )


logging.getLogger("prefect.flow_runs").addFilter(_says_more_than_the_state)
