"""What the tests ask of a sandbox's account, and of the reports on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
from prefect import State
from prefect.states import get_state_exception

from deployments.sandbox import Action, Droplet, Fault, FaultKind, Image, Sandbox, SeenRequest
from deployments.sandbox.account import Tag
from flows.reporting.pruning_report import PruningReport
from flows.reporting.report import ReplicationReport
from flows.results import Incomplete
from tests.end_to_end.prefect_server import until

# Regions that no Droplet of the default account is in.
REGIONS = ["fra1", "sgp1", "sfo3"]
MANAGED_TAG = "prefect:replicated"
DAY = 86400.0


def images_of(sandbox: Sandbox, kind: str) -> list[Image]:
    return [image for image in sandbox.account.images.values() if image.type == kind and not image.public]


def public_image(sandbox: Sandbox) -> Image:
    return next(image for image in sandbox.account.images.values() if image.public)


def backups_of(sandbox: Sandbox, droplet: Droplet) -> list[Image]:
    """A Droplet's backups, the newest first."""
    images = [sandbox.account.images[image_id] for image_id in droplet.image_ids]
    return sorted((each for each in images if each.type == "backup"), key=lambda each: -each.created_at)


def newest_backups(sandbox: Sandbox, count: int = 1) -> list[Image]:
    return [image for droplet in sandbox.account.droplets.values() for image in backups_of(sandbox, droplet)[:count]]


def add_snapshots(
    sandbox: Sandbox,
    droplet: Droplet,
    *days_old: float,
    regions: Sequence[str] = REGIONS,
    tag: str | None = MANAGED_TAG,
) -> list[Image]:
    """Give a Droplet snapshots such as earlier runs have left behind."""
    account = sandbox.account
    made = []
    for age in days_old:
        moment = time.time() - age * DAY
        image = Image(
            id=max(account.images) + 1,
            name=droplet.backup_name(moment),
            type="snapshot",
            regions=dict.fromkeys(regions, 0.0),
            created_at=moment,
            min_disk_size=droplet.size.disk,
            size_gigabytes=2.5,
            droplet_id=droplet.id,
        )
        account.add_image(image)
        if tag:
            account.tag(account.tags.setdefault(tag, Tag(tag)), "image", image)
        made.append(image)
    return made


def resize(sandbox: Sandbox, gigabytes: float) -> None:
    """Make all images of one size, and with it the time that transfers take."""
    for image in sandbox.account.images.values():
        image.size_gigabytes = gigabytes


def changes(sandbox: Sandbox) -> list[SeenRequest]:
    """The requests that were to change anything."""
    return [seen for seen in sandbox.record.requests if seen.method != "GET"]


def started(sandbox: Sandbox, kind: str = "transfer") -> list[Action]:
    return [action for action in sandbox.record.actions if action.type == kind]


def goals(actions: list[Action]) -> list[tuple[int, str]]:
    return sorted((action.resource_id, action.region) for action in actions)


def pairs(images: list[Image], regions: list[str]) -> list[tuple[int, str]]:
    return sorted((image.id, region) for image in images for region in regions)


def make_transfers_endless(sandbox: Sandbox, backups: list[Image], regions: int) -> None:
    """Have what follows the conversion of these backups run until `finish_all`."""
    for image in backups:
        path = f"/images/{image.id}/actions"
        # The first of an image's actions is its conversion; this leaves it alone.
        sandbox.faults.add(Fault(FaultKind.SLOW, "POST", path, seconds=0))
        sandbox.faults.add(Fault(FaultKind.ACTION_ENDLESS, "POST", path, times=regions))


def finish_all(sandbox: Sandbox) -> None:
    """Let the transfers that would never end be done now."""
    now = time.time()
    for action in started(sandbox):
        if not action.fate.ends:
            action.status, action.ends_at = "completed", now
            sandbox.account.images[action.resource_id].regions[action.region] = now


def next_look_at_the_feed(sandbox: Sandbox) -> Callable[[], bool]:
    """Whether the account's actions have been read since this was called."""
    before = len(sandbox.record.requests)
    return lambda: any(seen.path.startswith("/v2/actions") for seen in sandbox.record.requests[before:])


def report_of(state: State[Any]) -> ReplicationReport:
    """The report of a run, also of one that ended Failed."""
    report = _any_report_of(state)
    assert isinstance(report, ReplicationReport)
    return report


def pruning_report_of(state: State[Any]) -> PruningReport:
    """The same of a run that deletes snapshots."""
    report = _any_report_of(state)
    assert isinstance(report, PruningReport)
    return report


def _any_report_of(state: State[Any]) -> Any:
    if state.is_completed():
        return state.result()
    error = get_state_exception(state)
    assert isinstance(error, Incomplete), state
    return error.report


def outcomes(report: ReplicationReport) -> dict[tuple[int, str], str]:
    found = {(row.image_id or 0, row.region or ""): str(row.outcome) for row in report.rows}
    assert len(found) == len(report.rows)
    return found


class Operator:
    """A user of the API who works by hand."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._http = httpx.Client(
            base_url=sandbox.url, headers={"authorization": f"Bearer {sandbox.token}"}, trust_env=False
        )

    def post(self, path: str, **body: object) -> dict[str, Any]:
        answer = self._http.post(path, json=body).raise_for_status()
        return dict(answer.json()) if answer.content else {}

    def tag(self, image: Image) -> None:
        self.post("/v2/tags", name=MANAGED_TAG)
        resource = {"resource_id": str(image.id), "resource_type": "image"}
        self.post(f"/v2/tags/{MANAGED_TAG}/resources", resources=[resource])

    def convert(self, image: Image) -> int:
        """Convert a backup and wait until it is a snapshot that is no longer locked."""
        action = self.post(f"/v2/images/{image.id}/actions", type="convert")["action"]
        until(lambda: self._look() and image.type == "snapshot", within_seconds=10)
        return int(action["id"])

    def transfer(self, image: Image, region: str) -> int:
        action = self.post(f"/v2/images/{image.id}/actions", type="transfer", region=region)["action"]
        return int(action["id"])

    def _look(self) -> bool:
        return self._http.get("/v2/regions").is_success


@contextmanager
def meanwhile(condition: Callable[[], object], act: Callable[[], object]) -> Iterator[None]:
    """Do something as soon as a condition holds, while the block runs."""

    def watch() -> None:
        until(condition, within_seconds=30)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        thread.join()
