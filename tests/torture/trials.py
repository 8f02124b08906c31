"""Accounts in which something goes wrong while a flow works on them, and what comes of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, cast

import pytest
from prefect import Flow, State
from prefect.logging.handlers import APILogHandler

from deployments.sandbox import Behavior, Fault, FaultKind, Image, Sandbox
from deployments.sandbox.faults import IMAGE_FAULTS, LIMIT_FAULTS, LIST_FAULTS
from flows.convert_backups import convert_backups
from flows.prune_snapshots import prune_snapshots
from flows.replicate_backups import replicate_backups
from flows.snapshot_droplets import snapshot_droplets
from flows.transfer_images import transfer_images
from tests.end_to_end.accounts import add_snapshots, images_of, newest_backups, resize
from tests.end_to_end.prefect_server import PrefectView, until
from tests.tasks.digitalocean.test_idempotency import CARRIED_OUT
from tests.torture.judging import Job, kept_silent, let_all_end, too_much
from tests.torture.ledger import Ledger, Verdict
from tests.torture.snapshots import STARTING, SnapshotNight, size_snapshots

# Regions that no Droplet of these accounts has to be in.
REGIONS = ["fra1", "sgp1", "sfo3"]
COPYING = ("replicate_backups", "transfer_images", "convert_backups")
PRUNING = "prune_snapshots"
TAKING, COPYING_SNAPSHOTS = "snapshot_droplets", "replicate_backups from snapshots"
SNAPSHOTS = (TAKING, COPYING_SNAPSHOTS)
FLOWS = (*COPYING, *SNAPSHOTS, PRUNING)
SEEDS = (1, 2, 3)
EACH_ONCE = "each kind once"
ALL_TOGETHER = "all together"

# What is done although the response does not say so: a request repeated without a check would start it twice.
UNCLEAR = {*CARRIED_OUT, FaultKind.SLOW, FaultKind.DRIP}

# An hour of the rate limits lasts a tenth of a second: no longer does a made-up 429 keep a run waiting. Transfers take
# 0.1 to 0.2 seconds; those whose start may be repeated take 1.5 to 3, so that they still run when it is.
LIMITS_SPEED = 36_000
ACTIONS_SPEED = 1_200
GIGABYTES = 2

RATE_ALONE = 0.05
# After a 429 everybody waits for seconds: one per account, and those among all together, tell enough.
RATE_OF_LIMITS = 0.0
RATE_TOGETHER = 0.2
MOST_RUNS_AFTERWARDS = 3

# The slow answers come later than a client waits for them; a made-up 429 says to come back as soon as it can.
HTTP_TIMEOUT_SECONDS = 0.5
FAULT_SECONDS = 1.0
LIMIT_SECONDS = 0.1

# What never ends is given up soon; everything else may take its time.
TIMEOUT_MINUTES = {FaultKind.ACTION_ENDLESS.value: 12 / 60, ALL_TOGETHER: 8 / 60, EACH_ONCE: 30 / 60}
LONG_TIMEOUT_MINUTES = 1.0


@dataclass(kw_only=True)
class SnapshotJob(SnapshotNight):
    """What a flow is asked to do: take snapshots.

    Attributes:
        flow: The flow.
        parameters: What it is called with.
    """

    flow: Flow[..., Any]
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """One account, and what goes wrong while a flow works on it."""

    fault: str
    flow: str
    seed: int

    def __str__(self) -> str:
        return f"{self.fault}-{self.flow}-{self.seed}".replace(" ", "-")

    @property
    def takes_snapshots(self) -> bool:
        return self.flow in SNAPSHOTS

    @property
    def kinds(self) -> list[FaultKind]:
        return list(IMAGE_FAULTS) if self.fault in {EACH_ONCE, ALL_TOGETHER} else [FaultKind(self.fault)]

    @property
    def rate(self) -> float:
        rates = {ALL_TOGETHER: RATE_TOGETHER, EACH_ONCE: 0.0} | dict.fromkeys(map(str, LIMIT_FAULTS), RATE_OF_LIMITS)
        return rates.get(self.fault, RATE_ALONE)

    @property
    def seconds(self) -> float:
        return LIMIT_SECONDS if LIMIT_FAULTS.issuperset(self.kinds) else FAULT_SECONDS

    @property
    def droplets(self) -> int:
        return len(IMAGE_FAULTS) if self.fault == EACH_ONCE else 2

    @property
    def timeout_minutes(self) -> float:
        # There, each kind hits the starts of both a snapshot and a copy.
        if self.fault == EACH_ONCE and self.takes_snapshots:
            return LONG_TIMEOUT_MINUTES
        return TIMEOUT_MINUTES.get(self.fault, LONG_TIMEOUT_MINUTES)

    @property
    def many_gigabytes(self) -> float:
        # Where a run suffers every kind of 429, it takes longer until a start is repeated.
        return 90 if self.fault == EACH_ONCE else 30

    @property
    def regions(self) -> list[str]:
        return REGIONS[:2] if self.fault == EACH_ONCE else REGIONS


def undergo(
    trial: Trial,
    start: Callable[..., Sandbox],
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Verdict:
    """Run the flow while things go wrong, then until it is Completed, and judge it.

    Args:
        trial: The account, and what goes wrong.
        start: Starts a sandbox.
        ledger: Where to note what came of it.
        monkeypatch: Sets the client's time-out.
        caplog: What was logged.

    Returns:
        What came of it.
    """
    caplog.set_level(logging.DEBUG)
    sandbox = start(
        seed=trial.seed, speed=LIMITS_SPEED, droplets=trial.droplets, behavior=Behavior(duplicate_transfers="accept")
    )
    monkeypatch.setenv("DIGITALOCEAN_HTTP_TIMEOUT_SECONDS", str(HTTP_TIMEOUT_SECONDS))
    sandbox.account.speed = ACTIONS_SPEED
    resize(sandbox, GIGABYTES)
    ledger.tokens.add(sandbox.token)
    job = job_of(trial, sandbox)
    with ledger.verdict(trial.fault, f"{trial.flow}, seed {trial.seed}") as verdict:
        go_wrong(trial, sandbox, job)
        last = run(job, sandbox, verdict, timeout_minutes=trial.timeout_minutes)
        sandbox.faults.clear()
        let_all_end(sandbox, time.time())
        until(lambda: unlisted_have_ended(sandbox), within_seconds=10)
        for _ in range(MOST_RUNS_AFTERWARDS):
            # After a run that was Completed, another one is the next night's, and takes new snapshots.
            if not (trial.takes_snapshots and last.is_completed()):
                last = run(job, sandbox, verdict, timeout_minutes=LONG_TIMEOUT_MINUTES)
            if last.is_completed():
                break
        else:
            verdict.lost.append(f"no run afterwards was Completed: {last.message}")
        verdict.lost += [f"{goal} is not reached" for goal in job.missing()]
        if isinstance(job, SnapshotJob):
            verdict.lost += job.untagged()
            verdict.too_much += job.too_much()
            verdict.starts_hit = job.starts_hit()
        else:
            verdict.too_much += too_much(sandbox, job)
        verdict.told += [token for token in [sandbox.token] if token in caplog.text]
        verdict.count(sandbox)
    return verdict


def files_that_tell(prefect_view: PrefectView, ledger: Ledger) -> list[str]:
    """Search Prefect's files for the tokens, and note what was found.

    Args:
        prefect_view: Prefect's server.
        ledger: Whose tokens to look for.

    Returns:
        Names of the files with a token.
    """
    if not ledger.tokens:
        pytest.skip("nothing has gone wrong yet")
    APILogHandler().flush()
    everything = prefect_view.home.contents()
    ledger.files_scanned = len(everything)
    names = [flow.replace("_", "-").encode() for flow in (*FLOWS, "restore_droplets")]
    assert any(name in stored for stored in everything.values() for name in names)
    ledger.told = sorted(
        {name for name, stored in everything.items() for token in ledger.tokens if token.encode() in stored}
    )
    return ledger.told


def job_of(trial: Trial, sandbox: Sandbox) -> Job | SnapshotJob:
    if trial.flow == TAKING:
        return SnapshotJob(sandbox, flow=snapshot_droplets, parameters={})
    if trial.flow == COPYING_SNAPSHOTS:
        parameters = {"source": "snapshots", "regions": trial.regions}
        return SnapshotJob(sandbox, trial.regions, flow=replicate_backups, parameters=parameters)
    backups = newest_backups(sandbox)
    if trial.flow == "replicate_backups":
        return Job(replicate_backups, {"regions": trial.regions}, backups, trial.regions)
    if trial.flow == "transfer_images":
        images = [*images_of(sandbox, "snapshot")[:1], *backups]
        return Job(
            transfer_images,
            {"image_ids": [each.id for each in images], "regions": trial.regions},
            images,
            trial.regions,
        )
    if trial.flow == PRUNING:
        return pruning_job(sandbox, trial.regions)
    images = images_of(sandbox, "backup")
    return Job(convert_backups, {"image_ids": [each.id for each in images]}, images)


def pruning_job(sandbox: Sandbox, regions: list[str]) -> Job:
    """Of each Droplet four snapshots, two of which no rule keeps, and between them what others made."""
    old: list[Image] = []
    for droplet in sandbox.account.droplets.values():
        old += add_snapshots(sandbox, droplet, 0, 1, 2, 3, regions=regions)[2:]
        add_snapshots(sandbox, droplet, 1.5, 2.5, regions=regions, tag=None)
    rule = {"keep_last": 2, "keep_weekly": 0, "keep_monthly": 0}
    return Job(prune_snapshots, {**rule, "regions": regions, "dry_run": False}, images=old, gone_from=sandbox.account)


def go_wrong(trial: Trial, sandbox: Sandbox, job: Job | SnapshotJob) -> None:
    """Have the faults happen at random, and one for certain where it hurts most: when something is to be changed."""
    sandbox.faults.at_random(trial.rate, trial.kinds, seed=trial.seed, seconds=trial.seconds)
    if isinstance(job, SnapshotJob):
        go_wrong_with_snapshots(trial, sandbox)
        return
    if trial.flow == PRUNING:
        if trial.fault != ALL_TOGETHER:
            certain = Fault(trial.kinds[0], "DELETE", f"/images/{job.images[0].id}$", seconds=trial.seconds)
            sandbox.faults.add(of_lists(certain.kind) or certain)
        return
    if trial.fault == ALL_TOGETHER:
        job.images[0].size_gigabytes = trial.many_gigabytes
        return
    for kind, image in zip(trial.kinds, job.images, strict=False):
        # A snapshot's first action is a transfer; a backup's is its conversion, and its second a transfer.
        times = 2 if kind in UNCLEAR else 1
        image.size_gigabytes = trial.many_gigabytes if kind in UNCLEAR else GIGABYTES
        certain = Fault(kind, "POST", f"/images/{image.id}/actions", times=times, seconds=trial.seconds)
        sandbox.faults.add(of_lists(kind) or certain)


def go_wrong_with_snapshots(trial: Trial, sandbox: Sandbox) -> None:
    """Have each kind hit the start of a snapshot for certain, and the start of a copy; of all together, one kind."""
    kinds = [kind for kind in trial.kinds if kind not in LIST_FAULTS]
    if trial.fault == ALL_TOGETHER:
        kinds = [Random(trial.seed).choice(kinds)]  # noqa: S311
    droplets = list(sandbox.account.droplets.values())
    sizes = dict.fromkeys(sandbox.account.droplets, float(GIGABYTES))
    for kind, droplet in zip(kinds, droplets, strict=False):
        # Where the start may be repeated, the snapshot is still being taken when it is.
        sizes[droplet.id] = trial.many_gigabytes if kind in UNCLEAR else GIGABYTES
        start = STARTING if trial.fault == ALL_TOGETHER else f"^/v2/droplets/{droplet.id}/actions$"
        sandbox.faults.add(Fault(kind, "POST", start, seconds=trial.seconds))
        if trial.flow == COPYING_SNAPSHOTS and trial.fault != ALL_TOGETHER:
            sandbox.faults.add(Fault(kind, "POST", r"^/v2/images/\d+/actions$", seconds=trial.seconds))
    if trial.fault != ALL_TOGETHER:
        # Foreign entries in all lists come last, because the first fault that matches applies.
        for kind in sorted(LIST_FAULTS.intersection(trial.kinds)):
            times = None if kind == FaultKind.FOREIGN_ENTRIES else 1
            sandbox.faults.add(*(Fault(kind, "GET", f"^/v2/{each}$", times=times) for each in ("actions", "snapshots")))
    size_snapshots(sandbox.account, sizes)


def of_lists(kind: FaultKind) -> Fault | None:
    """What only a list can suffer, where it hurts; None for any other kind."""
    return Fault(kind, "GET", times=None if kind == FaultKind.FOREIGN_ENTRIES else 1) if kind in LIST_FAULTS else None


def run(job: Job | SnapshotJob, sandbox: Sandbox, verdict: Verdict, *, timeout_minutes: float) -> State[Any]:
    """Run the flow once, and judge what it says of itself."""
    # The parameter accepts only whole minutes.
    flow = job.flow.with_options(validate_parameters=False)
    patience = {} if job.flow is prune_snapshots else {"timeout_minutes": timeout_minutes}
    state = cast("State[Any]", flow(**job.parameters, **patience, return_state=True))
    sandbox.account.advance(time.time())
    verdict.runs += 1
    verdict.failed_runs += state.is_failed()
    verdict.silent += kept_silent(state, job)
    said = f"{state!r}{state.message}{state.data!r}"
    verdict.told += [f"state of run {verdict.runs}"] * (sandbox.token in said)
    return state


def unlisted_have_ended(sandbox: Sandbox) -> bool:
    """Whether what no list shows has ended: a later run can know of it only by what has come of it."""
    sandbox.account.advance(time.time())
    return all(action.fate.listed or action.status != "in-progress" for action in sandbox.record.actions)
