"""What a scenario says while it runs, waits for, and has checked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import httpx

from tests.soak.history import SeenState

SECONDS_BETWEEN_LOOKS = 1.0

T = TypeVar("T")

_printing = threading.Lock()


class Halted(Exception):
    """The soak is to end before its time."""


class TookTooLong(Exception):
    """Something that a scenario waits for has not happened."""


@dataclass(frozen=True)
class SeenRun:
    """What Prefect has recorded of one flow run.

    Attributes:
        label: What it was, in the scenario.
        states: Its states.
        longest_gap: The longest time between two of its heartbeats; None if it sent fewer than two.
        dead_for: How long it had been dead when it was recognised as dead; None if it lived.
    """

    label: str
    states: list[SeenState]
    longest_gap: timedelta | None = None
    dead_for: timedelta | None = None


@dataclass
class Watch:
    """One scenario's own view of the soak.

    Attributes:
        scenario: Its name.
        halt: Set when all scenarios are to end.
        passed: What was checked and holds.
        failed: What was checked and does not hold, with the evidence.
        runs: The runs, for the table.
        lost: What did not arrive, by the sandbox's record.
        twice: What was started twice, by the sandbox's record.
        requests: How many requests the sandbox has counted.
        began: When the scenario began.
        ended: When it ended.
    """

    scenario: str
    halt: threading.Event = field(default_factory=threading.Event)
    passed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    runs: list[SeenRun] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    requests: int = 0
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None

    def say(self, sentence: str) -> None:
        """Print a line, with the time."""
        with _printing:
            print(f"{datetime.now(UTC):%H:%M:%S}  {self.scenario:11}  {sentence}", flush=True)  # noqa: T201

    def check(self, holds: object, sentence: str, evidence: object = "") -> None:
        """Note whether something holds, and go on in any case.

        Args:
            holds: Whether it does.
            sentence: What should hold.
            evidence: What was seen instead.
        """
        if holds:
            self.passed.append(sentence)
            self.say(f"ok: {sentence}")
        else:
            self.failed.append(f"{sentence}; seen: {evidence}" if evidence != "" else sentence)
            self.say(f"FAILED: {self.failed[-1]}")

    def pause(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            Halted: The soak is to end.
        """
        if self.halt.wait(seconds):
            raise Halted

    def until(self, what: str, look: Callable[[], T], within: timedelta) -> T:
        """Look every second until there is something to see; a server that does not answer shows nothing.

        Args:
            what: What is waited for.
            look: Returns something true when it is there.
            within: How long to wait.

        Returns:
            What was seen.

        Raises:
            TookTooLong: It has not happened.
            Halted: The soak is to end.
        """
        deadline = time.monotonic() + within.total_seconds()
        while True:
            try:
                if seen := look():
                    return seen
            except httpx.HTTPError:
                pass
            if time.monotonic() >= deadline:
                raise TookTooLong(f"{what}: not within {within.total_seconds() / 60:.1f} min")
            self.pause(SECONDS_BETWEEN_LOOKS)
