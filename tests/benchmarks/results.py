"""The figures as a table, with the command that makes them."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.measure import Measurement
from tests.benchmarks.workers import SharedRun

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "RESULTS.md"
SECTIONS = FOLDER / "results.json"


@dataclass(frozen=True)
class Goal:
    """A figure and what it should be.

    Attributes:
        measure: What is measured.
        goal: What it should be, in words.
        figure: What it is, in words.
        reached: Whether that is what it should be.
    """

    measure: str
    goal: str
    figure: str
    reached: bool


def at_most(measure: str, most: float, value: float, show: Callable[[float], str] = "{:.2f}".format) -> Goal:
    """A figure that should not be larger."""
    return Goal(measure, f"at most {show(most)}", show(value), value <= most)


def exactly(measure: str, wanted: int, value: int) -> Goal:
    """A count that should be this."""
    return Goal(measure, str(wanted), str(value), value == wanted)


def runs_table(measurements: Sequence[Measurement]) -> str:
    """Lay runs out for comparison."""
    titles = (
        "run, Droplets, actions, finished, lost, requests, per action, per protected Droplet, 429s, hours, over best"
    )
    lines = [f"| {titles.replace(', ', ' | ')} |", "|" + " --- |" * 11]
    lines += [
        f"| {each.name} | {each.droplets:,} | {each.actions:,} | {each.finished:,} | {each.actions - each.finished:,} "
        f"| {each.requests:,} | {each.requests_per_action:.2f} "
        f"| {f'{each.requests_per_droplet:.1f}' if each.protected else '-'} "
        f"| {each.too_many:,} | {each.makespan / 3600:.2f} "
        # To be quick is no merit where something was lost.
        f"| {f'{each.stretch:.3f}' if each.finished == each.actions else '-'} |"
        for each in measurements
    ]
    return "\n".join(lines)


def shares_table(runs: Sequence[SharedRun]) -> str:
    """Lay runs of several processes out for comparison."""
    lines = ["| run | copies | finished | started twice | requests | 429s | minutes |", "|" + " --- |" * 7]
    lines += [
        f"| {each.name} | {each.copies:,} | {each.finished:,} | {each.duplicates} | {each.requests:,} "
        f"| {each.too_many} | {each.seconds / 60:.1f} |"
        for each in runs
    ]
    return "\n".join(lines)


def goals_table(goals: Sequence[Goal]) -> str:
    """Lay goals out."""
    lines = ["| measure | goal | figure | reached |", "| --- | --- | --- | --- |"]
    lines += [f"| {each.measure} | {each.goal} | {each.figure} | {'yes' if each.reached else 'NO'} |" for each in goals]
    return "\n".join(lines)


def write_section(title: str, command: str, text: str) -> None:
    """Write a section of the results, leaving the others as they are.

    Args:
        title: Title of the section.
        command: What makes it again.
        text: Its contents.
    """
    sections: dict[str, str] = json.loads(SECTIONS.read_text()) if SECTIONS.exists() else {}
    made = f"`{command}`, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}"
    sections[title] = f"Made by {made}.\n\n{text}"
    SECTIONS.write_text(json.dumps(sections, indent=1, ensure_ascii=False) + "\n")
    body = "\n\n".join(f"## {name}\n\n{sections[name]}" for name in sorted(sections))
    RESULTS.write_text(f"# What a run costs\n\n{CONDITIONS}\n\n{body}\n")


CONDITIONS = """\
Each run of this project is `python -m flows.replicate_backups` in a process of its own, through a Prefect server on
SQLite that was started for it, against the sandbox with DigitalOcean's rate limits on: 250 requests a minute and 5,000
an hour, in sliding windows. The sandbox runs faster than life, its limits and the client's poll intervals with it; all
times here are the sandbox's. Transfers last one to two minutes a gigabyte, drawn at random, for images of 1 to 30 GB.
Nothing here has been measured against DigitalOcean itself.

The best possible makespan is computed from the sandbox's record of durations: every POST as early as both windows
allow, conversions before transfers, the longest transfer first, and no request for anything else. The makespan of a
run goes from its first POST to the answer that showed the last transfer done. The other ways of waiting are replayed
in virtual time against the same sandbox, and start with snapshots, because those tools convert nothing."""
