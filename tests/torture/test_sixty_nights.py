"""Two months of nights with a tenth of all requests going wrong: what is kept, what goes, what is never touched."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from prefect import State
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from deployments.sandbox import FaultKind, Sandbox
from deployments.sandbox.faults import IMAGE_FAULTS, LIMIT_FAULTS, LIST_FAULTS
from flows.prune_snapshots import prune_snapshots
from flows.replicate_backups import replicate_backups
from flows.retention.rule import RetentionRule
from tasks.digitalocean import client
from tasks.digitalocean.clock import Clock
from tests.end_to_end.accounts import add_snapshots
from tests.end_to_end.prefect_server import PrefectView
from tests.flows.nights import Nights, go_wrong, moment
from tests.flows.retention import test_retention_in_the_long_run as long_run
from tests.torture.conftest import is_full
from tests.torture.judging import let_all_end
from tests.torture.reliability import write_section
from tests.torture.snapshots import STARTING

TITLE = "Nights"
NIGHTS = 60
NIGHTS_IN_EVERY_TEST_RUN = 3
NIGHTS_WITH_SNAPSHOTS_IN_EVERY_TEST_RUN = 2
SEEDS_IN_VIRTUAL_TIME = range(1, 21)
SEEDS_WITH_SNAPSHOTS = range(1, 11)
# Another action on a Droplet, during which the API refuses to take a snapshot, takes half a second.
BUSY_SECONDS = 0.5
DAY = 86400.0
# The largest image takes 0.3 seconds, an hour of the rate limits lasts as long.
SPEED = 12_000
REGIONS = ["fra1", "sgp1"]
FAULT_RATE = 0.1
FAULT_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 0.05
# The slow answers come later than a client waits for them.
HTTP_TIMEOUT_SECONDS = 0.5
# What never ends is given up soon; the next run finds it done.
TIMEOUT_MINUTES = 8 / 60
LONG_TIMEOUT_MINUTES = 2.0
MOST_RUNS_A_NIGHT = 6
MAXIMA = {"most of a Droplet", "the rule keeps at most"}

# A made-up 429 stops everybody for a second or two, so these come in their turn only.
AT_RANDOM = frozenset(IMAGE_FAULTS) - LIMIT_FAULTS

CONDITIONS = f"""\
Each night every Droplet gets a backup, and backups of a week ago rotate away; then a run copies the newest to two
regions and prunes. One request in ten fails at random, with every kind of fault (through Prefect, without 429s). Each
night, faults also hit the start of an action or a deletion, each kind in turn. An incomplete night runs again, up to
{MOST_RUNS_A_NIGHT} times, then once without faults; actions that would never end are finished by hand before. One of
two Droplets is destroyed on the way, and its snapshots stay.

Checked each morning: the newest recovery point of each Droplet is a snapshot in every region; each Droplet's snapshots
are exactly those that the rule keeps, computed in another way than the project does; at no time was there more than the
night's own besides; no snapshot without the tag, or created by others, was ever deleted, and none twice; no conversion
or transfer was started twice.

With `source="snapshots"`, runs take a snapshot of each Droplet and copy that, on every third night while another action
on one of them is in progress. Once the copies are there, only the pruning is run again. Then the newest recovery point
is the night's snapshot: each Droplet has one, taken by the only action that completed, and no backup was converted.

In virtual time, a day between two nights is a day. Through Prefect, the clocks of the sandbox and of its client jump by
a day: all times of the API and the names of the snapshots follow, while Prefect's own clock does not jump."""


