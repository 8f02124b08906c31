"""Where in a run its process dies: at the very moment when a request arrives, carried out or not."""

from __future__ import annotations

import os
import re
import signal
import threading
from dataclasses import dataclass, field
from typing import Any

from deployments.sandbox import Account, Fault, FaultKind
from deployments.sandbox.faults import Faults

TAGGING = r"^/v2/tags/[^/]+/resources$"
POSTING = r"^/v2/images/(\d+)/actions$"
LOOKING = r"^/v2/(images/\d+/)?actions"
TAKING = r"^/v2/droplets/\d+/actions$"
LOOKING_AT_SNAPSHOTS = r"^/v2/(droplets/\d+/)?actions"


@dataclass(frozen=True)
class CrashPoint:
    """A moment in a run.

    Attributes:
        name: What it is called in the table.
        method: Method of the request that the process dies at.
        path: A regular expression for its path.
        nth: Which of these requests it is.
        kind: For a request that starts an action: which kind.
        after_starts: Only requests count that come when at least so many actions were started.
        carried_out: Whether the server still does what it is asked for; if not, it is as if nothing had been sent.
        taggable_backups: Whether the API tags backups; if not, they are tagged once they are snapshots.
        signal: What the process is sent.
    """

    name: str
    method: str
    path: str
    nth: int = 1
    kind: str = ""
    after_starts: int = 0
    carried_out: bool = False
    taggable_backups: bool = True
    signal: signal.Signals = signal.SIGKILL

    @property
    def is_killed(self) -> bool:
        """Whether the process cannot tell Prefect's server of its end."""
        return self.signal == signal.SIGKILL

    def __str__(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", f"{self.signal.name.lower()} {self.name.lower()}").strip("-")


def crash_points(images: int, regions: int) -> list[CrashPoint]:
    """Spread crashes over a run: before and after each kind of request.

    Args:
        images: How many images the run converts.
        regions: To how many regions it sends each.
    """
    transfers = images * regions
    all_started = images + transfers

    return [
        CrashPoint("before the first request (regions)", "GET", "^/v2/regions"),
        CrashPoint("before the Droplets are listed", "GET", "^/v2/droplets"),
        CrashPoint("before the images are listed", "GET", "^/v2/images$"),
        CrashPoint("before the actions are listed", "GET", LOOKING),
        CrashPoint("before the backups are tagged", "POST", TAGGING),
        *around("the tag is made", "POST", "^/v2/tags$"),
        *around("the backups are tagged, the tag made", "POST", TAGGING, 2),
        *around("the first conversion", "POST", POSTING, 1, "convert"),
        *around("the last conversion", "POST", POSTING, images, "convert"),
        CrashPoint("before the first look at a conversion", "GET", LOOKING, after_starts=1),
        *around("a converted image is tagged", "POST", TAGGING, 3, taggable_backups=False),
        *around("the first transfer", "POST", POSTING, 1, "transfer"),
        *around("the middle transfer", "POST", POSTING, transfers // 2, "transfer"),
        *around("the last transfer", "POST", POSTING, transfers, "transfer"),
        CrashPoint("before the first look after all is started", "GET", LOOKING, after_starts=all_started),
        CrashPoint("before the second look after all is started", "GET", LOOKING, 2, after_starts=all_started),
        CrashPoint(
            "after the middle transfer, unanswered",
            "POST",
            POSTING,
            transfers // 2,
            "transfer",
            carried_out=True,
            signal=signal.SIGTERM,
        ),
    ]


def snapshot_crash_points(droplets: int, regions: int) -> list[CrashPoint]:
    """Spread crashes over a run that takes snapshots: before and after each kind of request.

    Args:
        droplets: How many Droplets there are.
        regions: To how many regions the run copies each snapshot; 0 if to none.
    """
    points = [
        CrashPoint("before the Droplets are listed", "GET", "^/v2/droplets$"),
        CrashPoint("before the actions are listed", "GET", LOOKING_AT_SNAPSHOTS),
        CrashPoint("before the snapshots are listed", "GET", "^/v2/snapshots$"),
        *around("the Droplets are recorded", "POST", "^/v2/tags$"),
        *around("the first snapshot", "POST", TAKING),
        *around("the last snapshot", "POST", TAKING, droplets),
        CrashPoint("before the first look at a snapshot", "GET", LOOKING_AT_SNAPSHOTS, after_starts=droplets),
        CrashPoint("before the new snapshots are listed", "GET", r"/snapshots$", after_starts=droplets),
        CrashPoint("before the snapshots are tagged", "POST", TAGGING),
        *around("the tag is made", "POST", "^/v2/tags$", after_starts=droplets),
        *around("the snapshots are tagged, the tag made", "POST", TAGGING, 2),
    ]
    if not regions:
        stopped = CrashPoint(
            "after the last snapshot, unanswered", "POST", TAKING, droplets, carried_out=True, signal=signal.SIGTERM
        )
        return [*points, stopped]
    transfers = droplets * regions
    return [
        CrashPoint("before the first request (regions)", "GET", "^/v2/regions"),
        *points,
        *around("the first transfer", "POST", POSTING, 1, "transfer"),
        *around("the middle transfer", "POST", POSTING, transfers // 2, "transfer"),
        *around("the last transfer", "POST", POSTING, transfers, "transfer"),
        CrashPoint("before the first look after all is started", "GET", LOOKING, after_starts=droplets + transfers),
        CrashPoint(
            "after the middle transfer, unanswered",
            "POST",
            POSTING,
            transfers // 2,
            "transfer",
            carried_out=True,
            signal=signal.SIGTERM,
        ),
    ]


def around(name: str, method: str, path: str, nth: int = 1, kind: str = "", **more: Any) -> list[CrashPoint]:
    """The crash before a request is carried out, and the one after it."""
    return [
        CrashPoint(f"before {name}", method, path, nth, kind, **more),
        CrashPoint(f"after {name}, unanswered", method, path, nth, kind, carried_out=True, **more),
    ]


@dataclass
class Tripwire(Faults):
    """Ends a process when a request arrives, before the server does anything about it.

    Attributes:
        point: Which request.
        account: The account.
        pid: The process, once there is one.
        seen: Requests that have arrived, that one included.
        tripped: Set when the process was sent its signal.
    """

    point: CrashPoint
    account: Account
    pid: int | None = None
    seen: int = 0
    tripped: threading.Event = field(default_factory=threading.Event)
    _met: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def lay(self, point: CrashPoint) -> None:
        """Wait for a request of the next process."""
        self.point, self.pid, self._met = point, None, 0
        self.tripped.clear()

    def pick(self, method: str, path: str) -> Fault | None:
        if self.tripped.is_set() or self.pid is None:
            return super().pick(method, path)
        self.seen += 1
        if self._is_meant(method, path):
            self._met += 1
            if self._met == self.point.nth:
                os.kill(self.pid, self.point.signal)
                self.tripped.set()
                return None if self.point.carried_out else Fault(FaultKind.DROP_BEFORE)
        return super().pick(method, path)

    def _is_meant(self, method: str, path: str) -> bool:
        if method != self.point.method or len(self.account.started) < self.point.after_starts:
            return False
        found = re.search(self.point.path, path)
        if not found or not self.point.kind:
            return found is not None
        converting = self.account.images[int(found[1])].type == "backup"
        return converting == (self.point.kind == "convert")
