"""Running a flow from a shell: options and help come from its signature and docstring."""

from __future__ import annotations

import inspect
import os
import sys
from typing import Any, cast

import cyclopts
from prefect import Flow, State
from prefect.exceptions import MissingResult
from prefect.states import get_state_exception
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.command_start import COULD_NOT_START, EXIT_STATUSES, raise_when_interrupted
from flows.endings import Incomplete
from flows.messages import say
from flows.readiness import NotReady, make_ready_to_run
from tasks.reporting.report import ReplicationReport, RunReport
from tasks.reporting.tables import LEGEND, table_of

WIDE = 200


def run_from_command_line(flow: Flow[Any, Any]) -> None:
    """Run a flow with the options given on the command line, print its report, and exit.

    Exits with 0 if everything was done, 1 if not, 2 if the options are wrong, 3 if the run could not start.

    Args:
        flow: The flow.
    """
    # An address in pydantic's documentation helps nobody who has mistyped an option.
    os.environ.setdefault("PYDANTIC_ERRORS_INCLUDE_URL", "0")

    def run(**parameters: Any) -> int:
        try:
            make_ready_to_run()
        except NotReady as problem:
            say(str(problem))
            return COULD_NOT_START
        raise_when_interrupted()
        return tell_the_end(cast(Any, flow)(**parameters, return_state=True))

    signature = inspect.signature(flow.fn)
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in signature.parameters.values()],
        return_annotation=int,
    )
    run.__annotations__ = {**flow.fn.__annotations__, "return": int}
    run.__doc__ = flow.fn.__doc__
    app = cyclopts.App(
        name=f"python -m {flow.fn.__module__ if flow.fn.__module__ != '__main__' else 'flows.' + flow.fn.__name__}",
        version_flags=[],
        help_epilogue=EXIT_STATUSES,
        default_parameter=cyclopts.Parameter(negative_iterable="", consume_multiple=True),
    )
    app.default(run)
    sys.exit(app())


def tell_the_end(state: State[Any]) -> int:
    """Print what a run has to say at its end.

    Args:
        state: The run's last state.

    Returns:
        Exit status: 0 if everything was done, 1 if not.
    """
    if state.is_completed():
        try:
            print_report(state.result())
        except MissingResult:
            # The server's answer to the end of the run was lost, and the report with it; the message is on the server.
            print(state.message)  # noqa: T201  # the answer to whoever typed the command
        return 0
    error = get_state_exception(state)
    if isinstance(error, Incomplete):
        print_report(error.report)
    print(f"Failed: {state.message}", file=sys.stderr)  # noqa: T201
    return 1


def print_report(report: RunReport) -> None:
    """Print a report for people.

    Args:
        report: The report.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        # A file or a pipe has no width: nothing needs to be cut.
        console = Console(highlight=False, width=WIDE, soft_wrap=True)
    rows = table_of(report)
    if rows:
        table = Table(*rows[0], box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for row in rows:
            table.add_row(*map(escape, row.values()))
        console.print(table)
    if isinstance(report, ReplicationReport):
        console.print(LEGEND)
    console.print(report.summary)
