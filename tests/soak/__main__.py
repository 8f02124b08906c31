"""Run the project as its users run it, for as long as its runs last: `make soak`."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cyclopts

from tests.soak.account import real_time_sandbox
from tests.soak.approval import approval
from tests.soak.events import twelve_events
from tests.soak.kills import both, run_or_worker
from tests.soak.outages import outage, restart
from tests.soak.plan import Plan
from tests.soak.reboot import reboot
from tests.soak.rebuild import rebuild
from tests.soak.snapshots import snapshots
from tests.soak.stack import ROOT, Stack
from tests.soak.table import section
from tests.soak.undisturbed import undisturbed
from tests.soak.upgrade import EARLIER_VERSION, upgrade, write_version
from tests.soak.watch import Halted, Watch
from tests.torture.reliability import write_section

TITLE = "Long runs"
COMMAND = "make soak"
LONGEST = timedelta(minutes=60)
SECONDS_BETWEEN_LOOKS = 1.0

Scenario = Callable[[Watch, Stack, Plan], None]


@dataclass(frozen=True)
class Lane:
    """Scenarios that follow each other on the same machine.

    Attributes:
        scenarios: The scenarios by name.
        droplets: How many Droplets the account has.
        version: The commit whose code is set up; None for the code as it is here.
    """

    scenarios: dict[str, Scenario]
    droplets: int
    version: str | None = None


# The longest first: they are set up one after the other.
LANES = [
    Lane({"both": both, "events": twelve_events}, droplets=4),
    Lane({"reboot": reboot}, droplets=4),
    Lane({"outage": outage}, droplets=2),
    Lane({"kills": run_or_worker}, droplets=2),
    Lane({"rebuild": rebuild}, droplets=2),
    Lane({"snapshots": snapshots}, droplets=3),
    Lane({"undisturbed": undisturbed}, droplets=2),
    Lane({"restart": restart}, droplets=1),
    Lane({"approval": approval}, droplets=2),
    Lane({"upgrade": upgrade}, droplets=2, version=EARLIER_VERSION),
]

app = cyclopts.App(name="python -m tests.soak", version_flags=[])


@app.default
def main(*, only: Sequence[str] = (), quick: float = 1.0, version: str | None = None) -> int:
    """Run all scenarios side by side, in real time, and write the section of tests/RELIABILITY.md.

    Args:
        only: Names of scenarios; those before them on the same machine run as well. Writes nothing.
        quick: What the long times are divided by, to develop the soak itself. Writes nothing.
        version: A commit to run instead of the code as it is here, to see what fails there. Writes nothing.

    Returns:
        Exit status: 0 if every check holds.
    """
    lanes = [
        replace(lane, version=lane.version or version) for lane in LANES if not only or set(only) & set(lane.scenarios)
    ]
    halt = threading.Event()
    watches = {name: Watch(name, halt) for lane in lanes for name in lane.scenarios}
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = datetime.now(UTC)
    with ThreadPoolExecutor(len(lanes)) as pool:
        for lane in lanes:
            pool.submit(_drive, lane, watches, folder / next(iter(lane.scenarios)), Plan(quick))
        interrupted = _wait(watches, halt)
    text = section(list(watches.values()), began, datetime.now(UTC))
    print(f"\n{text}\n", flush=True)  # noqa: T201
    if not (only or interrupted or version or quick != 1):
        write_section(TITLE, text, command=COMMAND)
    failures = [f"{watch.scenario}: {failure}" for watch in watches.values() for failure in watch.failed]
    for failure in failures:
        print(f"FAILED  {failure}", flush=True)  # noqa: T201
    if failures or interrupted:
        print(f"The logs are in {folder}", flush=True)  # noqa: T201
        return 130 if interrupted else 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _wait(watches: dict[str, Watch], halt: threading.Event) -> bool:
    """Wait until all scenarios have ended, or end them; returns whether they were interrupted."""
    deadline = datetime.now(UTC) + LONGEST
    interrupted = False
    try:
        while any(watch.ended is None for watch in watches.values()) and datetime.now(UTC) < deadline:
            time.sleep(SECONDS_BETWEEN_LOOKS)
    except KeyboardInterrupt:
        interrupted = True
        print("Ending everything that was started", flush=True)  # noqa: T201
    # Ignored from now on, because the threads end what they have started.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for watch in watches.values():
        if watch.ended is None and not interrupted:
            watch.check(False, f"it ends within {LONGEST.total_seconds() / 60:.0f} minutes")
    halt.set()
    return interrupted


def _drive(lane: Lane, watches: dict[str, Watch], folder: Path, plan: Plan) -> None:
    """Run the scenarios of a lane; what fails is noted in their watches."""
    first = watches[next(iter(lane.scenarios))]
    try:
        code = ROOT
        if lane.version:
            code = folder / "code"
            write_version(lane.version, code)
        with real_time_sandbox(lane.droplets) as sandbox, Stack(first, folder, sandbox, code) as stack:
            stack.set_up()
            for name, scenario in lane.scenarios.items():
                stack.watch = watches[name]
                _carry_out(watches[name], stack, plan, scenario)
    except Halted:
        first.say("ended before its time")
    except Exception as error:  # noqa: BLE001  # the other lanes go on, and it is reported
        traceback.print_exc()
        first.check(False, "the machine can be set up as the README says", repr(error))
    finally:
        for name in lane.scenarios:
            watches[name].ended = watches[name].ended or datetime.now(UTC)


def _carry_out(watch: Watch, stack: Stack, plan: Plan, scenario: Scenario) -> None:
    watch.began = datetime.now(UTC)
    watch.say(f"begins: {(scenario.__doc__ or '').splitlines()[0]}")
    try:
        scenario(watch, stack, plan)
    except Halted:
        raise
    except Exception as error:  # noqa: BLE001  # a scenario that cannot go on has failed; the others do not care
        traceback.print_exc()
        watch.check(False, "the scenario goes on to its end", f"{type(error).__name__}: {error}")
    watch.ended = datetime.now(UTC)
    watch.say("ends")


if __name__ == "__main__":
    sys.exit(app())
