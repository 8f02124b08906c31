"""Runs a flow from a shell: options and help come from its signature and docstring."""

from __future__ import annotations

import inspect
import sys
from typing import Annotated, Any, cast

import cyclopts
from prefect import Flow, State
from prefect.exceptions import MissingResult
from prefect.states import get_state_exception

from flows.command_start import COULD_NOT_START, EXIT_STATUSES, INTERRUPTED, USAGE, raise_when_interrupted
from flows.messages import say
from flows.parameters import ContradictoryParameters, several_credentials_of
from flows.readiness import NotReady, make_ready_to_run
from flows.reporting.terminal import print_json, print_report
from flows.results import INTERRUPTED_MESSAGE, Incomplete, Interrupted
from flows.usage_errors import read_options, run_command, signature_for_text

JSON_OPTION = inspect.Parameter(
    "json",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool,
        cyclopts.Parameter(negative="", help="Print the report as JSON, and nothing else, on standard output."),
    ],
)


def run_from_command_line(flow: Flow[Any, Any]) -> None:
    """Run a flow with the options from the command line, print its report, and exit with an exit status."""
    sys.exit(run_command(command_of(flow)))


def command_of(flow: Flow[Any, Any]) -> cyclopts.App:
    """Make the command that runs a flow, prints its report, and returns an exit status."""

    def run(*, json: bool = False, **options: Any) -> int:
        parameters = read_options(flow, options)
        try:
            make_ready_to_run(several_credentials_of(parameters.get("credentials")) or ())
        except NotReady as problem:
            say(str(problem))
            return COULD_NOT_START
        try:
            raise_when_interrupted()
            return print_outcome(cast(Any, flow)(**parameters, return_state=True), as_json=json)
        except KeyboardInterrupt:
            say(f"Interrupted: {INTERRUPTED_MESSAGE}")
            return INTERRUPTED

    signature = signature_for_text(flow)
    signature = signature.replace(parameters=[*signature.parameters.values(), JSON_OPTION])
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()} | {"return": int}
    run.__doc__ = flow.fn.__doc__
    app = cyclopts.App(
        name=f"python -m {flow.fn.__module__ if flow.fn.__module__ != '__main__' else 'flows.' + flow.fn.__name__}",
        version_flags=[],
        help_epilogue=EXIT_STATUSES,
        default_parameter=cyclopts.Parameter(negative_iterable="", consume_multiple=True),
    )
    app.default(run)
    return app


def print_outcome(state: State[Any], *, as_json: bool = False) -> int:
    """Print the outcome of a run.

    Args:
        state: The final state of the run.
        as_json: Whether to print the report as JSON; messages still go to standard error.

    Returns:
        Exit status: 0 on success, 1 on failure, 2 if the parameters contradict each other, 130 after Ctrl-C.
    """
    show = print_json if as_json else print_report
    if state.is_completed():
        try:
            show(state.result())
        except MissingResult:
            # The server's response to the final state was lost, and the report with it.
            print(state.message, file=sys.stderr if as_json else sys.stdout)  # the command's output
        return 0
    error = get_state_exception(state)
    if isinstance(error, Incomplete):
        show(error.report)
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        say(f"Interrupted: {state.message}")
        return INTERRUPTED
    say(f"{'Cancelled' if state.is_cancelled() else 'Failed'}: {state.message}")
    return USAGE if isinstance(error, ContradictoryParameters) else 1
