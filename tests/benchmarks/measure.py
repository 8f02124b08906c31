"""One run of this project's main job, started as from a shell, seen from the sandbox's side."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from deployments.prefect_server import clean_environment, prefect_server
from deployments.sandbox import RequestLog, Sandbox
from flows.parameters import Source
from tests.benchmarks.ideal import Job, best_makespan

ROOT = Path(__file__).resolve().parents[2]
API_LIMITS = ((250, 60.0), (5000, 3600.0))
MEBIBYTE_IN_KIB = 1024


@dataclass(frozen=True)
class Measurement:
    """What a run cost and what came of it; all times are the sandbox's, so a fast sandbox changes none of them.

    Attributes:
        name: Who ran.
        droplets: How many Droplets the account had.
        actions: Conversions and transfers that were to be done.
        finished: How many of them were.
        requests: Requests sent.
        too_many: How many of them were answered with 429.
        makespan: Seconds from the first POST to the answer that showed the last transfer done.
        best_makespan: The same with every duration known.
        protected: How many Droplets have a copy that the run made; 0 if it was not counted.
        duplicates: Transfers that were started although they ran or were done.
        cpu_seconds: Of the flow's process, in real seconds.
        memory_mib: Peak memory of the flow's process.
        spent: When requests were sent, in seconds from the first.
        sent_at: The same in Unix seconds, by the real clock.
    """

    name: str
    droplets: int
    actions: int
    finished: int
    requests: int
    too_many: int
    makespan: float
    best_makespan: float
    protected: int = 0
    duplicates: int = 0
    cpu_seconds: float = 0.0
    memory_mib: float = 0.0
    spent: tuple[float, ...] = ()
    sent_at: tuple[float, ...] = ()

    @property
    def requests_per_action(self) -> float:
        """What each finished action has cost."""
        return self.requests / max(self.finished, 1)

    @property
    def requests_per_droplet(self) -> float:
        """What the night of each protected Droplet has cost."""
        return self.requests / self.protected if self.protected else float("nan")

    @property
    def stretch(self) -> float:
        """How much longer it took than the best possible."""
        return self.makespan / self.best_makespan if self.best_makespan else float("nan")


def measure(sandbox: Sandbox, *, droplets: int, name: str, folder: Path, source: Source = "backups") -> Measurement:
    """Run `replicate_backups` through a Prefect server of its own, on a sandbox that was started for it.

    Args:
        sandbox: The sandbox.
        droplets: How many Droplets it has.
        name: What to call the run.
        folder: Where Prefect's server keeps its files.
        source: What is copied: the newest backups, or snapshots that the run takes.

    Returns:
        What the sandbox has seen.
    """
    with prefect_server(folder) as ui:
        environment = {**sandbox.environment(), "PREFECT_API_URL": f"{ui}/api"}
        cpu_seconds, memory_mib = _run_flow(environment, folder, source)
    account, record = sandbox.account, sandbox.record
    regions = sum(region.takes_images for region in account.regions.values())
    protected = sum(
        any(
            account.images[each].droplet_id and "prefect:replicated" in account.images[each].tags
            for each in droplet.image_ids
        )
        for droplet in account.droplets.values()
    )
    finished = {
        (action.type, action.resource_id, action.region if action.type == "transfer" else None)
        for action in record.actions
        if action.fate.outcome == "completed" and action.ends_at <= record.requests[-1].at
    }
    return record_of(
        record,
        speed=sandbox.speed,
        name=name,
        droplets=droplets,
        # A conversion or a snapshot, and a transfer to each region but the image's own.
        actions=protected * regions,
        protected=protected,
        finished=len(finished),
        cpu_seconds=cpu_seconds,
        memory_mib=memory_mib,
        droplet_of={each.id: each.droplet_id for each in account.images.values()} if source == "snapshots" else {},
    )


def _run_flow(environment: Mapping[str, str], folder: Path, source: Source) -> tuple[float, float]:
    with (folder / "flow.log").open("wb") as log:
        flow = subprocess.Popen(
            [sys.executable, "-m", "flows.replicate_backups", "--source", source],
            env={
                **clean_environment(folder),
                **environment,
                "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL": "WARNING",
            },
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(flow.pid, 0)
        flow.returncode = os.waitstatus_to_exitcode(status)
    if flow.returncode:
        print(f"the flow ended with status {flow.returncode}; see {log.name}", file=sys.stderr)  # noqa: T201
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / MEBIBYTE_IN_KIB


def record_of(
    record: RequestLog,
    *,
    speed: float,
    name: str,
    droplets: int,
    actions: int,
    finished: int,
    protected: int = 0,
    cpu_seconds: float = 0.0,
    memory_mib: float = 0.0,
    droplet_of: Mapping[int, int | None] = MappingProxyType({}),
) -> Measurement:
    """Read a run's costs off the sandbox's record.

    Args:
        record: What the sandbox has seen.
        speed: How many times faster than life it was.
        name: What to call the run.
        droplets: How many Droplets there are.
        actions: Conversions and transfers that were to be done.
        finished: How many of them were.
        protected: As in `Measurement`.
        cpu_seconds: Of the flow's process.
        memory_mib: Of the flow's process.
        droplet_of: The Droplet of each snapshot that was taken, by image.

    Returns:
        The measurement.
    """
    first = record.requests[0].at
    first_post = min(seen.at for seen in record.requests if seen.method == "POST" and seen.path.endswith("/actions"))
    return Measurement(
        name=name,
        droplets=droplets,
        actions=actions,
        finished=finished,
        requests=len(record.requests),
        too_many=record.rate_limited(),
        makespan=(record.requests[-1].at - first_post) * speed,
        best_makespan=best_makespan(_jobs(record, speed, droplet_of), API_LIMITS),
        protected=protected,
        duplicates=len(record.duplicate_transfers()),
        cpu_seconds=cpu_seconds,
        memory_mib=memory_mib,
        spent=tuple((seen.at - first) * speed for seen in record.requests),
        sent_at=tuple(seen.at for seen in record.requests),
    )


def _jobs(record: RequestLog, speed: float, droplet_of: Mapping[int, int | None]) -> list[Job]:
    """The conversion or snapshot of each image, and its transfers."""
    jobs: dict[int | None, Job] = {}
    for action in record.actions:
        key = droplet_of.get(action.resource_id, action.resource_id)
        job = jobs.get(key, Job(None, ()))
        seconds = (action.ends_at - action.started_at) * speed
        first = action.type in ("convert", "snapshot")
        jobs[key] = Job(seconds, job.transfers) if first else Job(job.conversion, (*job.transfers, seconds))
    return list(jobs.values())
