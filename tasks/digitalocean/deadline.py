"""A time limit for a whole run: it is kept wherever the run's thread waits, for the API or for other runs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tasks.digitalocean.errors import DeadlineExceeded


class Deadline:
    """When a run's time is over.

    Args:
        seconds: How long from now.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends = time.monotonic() + seconds
        self._enforced = True

    @property
    def seconds_left(self) -> float:
        """How much time is left, 0 when it is over."""
        return max(0.0, self._ends - time.monotonic())

    @property
    def patience(self) -> float:
        """How long the run's thread may wait now; infinity once the run keeps the time itself."""
        return self.seconds_left if self._enforced else math.inf

    def lift(self) -> None:
        """Stop enforcing it: from now on the run itself keeps the time, so that it can report what it has done."""
        self._enforced = False

    def exceeded(self) -> DeadlineExceeded:
        """Say that the time is over. That is said once: what has to be put in order then may take a moment."""
        self.lift()
        return DeadlineExceeded(
            f"the time limit of {self._seconds / 60:g} minutes (timeout_minutes) was reached; the next run does what "
            "was not started"
        )


_deadline: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


@contextmanager
def deadline(seconds: float) -> Iterator[Deadline]:
    """Limit the time of all that this context waits for.

    Args:
        seconds: How long it may take.

    Yields:
        The deadline.
    """
    limit = Deadline(seconds)
    token = _deadline.set(limit)
    try:
        yield limit
    finally:
        _deadline.reset(token)


def current_deadline() -> Deadline | None:
    """The time limit of this context, if it has one."""
    return _deadline.get()
