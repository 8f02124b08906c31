"""The request log: what tests and benchmarks check on the server's side."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from deployments.sandbox.account import Account, Action, Deletion, DropletRecord, FirewallRecord
from deployments.sandbox.faults import FaultKind


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A request, without its token.

    Args:
        at: When it arrived, in Unix seconds.
        method: Its method.
        path: Its path and query.
        status: The status of the response; None if the connection was dropped.
        fault: The injected fault.
        counted: Whether it counted against the rate limits.
        worked: Whether it was carried out, whatever the response said.
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
    """Every request, started action and deleted image, and changes of Droplets and firewalls, oldest first."""

    requests: list[SeenRequest] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    deleted: list[Deletion] = field(default_factory=list)
    created: list[DropletRecord] = field(default_factory=list)
    destroyed: list[DropletRecord] = field(default_factory=list)
    firewalls_created: list[FirewallRecord] = field(default_factory=list)
    firewalls_deleted: list[FirewallRecord] = field(default_factory=list)

    @classmethod
    def of(cls, account: Account) -> Self:
        """A log that shows what the client does to an account."""
        return cls(
            actions=account.started,
            deleted=account.deleted,
            created=account.created,
            destroyed=account.destroyed,
            firewalls_created=account.firewalls_created,
            firewalls_deleted=account.firewalls_deleted,
        )

    def created_twice(self) -> list[DropletRecord]:
        """The Droplets created while another one of the same name and image, that the client had created, existed."""
        ended = {record.droplet_id: record.at for record in self.destroyed}
        return [
            later
            for number, later in enumerate(self.created)
            if any(
                (earlier.name, earlier.image_id) == (later.name, later.image_id)
                and ended.get(earlier.droplet_id, math.inf) > later.at
                for earlier in self.created[:number]
            )
        ]

    def left_behind(self) -> list[DropletRecord]:
        """The Droplets that the client created and did not destroy."""
        destroyed = {record.droplet_id for record in self.destroyed}
        return [record for record in self.created if record.droplet_id not in destroyed]

    def originals_destroyed(self) -> list[DropletRecord]:
        """The Droplets that the client destroyed and had not created."""
        created = {record.droplet_id for record in self.created}
        return [record for record in self.destroyed if record.droplet_id not in created]

    def duplicate_transfers(self) -> list[Action]:
        """The transfers that were started twice."""
        return duplicate_transfers(self.actions)

    def requests_by_status(self) -> dict[int | None, int]:
        """The number of requests by status of the response; None stands for dropped connections."""
        return dict(Counter(request.status for request in self.requests))

    def peak_requests(self, seconds: float) -> int:
        """The maximum number of requests in any window of this length, including refused ones."""
        return peak(seconds, (request.at for request in self.requests))

    def peak_counted(self, seconds: float) -> int:
        """The maximum number of requests in any window of this length that counted against the rate limits."""
        return peak(seconds, (request.at for request in self.requests if request.counted))

    def rate_limited(self) -> int:
        """The number of requests that got a 429."""
        return self.requests_by_status().get(429, 0)

    def requests_per_action(self) -> float:
        """The number of requests per action, of all requests; 0 without actions."""
        return len(self.requests) / len(self.actions) if self.actions else 0.0


def duplicate_transfers(actions: Iterable[Action]) -> list[Action]:
    """Find transfers of an image to a region that another transfer had reached, or was in progress to.

    Args:
        actions: The actions, in the order in which they started.

    Returns:
        The later one of each such pair, unless the earlier one had failed.
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


def peak(seconds: float, times: Iterable[float]) -> int:
    """Find the maximum number of events in any window.

    Args:
        seconds: The length of the window, which is half-open: of two events exactly this far apart it contains one.
        times: The times of the events, in order.

    Returns:
        The number of events.
    """
    most = 0
    window: deque[float] = deque()
    for time in times:
        window.append(time)
        while window[0] + seconds <= time:
            window.popleft()
        most = max(most, len(window))
    return most
