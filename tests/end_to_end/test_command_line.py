"""The flows as commands: help, tables, exit statuses, and sentences instead of tracebacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from deployments.sandbox import Sandbox
from flows.replicate_backups import replicate_backups
from flows.report_coverage import report_coverage
from flows.transfer_images import transfer_images
from tests.end_to_end.accounts import REGIONS, changes, images_of, newest_backups, resize
from tests.end_to_end.conftest import RunHere

ROOT = Path(__file__).parents[2]
OPTIONS = {
    "replicate_backups": ["droplet-tag", "regions", "newest", "no-wait", "timeout-minutes", "dry-run", "prune"],
    "transfer_images": ["image-ids", "regions", "no-wait", "timeout-minutes", "dry-run"],
    "convert_backups": ["image-ids", "no-wait", "timeout-minutes"],
    "prune_snapshots": [
        *("droplet-tag", "keep-last", "keep-daily", "keep-weekly", "keep-monthly", "older-than-days"),
        *("no-dry-run", "max-deletions", "regions"),
    ],
    "report_coverage": ["droplet-tag", "regions", "max-age-hours"],
    "image_action_history": ["image-ids"],
}


def command(flow: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"flows.{flow}", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("flow", OPTIONS)
@pytest.mark.thorough(after=1)
def test_the_help_names_the_command_and_explains_every_option(flow: str, run_here: RunHere) -> None:
    done = run_here(getattr(import_module(f"flows.{flow}"), flow), "--help")
    assert done.returncode == 0
    assert f"python -m flows.{flow}" in done.stdout
    assert all(f"--{option}" in done.stdout for option in OPTIONS[flow])
    assert "3 could not start" in " ".join(done.stdout.split())
    assert done.stderr == ""


def test_a_successful_run_prints_the_table_and_exits_with_0(sandbox: Sandbox) -> None:
    resize(sandbox, 2)
    images = newest_backups(sandbox)
    done = command("replicate_backups", "--regions", *REGIONS)
    assert done.returncode == 0, done.stderr
    assert all(str(image.id) in done.stdout for image in images)
    assert "2 images in 3 regions: 6 transferred" in done.stdout
    assert "✓ already there" in done.stdout
    assert all(set(REGIONS) <= set(image.regions) for image in images)
    assert "Traceback" not in done.stderr
    assert sandbox.token not in done.stdout + done.stderr


def one_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "import sys; from deployments.cli import main; sys.exit(main())", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(("name", "module"), [("replicate", "flows.replicate_backups"), ("setup", "deployments.setup")])
@pytest.mark.thorough(after=1)
def test_the_one_command_has_the_help_of_each_module_under_its_own_name(name: str, module: str) -> None:
    done = one_command(name, "--help")
    same = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].startswith(f"Usage: digitalocean-backups {name}")
    assert done.stdout.splitlines()[1:] == same.stdout.splitlines()[1:]


def test_the_one_command_runs_a_flow_with_the_env_file_of_the_folder_it_is_in(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in sandbox.environment().items():
        monkeypatch.delenv(name)
        with (tmp_path / ".env").open("a") as file:
            file.write(f"{name}='{value}'\n")
    done = one_command("replicate", "--dry-run", "--regions", *REGIONS, "--json")
    assert done.returncode == 0, done.stderr
    assert {row["region"] for row in json.loads(done.stdout)["rows"]} == set(REGIONS)
    assert changes(sandbox) == []


def test_wrong_options_of_the_one_command_are_explained_with_status_2() -> None:
    done = one_command("replicate", "--droplet-tg", "dr")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--droplet-tg: no such option; did you mean --droplet-tag?" in done.stderr


def test_an_incomplete_run_prints_table_and_reason_and_exits_with_1(sandbox: Sandbox, run_here: RunHere) -> None:
    custom, snapshot = images_of(sandbox, "custom")[0], images_of(sandbox, "snapshot")[0]
    custom.status = "pending"
    ids = ["--image-ids", f"{custom.id},{snapshot.id}"]
    done = run_here(transfer_images, *ids, "--regions", "fra1", "--dry-run")
    assert done.returncode == 1
    assert str(snapshot.id) in done.stdout
    assert "✗" in done.stdout
    assert "Failed: 1 of 2 copies did not arrive" in done.stderr
    assert "Traceback" not in done.stderr
    assert changes(sandbox) == []


def test_case_36_an_unknown_image_in_all_regions_is_one_error_line_and_one_reason(sandbox: Sandbox) -> None:
    regions = [region.slug for region in sandbox.account.regions.values() if region.takes_images]
    assert len(regions) == 12
    done = command("transfer_images", "--image-ids", "4711", PREFECT_LOGGING_LEVEL="INFO")
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if "| ERROR" in line and "image 4711" in line]
    assert len(errors) == 1
    assert "image 4711 in all 12 regions: image 4711 does not exist or was deleted" in errors[0]
    assert done.stdout.count("image 4711 does not exist") == 1


# Options that are wrong by themselves: tests/flows/test_usage_errors.py.
def test_options_that_contradict_each_other_are_explained_in_a_sentence_with_status_2(
    sandbox: Sandbox, run_here: RunHere
) -> None:
    done = run_here(replicate_backups, "--image-ids", "7", "--prune")
    assert done.returncode == 2
    said = done.stdout + done.stderr
    assert "leave image_ids out" in said
    assert "Traceback" not in said
    assert changes(sandbox) == []


def test_without_a_token_the_command_names_the_variable_and_the_demo() -> None:
    done = command("report_coverage")
    assert done.returncode == 3
    assert "DIGITALOCEAN_TOKEN is not set" in done.stderr
    assert "make demo" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_wrong_token_is_explained_in_a_sentence(
    sandbox: Sandbox, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_wrong")
    done = run_here(report_coverage)
    assert done.returncode == 1
    assert "Check the token in DIGITALOCEAN_TOKEN" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
