"""Several processes on one token: what they cost, and how much longer they take than one that does all the work."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from prefect.client.orchestration import PrefectClient

from deployments.prefect_server import clean_environment, prefect_server
from deployments.sandbox import Image, Sandbox
from deployments.server_resources.concurrency_limits import LimitResource, limits
from tasks.digitalocean.settings import RateLimit
from tasks.distributed_rate_limit import MOST_SLOTS
from tests.benchmarks.measure import ROOT

IMAGES = 60
# No faster: requests to Prefect's server and its work for task runs go with it, and SQLite does not.
SPEED = 3
# Small images, so that starting them is a good part of the time that all takes.
LARGEST_GIGABYTES = 5.0


@dataclass(frozen=True)
class SharedRun:
    """What some processes have cost together; times are the sandbox's.

    Attributes:
        name: Who ran.
        processes: How many.
        copies: Transfers that were to be done.
        finished: How many of them were.
        requests: Requests sent.
        too_many: How many of them were answered with 429.
        seconds: From the first request to the last.
        duplicates: Transfers that were started although they ran or were done.
    """

    name: str
    processes: int
    copies: int
    finished: int
    requests: int
    too_many: int
    seconds: float
    duplicates: int


def share(name: str, processes: int, folder: Path, *, set_up: bool) -> SharedRun:
    """Copy the newest backup of 60 Droplets to every region, by some processes at once.

    Args:
        name: What to call the run.
        processes: How many processes share the images, as evenly as possible.
        folder: Where Prefect's server keeps its files.
        set_up: Whether Prefect's server has the shared limit.

    Returns:
        What the sandbox has seen.
    """
    with ExitStack() as running:
        sandbox = running.enter_context(Sandbox(droplets=IMAGES + IMAGES // 2, speed=SPEED))
        address = running.enter_context(prefect_server(folder))
        images = _newest_backups(sandbox)[:IMAGES]
        for image in images:
            image.size_gigabytes = min(image.size_gigabytes, LARGEST_GIGABYTES)
        environment = {**clean_environment(folder), **sandbox.environment(), "PREFECT_API_URL": f"{address}/api"}
        if set_up:
            asyncio.run(_set_up(f"{address}/api"))
        shares = [images[number::processes] for number in range(processes)]
        copying = [_begin(each, environment, folder / f"{number}.log") for number, each in enumerate(shares)]
        statuses = [process.wait() for process in copying]
    if any(statuses):
        print(f"processes ended with {statuses}; see {folder}", file=sys.stderr)  # noqa: T201  # progress
    regions = sum(region.takes_images for region in sandbox.account.regions.values())
    requests = sandbox.record.requests
    return SharedRun(
        name=name,
        processes=processes,
        copies=len(images) * regions,
        finished=sum(len(image.regions) for image in images),
        requests=len(requests),
        too_many=sandbox.record.rate_limited(),
        seconds=(requests[-1].at - requests[0].at) * SPEED,
        duplicates=len(sandbox.record.duplicate_transfers()),
    )


def _newest_backups(sandbox: Sandbox) -> list[Image]:
    chosen = []
    for droplet in sandbox.account.droplets.values():
        images = [sandbox.account.images[each] for each in droplet.image_ids]
        backups = sorted((each for each in images if each.type == "backup"), key=lambda each: -each.created_at)
        chosen += backups[:1]
    return chosen


async def _set_up(api: str) -> None:
    limited = [RateLimit(limit, seconds / SPEED) for limit, seconds in ((250, 60.0), (5000, 3600.0))]
    async with PrefectClient(api) as client:
        for part in limits(limited):
            await part.apply(client)


def _begin(images: Sequence[Image], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "flows.transfer_images", "--image-ids", *(str(each.id) for each in images)]
    environment = {**environment, "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL": "WARNING"}
    with log.open("wb") as output:
        return subprocess.Popen(command, env=environment, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)


def accuracy(slots_a_request: int, folder: Path, pours_a_second: float = 10.0, seconds: float = 10.0) -> float:
    """Measure what part of what should have run out of Prefect's bucket has, when it is poured into often.

    Args:
        slots_a_request: How many slots a request is worth.
        folder: Where Prefect's server keeps its files.
        pours_a_second: How often one request is poured.
        seconds: For how long.

    Returns:
        1 if Prefect counts exactly.
    """
    with prefect_server(folder) as address:
        return asyncio.run(_accuracy(f"{address}/api", slots_a_request, pours_a_second, seconds))


async def _accuracy(api: str, slots_a_request: int, pours_a_second: float, seconds: float) -> float:
    name, requests_per_second = "accuracy", 3.0
    async with PrefectClient(api) as client:
        await LimitResource(name, MOST_SLOTS, requests_per_second * slots_a_request).apply(client)
        added, began = 0, time.monotonic()
        while time.monotonic() - began < seconds:
            await client.increment_concurrency_slots([name], slots_a_request, "rate_limit")
            added += slots_a_request
            await asyncio.sleep(1 / pours_a_second)
        elapsed = time.monotonic() - began
        left = (await client.read_global_concurrency_limit_by_name(name)).active_slots
    return (added - left) / (elapsed * requests_per_second * slots_a_request)
