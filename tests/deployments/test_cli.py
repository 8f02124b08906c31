"""The command `digitalocean-backups`: what it lists, what it runs, and how it is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from cyclopts import App
from prefect import Flow

from deployments import cli
from deployments.cli import COMMANDS, PROGRAM, VERSION, explain_unknown
from flows.names import FLOWS

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WITHOUT_PREFECT = """
import sys
from deployments.cli import main
status = main()
assert "prefect" not in sys.modules
sys.exit(status)
"""


def run(*arguments: str, code: str = WITHOUT_PREFECT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={"PYTHONPATH": str(ROOT), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_flow_is_a_command() -> None:
    targets = [getattr(import_module(each.module), each.attribute) for each in COMMANDS.values()]
    assert sorted(each.name for each in targets if isinstance(each, Flow)) == sorted(FLOWS)


def test_every_other_command_is_an_app_or_a_function() -> None:
    others = [each for each in COMMANDS.values() if not each.module.startswith("flows.")]
    targets = [getattr(import_module(each.module), each.attribute) for each in others]
    assert [each for each in targets if not isinstance(each, App) and not callable(each)] == []


def test_the_version_is_that_of_the_project() -> None:
    assert PROJECT["project"]["version"] == VERSION


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("replicat", "replicat: no such command; did you mean replicate?"),
        ("COVERAGE", "COVERAGE: no such command; did you mean coverage?"),
        ("replicate_backups", "replicate_backups: no such command; did you mean replicate?"),
        ("restore-droplets", "restore-droplets: no such command; did you mean restore?"),
        ("list", "list: no such command; --help lists the commands"),
        ("--json", "--json: expected a command before any option; --help lists the commands"),
    ],
)
def test_an_unknown_command_is_explained_with_one_of_a_similar_name(word: str, sentence: str) -> None:
    assert explain_unknown(word, COMMANDS) == sentence


def test_only_what_is_installed_is_suggested() -> None:
    installed = {name: command for name, command in COMMANDS.items() if name != "sandbox"}
    assert explain_unknown("sandbox", installed) == "sandbox: no such command; --help lists the commands"


def test_the_help_lists_every_command_in_a_line_without_importing_prefect() -> None:
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.strip("│ ") for line in done.stdout.splitlines()]
    listed = [" ".join(line.split()) for line in lines]
    assert [each for each in COMMANDS if f"{each} {COMMANDS[each].summary}" not in listed] == []
    assert "3 could not start" in " ".join(listed)


def test_the_version_is_printed_without_importing_prefect() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{VERSION}\n", "")


def test_without_a_command_the_list_is_shown_and_the_status_is_2() -> None:
    done = run()
    assert done.returncode == 2
    assert f"Usage: {PROGRAM} COMMAND" in done.stdout


def test_an_unknown_command_has_status_2_and_imports_no_prefect() -> None:
    done = run("coverag")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "coverag: no such command; did you mean coverage?\n"


def test_without_sandbox_and_demo_as_in_the_production_image_neither_is_listed(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "sandbox", "demo.py")
    shutil.copytree(ROOT / "deployments", tmp_path / "deployments", ignore=ignored)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{WITHOUT_PREFECT}"
    done = run("--help", code=code)
    assert done.returncode == 0, done.stderr
    assert "notify" in done.stdout
    assert "sandbox" not in done.stdout
    assert "demo" not in done.stdout


# Installed


def test_the_package_has_the_command_as_its_script() -> None:
    module, _, function = PROJECT["project"]["scripts"][PROGRAM].partition(":")
    assert getattr(import_module(module), function) is cli.main


def test_the_package_contains_every_module() -> None:
    """Setuptools leaves out folders that are not packages."""
    top = {pattern.rstrip("*") for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert top == {"flows", "tasks", "deployments"}
    folders = {file.parent for each in top for file in (ROOT / each).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.slow
def test_the_script_of_make_install_runs_from_any_folder_with_spaces_in_its_path(tmp_path: Path) -> None:
    clone, elsewhere = tmp_path / "a clone", tmp_path / "elsewhere"
    (clone / ".venv" / "bin").mkdir(parents=True)
    # Of a virtual environment, whose settings a symbolic link would not find.
    python = clone / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    for name in ("Makefile", "flows", "tasks", "deployments"):
        (clone / name).symlink_to(ROOT / name)
    subprocess.run(
        ["/usr/bin/env", "make", "--silent", f".venv/bin/{PROGRAM}"], cwd=clone, check=True, capture_output=True
    )
    # Likely names for folders of users.
    for name in ("flows", "tasks", "deployments"):
        (elsewhere / name).mkdir(parents=True)
        (elsewhere / name / "__init__.py").write_text("raise AssertionError('not these')")
    script = clone / ".venv" / "bin" / PROGRAM
    done = subprocess.run(
        [script, "coverage"],
        cwd=elsewhere,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PREFECT_API_URL": "http://127.0.0.1:1/api"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "DIGITALOCEAN_TOKEN is not set" in done.stderr
    assert "Traceback" not in done.stderr
