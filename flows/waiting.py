"""Log messages of a run while it waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect import get_run_logger

from flows.messages import waiting_messages
from tasks.digitalocean import Connection


@contextmanager
def waiting_for(what: str, connection: Connection) -> Iterator[None]:
    """Log every few seconds what the block is doing, such as `Reading snapshots`, and whether the API is paused."""
    logger, rate_limiter = get_run_logger(), connection.client.rate_limiter

    def show(sentence: str) -> None:
        paused_for = rate_limiter.paused_for
        why = f"; requests are paused, the next one is due in {paused_for:.0f} s" if paused_for else ""
        logger.info("%s%s", sentence, why)

    with waiting_messages(what, show):
        yield
