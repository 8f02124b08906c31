"""Flows that meet odd answers, through Prefect and HTTP; `test_case_NN_...` as in `test_odd_answers`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

import pytest
from prefect import Flow, State
from prefect.states import get_state_exception

from deployments.sandbox import Fault, FaultKind, Sandbox
from flows.convert_backups import convert_backups
from flows.prune_snapshots import prune_snapshots
from flows.replicate_backups import replicate_backups
from flows.report_coverage import report_coverage
from flows.results import Incomplete
from flows.transfer_images import transfer_images
from tasks.digitalocean import DigitalOceanError
from tasks.image_actions import wait_for_image_action
from tests.end_to_end.accounts import (
    REGIONS,
    Operator,
    add_snapshots,
    images_of,
    newest_backups,
    outcomes,
    pairs,
    pruning_report_of,
    report_of,
    resize,
    started,
)


def test_case_06_a_run_warns_once_about_unreadable_entries(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    resize(sandbox, 20)
    sandbox.faults.add(Fault(FaultKind.FOREIGN_ENTRIES, times=None))
    for runs in (1, 2):
        assert replicate_backups(regions=[*REGIONS, "tor1", "blr1"][: 3 + runs], return_state=True).is_completed()
        assert caplog.text.count("entries that cannot be read") == runs


def test_case_07_foreign_snapshots_stop_neither_report_nor_pruning_and_are_never_deleted(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    old = []
    for droplet in sandbox.account.droplets.values():
        old += add_snapshots(sandbox, droplet, 0, 1, 2, 3)[2:]
    sandbox.faults.add(Fault(FaultKind.FOREIGN_ENTRIES, "GET", "/v2/snapshots$", times=None))
    report = report_coverage(regions=REGIONS, return_state=True)
    assert report.is_completed()
    assert caplog.text.count("entries that cannot be read") == 1
    state = prune_snapshots(
        regions=REGIONS, keep_last=2, keep_weekly=0, keep_monthly=0, dry_run=False, return_state=True
    )
    assert state.is_completed()
    assert {row.image_id for row in pruning_report_of(state).rows if row.outcome == "deleted"} == {
        image.id for image in old
    }
    assert {seen.path for seen in sandbox.record.requests if seen.method == "DELETE"} == {
        f"/v2/images/{image.id}" for image in old
    }
    assert caplog.text.count("entries that cannot be read") == 2


def test_case_08_a_wait_starts_even_if_the_action_is_not_found_yet(sandbox: Sandbox) -> None:
    image = images_of(sandbox, "snapshot")[0]
    action_id = Operator(sandbox).transfer(image, REGIONS[0])
    sandbox.faults.add(Fault(FaultKind.NOT_FOUND, "GET", r"/actions/\d+$", times=2))
    assert wait_for_image_action(image.id, action_id).completed


@pytest.mark.parametrize("path", ["/v2/regions", "/v2/droplets", "/v2/images", "/v2/tags", "/actions$"])
@pytest.mark.parametrize("flow", [replicate_backups, transfer_images, convert_backups], ids=lambda flow: flow.name)
@pytest.mark.thorough(after=2)
def test_case_10_the_time_limit_covers_the_whole_run(
    start: Callable[..., Sandbox], flow: Flow[..., Any], path: str
) -> None:
    # At the speed of life, so that the longest pause is an hour.
    sandbox = start(speed=1)
    backup = newest_backups(sandbox)[0]
    where = {} if flow is convert_backups else {"regions": REGIONS}
    what = {} if flow is replicate_backups else {"image_ids": [backup.id]}
    if flow is convert_backups and path in {"/v2/regions", "/v2/droplets"}:
        pytest.skip("it does not ask for these")
    if flow is transfer_images and path == "/v2/droplets":
        pytest.skip("it does not ask for these")
    sandbox.faults.add(Fault(FaultKind.LIMIT_FOR_A_YEAR, path=path))
    hasty = flow.with_options(validate_parameters=False)
    began = time.monotonic()
    state = cast("State[Any]", hasty(**where, **what, timeout_minutes=3 / 60, return_state=True))
    # An hour would be too long for anyone to wait here.
    assert time.monotonic() - began < 60
    assert state.is_failed()
    error = get_state_exception(state)
    if isinstance(error, Incomplete):
        rows: tuple[Any, ...] = getattr(error.report, "wanted", ())
        assert {str(row.outcome) for row in rows} == {"timed_out"}
    else:
        assert isinstance(error, DigitalOceanError)
        assert "timeout_minutes" in str(state.message)


def test_case_12_an_endless_drip_hangs_nothing(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITALOCEAN_HTTP_TIMEOUT_SECONDS", "0.5")
    resize(sandbox, 2)
    for path in ("/v2/regions", "/v2/droplets", "/v2/images", "/v2/tags", "/actions$"):
        sandbox.faults.add(Fault(FaultKind.DRIP, path=path, seconds=0.2))
    report = report_of(replicate_backups(regions=REGIONS, return_state=True))
    assert set(outcomes(report).values()) == {"transferred"}


@pytest.mark.parametrize("kind", [FaultKind.GIANT_NUMBER, FaultKind.ODD_HEADERS, FaultKind.GIANT_BODY, FaultKind.BARE])
@pytest.mark.thorough(after=1)
def test_case_14_odd_responses_at_every_step_end_in_a_report(sandbox: Sandbox, kind: FaultKind) -> None:
    resize(sandbox, 2)
    backups = newest_backups(sandbox)
    for path in ("/v2/regions", "/v2/droplets", "/v2/images$", "/v2/tags", f"/{backups[0].id}/actions$"):
        sandbox.faults.add(Fault(kind, path=path))
    report = report_of(replicate_backups(regions=REGIONS, return_state=True))
    assert outcomes(report) == dict.fromkeys(pairs(backups, REGIONS), "transferred")
    assert len(started(sandbox)) == len(backups) * len(REGIONS)


def test_case_15_a_row_names_status_and_title_of_an_html_page(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITALOCEAN_HTTP_RETRY_MAX", "0")
    resize(sandbox, 2)
    image = images_of(sandbox, "snapshot")[0]
    sandbox.faults.add(
        Fault(FaultKind.GATEWAY_TIMEOUT_AFTER, "POST"),
        Fault(FaultKind.GATEWAY_TIMEOUT_AFTER, "GET", r"/images/\d+/actions$", times=None),
    )
    state = transfer_images([image.id], REGIONS[:1], return_state=True)
    (row,) = report_of(state).rows
    assert "504" in row.error
    assert "504 Gateway Time-out" in row.error
    for text in (row.error, str(state.message)):
        assert "an HTML page" in text
        assert "cf-error" not in text


@pytest.mark.thorough
def test_an_image_that_cannot_be_read_is_the_only_failure(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITALOCEAN_HTTP_RETRY_MAX", "1")
    resize(sandbox, 2)
    bad, good = images_of(sandbox, "backup")[:2]
    sandbox.faults.add(Fault(FaultKind.ERROR_BEFORE, "GET", f"/images/{bad.id}$", times=None))
    report = report_of(transfer_images([bad.id, good.id], REGIONS, return_state=True))
    assert outcomes(report) == {
        **dict.fromkeys(pairs([bad], REGIONS), "failed"),
        **dict.fromkeys(pairs([good], REGIONS), "transferred"),
    }
    assert all(f"GET /v2/images/{bad.id}: 500" in row.error for row in report.bad_rows)


def test_failing_to_set_tags_does_not_prevent_copies(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITALOCEAN_HTTP_RETRY_MAX", "0")
    resize(sandbox, 2)
    sandbox.faults.add(Fault(FaultKind.ERROR_BEFORE, "POST", "/v2/tags", times=1))
    report = report_of(replicate_backups(regions=REGIONS, return_state=True))
    assert set(outcomes(report).values()) == {"transferred"}
    assert all(backup.tags for backup in newest_backups(sandbox) if backup.type == "snapshot")


@pytest.mark.parametrize("refusals_say_when", [False, True])
@pytest.mark.thorough(after=1)
def test_case_16_a_lower_minute_limit_is_learned(
    start: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch, refusals_say_when: bool
) -> None:
    sandbox = start(speed=20, droplets=4, requests_per_minute=20, refusals_say_when=refusals_say_when)
    monkeypatch.setenv("DIGITALOCEAN_RATE_LIMITS", "[[250, 3], [5000, 180]]")
    sandbox.account.speed = 1200
    report = report_of(replicate_backups(return_state=True))
    assert set(outcomes(report).values()) <= {"transferred", "already_there"}
    assert len(sandbox.record.requests) > 40
    assert sandbox.record.rate_limited() <= 0.05 * len(sandbox.record.requests)
