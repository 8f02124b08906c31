"""Reports as tables, for the terminal and as Markdown for artifacts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import singledispatch

from flows.reporting.drill_report import DrillReport, drill_table
from flows.reporting.pruning_report import PruningOutcome, PruningReport
from flows.reporting.report import (
    BAD_OUTCOMES,
    ActionHistory,
    CoverageReport,
    Outcome,
    ReplicationReport,
    Row,
    RunReport,
)
from flows.reporting.restore_report import RestoreReport, restore_table
from flows.reporting.snapshot_report import SnapshotReport, snapshot_table

SIGNS = {
    Outcome.ALREADY_THERE: "✓",
    Outcome.TRANSFERRED: "+",
    Outcome.CONVERTED: "+",
    Outcome.TAKEN: "+",
    Outcome.ADOPTED: "⊕",
    Outcome.PLANNED: "○",
    Outcome.STARTED: "…",
    Outcome.FAILED: "✗",
    Outcome.TIMED_OUT: "!",
}
LEGEND = (
    "✓ already there · + done by this run · ⊕ already in progress · ○ to do · … started, not waited for"
    " · ✗ failed · ! timed out"
)
WHAT_TO_DO = "No manual repair needed: once the cause is fixed, the next run copies only what is still missing."
CONTROL_PANEL = "https://cloud.digitalocean.com"
CONVERTED = "Converted"
PROVEN = "Restore proven"
WHAT_WENT_WRONG = "What went wrong"
MOST_REASONS = 20
ID_AT_THE_END = re.compile(r"\\\((\d+)\\\)$")
HOURS_TWO_DAYS = 48
MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+!|~&-])")


def coverage_table(report: ReplicationReport) -> list[dict[str, str]]:
    """Make the table of a replication, failures first; one row per image, one column per region."""
    by_image: dict[tuple[str, int | None], list[Row]] = {}
    for row in (*report.conversions, *report.rows):
        by_image.setdefault((row.source, row.image_id), []).append(row)
    lines = []
    bad = {image: [row for row in rows if row.outcome in BAD_OUTCOMES] for image, rows in by_image.items()}
    for (source, image_id), rows in sorted(by_image.items(), key=lambda item: (not bad[item[0]], item[0])):
        outcomes = {row.region: f"{SIGNS[row.outcome]} {_age(row.age_hours)}".strip() for row in rows}
        line = {"Droplet": source, "Image": "no snapshot" if image_id is None else str(image_id)}
        line |= {CONVERTED: outcomes.get(None, "")} if report.conversions else {}
        if isinstance(report, CoverageReport) and report.proven:
            line[PROVEN] = _date(report.proven.get(source))
        line |= {region: outcomes.get(region, "") for region in report.regions}
        if report.bad_rows:
            wrong = [row for row in bad[source, image_id] if row.region or not report.regions]
            line[WHAT_WENT_WRONG] = "; ".join(dict.fromkeys(row.reason for row in wrong))
        lines.append(line)
    titles = lines[0] if lines else dict.fromkeys(["Droplet", "Image", *report.regions])
    nothing = dict.fromkeys(titles, "") | {"Image": "no backups"}
    return lines + [nothing | {"Droplet": source} for source in report.without_backups]


def artifact_table(report: RunReport) -> list[dict[str, str]]:
    """Make the artifact table of a report: rows of Markdown cells by column title."""
    return coverage_markdown(report) if isinstance(report, ReplicationReport) else escaped(table_of(report))


def artifact_description(report: RunReport) -> str:
    """Make the Markdown text above the artifact table."""
    if isinstance(report, ReplicationReport):
        return coverage_description(report)
    notes = "\n".join(f"- {_escape(note)}" for note in report.next_steps) if isinstance(report, RestoreReport) else ""
    return f"**{report.summary}**\n\n{notes}".strip()


def coverage_markdown(report: ReplicationReport) -> list[dict[str, str]]:
    """Make the artifact table of a replication, with links to DigitalOcean's control panel.

    It has no reasons: cells do not wrap, so long ones would hide the regions.
    """
    droplets = {row.source for row in report.rows if row.droplet_id} | set(report.without_backups)
    lines = coverage_table(report)
    shown = escaped(lines)
    for line, cells in zip(lines, shown, strict=True):
        cells.pop(WHAT_WENT_WRONG, None)
        if line["Droplet"] in droplets:
            cells["Droplet"] = _linked(cells["Droplet"])
        if line["Image"].isdecimal():
            cells["Image"] = f"[{line['Image']}]({CONTROL_PANEL}/images/snapshots/droplets)"
    return shown


def coverage_description(report: ReplicationReport) -> str:
    """Make the Markdown text above the table: the summary, the legend, problems and notes."""
    items = [f"- {_escape(each)}" for each in problem_list(report)]
    reasons = ["\n".join(items), WHAT_TO_DO] if items else []
    return "\n\n".join([f"**{report.summary}**", LEGEND, *reasons, *map(_escape, report.notes)])


def problem_list(report: ReplicationReport) -> list[str]:
    """List what went wrong, at most `MOST_REASONS` problems."""
    problems = [f"{each.image_and_regions}: {each.reason}" for each in report.problems]
    more = len(problems) - MOST_REASONS
    return [*problems[:MOST_REASONS], *([f"and {more} more: see the run's log"] if more > 0 else [])]


def _date(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d}" if at else "never"


def _linked(source: str) -> str:
    """Link the ID at the end of a Droplet's name and ID."""
    return ID_AT_THE_END.sub(lambda found: f"([{found[1]}]({CONTROL_PANEL}/droplets/{found[1]}))", source)


