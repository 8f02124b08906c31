"""What can go wrong, and when it does."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from random import Random

STARTS_AN_ACTION = re.compile(r"/v2/images/[^/]+/actions")


class FaultKind(StrEnum):
    """The kinds of fault. "After" means that what was asked for is done, and only the answer suffers."""

    BURST_LIMIT = "burst-limit"
    BURST_LIMIT_WITHOUT_RETRY_AFTER = "burst-limit-without-retry-after"
    HOURLY_LIMIT = "hourly-limit"
    LIMIT_RESET_IN_PAST = "limit-reset-in-past"
    LIMIT_ODD_ID = "limit-odd-id"
    LIMIT_HTML = "limit-html"
    ERROR_BEFORE = "error-before"
    ERROR_AFTER = "error-after"
    BAD_GATEWAY_AFTER = "bad-gateway-after"
    UNAVAILABLE_HTML = "unavailable-html"
    EMPTY_ERROR = "empty-error"
    DROP_BEFORE = "drop-before"
    DROP_AFTER = "drop-after"
    HTML_OK = "html-ok"
    TRUNCATED_AFTER = "truncated-after"
    MISSING_FIELD = "missing-field"
    SLOW = "slow"
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
    }
)
"""Made-up 429s. Like the true ones, they do not count as requests."""

ACTION_FAULTS = frozenset({FaultKind.ACTION_ERRORED, FaultKind.ACTION_ENDLESS, FaultKind.ACTION_UNLISTED})
"""What befalls an action that is accepted; they apply to the POST that starts it and to nothing else."""

FORESTALLING_FAULTS = LIMIT_FAULTS | {
    FaultKind.ERROR_BEFORE,
    FaultKind.UNAVAILABLE_HTML,
    FaultKind.EMPTY_ERROR,
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
        seconds: How long, by the client's clock: how slow the answer is, when to come back after a burst limit,
            how far a made-up `ratelimit-reset` lies in the future, or in the past.
        field: The field that is missing, wherever it occurs in the body.
    """

    kind: FaultKind
    method: str | None = None
    path: str = ""
    times: int | None = 1
    seconds: float = 1.0
    field: str = "status"

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", FaultKind(self.kind))
        re.compile(self.path)

    def befalls(self, method: str, path: str) -> bool:
        """Whether a request is one of those meant."""
        if self.kind in ACTION_FAULTS and not (method == "POST" and STARTS_AN_ACTION.fullmatch(path)):
            return False
        return self.method in (None, method) and re.search(self.path, path) is not None


class Faults:
    """The faults that are waiting to happen; without any, nothing goes wrong."""

    def __init__(self) -> None:
        self._queue: list[tuple[Fault, int | None]] = []
        self._rate = 0.0
        self._kinds: tuple[FaultKind, ...] = ()
        self._seconds = 1.0
        self._draw = Random(0)  # noqa: S311
        self._lock = threading.Lock()

    def add(self, *faults: Fault) -> None:
        """Queue faults: of those that befall a request, the first one added happens."""
        with self._lock:
            self._queue += [(fault, fault.times) for fault in faults]

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
            ValueError: If the rate is none, or a kind is unknown.
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
            for place, (fault, left) in enumerate(self._queue):
                if fault.befalls(method, path):
                    self._use_up(place, fault, left)
                    return fault
            if self._draw.random() >= self._rate:
                return None
            possible = [fault for fault in self._random_faults() if fault.befalls(method, path)]
            return self._draw.choice(possible) if possible else None

    def _random_faults(self) -> list[Fault]:
        return [Fault(kind, seconds=self._seconds) for kind in self._kinds]

    def _use_up(self, place: int, fault: Fault, left: int | None) -> None:
        if left is None:
            return
        if left > 1:
            self._queue[place] = (fault, left - 1)
        else:
            del self._queue[place]
