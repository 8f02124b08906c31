"""The kinds of fault, and which requests they apply to."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from random import Random

STARTS_AN_ACTION = re.compile(r"/v2/(images|droplets)/[^/]+/actions")
LISTS_OF_EVERYONE = re.compile(r"/v2/(actions|snapshots)")
"""Lists with entries for all kinds of resources."""
CREATES_DROPLETS = re.compile(r"/v2/droplets")
DESTROYS_DROPLETS = re.compile(r"/v2/droplets(/[^/]+)?")


class FaultKind(StrEnum):
    """The kinds of fault. "After" means that the request is carried out and only the response is faulty."""

    BURST_LIMIT = "burst-limit"
    BURST_LIMIT_WITHOUT_RETRY_AFTER = "burst-limit-without-retry-after"
    HOURLY_LIMIT = "hourly-limit"
    LIMIT_RESET_IN_PAST = "limit-reset-in-past"
    LIMIT_ODD_ID = "limit-odd-id"
    LIMIT_HTML = "limit-html"
    LIMIT_FOR_A_YEAR = "limit-for-a-year"
    ERROR_BEFORE = "error-before"
    ERROR_AFTER = "error-after"
    BAD_GATEWAY_AFTER = "bad-gateway-after"
    UNAVAILABLE_HTML = "unavailable-html"
    EMPTY_ERROR = "empty-error"
    UNAVAILABLE_RETRY_AFTER = "unavailable-retry-after"
    GATEWAY_TIMEOUT_AFTER = "gateway-timeout-after"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not-found"
    ODD_STATUS = "odd-status"
    ODD_STATUS_AFTER = "odd-status-after"
    DROP_BEFORE = "drop-before"
    DROP_AFTER = "drop-after"
    HTML_OK = "html-ok"
    TRUNCATED_AFTER = "truncated-after"
    MISSING_FIELD = "missing-field"
    GIANT_NUMBER = "giant-number"
    GIANT_BODY = "giant-body"
    ODD_HEADERS = "odd-headers"
    BARE = "bare"
    FOREIGN_ENTRIES = "foreign-entries"
    ENDLESS_PAGES = "endless-pages"
    SLOW = "slow"
    DRIP = "drip"
    ACTION_ERRORED = "action-errored"
    ACTION_ENDLESS = "action-endless"
    ACTION_UNLISTED = "action-unlisted"
    NO_CAPACITY = "no-capacity"
    CREATE_ERRORED = "create-errored"
    CREATE_ENDLESS = "create-endless"
    SLOW_DELETE = "slow-delete"


LIMIT_FAULTS = frozenset(
    {
        FaultKind.BURST_LIMIT,
        FaultKind.BURST_LIMIT_WITHOUT_RETRY_AFTER,
        FaultKind.HOURLY_LIMIT,
        FaultKind.LIMIT_RESET_IN_PAST,
        FaultKind.LIMIT_ODD_ID,
        FaultKind.LIMIT_HTML,
        FaultKind.LIMIT_FOR_A_YEAR,
    }
)
"""Injected 429s. Like real ones, they do not count as requests."""

ACTION_FAULTS = frozenset({FaultKind.ACTION_ERRORED, FaultKind.ACTION_ENDLESS, FaultKind.ACTION_UNLISTED})
"""Faults of an accepted action on an image or a Droplet; they apply only to the POST that starts it."""

CREATE_FAULTS = frozenset({FaultKind.NO_CAPACITY, FaultKind.CREATE_ERRORED, FaultKind.CREATE_ENDLESS})
"""Faults that apply only to the POST that creates Droplets."""

DROPLET_FAULTS = CREATE_FAULTS | {FaultKind.SLOW_DELETE}
"""Faults that apply only to requests that create or destroy Droplets."""

IMAGE_FAULTS = tuple(kind for kind in FaultKind if kind not in DROPLET_FAULTS)
"""All others: those that requests about images can meet."""

LIST_FAULTS = frozenset({FaultKind.FOREIGN_ENTRIES, FaultKind.ENDLESS_PAGES})
"""Faults of lists only; foreign entries apply to the lists of all kinds of resources."""

FAULTS_BEFORE_WORK = LIMIT_FAULTS | {
    FaultKind.ERROR_BEFORE,
    FaultKind.UNAVAILABLE_HTML,
    FaultKind.UNAVAILABLE_RETRY_AFTER,
    FaultKind.EMPTY_ERROR,
    FaultKind.FORBIDDEN,
    FaultKind.NOT_FOUND,
    FaultKind.ODD_STATUS,
    FaultKind.DROP_BEFORE,
    FaultKind.NO_CAPACITY,
}
"""Faults that replace the work."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, and the requests that it applies to.

    Args:
        kind: The kind of fault.
        method: The method of the requests; None for any.
        path: A regular expression that is searched for in their path.
        times: How many requests it applies to; None for all.
        skip: How many matching requests to skip first.
        seconds: By the client's clock: the delay of a slow response, the time per byte of a drip, the value of
            `retry-after`, how far `ratelimit-reset` lies in the future or past, or how long a destroyed Droplet
            is still listed.
        field: The field to remove, wherever it occurs in the body.
        status: The odd status, 300 to 599.
        message: The message of an odd status, a 403, a 404 or a lack of capacity; empty for the usual one.
        size: The padding of a giant body, in bytes.
    """

    kind: FaultKind
    method: str | None = None
    path: str = ""
    times: int | None = 1
    skip: int = 0
    seconds: float = 1.0
    field: str = "status"
    status: int = 408
    message: str = ""
    size: int = 20_000_000

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", FaultKind(self.kind))
        re.compile(self.path)
        if not 300 <= self.status <= 599:  # noqa: PLR2004
            raise ValueError(f"status must be 300 to 599, not {self.status}")

    def matches(self, method: str, path: str) -> bool:
        """Whether it applies to a request."""
        if not _applies_to(self.kind, method, path):
            return False
        return self.method in (None, method) and re.search(self.path, path) is not None


def _applies_to(kind: FaultKind, method: str, path: str) -> bool:
    """Whether a kind of fault makes sense for a request."""
    if kind in ACTION_FAULTS:
        return method == "POST" and STARTS_AN_ACTION.fullmatch(path) is not None
    if kind in CREATE_FAULTS:
        return method == "POST" and CREATES_DROPLETS.fullmatch(path) is not None
    if kind == FaultKind.SLOW_DELETE:
        return method == "DELETE" and DESTROYS_DROPLETS.fullmatch(path) is not None
    if kind == FaultKind.FOREIGN_ENTRIES:
        return method == "GET" and LISTS_OF_EVERYONE.fullmatch(path) is not None
    return kind not in LIST_FAULTS or method == "GET"


@dataclass(slots=True)
class _Queued:
    """A queued fault, how many requests it still skips, and how many it applies to after that."""

    fault: Fault
    skip: int
    left: int | None

    def is_due(self) -> bool:
        """Count a matching request; returns whether the fault applies to it."""
        if self.skip:
            self.skip -= 1
            return False
        if self.left is not None:
            self.left -= 1
        return True


class Faults:
    """The queue of faults to inject, and the rate of random faults."""

    def __init__(self) -> None:
        self._queue: list[_Queued] = []
        self._rate = 0.0
        self._kinds: tuple[FaultKind, ...] = ()
        self._seconds = 1.0
        self._draw = Random(0)  # noqa: S311
        self._lock = threading.Lock()

    def add(self, *faults: Fault) -> None:
        """Queue faults; of several that match a request, the first one added applies."""
        with self._lock:
            self._queue += [_Queued(fault, fault.skip, fault.times) for fault in faults]

    def at_random(
        self, rate: float, kinds: Iterable[FaultKind] = FaultKind, *, seed: int = 0, seconds: float = 1.0
    ) -> None:
        """Inject faults at random, in addition to the queued ones.

        Args:
            rate: The share of requests, from 0 to 1.
            kinds: The kinds of fault; of those that match a request, each is equally likely.
            seed: Seed of the random numbers.
            seconds: As in `Fault`.

        Raises:
            ValueError: The rate is not from 0 to 1, or a kind is unknown.
        """
        if not 0 <= rate <= 1:
            raise ValueError(f"rate must be from 0 to 1, not {rate}")
        with self._lock:
            self._rate, self._kinds, self._seconds = rate, tuple(map(FaultKind, kinds)), seconds
            self._draw = Random(seed)  # noqa: S311

    def clear(self) -> None:
        """Stop injecting faults."""
        with self._lock:
            self._queue = []
            self._rate = 0.0

    def pick(self, method: str, path: str) -> Fault | None:
        """Choose the fault for a request, and use it up.

        Args:
            method: The request's method.
            path: Its path, without the query.

        Returns:
            The fault; None for no fault.
        """
        with self._lock:
            for queued in self._queue:
                if queued.fault.matches(method, path) and queued.is_due():
                    self._queue = [each for each in self._queue if each.left != 0]
                    return queued.fault
            if self._draw.random() >= self._rate:
                return None
            faults = [Fault(kind, seconds=self._seconds) for kind in self._kinds]
            possible = [fault for fault in faults if fault.matches(method, path)]
            return self._draw.choice(possible) if possible else None
