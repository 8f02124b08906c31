"""What a command tells whoever waits for it, apart from its output."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_MESSAGES = 8.0
# The longer something takes, the less do a few seconds tell.
PART_BETWEEN_MESSAGES = 0.1


def say(sentence: str) -> None:
    """Show a message."""
    print(sentence, file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def waiting_messages(what: str, show: Callable[[str], None] = say) -> Iterator[None]:
    """Say every few seconds what is being waited for, while the block lasts.

    Args:
        what: What is being waited for.
        show: Shows a message.
    """
    done = threading.Event()
    since = time.monotonic()

    def tell() -> None:
        so_far = 0.0
        while not done.wait(max(SECONDS_BETWEEN_MESSAGES, PART_BETWEEN_MESSAGES * so_far)):
            so_far = time.monotonic() - since
            show(f"{what}, {so_far:.0f} s so far")

    thread = threading.Thread(target=tell, name="wait-messages", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
