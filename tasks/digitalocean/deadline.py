"""A time limit for a whole run, enforced wherever the run's thread waits for the API or for other runs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tasks.digitalocean.errors import DeadlineExceeded


class Deadline:
    """The time limit of a run.

    Args:
        seconds: The limit, from now.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends = time.monotonic() + seconds
        self._enforced = True

    @property
    def seconds_left(self) -> float:
        """The seconds left, at least 0."""
        return max(0.0, self._ends - time.monotonic())

    @property
    def patience(self) -> float:
        """How many seconds the run's thread may wait; infinity once the limit is lifted."""
        return self.seconds_left if self._enforced else math.inf

    def lift(self) -> None:
        """Stop enforcing the limit; the run does so itself, and still reports what it has done."""
        self._enforced = False

    def exceeded(self) -> DeadlineExceeded:
        """Create the error, and lift the limit so that the run has time to clean up."""
        self.lift()
        return DeadlineExceeded(
            f"the time limit of {self._seconds / 60:g} minutes (timeout_minutes) was reached; the next run starts what "
            "is left"
        )


_deadline: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


@contextmanager
def deadline(seconds: float) -> Iterator[Deadline]:
    """Limit the total time that this context waits.

    Args:
        seconds: The limit.

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
    """The time limit of this context; None without one."""
    return _deadline.get()
