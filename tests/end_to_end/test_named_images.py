"""The flows that are given images by their ids."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prefect.states import get_state_exception

from deployments.sandbox import Fault, FaultKind, Sandbox
from deployments.sandbox.account import ImageStatus
from flows.convert_backups import convert_backups
from flows.image_action_history import image_action_history
from flows.replicate_backups import replicate_backups
from flows.report_coverage import report_coverage
from flows.reporting.report import ActionHistory, ReplicationReport
from flows.results import Incomplete
from flows.transfer_images import transfer_images
from tests.end_to_end.accounts import (
    MANAGED_TAG,
    REGIONS,
    Operator,
    changes,
    goals,
    images_of,
    newest_backups,
    outcomes,
    pairs,
    public_image,
    report_of,
    resize,
    started,
)

MISSING = 4711


def test_case_17_named_images_of_every_type_arrive_once_and_others_are_refused_with_reasons(
    sandbox: Sandbox,
) -> None:
    resize(sandbox, 2)
    backup, snapshot, custom = (images_of(sandbox, kind)[0] for kind in ("backup", "snapshot", "custom"))
    public = public_image(sandbox)
    ids = [backup.id, snapshot.id, custom.id, public.id, MISSING, backup.id]
    state = transfer_images(ids, REGIONS, return_state=True)
    assert str(state.message).startswith("6 of 15 copies did not arrive")
    report = report_of(state)
    assert outcomes(report) == {
        **dict.fromkeys(pairs([backup, snapshot, custom], REGIONS), "transferred"),
        **dict.fromkeys(pairs([public], REGIONS), "failed"),
        **{(MISSING, region): "failed" for region in REGIONS},
    }
    errors = {row.image_id: row.error for row in report.bad_rows}
    assert errors == {
        public.id: "it is a public image, which DigitalOcean keeps in every region",
        MISSING: f"image {MISSING} does not exist or was deleted",
    }
    assert goals(started(sandbox)) == pairs([backup, snapshot, custom], REGIONS)
    assert {action.resource_id for action in started(sandbox, "convert")} == {backup.id}
    assert {seen.path for seen in changes(sandbox) if seen.path.endswith("/actions")} == {
        f"/v2/images/{image.id}/actions" for image in (backup, snapshot, custom)
    }
    assert (backup.tags, snapshot.tags, custom.tags) == ([MANAGED_TAG], [], [])
    assert report.usage.requests == len(sandbox.record.requests)


@pytest.mark.parametrize("status", ["NEW", "pending"])
@pytest.mark.thorough(after=1)
def test_case_17_an_image_not_yet_available_is_a_row_with_its_status_and_stops_no_other(
    sandbox: Sandbox, status: ImageStatus
) -> None:
    resize(sandbox, 2)
    backup, snapshot, custom = (images_of(sandbox, kind)[0] for kind in ("backup", "snapshot", "custom"))
    backup.status = custom.status = status
    state = transfer_images([backup.id, snapshot.id, custom.id], REGIONS, return_state=True)
    assert str(state.message).startswith("6 of 9 copies did not arrive")
    report = report_of(state)
    assert {row.error for row in report.bad_rows} == {f"its status is {status}: try again once it is available"}
    assert {row.image_id for row in report.bad_rows} == {backup.id, custom.id}
    assert goals(started(sandbox)) == pairs([snapshot], REGIONS)

    converted = convert_backups([backup.id, snapshot.id], return_state=True)
    assert f"{backup.id}: its status is {status}" in str(converted.message)
    assert started(sandbox, "convert") == []
    assert backup.tags == []


@pytest.mark.thorough
def test_many_images_are_looked_up_in_the_list(sandbox: Sandbox) -> None:
    resize(sandbox, 2)
    images = [*images_of(sandbox, "backup"), *images_of(sandbox, "snapshot")]
    ids = [image.id for image in images] + list(range(1, 12))
    report = report_of(transfer_images(ids, REGIONS[:1], dry_run=True, return_state=True))
    assert report.totals == {"planned": len(images), "failed": 11}
    assert changes(sandbox) == []


def test_named_backups_become_snapshots_and_stay_where_they_are(sandbox: Sandbox) -> None:
    backup, snapshot, custom = (images_of(sandbox, kind)[0] for kind in ("backup", "snapshot", "custom"))
    state = convert_backups([backup.id, snapshot.id, custom.id, MISSING], return_state=True)
    assert str(state.message).startswith("2 of 4 images were not converted")
    error = get_state_exception(state)
    assert isinstance(error, Incomplete)
    report = error.report
    assert isinstance(report, ReplicationReport)
    assert {row.image_id: row.outcome for row in report.conversions} == {
        backup.id: "converted",
        snapshot.id: "already_there",
        custom.id: "failed",
        MISSING: "failed",
    }
    assert report.usage.requests == len(sandbox.record.requests)
    assert [action.type for action in sandbox.record.actions] == ["convert"]
    assert (backup.type, backup.tags) == ("snapshot", [MANAGED_TAG])

    again = convert_backups([backup.id], return_state=True)
    assert [row.outcome for row in again.result().conversions] == ["already_there"]


@pytest.mark.thorough
def test_a_backup_taggable_only_as_a_snapshot_is_tagged_even_if_the_api_shows_it_late(
    start_with_behavior: Callable[..., Sandbox],
) -> None:
    sandbox = start_with_behavior(taggable_backups=False, lag_seconds=60)
    backup = newest_backups(sandbox)[0]
    assert [row.outcome for row in convert_backups([backup.id]).conversions] == ["converted"]
    assert backup.tags == [MANAGED_TAG]


def test_a_conversion_in_progress_is_adopted_and_waiting_is_optional(sandbox: Sandbox) -> None:
    one, other = newest_backups(sandbox)
    sandbox.faults.add(Fault(FaultKind.ACTION_ENDLESS, path=f"/images/{one.id}/"))
    first = convert_backups([one.id], wait=False)
    assert [row.outcome for row in first.conversions] == ["started"]
    hasty = convert_backups.with_options(validate_parameters=False)
    state = hasty([one.id, other.id], timeout_minutes=15 / 60, return_state=True)
    error = get_state_exception(state)
    assert isinstance(error, Incomplete)
    assert isinstance(error.report, ReplicationReport)
    assert [(row.outcome, row.action_id) for row in error.report.conversions] == [
        ("timed_out", first.conversions[0].action_id),
        ("converted", sandbox.record.actions[-1].id),
    ]
    assert len(sandbox.record.actions) == 2


@pytest.mark.thorough
def test_coverage_says_what_a_replication_would_copy_and_changes_nothing(sandbox: Sandbox) -> None:
    resize(sandbox, 2)
    images = newest_backups(sandbox)
    before = report_coverage(regions=REGIONS, return_state=True)
    assert before.is_completed()
    assert outcomes(report_of(before)) == dict.fromkeys(pairs(images, REGIONS), "planned")
    assert changes(sandbox) == []
    replicate_backups(regions=REGIONS[:1])
    after = outcomes(report_of(report_coverage(regions=REGIONS, return_state=True)))
    assert {pair for pair, outcome in after.items() if outcome == "already_there"} == set(pairs(images, REGIONS[:1]))


def test_the_history_lists_every_action_of_an_image_despite_unknown_images(sandbox: Sandbox) -> None:
    resize(sandbox, 2)
    images = newest_backups(sandbox)
    operator = Operator(sandbox)
    actions = {operator.convert(images[0])} | {operator.transfer(images[0], region) for region in REGIONS}
    seen_by_hand = len(sandbox.record.requests)
    state = image_action_history([images[0].id, images[1].id, MISSING, images[0].id], return_state=True)
    assert str(state.message).startswith("1 of 3 images could not be read")
    assert "404 not_found" in str(state.message)
    error = get_state_exception(state)
    assert isinstance(error, Incomplete)
    history = error.report
    assert isinstance(history, ActionHistory)
    assert {each.image_id: {action.id for action in each.actions} for each in history.images} == {
        images[0].id: actions,
        images[1].id: set(),
        MISSING: set(),
    }
    assert history.usage.requests == len(sandbox.record.requests) - seen_by_hand
    assert image_action_history([images[0].id], return_state=True).is_completed()
