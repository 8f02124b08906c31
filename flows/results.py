"""How a run goes and ends: it shows that it is alive, and ends with a sentence that says what it did or what failed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar, cast

from prefect.states import Cancelled, Completed, Failed

from flows.liveness import sign_of_life
from flows.output import outlive_readers
from flows.reporting.report import RunReport
from tasks.digitalocean import DigitalOceanError

INTERRUPTED_MESSAGE = "What has started at DigitalOcean goes on there. Run the command again to finish."

P = ParamSpec("P")
ReportT = TypeVar("ReportT", bound=RunReport)


class Incomplete(Exception):
    """A run that went to its end, but did not do all that it was asked for.

    Args:
        report: What it did.
    """

    def __init__(self, report: RunReport) -> None:
        super().__init__(report)
        self.report = report

    def __str__(self) -> str:
        return self.report.failure


class Interrupted(Incomplete):
    """A run that Ctrl-C has ended early."""


def explains_result(function: Callable[P, ReportT]) -> Callable[P, ReportT]:
    """Make a flow's report, or the error that explains itself, the message of its run's last state.

    Whoever calls the flow from Python still gets the report or the exception. A run that Ctrl-C has ended is Cancelled:
    nobody needs to be notified. Goes under `@flow`.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> ReportT:
        outlive_readers()
        try:
            with sign_of_life():
                report = function(*args, **kwargs)
        except Interrupted as interruption:
            return cast(ReportT, Cancelled(message=str(interruption), data=interruption))
        except KeyboardInterrupt as interruption:
            return cast(ReportT, Cancelled(message=INTERRUPTED_MESSAGE, data=interruption))
        except (DigitalOceanError, Incomplete) as error:
            return cast(ReportT, Failed(message=str(error), data=error))
        return cast(ReportT, Completed(message=report.summary, data=report))

    return wrapper


def _says_more_than_the_state(record: logging.LogRecord) -> bool:
    """Drop what Prefect logs of a deployment's run that was ended by an error: a traceback of what explains itself."""
    error = record.exc_info[1] if record.exc_info else None
    return not (
        isinstance(error, (DigitalOceanError, Incomplete)) and record.getMessage().startswith("Engine execution")
    )


logging.getLogger("prefect.flow_runs").addFilter(_says_more_than_the_state)
