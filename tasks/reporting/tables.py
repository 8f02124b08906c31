"""Reports as tables that a person reads: one row a source and image, one column a region."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tasks.reporting.report import ActionHistory, ConversionReport, Outcome, ReplicationReport, Report, Row

SIGNS = {
    Outcome.ALREADY_THERE: "✓",
    Outcome.TRANSFERRED: "+",
    Outcome.ADOPTED: "⊕",
    Outcome.PLANNED: "○",
    Outcome.STARTED: "…",
    Outcome.FAILED: "✗",
    Outcome.TIMED_OUT: "!",
}
LEGEND = (
    "✓ there before · + copied by this run · ⊕ copy was under way already · ○ to be copied · … started, not waited for"
    " · ✗ failed · ! not there in time"
)
MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+!|~&-])")


def coverage_table(report: ReplicationReport) -> list[dict[str, str]]:
    """Lay a report out, what failed first.

    Args:
        report: The report.

    Returns:
        Rows of cells by column title. Not escaped for any markup.
    """
    by_image: dict[tuple[str, int], list[Row]] = {}
    for row in report.rows:
        by_image.setdefault((row.source, row.image_id), []).append(row)
    lines = []
    for (source, image_id), rows in sorted(by_image.items(), key=lambda item: (not _is_bad(item[1]), item[0])):
        line = {"Droplet": source, "Image": str(image_id)}
        outcomes = {row.region: SIGNS[row.outcome] for row in rows}
        line |= {region: outcomes.get(region, "") for region in report.regions}
        errors = dict.fromkeys(row.error for row in rows if row.error)
        lines.append({**line, "What went wrong": "; ".join(errors)} if report.bad_rows else line)
    nothing = {"Image": "no backups", **dict.fromkeys(report.regions, "")}
    if report.bad_rows:
        nothing["What went wrong"] = ""
    return lines + [{"Droplet": source, **nothing} for source in report.without_backups]


def conversion_table(report: ConversionReport) -> list[dict[str, str]]:
    """Lay a report of conversions out.

    Args:
        report: The report.

    Returns:
        Rows of cells by column title. Not escaped for any markup.
    """
    return [
        {
            "Image": f"{row.image_id} {row.image_name}".strip(),
            "Outcome": row.outcome.replace("_", " "),
            "Action": str(row.action_id or ""),
            "What went wrong": row.error,
        }
        for row in report.rows
    ]


def history_table(report: ActionHistory) -> list[dict[str, str]]:
    """Lay a history out, one row an action, newest first.

    Args:
        report: The history.

    Returns:
        Rows of cells by column title. Not escaped for any markup.
    """
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


def table_of(report: Report) -> list[dict[str, str]]:
    """Lay any report out.

    Args:
        report: The report.

    Returns:
        Rows of cells by column title. Not escaped for any markup.
    """
    if isinstance(report, ReplicationReport):
        return coverage_table(report)
    return conversion_table(report) if isinstance(report, ConversionReport) else history_table(report)


def escaped(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Take the meaning out of characters that Markdown would act on: image names are free text."""
    return [{title: MARKDOWN.sub(r"\\\1", cell) for title, cell in row.items()} for row in rows]


def _is_bad(rows: Sequence[Row]) -> bool:
    return any(row.outcome in {Outcome.FAILED, Outcome.TIMED_OUT} for row in rows)
