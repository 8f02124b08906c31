"""Counting the requests of each run, also if several runs share a process."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

TOO_MANY_REQUESTS = 429


class Usage(BaseModel):
    """The usage of a run.

    Attributes:
        too_many_requests: How many requests got a 429.
        seconds: Duration of the run.
    """

    model_config = ConfigDict(frozen=True)

    requests: int = 0
    too_many_requests: int = 0
    seconds: float = 0.0


@dataclass
class UsageCounter:
    """Counts the requests of a run.

    Attributes:
        warned: The subjects that the run was already warned of.
    """

    requests: int = 0
    too_many_requests: int = 0
    warned: set[str] = field(default_factory=set)
    _began: float = field(default_factory=time.monotonic)

    @property
    def usage(self) -> Usage:
        """The usage so far."""
        seconds = round(time.monotonic() - self._began, 1)
        return Usage(requests=self.requests, too_many_requests=self.too_many_requests, seconds=seconds)


_counters: ContextVar[tuple[UsageCounter, ...]] = ContextVar("usage_counters", default=())


@contextmanager
def track_usage() -> Iterator[UsageCounter]:
    """Count the requests sent in this context, and in tasks started in it."""
    counter = UsageCounter()
    token = _counters.set((*_counters.get(), counter))
    try:
        yield counter
    finally:
        _counters.reset(token)


def current_counters() -> tuple[UsageCounter, ...]:
    """The counters of this context."""
    return _counters.get()


@contextmanager
def charged_to(counters: Iterable[UsageCounter]) -> Iterator[None]:
    """Count requests with the counters of the runs on whose behalf they are sent."""
    token = _counters.set(tuple({id(counter): counter for counter in counters}.values()))
    try:
        yield
    finally:
        _counters.reset(token)


def is_news(subject: str) -> bool:
    """Whether a run of this context was not yet warned of a subject; marks all of them as warned."""
    counters = _counters.get()
    news = not counters or any(subject not in counter.warned for counter in counters)
    for counter in counters:
        counter.warned.add(subject)
    return news


def count_request(status: int | None) -> None:
    """Count a request that was sent.

    Args:
        status: HTTP status of its response; None without a response.
    """
    for counter in _counters.get():
        counter.requests += 1
        counter.too_many_requests += status == TOO_MANY_REQUESTS
