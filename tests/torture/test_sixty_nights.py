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
from deployments.sandbox.faults import IMAGE_FAULTS, LIMIT_FAULTS
from flows.replicate_backups import replicate_backups
from flows.retention.rule import RetentionRule
from tasks.digitalocean import client
from tests.end_to_end.accounts import add_snapshots
from tests.end_to_end.prefect_server import PrefectView
from tests.flows.nights import Nights, go_wrong, moment
from tests.flows.retention import test_retention_in_the_long_run as long_run
from tests.torture.conftest import is_full
from tests.torture.judging import let_all_end
from tests.torture.reliability import write_section

TITLE = "Nights"
NIGHTS = 60
NIGHTS_IN_EVERY_TEST_RUN = 4
SEEDS_IN_VIRTUAL_TIME = range(1, 21)
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
or transfer was started twice."""


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
    if is_full(pytestconfig) and accounts == len(SEEDS_IN_VIRTUAL_TIME) + 1:
        write_section(TITLE, table.text())


@pytest.mark.torture
@pytest.mark.parametrize("seed", SEEDS_IN_VIRTUAL_TIME)
@pytest.mark.longest((long_run.NIGHTS + 1) * DAY)
async def test_planner_executor_and_pruning_survive_two_months_in_virtual_time(seed: int, table: Table) -> None:
    nights = await long_run.two_months(seed)
    table.add("the parts of the flows, in virtual time", long_run.NIGHTS, nights)


@pytest.fixture
def _few_logs() -> Iterator[None]:
    """Send few logs: there are many runs, and Prefect's server is busy enough."""
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}):
        yield


@pytest.mark.usefixtures("_few_logs")
@pytest.mark.parametrize("count", [NIGHTS_IN_EVERY_TEST_RUN, pytest.param(NIGHTS, marks=pytest.mark.torture)])
def test_nightly_runs_through_prefect_leave_what_the_rule_says_despite_faults(
    count: int, start: Callable[..., Sandbox], prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch, table: Table
) -> None:
    skipped = 0.0

    def now() -> float:
        return time.time() + skipped

    sandbox = start(droplets=2, speed=SPEED, clock=now)
    monkeypatch.setenv("DIGITALOCEAN_HTTP_TIMEOUT_SECONDS", str(HTTP_TIMEOUT_SECONDS))
    monkeypatch.setattr(client, "FIRST_PAUSE_SECONDS", FIRST_PAUSE_SECONDS)
    lost, _ = droplets = list(sandbox.account.droplets.values())
    nights = Nights(sandbox.account, sandbox.record, RetentionRule(), REGIONS)
    for droplet in droplets:
        # What runs have left behind before there was any pruning, so that there is something to prune from the start.
        old = add_snapshots(sandbox, droplet, *range(2, 11), regions=REGIONS)
        nights.backups[droplet.id] = [moment(image) for image in old]
    for night in range(1, count + 1):
        skipped += DAY
        nights.begin(now())
        go_wrong(
            sandbox.faults, sandbox.record, night, rate=FAULT_RATE, seed=1, at_random=AT_RANDOM, seconds=FAULT_SECONDS
        )
        for _ in range(MOST_RUNS_A_NIGHT):
            nights.runs += 1
            if all(state.is_completed() for state in a_run(prefect_view)):
                break
            nights.incomplete += 1
            sandbox.account.advance(now())
            let_all_end(sandbox, now())
        else:
            # On a busy machine, the time limit of seconds can end six runs. The next night's run would finish.
            sandbox.faults.clear()
            nights.runs += 1
            assert all(state.is_completed() for state in a_run(prefect_view, LONG_TIMEOUT_MINUTES))
        sandbox.faults.clear()
        nights.check(droplets)
        if night == count // 3:
            sandbox.account.delete_droplet(lost)
    if count == NIGHTS:
        assert nights.faults.keys() == set(IMAGE_FAULTS)
        table.add("`replicate_backups(prune=True)`, through Prefect and HTTP", count, nights)


def a_run(view: PrefectView, timeout_minutes: float = TIMEOUT_MINUTES) -> Sequence[State[Any]]:
    """Copy and prune once; tells how the run ended, and how the pruning within it."""
    # The parameter accepts only whole minutes.
    flow = replicate_backups.with_options(validate_parameters=False)
    state = cast("State[Any]", flow(regions=REGIONS, timeout_minutes=timeout_minutes, prune=True, return_state=True))
    parent = FlowRunFilterParentFlowRunId(any_=[view.run_of(state).id])
    within = view.client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=parent))
    return [state, *(each.state for each in within if each.state)]
