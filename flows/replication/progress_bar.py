"""A progress bar below the log in a terminal."""

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
    """Show a progress bar during the block, instead of the log's progress lines.

    Yields:
        A function that sets the percentage and the text. Without a terminal, it does nothing.
    """
    handlers = console_handlers()
    consoles = [handler.console for handler in handlers]
    console = next((each for each in consoles if each.is_terminal and not each.is_dumb_terminal), None)
    bar = _started_on(console) if console else None
    if bar is None:
        yield lambda _percent, _sentence: None
        return
    task = bar.add_task("", total=100.0)
    try:
        for handler in handlers:
            # Only the bar's own console writes log lines above the bar; others would overwrite it.
            handler.console = bar.console
            handler.addFilter(_is_not_progress_line)
        yield lambda percent, sentence: bar.update(task, completed=percent, description=sentence)
    finally:
        bar.stop()
        for handler, its_own in zip(handlers, consoles, strict=True):
            handler.console = its_own
            handler.removeFilter(_is_not_progress_line)


def _started_on(console: Console) -> Progress | None:
    # Prefect's console does not have the default styles of rich.
    percent = BarColumn(BAR_WIDTH, style="dim", complete_style="green", finished_style="green", pulse_style="dim")
    sentence = TextColumn("{task.description}", markup=False)
    bar = Progress(percent, sentence, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
    try:
        bar.start()
    except LiveError:
        # Another run in this process already shows a bar.
        return None
    return bar


def _is_not_progress_line(record: logging.LogRecord) -> bool:
    return not getattr(record, "is_progress_line", False)
