"""Rebuilding Droplets: seconds until all are active, and requests, seen from the sandbox's side."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deployments.prefect_server import clean_environment, prefect_server
from deployments.sandbox import Sandbox
from tests.benchmarks.ideal import Job, best_makespan
from tests.benchmarks.measure import API_LIMITS, ROOT
from tests.end_to_end.accounts import add_snapshots

REGION = "ams3"


@dataclass(frozen=True)
class Restore:
    """One run of `restore_droplets`; all times are the sandbox's.

    Attributes:
        droplets: How many Droplets were to be rebuilt.
        active: How many of them were active in the end.
        twice: How many were created twice.
        requests: Requests sent.
        too_many: How many of them were answered with 429.
        seconds: From the first request until the last Droplet was active.
        best_seconds: The same with every POST as early as the limits allow, and no other request.
        seconds_until_known: From the first request to the last.
    """

    droplets: int
    active: int
    twice: int
    requests: int
    too_many: int
    seconds: float
    best_seconds: float
    seconds_until_known: float

    @property
    def stretch(self) -> float:
        """How much longer it took than the best possible."""
        return self.seconds / self.best_seconds


def measure_restore(droplets: int, folder: Path) -> Restore:
    """Rebuild Droplets as from a shell, as fast as life.

    Args:
        droplets: How many.
        folder: Where Prefect's server keeps its files.
    """
    with Sandbox(droplets=droplets, speed=1) as sandbox, prefect_server(folder) as ui:
        account, record = sandbox.account, sandbox.record
        account.droplet_limit = 3 * droplets
        for droplet in account.droplets.values():
            droplet.region = "nyc3"
            add_snapshots(sandbox, droplet, 0, regions=[REGION])
        command = [sys.executable, "-m", "flows.restore_droplets", "--region", REGION, "--from-region", "nyc3"]
        with (folder / "flow.log").open("wb") as log:
            subprocess.run(
                [*command, "--no-dry-run", "--max-droplets", str(droplets)],
                env={**clean_environment(folder), **sandbox.environment(), "PREFECT_API_URL": f"{ui}/api"},
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
        created = [account.droplets[each.droplet_id] for each in record.created]
        creations = [action for droplet in created for action in droplet.actions if action.type == "create"]
        first = record.requests[0].at
        return Restore(
            droplets=droplets,
            active=sum(droplet.status == "active" for droplet in created),
            twice=len(record.created_twice()),
            requests=len(record.requests),
            too_many=record.rate_limited(),
            seconds=max(action.ends_at for action in creations) - first,
            best_seconds=best_makespan(
                [Job(None, (action.ends_at - action.started_at,)) for action in creations], API_LIMITS
            ),
            seconds_until_known=record.requests[-1].at - first,
        )


def restores_table(runs: Sequence[Restore]) -> str:
    """Lay runs out for comparison."""
    lines = [
        "| Droplets | active | created twice | requests | 429s | all active, s | best, s | over best | run knew, s |",
        "|" + " ---: |" * 9,
    ]
    lines += [
        f"| {each.droplets} | {each.active} | {each.twice} | {each.requests} | {each.too_many} | {each.seconds:.1f} "
        f"| {each.best_seconds:.1f} | {each.stretch:.3f} | {each.seconds_until_known:.1f} |"
        for each in runs
    ]
    return "\n".join(lines)
