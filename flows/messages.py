"""What a command tells whoever waits for it, apart from its output."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_MESSAGES = 8.0


def say(sentence: str) -> None:
    """Show a message."""
    print(sentence, file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def wait_messages(what: str, show: Callable[[str], None] = say) -> Iterator[None]:
    """Say every few seconds what is being waited for, while the block lasts.

    Args:
        what: What is being waited for.
        show: Shows a message.
    """
    done = threading.Event()
    since = time.monotonic()

    def tell() -> None:
        while not done.wait(SECONDS_BETWEEN_MESSAGES):
            show(f"{what}, {time.monotonic() - since:.0f} s so far")

    thread = threading.Thread(target=tell, name="wait-messages", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