def _age(hours: float | None) -> str:
    """Such as `5 h` or `3 d`; empty if unknown."""
    if hours is None:
        return ""
    return f"{hours:.0f} h" if hours < HOURS_TWO_DAYS else f"{hours / 24:.0f} d"


def pruning_table(report: PruningReport) -> list[dict[str, str]]:
    """Make the table of a pruning run: failed first, then deleted, then kept snapshots."""
    order = [PruningOutcome.FAILED, PruningOutcome.DELETED, PruningOutcome.GONE, PruningOutcome.PLANNED]
    return [
        {
            "Outcome": row.outcome.replace("_", " "),
            "Droplet": row.droplet,
            "Snapshot": str(row.image_id),
            "Made": f"{row.created_at:%Y-%m-%d %H:%M}",
            "GB": f"{row.size_gigabytes:g}",
            "Why": row.error or row.reason,
            "Regions": ", ".join(row.regions),
        }
        for row in sorted(report.rows, key=lambda row: order.index(row.outcome) if row.outcome in order else len(order))
    ]


def history_table(report: ActionHistory) -> list[dict[str, str]]:
    """Make the table of an action history: one row per action, newest first."""
    lines = []
    for image in report.images:
        for action in sorted(image.actions, key=lambda each: (each.started_at, each.id), reverse=True):
            line = {
                "Image": str(image.image_id),
                "Action": str(action.id),
                "Type": action.type,
                "Region": action.region_slug or "",
                "Status": action.status,
                "Started": f"{action.started_at:%Y-%m-%d %H:%M:%S}",
                "Completed": f"{action.completed_at:%Y-%m-%d %H:%M:%S}" if action.completed_at else "",
            }
            lines.append(line)
        if not image.actions:
            lines.append({"Image": str(image.image_id), "Status": image.error or "no actions"})
    titles = dict.fromkeys(title for line in lines for title in line)
    return [dict.fromkeys(titles, "") | line for line in lines]


@singledispatch
def table_of(report: RunReport) -> list[dict[str, str]]:
    """Make the table of a report: rows of unescaped cells by column title."""
    raise TypeError(f"no table is defined for {type(report).__name__}: register one with table_of")


table_of.register(ReplicationReport, coverage_table)
table_of.register(PruningReport, pruning_table)
table_of.register(ActionHistory, history_table)
table_of.register(RestoreReport, restore_table)
table_of.register(DrillReport, drill_table)
table_of.register(SnapshotReport, snapshot_table)


def escaped(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Escape Markdown, because image names are free text."""
    return [{title: _escape(cell) for title, cell in row.items()} for row in rows]


def _escape(text: str) -> str:
    return MARKDOWN.sub(r"\\\1", text)
