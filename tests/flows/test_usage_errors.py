"""What the commands answer to options that make no sense: one plain sentence each, and status 2."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from prefect import Flow

from flows.command_line import run_from_command_line
from flows.convert_backups import convert_backups
from flows.image_action_history import image_action_history
from flows.prune_snapshots import prune_snapshots
from flows.replicate_backups import replicate_backups
from flows.report_coverage import report_coverage
from flows.transfer_images import transfer_images
from flows.usage_errors import read_options

NOT_EMPTY = "expected a value, not an empty text; leave the option out to use its default"
NOT_AN_ID = "is not an image ID; expected positive integers such as 62137902,62137903"
NOT_A_SLUG = "is not a region slug; expected slugs such as fra1,nyc3"
NOT_A_TAG = "is not a valid tag; expected at most 255 letters, digits, colons, dashes and underscores"
JARGON = ["validation error", "pydantic", "Input should", "Value error", "Traceback", "tokens", "type=", "╭"]

WRONG: list[tuple[Flow[Any, Any], list[str], list[str]]] = [
    (replicate_backups, ["--newest", "0"], ["--newest: must be at least 1"]),
    (replicate_backups, ["--source", "disks"], ["--source: must be 'backups' or 'snapshots'"]),
    (replicate_backups, ["--newest", "-5"], ["--newest: must be at least 1"]),
    (replicate_backups, ["--newest=-5"], ["--newest: must be at least 1"]),
    (replicate_backups, ["--newest", "101"], ["--newest: must be at most 100"]),
    (replicate_backups, ["--newest", "9" * 5000], ["--newest: must be at most 100"]),
    (replicate_backups, ["--newest", "-" + "9" * 5000], ["--newest: must be at least 1"]),
    (replicate_backups, ["--newest", "many"], ["--newest: must be an integer, not 'many'"]),
    (replicate_backups, ["--newest", "1.5"], ["--newest: must be an integer, not '1.5'"]),
    (replicate_backups, ["--newest", "\u0667"], ["--newest: must be an integer, not '\u0667'"]),
    (replicate_backups, ["--newest", ""], [f"--newest: {NOT_EMPTY}"]),
    (replicate_backups, ["--newest"], ["--newest: expected a value"]),
    (replicate_backups, ["--newest", "1", "--newest", "2"], ["--newest: given more than once"]),
    (replicate_backups, ["--newest", "1", "2"], ["'2' does not belong to any option; --help lists the options"]),
    (replicate_backups, ["--timeout-minutes", "1h"], ["--timeout-minutes: must be an integer, not '1h'"]),
    (replicate_backups, ["--timeout-minutes", "10081"], ["--timeout-minutes: must be at most 10080"]),
    (replicate_backups, ["--regions", "frå1"], [f"--regions: 'frå1' {NOT_A_SLUG}"]),
    (replicate_backups, ["--regions", "fra1;nyc3"], [f"--regions: 'fra1;nyc3' {NOT_A_SLUG}"]),
    (replicate_backups, ["--regions", "fra1,nyc_3"], [f"--regions: 'nyc_3' {NOT_A_SLUG}"]),
    (replicate_backups, ["--regions", ""], [f"--regions: '' {NOT_A_SLUG}"]),
    (replicate_backups, ["--regions"], ["--regions: expected at least one value"]),
    (replicate_backups, ["--region", "fra1"], ["--region: no such option; did you mean --regions?"]),
    (replicate_backups, ["-r", "fra1"], ["-r: no such option; --help lists the options"]),
    (replicate_backups, ["fra1"], ["'fra1' does not belong to any option; --help lists the options"]),
    (replicate_backups, ["--droplet-tag", "no tag"], [f"--droplet-tag: 'no tag' {NOT_A_TAG}"]),
    (replicate_backups, ["--droplet-tag", ""], [f"--droplet-tag: {NOT_EMPTY}"]),
    (replicate_backups, ["--wait=maybe"], ["--wait: takes no value; it is either --wait or --no-wait"]),
    (replicate_backups, ["--dry-run", "yes"], ["'yes' does not belong to any option; --help lists the options"]),
    (transfer_images, [], ["--image-ids: this option is required"]),
    (transfer_images, ["--image-ids"], ["--image-ids: expected at least one value"]),
    (transfer_images, ["--image-ids", "0"], [f"--image-ids: '0' {NOT_AN_ID}"]),
    (transfer_images, ["--image-ids", "-7"], [f"--image-ids: '-7' {NOT_AN_ID}"]),
    (transfer_images, ["--image-ids", "1,web"], [f"--image-ids: 'web' {NOT_AN_ID}"]),
    (transfer_images, ["--image-ids", "1;2"], [f"--image-ids: '1;2' {NOT_AN_ID}"]),
    (transfer_images, ["--image-ids", "9" * 16], [f"--image-ids: '{'9' * 16}' {NOT_AN_ID}"]),
    (convert_backups, ["--image-ids", "1.5"], [f"--image-ids: '1.5' {NOT_AN_ID}"]),
    (image_action_history, ["--image-ids", "1e3"], [f"--image-ids: '1e3' {NOT_AN_ID}"]),
    (prune_snapshots, ["--keep-last", "-1"], ["--keep-last: must be at least 0"]),
    (prune_snapshots, ["--max-deletions", "10001"], ["--max-deletions: must be at most 10000"]),
    (
        prune_snapshots,
        ["--older-than-days", "2026-01-01"],
        ["--older-than-days: must be an integer, not '2026-01-01'"],
    ),
    (report_coverage, ["--max-age-hours", "24h"], ["--max-age-hours: must be an integer, not '24h'"]),
    (report_coverage, ["--max-age-hours", "8761"], ["--max-age-hours: must be at most 8760"]),
    (
        replicate_backups,
        ["--regions", "7up", "--newest", "0", "--droplet-tag", "a b"],
        [f"--droplet-tag: 'a b' {NOT_A_TAG}", f"--regions: '7up' {NOT_A_SLUG}", "--newest: must be at least 1"],
    ),
]


@pytest.mark.parametrize(
    ("flow", "arguments", "sentences"),
    WRONG,
    ids=[" ".join([flow.name, *arguments])[:60] for flow, arguments, _ in WRONG],
)
def test_case_33_invalid_options_are_explained_in_a_sentence_that_names_them_with_status_2(
    flow: Flow[Any, Any],
    arguments: list[str],
    sentences: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["python -m", *arguments])
    with pytest.raises(SystemExit) as ended:
        run_from_command_line(flow)
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == sentences
    assert not [each for each in JARGON if each in said.err]


def test_case_33_commas_spaces_and_capitals_are_accepted() -> None:
    for typed in (["fra1,nyc3"], ["fra1 nyc3"], ["FRA1", "nyc3"], ["fra1", ",", "nyc3"], ["fra1, ", "NYC3"]):
        assert read_options(replicate_backups, {"regions": typed}) == {"regions": ["fra1", "nyc3"]}
    for typed in (["1,2"], ["1 2"], ["1", "2"], ["1,", "2"]):
        assert read_options(transfer_images, {"image_ids": typed}) == {"image_ids": [1, 2]}


def test_options_are_parsed_into_the_parameters_of_the_flow() -> None:
    given = {"newest": " 2", "droplet_tag": "env:prod", "dry_run": True, "timeout_minutes": "+60"}
    assert read_options(replicate_backups, given) == {
        "newest": 2,
        "droplet_tag": "env:prod",
        "dry_run": True,
        "timeout_minutes": 60,
    }
    assert read_options(prune_snapshots, {"older_than_days": "0"}) == {"older_than_days": 0}
    assert read_options(replicate_backups, {}) == {}