@dataclass
class Table:
    """The results of all nights, by how they were run.

    Attributes:
        lines: Accounts and their results, by how; the number says how many nights each had.
    """

    lines: dict[str, list[tuple[int, Nights]]] = field(default_factory=dict)

    def add(self, how: str, count: int, nights: Nights) -> None:
        self.lines.setdefault(how, []).append((count, nights))

    def text(self) -> str:
        """The section of the page."""
        titles, rows = [""], []
        for how, accounts in self.lines.items():
            figures = [nights.figures for _, nights in accounts]
            cells = {"accounts": len(accounts), "nights": sum(count for count, _ in accounts)}
            for name in figures[0]:
                several = [each[name] for each in figures]
                cells[name] = max(several) if name in MAXIMA else sum(several)
            titles = ["", *cells]
            rows.append(f"| {how} | " + " | ".join(f"{cell:,}" for cell in cells.values()) + " |")
        head = ["| " + " | ".join(titles) + " |", "| --- |" + " ---: |" * (len(titles) - 1)]
        return "\n\n".join([CONDITIONS, "\n".join([*head, *rows]), self._kinds()])

    def _kinds(self) -> str:
        total: Counter[FaultKind] = Counter()
        for accounts in self.lines.values():
            for _, nights in accounts:
                total.update(nights.faults)
        return "Each kind of fault: " + ", ".join(f"{kind.value} {total[kind]}" for kind in IMAGE_FAULTS) + "."


@pytest.fixture(scope="module")
def table(pytestconfig: pytest.Config) -> Iterator[Table]:
    """What came of the nights; written down at the end if it is the whole of them."""
    table = Table()
    yield table
    accounts = sum(len(each) for each in table.lines.values())
    if is_full(pytestconfig) and accounts == len(SEEDS_IN_VIRTUAL_TIME) + len(SEEDS_WITH_SNAPSHOTS) + 2:
        write_section(TITLE, table.text())


@pytest.mark.torture
@pytest.mark.parametrize("seed", SEEDS_IN_VIRTUAL_TIME)
@pytest.mark.longest((long_run.NIGHTS + 1) * DAY)
async def test_planner_executor_and_pruning_survive_two_months_in_virtual_time(seed: int, table: Table) -> None:
    nights = await long_run.two_months(seed)
    table.add("the parts of the flows, in virtual time", long_run.NIGHTS, nights)


@pytest.mark.torture
@pytest.mark.parametrize("seed", SEEDS_WITH_SNAPSHOTS)
@pytest.mark.longest((long_run.NIGHTS + 1) * DAY)
async def test_taking_snapshots_survives_two_months_in_virtual_time(seed: int, table: Table) -> None:
    nights = await long_run.two_months(seed, from_snapshots=True)
    assert nights.starts_hit == set(IMAGE_FAULTS) - LIST_FAULTS
    table.add('the same with `source="snapshots"`', long_run.NIGHTS, nights)


@pytest.fixture
def _few_logs() -> Iterator[None]:
    """Send few logs: there are many runs, and Prefect's server is busy enough."""
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}):
        yield


@dataclass(frozen=True)
class Nightly:
    """What runs night after night.

    Attributes:
        source: What it copies.
        nights: How many nights.
    """

    source: str
    nights: int

    def __str__(self) -> str:
        return f"{self.nights}-{self.source}"

    @property
    def from_snapshots(self) -> bool:
        return self.source == "snapshots"

    @property
    def called(self) -> str:
        source = ', source="snapshots"' if self.from_snapshots else ""
        return f"`replicate_backups(prune=True{source})`, through Prefect and HTTP"


IN_EVERY_TEST_RUN = [
    Nightly("backups", NIGHTS_IN_EVERY_TEST_RUN),
    Nightly("snapshots", NIGHTS_WITH_SNAPSHOTS_IN_EVERY_TEST_RUN),
]
FULL = [Nightly("backups", NIGHTS), Nightly("snapshots", NIGHTS)]


