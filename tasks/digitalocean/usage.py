"""Counting the requests of one run, also where several runs share a process."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

TOO_MANY_REQUESTS = 429


@dataclass
class Usage:
    """What a run has cost so far.

    Attributes:
        requests: Requests sent.
        too_many: How many of them were answered with 429.
        warned: What the run was warned of, once each.
    """

    requests: int = 0
    too_many: int = 0
    warned: set[str] = field(default_factory=set)
    _began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """How long the count has been open."""
        return round(time.monotonic() - self._began, 1)


_current_usages: ContextVar[tuple[Usage, ...]] = ContextVar("open_tallies", default=())


@contextmanager
def track_usage() -> Iterator[Usage]:
    """Count the requests sent from within this context, and from whatever is started in it."""
    usage = Usage()
    token = _current_usages.set((*_current_usages.get(), usage))
    try:
        yield usage
    finally:
        _current_usages.reset(token)


def current_usages() -> tuple[Usage, ...]:
    """The tallies that count what is sent from this context."""
    return _current_usages.get()


@contextmanager
def charged_to(usages: Iterable[Usage]) -> Iterator[None]:
    """Have requests counted by the tallies of those on whose behalf they are sent."""
    token = _current_usages.set(tuple({id(usage): usage for usage in usages}.values()))
    try:
        yield
    finally:
        _current_usages.reset(token)


def is_news(subject: str) -> bool:
    """Whether one of the runs on whose behalf this is asked was not warned of something yet; all of them are then."""
    usages = _current_usages.get()
    news = not usages or any(subject not in usage.warned for usage in usages)
    for usage in usages:
        usage.warned.add(subject)
    return news


def count_request(status: int | None) -> None:
    """Note a request that was sent.

    Args:
        status: HTTP status of its answer, None where there was none.
    """
    for usage in _current_usages.get():
        usage.requests += 1
        usage.too_many += status == TOO_MANY_REQUESTS
