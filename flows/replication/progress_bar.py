"""A bar under the log, where the log goes to a terminal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.errors import LiveError
from rich.progress import BarColumn, Progress, TextColumn

from flows.output import console_handlers

BAR_WIDTH = 20
# Marks the log record of a line that the bar shows as well.
PROGRESS_LINE = {"is_progress_line": True}

Show: TypeAlias = Callable[[float, str], None]


@contextmanager
def progress_bar() -> Iterator[Show]:
    """Show a bar while the block lasts, in place of the log's lines of progress.

    Yields:
        What changes the bar: per cent, and a sentence. Without a terminal, it does nothing.
    """
    handlers = console_handlers()
    console = next((each.console for each in handlers if _can_show(each.console)), None)
    bar = _started_on(console) if console else None
    if bar is None:
        yield lambda _percent, _sentence: None
        return
    task = bar.add_task("", total=100.0)
    consoles = [handler.console for handler in handlers]
    try:
        for handler in handlers:
            # The console that shows the bar writes log lines above it; another one would write into it.
            handler.console = bar.console
            handler.addFilter(_is_no_progress_line)
        yield lambda percent, sentence: bar.update(task, completed=percent, description=sentence)
    finally:
        bar.stop()
        for handler, its_own in zip(handlers, consoles, strict=True):
            handler.console = its_own
            handler.removeFilter(_is_no_progress_line)


def _can_show(console: Console) -> bool:
    return console.is_terminal and not console.is_dumb_terminal


def _started_on(console: Console) -> Progress | None:
    # Prefect's console knows none of the styles that rich has by default.
    percent = BarColumn(BAR_WIDTH, style="dim", complete_style="green", finished_style="green", pulse_style="dim")
    sentence = TextColumn("{task.description}", markup=False)
    bar = Progress(percent, sentence, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
    try:
        bar.start()
    except LiveError:
        # Another run of this process has its bar there.
        return None
    return bar


def _is_no_progress_line(record: logging.LogRecord) -> bool:
    return not getattr(record, "is_progress_line", False)
