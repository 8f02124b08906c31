"""Measure what waiting costs, in virtual time: `python -m tests.benchmarks.polling`.

Each run copies the newest backup of each Droplet to all regions, by planner and executor without Prefect, from an
account drawn from a seed. It takes a second with 20 Droplets and half a minute with 1,000.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from statistics import mean
from typing import Annotated

import cyclopts

from deployments.sandbox import Behavior, RequestLog, make_account
from flows.parameters import Source
from flows.reporting.report import Outcome
from tests.benchmarks.measure import Measurement, record_of
from tests.flows.replication.executions import (
    carry_out,
    connection_to,
    plan_for,
    select,
    snapshots_there,
    taking_for,
)
from tests.tasks.digitalocean.in_process import World
from tests.virtual_time import EPOCH, run

COLUMNS = (
    "Droplets",
    "seed",
    "actions",
    "lost",
    "requests",
    "polls",
    "per action",
    "over best",
    "429s",
    "noticed after",
)

app = cyclopts.App(name="python -m tests.benchmarks.polling", version_flags=[])


@dataclass(frozen=True)
class Run:
    """What waiting has cost in one run.

    Attributes:
        costs: Requests, makespan and the like.
        polls: How many of the requests were sent by the poller.
        noticed_after: Seconds from the end of a transfer until the run knew of it, on average.
    """

    costs: Measurement
    polls: int
    noticed_after: float


@app.default
def main(
    *,
    droplets: int = 20,
    seeds: Annotated[tuple[int, ...], cyclopts.Parameter(consume_multiple=True)] = (1, 2, 3, 4, 5),
    latency: float = 0.25,
    feed_lag: float = 0.0,
    feed: bool = True,
    neighbor: float = 0.0,
    source: Source = "backups",
) -> None:
    """Print a table with a row for each seed.

    Args:
        droplets: How many Droplets the account has.
        seeds: What sizes and durations are drawn from.
        latency: Seconds from a request to its answer.
        feed_lag: Seconds until the account's feed shows an action.
        feed: Whether the token may read the account's feed.
        neighbor: Requests a minute that another client sends with the same token.
        source: What is copied: the newest backups, or snapshots that the run takes.
    """
    logging.disable(logging.WARNING)
    behavior = Behavior(feed_lag_seconds=feed_lag, out_of_scope=frozenset() if feed else frozenset({"/v2/actions"}))
    print_row(*COLUMNS)
    print_row(*["---"] * len(COLUMNS))
    for seed in seeds:
        measured = run(copy_everywhere(droplets, seed, latency, behavior, neighbor, source))
        costs = measured.costs
        print_row(
            f"{droplets:,}",
            f"{seed}",
            f"{costs.actions:,}",
            f"{costs.actions - costs.finished:,}",
            f"{costs.requests:,}",
            f"{measured.polls:,}",
            f"{costs.requests_per_action:.3f}",
            f"{costs.stretch:.4f}",
            f"{costs.too_many:,}",
            f"{measured.noticed_after:.0f} s",
        )


async def copy_everywhere(
    droplets: int,
    seed: int,
    latency: float,
    behavior: Behavior,
    neighbor: float = 0.0,
    source: Source = "backups",
) -> Run:
    """Copy the newest backups, or new snapshots, to all regions.

    Args:
        droplets: How many Droplets the account has.
        seed: What sizes and durations are drawn from.
        latency: Seconds from a request to its answer.
        behavior: How the API behaves where it is not documented.
        neighbor: Requests a minute that another client sends with the same token.
        source: What is copied.
    """
    world = World(latency=latency)
    world.account = make_account(now=EPOCH, droplets=droplets, seed=seed, behavior=behavior)
    world.record = RequestLog.of(world.account)
    world.limits.set_neighbour(neighbor, world.clock.unix())
    connection = connection_to(world)
    taking = await taking_for(connection) if source == "snapshots" else None
    candidates = snapshots_there(taking) if taking else (await select(connection, 1)).candidates
    plan = await plan_for(connection, candidates)
    planning = len(world.record.requests)
    rows = await carry_out(connection, plan, taking=taking)
    there = sum(row.outcome == Outcome.ALREADY_THERE for row in rows.values())
    costs = record_of(
        world.record,
        speed=1.0,
        name=f"seed {seed}",
        droplets=droplets,
        actions=len(rows) + plan.conversions + (len(taking.plan.missing) if taking else 0) - there,
        finished=sum(action.status == "completed" for action in world.record.actions),
        droplet_of={each.id: each.droplet_id for each in world.account.images.values()} if taking else {},
    )
    seconds = {action.id: action.ends_at - action.started_at for action in world.record.actions}
    late = [row.seconds - seconds[row.action_id] for row in rows.values() if row.seconds and row.action_id]
    return Run(costs, sum(seen.method == "GET" for seen in world.record.requests[planning:]), mean(late))


def print_row(*cells: str) -> None:
    """Print a row of a table."""
    print("|", " | ".join(cells), "|", flush=True)  # noqa: T201  # what it is for


if __name__ == "__main__":
    sys.exit(app())