@pytest.mark.usefixtures("_few_logs")
@pytest.mark.parametrize(
    "nightly",
    [
        *(pytest.param(each, id=str(each)) for each in IN_EVERY_TEST_RUN),
        *(pytest.param(each, id=str(each), marks=pytest.mark.torture) for each in FULL),
    ],
)
def test_nightly_runs_through_prefect_leave_what_the_rule_says_despite_faults(
    nightly: Nightly,
    start: Callable[..., Sandbox],
    prefect_view: PrefectView,
    monkeypatch: pytest.MonkeyPatch,
    table: Table,
) -> None:
    skipped = 0.0

    def now() -> float:
        return time.time() + skipped

    sandbox = start(droplets=2, speed=SPEED, clock=now)
    monkeypatch.setenv("DIGITALOCEAN_HTTP_TIMEOUT_SECONDS", str(HTTP_TIMEOUT_SECONDS))
    monkeypatch.setattr(client, "FIRST_PAUSE_SECONDS", FIRST_PAUSE_SECONDS)
    # The client rightly does not believe a server whose clock is weeks ahead of its own.
    monkeypatch.setattr(Clock, "unix", lambda _: now())
    lost, kept = droplets = list(sandbox.account.droplets.values())
    nights = Nights(sandbox.account, sandbox.record, RetentionRule(), REGIONS, nightly.from_snapshots)
    for droplet in droplets:
        # What runs have left behind before there was any pruning, so that there is something to prune from the start.
        old = add_snapshots(sandbox, droplet, *range(2, 11), regions=REGIONS)
        nights.points[droplet.id] = [moment(image) for image in old]
    starts = STARTING if nightly.from_snapshots else "/actions$"
    for night in range(1, nightly.nights + 1):
        skipped += DAY
        nights.begin(now())
        go_wrong(
            sandbox.faults,
            sandbox.record,
            night,
            rate=FAULT_RATE,
            seed=1,
            at_random=AT_RANDOM,
            seconds=FAULT_SECONDS,
            starts=starts,
        )
        if nightly.from_snapshots and night % 3 == 0:
            sandbox.account.keep_busy(kept, now(), BUSY_SECONDS * SPEED)
        a_night(nightly, sandbox, nights, prefect_view, now)
        sandbox.faults.clear()
        nights.check(droplets)
        if night == nightly.nights // 3:
            sandbox.account.delete_droplet(lost)
    if nightly.nights == NIGHTS:
        assert nights.faults.keys() == set(IMAGE_FAULTS)
        assert not nightly.from_snapshots or nights.starts_hit == set(IMAGE_FAULTS) - LIST_FAULTS
        table.add(nightly.called, nightly.nights, nights)


def a_night(nightly: Nightly, sandbox: Sandbox, nights: Nights, view: PrefectView, now: Callable[[], float]) -> None:
    """Run until all is done."""
    copied = False
    for number in range(MOST_RUNS_A_NIGHT + 1):
        is_last = number == MOST_RUNS_A_NIGHT
        if is_last:
            # On a busy machine, the time limit of seconds can end six runs. The next night's run would finish.
            sandbox.faults.clear()
        nights.runs += 1
        states = a_run(nightly, view, LONG_TIMEOUT_MINUTES if is_last else TIMEOUT_MINUTES, copied=copied)
        # After a run that was Completed, the next one is the next night's, and takes new snapshots.
        copied = copied or (nightly.from_snapshots and states[0].is_completed())
        if all(state.is_completed() for state in states):
            return
        nights.incomplete += 1
        sandbox.account.advance(now())
        let_all_end(sandbox, now())
    raise AssertionError([state.message for state in states])


def a_run(nightly: Nightly, view: PrefectView, timeout_minutes: float, *, copied: bool) -> Sequence[State[Any]]:
    """Copy and prune once; tells how the run ended, and how the pruning within it."""
    if copied:
        return [cast("State[Any]", prune_snapshots(regions=REGIONS, dry_run=False, return_state=True))]
    # The parameter accepts only whole minutes.
    flow = replicate_backups.with_options(validate_parameters=False)
    parameters = {"regions": REGIONS, "timeout_minutes": timeout_minutes, "source": nightly.source}
    state = cast("State[Any]", flow(**parameters, prune=True, return_state=True))
    parent = FlowRunFilterParentFlowRunId(any_=[view.run_of(state).id])
    within = view.client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=parent))
    return [state, *(each.state for each in within if each.state)]
