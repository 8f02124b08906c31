"""How a run fails: with a sentence that says what happened and what to do, not with a traceback."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar, cast

from prefect.states import Failed

from tasks.digitalocean import DigitalOceanError
from tasks.reporting.report import Report

P = ParamSpec("P")
R = TypeVar("R")


class Incomplete(Exception):
    """A run that went to its end, but did not do all that it was asked for.

    Args:
        report: What it did.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self.report = report

    def __str__(self) -> str:
        return self.report.failure


def fails_plainly(function: Callable[P, R]) -> Callable[P, R]:
    """End a flow run Failed, with the message of what went wrong as the state's, for errors that explain themselves.

    Whoever calls the flow from Python still gets the exception. Goes under `@flow`.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (DigitalOceanError, Incomplete) as error:
            return cast(R, Failed(message=str(error), data=error))

    return wrapper
