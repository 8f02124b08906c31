"""What a run says when it has been silent for some seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect import get_run_logger

from flows.messages import wait_messages
from tasks.connection import connect


@contextmanager
def says_what_it_waits_for(what: str) -> Iterator[None]:
    """Log every few seconds what is being waited for, while the block or the decorated function lasts.

    Args:
        what: What is being waited for.
    """
    logger, budget = get_run_logger(), connect().client.budget

    def show(sentence: str) -> None:
        closed_for = budget.closed_for
        why = f"; the rate limit is used up, next request in {closed_for:.0f} s" if closed_for else ""
        logger.info("%s%s", sentence, why)

    with wait_messages(what, show):
        yield
