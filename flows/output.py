"""A run goes on when nothing reads its output any more, as when its worker was killed: only the output is lost."""

from __future__ import annotations

import logging
from functools import partial

from prefect.logging.handlers import PrefectConsoleHandler
from rich.console import Console


def outlive_readers() -> None:
    """Have Prefect's log handlers discard what they cannot write.

    The output of a deployed run is a pipe to its worker. By default, rich ends the program at the first line that it
    cannot write to a pipe: it raises SystemExit in whatever thread has logged, in mid-air.
    """
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    for logger in [logging.root, *loggers]:
        for handler in logger.handlers:
            if isinstance(handler, PrefectConsoleHandler):
                # rich means this method to be overridden.
                handler.console.on_broken_pipe = partial(_discard, handler.console)  # type: ignore[method-assign]


def _discard(console: Console) -> None:
    console.quiet = True
