"""Messages of a command on standard error."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_MESSAGES = 8.0
# As a part of the time so far.
PART_BETWEEN_MESSAGES = 0.1


def say(sentence: str) -> None:
    """Show a message."""
    print(sentence, file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def waiting_messages(what: str, show: Callable[[str], None] = say) -> Iterator[None]:
    """Show every few seconds what the block is doing, such as `Loading Prefect`; less often the longer it takes."""
    done = threading.Event()
    since = time.monotonic()

    def repeat() -> None:
        so_far = 0.0
        while not done.wait(max(SECONDS_BETWEEN_MESSAGES, PART_BETWEEN_MESSAGES * so_far)):
            so_far = time.monotonic() - since
            show(f"{what}, {so_far:.0f} s so far")

    thread = threading.Thread(target=repeat, name="waiting-messages", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
