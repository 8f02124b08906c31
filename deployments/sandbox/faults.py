"""What can go wrong, and when it does."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from random import Random

STARTS_AN_ACTION = re.compile(r"/v2/images/[^/]+/actions")
LISTS_OF_EVERYONE = re.compile(r"/v2/(actions|snapshots)")
"""Lists that hold entries of all kinds of resources."""


class FaultKind(StrEnum):
    """The kinds of fault. "After" means that what was asked for is done, and only the answer suffers."""

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
"""Made-up 429s. Like the true ones, they do not count as requests."""

ACTION_FAULTS = frozenset({FaultKind.ACTION_ERRORED, FaultKind.ACTION_ENDLESS, FaultKind.ACTION_UNLISTED})
"""What befalls an action that is accepted; they apply to the POST that starts it and to nothing else."""

LIST_FAULTS = frozenset({FaultKind.FOREIGN_ENTRIES, FaultKind.ENDLESS_PAGES})
"""What only a list can suffer; foreign entries are for the lists that hold everyone's."""

FORESTALLING_FAULTS = LIMIT_FAULTS | {
    FaultKind.ERROR_BEFORE,
    FaultKind.UNAVAILABLE_HTML,
    FaultKind.UNAVAILABLE_RETRY_AFTER,
    FaultKind.EMPTY_ERROR,
    FaultKind.FORBIDDEN,
    FaultKind.NOT_FOUND,
    FaultKind.ODD_STATUS,
    FaultKind.DROP_BEFORE,
}
"""What happens before the work is done, and instead of it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, and the requests it befalls.

    Args:
        kind: What goes wrong.
        method: The method of the requests, None for any.
        path: A regular expression that is searched for in their path.
        times: How many requests it befalls, None for all.
        skip: How many of these requests it spares first, so that it befalls the one after them.
        seconds: How long, by the client's clock: how slow the answer is, how long each byte of a drip takes, when to
            come back, how far a made-up `ratelimit-reset` lies in the future, or in the past.
        field: The field that is missing, wherever it occurs in the body.
        status: The status of an odd one, 300 to 599.
        message: What an odd status, a 403 or a 404 says, if not the usual.
        size: How many bytes a giant body has besides its content.
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
            raise ValueError(f"status must be 300 to 599, and {self.status} is not")

    def befalls(self, method: str, path: str) -> bool:
        """Whether a request is one of those meant."""
        if self.kind in ACTION_FAULTS and not (method == "POST" and STARTS_AN_ACTION.fullmatch(path)):
            return False
        if self.kind in LIST_FAULTS and method != "GET":
            return False
        if self.kind == FaultKind.FOREIGN_ENTRIES and not LISTS_OF_EVERYONE.fullmatch(path):
            return False
        return self.method in (None, method) and re.search(self.path, path) is not None


@dataclass(slots=True)
class _Waiting:
    """A fault, how many requests it still spares, and how many it befalls then."""

    fault: Fault
    spares: int
    left: int | None

    def is_due(self) -> bool:
        """Whether it befalls the request that has just come; counts it either way."""
        if self.spares:
            self.spares -= 1
            return False
        if self.left is not None:
            self.left -= 1
        return True


class Faults:
    """The faults that are waiting to happen; without any, nothing goes wrong."""

    def __init__(self) -> None:
        self._queue: list[_Waiting] = []
        self._rate = 0.0
        self._kinds: tuple[FaultKind, ...] = ()
        self._seconds = 1.0
        self._draw = Random(0)  # noqa: S311
        self._lock = threading.Lock()

    def add(self, *faults: Fault) -> None:
        """Queue faults: of those that befall a request, the first one added happens."""
        with self._lock:
            self._queue += [_Waiting(fault, fault.skip, fault.times) for fault in faults]

    def at_random(
        self, rate: float, kinds: Iterable[FaultKind] = FaultKind, *, seed: int = 0, seconds: float = 1.0
    ) -> None:
        """Have requests go wrong at random, besides the faults that are queued.

        Args:
            rate: The share of requests, from 0 to 1.
            kinds: What can go wrong; each is as likely as the others that a request can suffer.
            seed: What is drawn from.
            seconds: As in `Fault`.

        Raises:
            ValueError: If the rate is not between 0 and 1, or a kind is unknown.
        """
        if not 0 <= rate <= 1:
            raise ValueError(f"rate must be from 0 to 1, and {rate} is not")
        with self._lock:
            self._rate, self._kinds, self._seconds = rate, tuple(map(FaultKind, kinds)), seconds
            self._draw = Random(seed)  # noqa: S311

    def clear(self) -> None:
        """Let nothing more go wrong."""
        with self._lock:
            self._queue = []
            self._rate = 0.0

    def pick(self, method: str, path: str) -> Fault | None:
        """The fault that befalls this request, which is used up by it.

        Args:
            method: The request's method.
            path: Its path, without the query.

        Returns:
            The fault, or None if all goes well.
        """
        with self._lock:
            for waiting in self._queue:
                if waiting.fault.befalls(method, path) and waiting.is_due():
                    self._queue = [each for each in self._queue if each.left != 0]
                    return waiting.fault
            if self._draw.random() >= self._rate:
                return None
            possible = [fault for fault in self._random_faults() if fault.befalls(method, path)]
            return self._draw.choice(possible) if possible else None

    def _random_faults(self) -> list[Fault]:
        return [Fault(kind, seconds=self._seconds) for kind in self._kinds]
