"""Adapts Prefect's console logging."""

from __future__ import annotations

import logging
from functools import partial

from prefect.logging.handlers import PrefectConsoleHandler
from rich.console import Console

from flows.names import FLOWS


def outlive_readers() -> None:
    """Make Prefect's log handlers discard what they cannot write, so that a run survives the death of its worker.

    The output of a deployed run is a pipe to its worker. By default, rich raises SystemExit in the logging thread when
    the pipe is closed.
    """
    for handler in console_handlers():
        # rich means this method to be overridden.
        handler.console.on_broken_pipe = partial(_discard, handler.console)  # type: ignore[method-assign]


def console_handlers() -> list[PrefectConsoleHandler]:
    """List the handlers through which Prefect logs to the terminal."""
    loggers = [logging.root, *(logging.getLogger(name) for name in logging.root.manager.loggerDict)]
    handlers = [handler for logger in loggers for handler in logger.handlers]
    return [each for each in dict.fromkeys(handlers) if isinstance(each, PrefectConsoleHandler)]


def _discard(console: Console) -> None:
    console.quiet = True


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Drop the line that Prefect logs for each completed task run, unless the log level is DEBUG."""
    is_routine = record.levelno == logging.INFO and record.getMessage() == "Finished in state Completed()"
    ours = getattr(record, "flow_name", None) in FLOWS
    return not (is_routine and ours) or _task_runs.isEnabledFor(logging.DEBUG)


# There is one line per copy; together they would hide the progress.
_task_runs = logging.getLogger("prefect.task_runs")
_task_runs.addFilter(_is_worth_a_line)
