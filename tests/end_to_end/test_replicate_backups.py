"""The main job, from the Droplets' backups to snapshots in every region."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deployments.sandbox import Fault, FaultKind, Sandbox
from deployments.sandbox.regions import Region
from flows.replicate_backups import replicate_backups
from flows.replication.run import COVERAGE_KEY
from flows.report_coverage import report_coverage
from flows.transfer_images import transfer_images
from tests.end_to_end.accounts import (
    MANAGED_TAG,
    REGIONS,
    backups_of,
    changes,
    finish_all,
    goals,
    images_of,
    make_transfers_endless,
    meanwhile,
    newest_backups,
    next_look_at_the_feed,
    outcomes,
    pairs,
    report_of,
    resize,
    started,
)
from tests.end_to_end.prefect_server import PrefectView

UNRELIABLE = [
    FaultKind.BURST_LIMIT,
    FaultKind.LIMIT_HTML,
    FaultKind.ERROR_BEFORE,
    FaultKind.ERROR_AFTER,
    FaultKind.UNAVAILABLE_HTML,
    FaultKind.DROP_BEFORE,
    FaultKind.DROP_AFTER,
    FaultKind.HTML_OK,
    FaultKind.TRUNCATED_AFTER,
    FaultKind.ACTION_ERRORED,
]


class ClosedRegion(Region):
    """A region that claims to take images and then refuses each."""

    @property
    def takes_images(self) -> bool:
        return False


def test_the_newest_backups_arrive_in_every_region_and_a_second_run_has_nothing_to_do(
    start: Callable[..., Sandbox],
) -> None:
    sandbox = start(droplets=6)
    resize(sandbox, 5)
    protected = newest_backups(sandbox)
    everywhere = [region.slug for region in sandbox.account.regions.values() if region.takes_images]
    there_before = {(image.id, region) for image in protected for region in image.regions}

    report = report_of(replicate_backups(return_state=True))

    assert all(set(image.regions) == set(everywhere) and image.type == "snapshot" for image in protected)
    assert all(image.tags == [MANAGED_TAG] for image in protected)
    assert {pair: outcome == "already_there" for pair, outcome in outcomes(report).items()} == {
        pair: pair in there_before for pair in pairs(protected, everywhere)
    }
    assert report.totals == {"already_there": len(there_before), "transferred": len(protected) * len(everywhere) - 5}
    assert {row.action_id for row in report.rows if row.action_id} == {action.id for action in started(sandbox)}
    assert all(row.seconds for row in report.rows if row.outcome == "transferred")
    assert sandbox.record.duplicate_transfers() == []
    assert (report.usage.requests, report.usage.too_many_requests) == (len(sandbox.record.requests), 0)
    assert len(report.without_backups) == 1

    before = len(sandbox.record.requests)
    again = replicate_backups(return_state=True)
    assert again.is_completed()
    assert set(outcomes(report_of(again)).values()) == {"already_there"}
    assert {seen.method for seen in sandbox.record.requests[before:]} == {"GET"}
    assert report_of(again).usage.requests == len(sandbox.record.requests) - before

    coverage = report_of(report_coverage(return_state=True))
    assert outcomes(coverage) == dict.fromkeys(pairs(protected, everywhere), "already_there")


@pytest.mark.thorough
def test_a_token_without_the_scope_for_the_account_feed_is_sufficient(
    start_with_behavior: Callable[..., Sandbox],
) -> None:
    sandbox = start_with_behavior(out_of_scope=frozenset({"/v2/actions"}))
    resize(sandbox, 2)
    images = newest_backups(sandbox)
    state = replicate_backups(regions=REGIONS, return_state=True)
    assert state.is_completed()
    assert outcomes(report_of(state)) == dict.fromkeys(pairs(images, REGIONS), "transferred")
    assert goals(started(sandbox)) == pairs(images, REGIONS)


def test_newest_tag_and_regions_narrow_the_choice(start: Callable[..., Sandbox]) -> None:
    sandbox = start(droplets=3, backups_per_droplet=3)
    resize(sandbox, 2)
    chosen = [droplet for droplet in sandbox.account.droplets.values() if "env:staging" in droplet.tags]
    assert 0 < len(chosen) < 3
    images = [image for droplet in chosen for image in backups_of(sandbox, droplet)[:2]]
    report = report_of(replicate_backups("env:staging", REGIONS[:2], newest=2, return_state=True))
    assert outcomes(report) == dict.fromkeys(pairs(images, REGIONS[:2]), "transferred")
    assert goals(started(sandbox)) == pairs(images, REGIONS[:2])
    assert sorted(action.resource_id for action in started(sandbox, "convert")) == sorted(image.id for image in images)


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(sandbox: Sandbox) -> None:
    state = replicate_backups(regions=REGIONS, dry_run=True, return_state=True)
    assert state.is_completed()
    report = report_of(state)
    assert outcomes(report) == dict.fromkeys(pairs(newest_backups(sandbox), REGIONS), "planned")
    assert report.dry_run
    assert all(row.needs_conversion for row in report.rows)
    assert changes(sandbox) == []


def test_without_waiting_copies_are_started_and_the_next_run_adopts_them(sandbox: Sandbox) -> None:
    images = newest_backups(sandbox)
    make_transfers_endless(sandbox, images, len(REGIONS))
    first = report_of(replicate_backups(regions=REGIONS, wait=False, return_state=True))
    assert outcomes(first) == dict.fromkeys(pairs(images, REGIONS), "started")
    assert not any(region in image.regions for image in images for region in REGIONS)

    with meanwhile(next_look_at_the_feed(sandbox), lambda: finish_all(sandbox)):
        second = report_of(replicate_backups(regions=REGIONS, return_state=True))
    assert outcomes(second) == dict.fromkeys(pairs(images, REGIONS), "adopted")
    assert {row.action_id for row in second.rows} == {row.action_id for row in first.rows}
    assert len(started(sandbox)) == len(images) * len(REGIONS)


def test_copies_that_do_not_arrive_in_time_are_reported_and_adopted_by_the_next_run(sandbox: Sandbox) -> None:
    images = newest_backups(sandbox)
    make_transfers_endless(sandbox, images, len(REGIONS))
    hasty = replicate_backups.with_options(validate_parameters=False)
    # All that a run waits for counts, the lists that it reads included.
    state = hasty(regions=REGIONS, timeout_minutes=15 / 60, return_state=True)
    assert state.is_failed()
    assert str(state.message).startswith("6 of 6 copies did not arrive")
    assert outcomes(report_of(state)) == dict.fromkeys(pairs(images, REGIONS), "timed_out")
    assert all("the next run" in row.error for row in report_of(state).rows)

    sandbox.faults.clear()
    with meanwhile(next_look_at_the_feed(sandbox), lambda: finish_all(sandbox)):
        second = report_of(replicate_backups(regions=REGIONS, return_state=True))
    assert outcomes(second) == {
        (row.image_id, row.region): "adopted" if row.action_id else "transferred" for row in report_of(state).rows
    }
    assert goals(started(sandbox)) == pairs(images, REGIONS)


def test_errored_transfers_and_conversions_are_restarted(sandbox: Sandbox) -> None:
    resize(sandbox, 2)
    images = newest_backups(sandbox)
    # The first of each image's actions is its conversion.
    for image in images:
        sandbox.faults.add(Fault(FaultKind.ACTION_ERRORED, path=f"/images/{image.id}/", times=2))
    report = report_of(replicate_backups(regions=REGIONS, return_state=True))
    assert outcomes(report) == dict.fromkeys(pairs(images, REGIONS), "transferred")
    assert len(started(sandbox, "convert")) == 3 * len(images)


def test_a_bad_image_does_not_stop_the_others(sandbox: Sandbox) -> None:
    resize(sandbox, 2)
    bad, good = newest_backups(sandbox)
    sandbox.faults.add(Fault(FaultKind.ACTION_ERRORED, path=f"/images/{bad.id}/", times=None))
    state = replicate_backups(regions=REGIONS, return_state=True)
    assert state.is_failed()
    assert str(state.message).startswith(f"3 of 6 copies did not arrive (first: image {bad.id} to ")
    assert outcomes(report_of(state)) == {
        **dict.fromkeys(pairs([bad], REGIONS), "failed"),
        **dict.fromkeys(pairs([good], REGIONS), "transferred"),
    }
    assert all("not converted" in row.error for row in report_of(state).bad_rows)


def test_a_bad_region_does_not_stop_the_others_and_the_api_is_quoted(sandbox: Sandbox) -> None:
    resize(sandbox, 2)
    images = newest_backups(sandbox)
    fra1 = sandbox.account.regions["fra1"]
    sandbox.account.regions["fra1"] = ClosedRegion(fra1.slug, fra1.name)
    state = replicate_backups(regions=REGIONS, return_state=True)
    assert str(state.message).startswith("2 of 6 copies did not arrive")
    report = report_of(state)
    assert {pair for pair, outcome in outcomes(report).items() if outcome == "failed"} == set(pairs(images, ["fra1"]))
    assert all("Region fra1 is not available for image transfers." in row.error for row in report.bad_rows)
    assert all("request ID" in row.error for row in report.bad_rows)
    assert report.totals == {"transferred": 4, "failed": 2}


@pytest.mark.parametrize("region", ["sfo1", "ams2", "atlantis1"])
@pytest.mark.thorough(after=1)
def test_case_18_a_requested_region_is_tried_regardless_of_the_list_and_the_row_shows_the_apis_response(
    sandbox: Sandbox, region: str
) -> None:
    resize(sandbox, 2)
    known = sandbox.account.regions.get(region)
    assert known is None or not known.takes_images
    images = newest_backups(sandbox)
    planned = report_of(replicate_backups(regions=[REGIONS[0], region], dry_run=True, return_state=True))
    assert set(outcomes(planned).values()) == {"planned"}
    assert planned.notes[0].startswith(f"DigitalOcean does not list {region} as available for image transfers")

    state = replicate_backups(regions=[REGIONS[0], region], return_state=True)
    assert str(state.message).startswith("2 of 4 copies did not arrive")
    report = report_of(state)
    # Its refusals must not be taken for a lock that keeps out the others.
    assert report.regions == (REGIONS[0], region)
    assert outcomes(report) == {
        **dict.fromkeys(pairs(images, [region]), "failed"),
        **dict.fromkeys(pairs(images, REGIONS[:1]), "transferred"),
    }
    words = f"Region {region} is not available for image transfers." if known else "Region is invalid."
    assert all(f"422 unprocessable_entity: {words}" in row.error for row in report.bad_rows)
    assert goals(started(sandbox)) == pairs(images, REGIONS[:1])


class ClosedForDroplets(Region):
    """A region in which no Droplet can be created, and which accepts images all the same."""

    @property
    def takes_images(self) -> bool:
        return True


@pytest.mark.thorough
def test_case_18_a_region_closed_for_droplets_receives_images_if_requested_and_accepted_by_the_api(
    sandbox: Sandbox,
) -> None:
    resize(sandbox, 2)
    sandbox.account.regions["nyc2"] = ClosedForDroplets("nyc2", "New York 2", available=False)
    images = newest_backups(sandbox)
    assert "nyc2" not in report_of(replicate_backups(dry_run=True, return_state=True)).regions
    state = replicate_backups(regions=["nyc2"], return_state=True)
    assert state.is_completed()
    assert outcomes(report_of(state)) == dict.fromkeys(pairs(images, ["nyc2"]), "transferred")


@pytest.mark.thorough
def test_requested_regions_are_tried_even_if_the_list_of_regions_is_unreadable(
    start_with_behavior: Callable[..., Sandbox],
) -> None:
    sandbox = start_with_behavior(out_of_scope=frozenset({"/v2/regions"}))
    state = replicate_backups(regions=REGIONS, dry_run=True, return_state=True)
    assert state.is_completed()
    assert set(outcomes(report_of(state)).values()) == {"planned"}
    state = replicate_backups(dry_run=True, return_state=True)
    assert "needs the scope regions:read" in str(state.message)
    assert changes(sandbox) == []


@pytest.mark.thorough
def test_case_19_a_droplets_volumes_are_reported_as_not_covered(sandbox: Sandbox, prefect_view: PrefectView) -> None:
    with_volumes, _ = sandbox.account.droplets.values()
    with_volumes.volume_ids = ["506f78a4-e098-11e5-ad9f-000f53306ae1", "506f78a4-e098-11e5-ad9f-000f53306ae2"]
    sentence = f"{with_volumes.name} ({with_volumes.id}) has 2 volumes."
    state = replicate_backups(regions=REGIONS, dry_run=True, return_state=True)
    assert report_of(state).volumes == {f"{with_volumes.name} ({with_volumes.id})": 2}
    (note,) = report_of(state).notes
    assert note == f"Volumes are not covered, only the Droplets' own disks: {sentence}"
    run = prefect_view.run_of(state)
    assert [log.message for log in prefect_view.logs_of(run) if log.message == note]
    audit = report_coverage(regions=REGIONS, return_state=True)
    for each in (run, prefect_view.run_of(audit)):
        assert "has 2 volumes" in str(prefect_view.artifacts_of(each)[COVERAGE_KEY].description)


@pytest.mark.parametrize("price", [None, "0"])
@pytest.mark.thorough(after=1)
def test_a_dry_run_and_a_coverage_report_say_how_much_the_new_snapshots_add_up_to(
    sandbox: Sandbox, price: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    resize(sandbox, 12.5)
    if price:
        monkeypatch.setenv("DIGITALOCEAN_SNAPSHOT_PRICE_PER_GB_MONTH", price)
    words = f"would add 25 GB of snapshots{'' if price else ', $1.50 a month'};"
    assert words in str(replicate_backups(regions=REGIONS, dry_run=True, return_state=True).message)
    assert words in str(report_coverage(regions=REGIONS, return_state=True).message)
    snapshot = next(iter(images_of(sandbox, "snapshot")))
    further = transfer_images([snapshot.id], REGIONS, dry_run=True, return_state=True)
    assert "would add no snapshots" in str(further.message)


@pytest.mark.thorough
def test_a_backup_still_being_created_does_not_count_as_the_newest(sandbox: Sandbox) -> None:
    resize(sandbox, 2)
    droplet, other = sandbox.account.droplets.values()
    being_made, before = backups_of(sandbox, droplet)[:2]
    being_made.status = "pending"
    expected = [before, backups_of(sandbox, other)[0]]
    state = replicate_backups(regions=REGIONS, return_state=True)
    assert state.is_completed()
    assert goals(started(sandbox)) == pairs(expected, REGIONS)


def test_an_image_deleted_meanwhile_is_the_only_failure(sandbox: Sandbox) -> None:
    resize(sandbox, 2)
    gone, good = newest_backups(sandbox)
    sandbox.faults.add(Fault(FaultKind.SLOW, method="POST", path="/v2/tags"))
    chosen = lambda: any(seen.method == "POST" for seen in sandbox.record.requests)  # noqa: E731
    with meanwhile(chosen, lambda: sandbox.account.delete_image(gone)):
        state = replicate_backups(regions=REGIONS, return_state=True)
    assert str(state.message).startswith("3 of 6 copies did not arrive")
    report = report_of(state)
    assert outcomes(report) == {
        **dict.fromkeys(pairs([gone], REGIONS), "failed"),
        **dict.fromkeys(pairs([good], REGIONS), "transferred"),
    }
    assert all(f"image {gone.id} was deleted during the run" in row.error for row in report.bad_rows)


@pytest.mark.thorough
def test_a_droplet_without_backups_is_named_and_fails_nothing(sandbox: Sandbox) -> None:
    resize(sandbox, 2)
    bare, protected = sandbox.account.droplets.values()
    for image in backups_of(sandbox, bare):
        sandbox.account.delete_image(image)
    state = replicate_backups(regions=REGIONS, return_state=True)
    assert state.is_completed()
    assert report_of(state).without_backups == (f"{bare.name} ({bare.id})",)
    assert {row.source for row in report_of(state).rows} == {f"{protected.name} ({protected.id})"}


def test_an_unreliable_api_costs_requests_but_no_copies_and_nothing_is_done_twice(
    start: Callable[..., Sandbox],
) -> None:
    sandbox = start(droplets=2)
    resize(sandbox, 2)
    images = newest_backups(sandbox)
    sandbox.faults.at_random(0.1, UNRELIABLE, seed=3)
    state = replicate_backups(regions=REGIONS, return_state=True)
    assert state.is_completed(), state.message
    assert all(set(REGIONS) <= set(image.regions) for image in images)
    assert sandbox.record.duplicate_transfers() == []
    report = report_of(state)
    assert report.usage.too_many_requests == sandbox.record.rate_limited() > 0
    assert report.usage.requests == len(sandbox.record.requests)
