from __future__ import annotations

import time

import pytest
from prefect import State
from prefect.states import Completed, Failed

from deployments.sandbox import Droplet, FaultKind, Image, Sandbox, SeenRequest
from deployments.sandbox.account import Fate
from flows.reporting.report import Outcome, SnapshotRow
from flows.reporting.snapshot_report import SnapshotReport
from flows.results import Incomplete
from flows.snapshots.planning import snapshot_name
from tasks.digitalocean.clock import Clock, ServerClock
from tests.end_to_end.accounts import MANAGED_TAG, images_of
from tests.torture.judging import kept_silent, let_all_end
from tests.torture.snapshots import SnapshotNight, duplicate_snapshots, size_snapshots

LATER = 10_000.0
FAILS, NEVER_ENDS = Fate(outcome="errored"), Fate(ends=False)


@pytest.fixture
def sandbox() -> Sandbox:
    """An account whose snapshots take a minute."""
    sandbox = Sandbox(droplets=1, speed=1.0)
    size_snapshots(sandbox.account, dict.fromkeys(sandbox.account.droplets, 1.0))
    return sandbox


def only_droplet(sandbox: Sandbox) -> Droplet:
    (droplet,) = sandbox.account.droplets.values()
    return droplet


def take(sandbox: Sandbox, at: float = 0.0, fate: Fate | None = None, *, tag: bool = True) -> Image | None:
    """Take a snapshot as a run does that began at that time, and wait until it is there."""
    account, droplet, now = sandbox.account, only_droplet(sandbox), time.time()
    name = snapshot_name(droplet.name, ServerClock(Clock()).now())
    snapshot = account.take_snapshot(droplet, name, now + at, fate).snapshot
    account.advance(now + at + LATER / 2)
    if snapshot and snapshot.id in account.images and tag:
        account.tag(account.tag_named(MANAGED_TAG), "image", snapshot)
    return snapshot


def test_one_tagged_snapshot_of_each_droplet_in_each_region_is_a_good_night(sandbox: Sandbox) -> None:
    night = SnapshotNight(sandbox, ["fra1"])
    assert night.missing() == [(only_droplet(sandbox).id, "fra1")]
    snapshot = take(sandbox)
    assert snapshot
    snapshot.regions["fra1"] = 0.0
    assert (night.missing(), night.untagged(), night.too_much()) == ([], [], [])


def test_a_snapshot_that_is_not_tagged_or_not_in_a_region_is_lost(sandbox: Sandbox) -> None:
    only_droplet(sandbox).region = "nyc3"
    night = SnapshotNight(sandbox, ["nyc3", "fra1"])
    take(sandbox, tag=False)
    assert night.missing() == [(only_droplet(sandbox).id, "fra1")]
    assert len(night.untagged()) == 1


def test_a_second_snapshot_of_a_night_is_a_duplicate_even_if_nothing_else_is_wrong(sandbox: Sandbox) -> None:
    night = SnapshotNight(sandbox)
    take(sandbox)
    take(sandbox, LATER)
    assert [each.resource_id for each in duplicate_snapshots(sandbox.record.actions)] == [only_droplet(sandbox).id]
    assert any("again" in each for each in night.too_much())


def test_a_snapshot_after_a_failed_one_is_not_a_duplicate(sandbox: Sandbox) -> None:
    night = SnapshotNight(sandbox)
    take(sandbox, -LATER, FAILS)
    take(sandbox)
    assert night.too_much() == []


def test_a_converted_backup_a_deleted_image_and_a_changed_tag_are_too_much(sandbox: Sandbox) -> None:
    night = SnapshotNight(sandbox)
    newest, older, *_ = images_of(sandbox, "backup")
    newest.type = "snapshot"
    sandbox.account.delete_image(older)
    (snapshot,) = [each for each in images_of(sandbox, "snapshot") if each is not newest]
    snapshot.tags.append(MANAGED_TAG)
    changed = {f"{image.id} is no longer as it was" for image in (newest, older, snapshot)}
    assert set(night.too_much()) == changed


def test_a_conversion_is_too_much_even_if_it_has_not_ended(sandbox: Sandbox) -> None:
    night = SnapshotNight(sandbox)
    backup = images_of(sandbox, "backup")[0]
    sandbox.account.start(backup, "convert", only_droplet(sandbox).region, time.time())
    assert night.too_much() == [f"convert of image {backup.id}, which was not requested"]


def test_a_copy_is_too_much_where_none_was_requested(sandbox: Sandbox) -> None:
    night = SnapshotNight(sandbox)
    snapshot = take(sandbox)
    assert snapshot
    sandbox.account.start(snapshot, "transfer", "fra1", time.time())
    assert night.too_much() == [f"transfer of image {snapshot.id}, which was not requested"]


def test_a_name_of_another_time_is_noticed(sandbox: Sandbox) -> None:
    night = SnapshotNight(sandbox)
    snapshot = take(sandbox)
    assert snapshot
    snapshot.name = "web-01 prefect 9999-12-31T23:59:59Z"
    assert night.too_much() == [f"the name of {snapshot.name!r} does not tell its time"]


def test_only_faults_on_the_start_of_a_snapshot_count_as_such(sandbox: Sandbox) -> None:
    night, number = SnapshotNight(sandbox), only_droplet(sandbox).id
    for method, path, kind in (
        ("POST", f"/v2/droplets/{number}/actions", FaultKind.DROP_AFTER),
        ("GET", f"/v2/droplets/{number}/actions", FaultKind.SLOW),
        ("POST", "/v2/images/7/actions", FaultKind.DRIP),
    ):
        sandbox.record.requests.append(SeenRequest(0.0, method, path, None, kind, counted=True, worked=True))
    assert night.starts_hit() == {FaultKind.DROP_AFTER}


def test_a_snapshot_that_would_never_end_is_there_once_it_is_ended_by_hand(sandbox: Sandbox) -> None:
    night = SnapshotNight(sandbox)
    take(sandbox, fate=NEVER_ENDS)
    assert night.missing() != []
    let_all_end(sandbox, time.time())
    assert night.missing() == []
    let_all_end(sandbox, time.time())
    assert len(night.taken()) == 1


def report_on(sandbox: Sandbox, *outcomes: Outcome, error: str = "") -> SnapshotReport:
    number = only_droplet(sandbox).id
    return SnapshotReport(
        rows=tuple(SnapshotRow(source="web", droplet_id=number, outcome=each, error=error) for each in outcomes)
    )


def test_a_run_that_reports_a_snapshot_that_is_not_there_or_conceals_that_it_is_missing_is_found_out(
    sandbox: Sandbox,
) -> None:
    night = SnapshotNight(sandbox)

    def failed(report: SnapshotReport) -> State[object]:
        error = Incomplete(report)
        return Failed(message=str(error), data=error)

    done: State[SnapshotReport] = Completed(data=report_on(sandbox, Outcome.TAKEN))
    assert kept_silent(done, night) != []
    assert kept_silent(failed(report_on(sandbox, Outcome.FAILED, error="refused")), night) == []
    assert kept_silent(failed(report_on(sandbox, Outcome.FAILED)), night) != []
    assert kept_silent(failed(report_on(sandbox)), night) != []
    take(sandbox)
    assert kept_silent(done, night) == []
