"""What a command says at the end of its run."""

from __future__ import annotations

import json

import pytest
from prefect.states import Completed, Failed

from flows.command_line import print_outcome
from flows.reporting.report import Outcome, ReplicationReport, Row
from flows.results import Incomplete

ARRIVED = ReplicationReport(
    rows=(Row(source="web (1)", image_id=7, region="nyc3", outcome=Outcome.TRANSFERRED),), regions=("nyc3",)
)
MISSING = ReplicationReport(
    rows=(Row(source="web (1)", image_id=7, region="nyc3", outcome=Outcome.FAILED, error="no space"),),
    regions=("nyc3",),
)


def test_a_report_is_printed_and_the_status_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_outcome(Completed(message=ARRIVED.summary, data=ARRIVED)) == 0
    said = capsys.readouterr().out
    assert "web (1)" in said
    assert ARRIVED.summary in said


def test_if_prefects_response_is_lost_with_the_report_the_message_is_printed_and_the_status_is_0(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert print_outcome(Completed(message=ARRIVED.summary)) == 0
    assert capsys.readouterr().out == f"{ARRIVED.summary}\n"


def test_an_incomplete_run_prints_its_report_and_the_reason_and_the_status_is_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = Incomplete(MISSING)
    assert print_outcome(Failed(message=str(error), data=error)) == 1
    said = capsys.readouterr()
    assert "web (1)" in said.out
    assert said.err.startswith("Failed: 1 of 1 copies did not arrive")


def test_a_failed_run_whose_response_is_lost_still_says_why_and_the_status_is_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert print_outcome(Failed(message="no Droplet bears the tag 'dr'")) == 1
    assert capsys.readouterr().err == "Failed: no Droplet bears the tag 'dr'\n"


def test_as_json_the_report_is_all_there_is_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_outcome(Completed(message=ARRIVED.summary, data=ARRIVED), as_json=True) == 0
    assert ReplicationReport.model_validate(json.loads(capsys.readouterr().out)) == ARRIVED


def test_as_json_a_failed_run_prints_its_report_too_and_keeps_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    error = Incomplete(MISSING)
    assert print_outcome(Failed(message=str(error), data=error), as_json=True) == 1
    said = capsys.readouterr()
    assert ReplicationReport.model_validate(json.loads(said.out)) == MISSING
    assert said.err.startswith("Failed: 1 of 1 copies did not arrive")


def test_as_json_a_lost_or_missing_report_leaves_standard_output_empty(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_outcome(Completed(message=ARRIVED.summary), as_json=True) == 0
    assert print_outcome(Failed(message="no Droplet has the tag"), as_json=True) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"{ARRIVED.summary}\nFailed: no Droplet has the tag\n")


def test_names_in_json_survive_every_encoding(capsys: pytest.CaptureFixture[str]) -> None:
    named = ARRIVED.model_copy(update={"without_backups": ("w\u00e9b \u2713 (1)",)})
    print_outcome(Completed(message=named.summary, data=named), as_json=True)
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out)["without_backups"] == ["w\u00e9b \u2713 (1)"]
