"""Counting the requests of one run, also where several runs share a process."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

TOO_MANY_REQUESTS = 429


@dataclass
class Tally:
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


_open_tallies: ContextVar[tuple[Tally, ...]] = ContextVar("open_tallies", default=())


@contextmanager
def tally_requests() -> Iterator[Tally]:
    """Count the requests sent from within this context, and from whatever is started in it."""
    tally = Tally()
    token = _open_tallies.set((*_open_tallies.get(), tally))
    try:
        yield tally
    finally:
        _open_tallies.reset(token)


def open_tallies() -> tuple[Tally, ...]:
    """The tallies that count what is sent from this context."""
    return _open_tallies.get()


@contextmanager
def counted_by(tallies: Iterable[Tally]) -> Iterator[None]:
    """Have requests counted by the tallies of those on whose behalf they are sent."""
    token = _open_tallies.set(tuple({id(tally): tally for tally in tallies}.values()))
    try:
        yield
    finally:
        _open_tallies.reset(token)


def is_news(subject: str) -> bool:
    """Whether one of the runs on whose behalf this is asked was not warned of something yet; all of them are then."""
    tallies = _open_tallies.get()
    news = not tallies or any(subject not in tally.warned for tally in tallies)
    for tally in tallies:
        tally.warned.add(subject)
    return news


def count_request(status: int | None) -> None:
    """Note a request that was sent.

    Args:
        status: HTTP status of its answer, None where there was none.
    """
    for tally in _open_tallies.get():
        tally.requests += 1
        tally.too_many += status == TOO_MANY_REQUESTS
