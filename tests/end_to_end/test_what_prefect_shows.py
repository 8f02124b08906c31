"""Names, messages, logs and artifacts: what a user sees of Prefect."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest

from deployments.sandbox import Fault, FaultKind, Sandbox
from flows.replicate_backups import replicate_backups
from flows.report_coverage import report_coverage
from flows.transfer_images import transfer_images
from tests.end_to_end.accounts import REGIONS, images_of, newest_backups, report_of, resize
from tests.end_to_end.prefect_server import PrefectView


def table_in(artifacts: dict[str | None, Any], key: str) -> list[dict[str, str]]:
    data = artifacts[key].data
    table: list[dict[str, str]] = json.loads(data) if isinstance(data, str) else data
    return table


def ids_in(table: list[dict[str, str]]) -> list[int]:
    """The images of a table, each of which is a link."""
    return [int(re.findall(r"\d+", line["Image"])[0]) for line in table]


def test_a_run_shows_its_name_its_progress_and_its_table(sandbox: Sandbox, prefect_view: PrefectView) -> None:
    resize(sandbox, 2)
    images = newest_backups(sandbox)
    state = replicate_backups(regions=REGIONS, return_state=True)
    run = prefect_view.run_of(state)
    assert run.name.startswith("all Droplets -> fra1, sgp1, sfo3, 20")
    assert run.state_name == "Completed"

    artifacts = prefect_view.artifacts_of(run)
    progress = artifacts["replication-progress"]
    assert (progress.type, progress.data) == ("progress", 100)
    assert "100% done: 6 of 6 copies" in str(progress.description)
    table = table_in(artifacts, "replication-coverage")
    assert ids_in(table) == [image.id for image in sorted(images, key=lambda each: each.name)]
    assert all(line[region].strip("\\") == "+" for line in table for region in REGIONS)
    assert report_of(state).summary in str(artifacts["replication-coverage"].description)
    assert report_of(state).summary in prefect_view.log_text_of(run)

    names = {task.name for task in prefect_view.task_runs_of(run.id, at_least=6 + 2 + 6)}
    assert names >= {f"start transfer of {image.id} to {region}" for image in images for region in REGIONS}
    assert names >= {
        "list regions",
        "list Droplets",
        "list images",
        *(f"start conversion of {image.id}" for image in images),
    }


def test_a_failed_run_shows_how_many_copies_failed_and_why_with_the_failures_first(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    resize(sandbox, 2)
    good, bad = sorted(newest_backups(sandbox), key=lambda image: image.name)
    bad.name = "[click](javascript:alert(1)) | <b>"
    sandbox.faults.add(Fault(FaultKind.ACTION_ERRORED, path=f"/images/{bad.id}/", times=None))
    state = transfer_images([good.id, bad.id], REGIONS, return_state=True)
    run = prefect_view.run_of(state)
    assert run.name.startswith(f"{good.id}, {bad.id} -> fra1, sgp1, sfo3, 20")
    assert run.state
    assert run.state.name == "Failed"
    assert str(run.state.message).startswith("3 of 6 copies did not arrive")
    coverage = prefect_view.artifacts_of(run)["replication-coverage"]
    reason = "not converted: the action failed on all 3 attempts"
    assert f"fra1, sfo3, sgp1: {reason}" in str(coverage.description)
    assert "](javascript" not in str(coverage.description)
    table = table_in(prefect_view.artifacts_of(run), "replication-coverage")
    assert ids_in(table) == [bad.id, good.id]
    assert "](" not in table[0]["Droplet"]
    assert "<b>" not in table[0]["Droplet"]
    text = prefect_view.log_text_of(run)
    assert f"image {bad.id} in fra1" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"regions": []}, "the list of regions is empty"),
        ({"droplet_tag": "missing"}, "no Droplet has the tag 'missing'"),
        ({"droplet_tag": "no tag!"}, "droplet_tag: 'no tag!' is not a valid tag"),
        ({"regions": ["NYC 3"]}, "regions: '3' is not a region slug"),
        ({"newest": 0}, "newest: must be at least 1"),
        ({"timeout_minutes": 0}, "timeout_minutes: must be at least 1"),
    ],
)
@pytest.mark.thorough(after=2)
def test_invalid_parameters_end_the_run_with_a_sentence_before_any_change(
    sandbox: Sandbox, prefect_view: PrefectView, parameters: dict[str, Any], message: str
) -> None:
    state = replicate_backups(**parameters, return_state=True)
    assert state.is_failed()
    assert message in str(state.message)
    assert {seen.method for seen in sandbox.record.requests} <= {"GET"}
    assert len(sandbox.record.requests) <= 4
    run = prefect_view.run_of(state)
    assert run.state
    assert message in str(run.state.message)
    assert not any("Traceback" in log.message for log in prefect_view.logs_of(run))


@pytest.mark.parametrize(
    ("image_ids", "message"),
    [
        ([], "the list of images is empty: name at least one image ID"),
        ([0], "image_ids: 0 is not an image ID"),
        ([-7], "image_ids: -7 is not an image ID"),
        (["web"], "image_ids: 'web' is not an image ID"),
    ],
)
@pytest.mark.thorough(after=1)
def test_invalid_image_ids_end_the_run_with_a_sentence_before_any_change(
    sandbox: Sandbox, image_ids: list[int], message: str
) -> None:
    state = transfer_images(image_ids, return_state=True)
    assert state.is_failed()
    assert message in str(state.message)
    assert {seen.method for seen in sandbox.record.requests} <= {"GET"}


def test_images_that_cannot_be_copied_are_refused_before_any_change(sandbox: Sandbox) -> None:
    custom = images_of(sandbox, "custom")[0]
    custom.status = "pending"
    state = transfer_images([custom.id], REGIONS, return_state=True)
    assert "3 of 3 copies did not arrive" in str(state.message)
    assert "its status is pending" in str(state.message)
    assert {seen.method for seen in sandbox.record.requests} == {"GET"}


def test_case_36_a_problem_in_all_regions_of_an_image_is_one_line_of_the_log(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    resize(sandbox, 2)
    unlucky = newest_backups(sandbox)[0]
    sandbox.faults.add(Fault(FaultKind.ACTION_ERRORED, path=f"/images/{unlucky.id}/", times=None))
    state = transfer_images([4711, unlucky.id], return_state=True)
    run = prefect_view.run_of(state)
    errors = [
        log.message for log in prefect_view.logs_of(run) if log.level >= logging.ERROR and ", image " in log.message
    ]
    assert len(errors) == 1
    assert errors[0].startswith(f"{unlucky.name}, image {unlucky.id} in ams3, ")
    assert errors[0].endswith(": not converted: the action failed on all 3 attempts")
    unknown = [log.message for log in prefect_view.logs_of(run) if log.message.startswith("image 4711 in")]
    assert unknown == ["image 4711 in all 12 regions: image 4711 does not exist or was deleted"]
    description = str(prefect_view.artifacts_of(run)["replication-coverage"].description)
    assert description.count("image 4711 does not exist") == 1


def test_without_a_token_nothing_is_sent_and_the_message_says_what_to_do(
    sandbox: Sandbox, prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DIGITALOCEAN_TOKEN")
    state = replicate_backups(return_state=True)
    assert state.is_failed()
    assert "DIGITALOCEAN_TOKEN is not set" in str(state.message)
    assert "make demo" in str(state.message)
    assert sandbox.record.requests == []
    assert "Traceback" not in prefect_view.log_text_of(prefect_view.run_of(state))


@pytest.mark.thorough
def test_the_token_is_found_under_its_other_name_too(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIGITALOCEAN_TOKEN")
    monkeypatch.setenv("DIGITALOCEAN_ACCESS_TOKEN", sandbox.token)
    assert report_coverage(return_state=True).is_completed()


def test_a_wrong_token_is_reported_and_tried_only_once(
    sandbox: Sandbox, prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_wrong")
    state = replicate_backups(return_state=True)
    assert state.is_failed()
    assert "401 unauthorized" in str(state.message).lower()
    assert "Check the token in DIGITALOCEAN_TOKEN" in str(state.message)
    assert sandbox.record.requests_by_status() == {401: 1}
    text = prefect_view.log_text_of(prefect_view.run_of(state))
    assert "dop_v1_wrong" not in text
    assert "Traceback" not in text


@pytest.mark.parametrize("url", ["http://api.digitalocean.com", "http://10.0.0.1:8080", "ftp://127.0.0.1"])
@pytest.mark.thorough(after=1)
def test_the_token_is_not_sent_over_plain_http_to_other_machines(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("DIGITALOCEAN_API_URL", url)
    state = replicate_backups(return_state=True)
    assert state.is_failed()
    assert "DIGITALOCEAN_API_URL" in str(state.message)
    assert "https" in str(state.message)
    assert sandbox.record.requests == []
