"""What was asked and what was done, so that a test or benchmark can judge from the server's side."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from deployments.sandbox.account import Action, Deletion
from deployments.sandbox.faults import FaultKind


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A request, without its token.

    Args:
        at: When it came, in Unix seconds.
        method: Its method.
        path: Its path and query.
        status: What it was answered, None if the connection was dropped.
        fault: What went wrong.
        counted: Whether it counted against the rate limits.
        worked: Whether what it asked for was done, whatever the client was told.
    """

    at: float
    method: str
    path: str
    status: int | None
    fault: FaultKind | None
    counted: bool
    worked: bool


@dataclass(frozen=True, slots=True)
class RequestLog:
    """Every request, every action that requests started and every image they deleted, in the order of time."""

    requests: list[SeenRequest] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    deleted: list[Deletion] = field(default_factory=list)

    def duplicate_transfers(self) -> list[Action]:
        """The transfers that need not have been started."""
        return duplicate_transfers(self.actions)

    def requests_by_status(self) -> dict[int | None, int]:
        """How many requests were answered with each status, None standing for dropped connections."""
        return requests_by_status(self.requests)

    def peak_requests(self, seconds: float) -> int:
        """The most requests that came in any stretch of time so long, refused ones included."""
        return peak(seconds, (request.at for request in self.requests))

    def peak_counted(self, seconds: float) -> int:
        """The most requests in any stretch of time so long that counted against the rate limits."""
        return peak(seconds, (request.at for request in self.requests if request.counted))

    def rate_limited(self) -> int:
        """How many requests were answered with 429."""
        return self.requests_by_status().get(429, 0)

    def requests_per_action(self) -> float:
        """How many requests an action cost, everything counted; 0 if there was no action."""
        return len(self.requests) / len(self.actions) if self.actions else 0.0


def duplicate_transfers(actions: Iterable[Action]) -> list[Action]:
    """The transfers of an image to a region that another one had reached, or was under way to.

    Args:
        actions: The actions, in the order in which they started.

    Returns:
        The later one of each such pair. One that follows upon a failure is not among them.
    """
    busy_until: dict[tuple[int, str], float] = {}
    duplicates = []
    for action in actions:
        if action.type != "transfer":
            continue
        goal = action.resource_id, action.region
        if action.started_at < busy_until.get(goal, float("-inf")):
            duplicates.append(action)
        settled = float("inf") if action.fate.outcome == "completed" else action.ends_at
        busy_until[goal] = max(settled, busy_until.get(goal, settled))
    return duplicates


def requests_by_status(requests: Iterable[SeenRequest]) -> dict[int | None, int]:
    """How many requests were answered with each status."""
    return dict(Counter(request.status for request in requests))


def peak(seconds: float, times: Iterable[float]) -> int:
    """The most moments that any stretch of time so long holds.

    Args:
        seconds: The length of the stretch; of two moments exactly so far apart it holds only one.
        times: The moments, in order.

    Returns:
        How many.
    """
    most = 0
    window: deque[float] = deque()
    for time in times:
        window.append(time)
        while window[0] + seconds <= time:
            window.popleft()
        most = max(most, len(window))
    return most
