"""Reports as tables, for the terminal and as Markdown for artifacts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import singledispatch

from flows.reporting.coverage_report import CoverageReport, DropletAudit
from flows.reporting.drill_report import DrillReport, drill_table
from flows.reporting.pruning_report import PruningOutcome, PruningReport
from flows.reporting.report import (
    BAD_OUTCOMES,
    ActionHistory,
    Outcome,
    ReplicationReport,
    Row,
    RunReport,
    count,
    gb,
)
from flows.reporting.restore_report import RestoreOutcome, RestoreReport, RestoreRow, price_of, restore_table
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
AUDIT_LEGEND = (
    "✓ newest backup, with its age · ○ newest is missing; an age is that of an older copy · ✗ misses the objective"
    " · h hours, d days"
)
WHAT_WENT_WRONG = "What went wrong"
MOST_REASONS = 20
# In the form that asks for approval.
MOST_PLANNED = 100
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
        outcomes = {row.region: _copy(row) for row in rows}
        line = {"Droplet": source, "Image": _image(image_id, rows)}
        line |= {CONVERTED: outcomes.get(None, "")} if report.conversions else {}
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
    if isinstance(report, CoverageReport):
        return audit_markdown(report)
    return coverage_markdown(report) if isinstance(report, ReplicationReport) else escaped(table_of(report))


def artifact_description(report: RunReport) -> str:
    """Make the Markdown text above the artifact table."""
    if isinstance(report, CoverageReport):
        return audit_description(report)
    if isinstance(report, ReplicationReport):
        return coverage_description(report)
    paragraphs = [f"**{report.summary}**"]
    if isinstance(report, RestoreReport):
        if report.why_not_carried_out:
            paragraphs.append(_escape(f"{report.why_not_carried_out[0].upper()}{report.why_not_carried_out[1:]}."))
        paragraphs.append("\n".join(f"- {_escape(note)}" for note in report.next_steps))
    return "\n\n".join(paragraphs).strip()


def plan_markdown(rows: Sequence[RestoreRow]) -> str:
    """Make the Markdown text that asks whether to create Droplets: the price, the Droplets, and what is in the way.

    It is a list: Prefect's form is narrow, and would hide columns of a table.

    Args:
        rows: The rows of the plan, at least one of them planned.
    """
    planned = [row for row in rows if row.outcome == RestoreOutcome.PLANNED]
    lines = [_planned_line(row) for row in planned[:MOST_PLANNED]]
    if more := len(planned) - len(lines):
        lines.append(f"and {more} more: a dry run lists them")
    bad = [row for row in rows if row.error]
    problems = [_escape(f"{row.droplet}: {row.error}") for row in bad[:MOST_REASONS]]
    if more := len(bad) - len(problems):
        problems.append(f"and {more} more")
    paragraphs = [
        f"**{count(len(planned), 'Droplet')} in {planned[0].region}, {price_of(planned)}:**",
        _bullets(lines),
        f"**{count(len(bad), 'Droplet')} cannot be rebuilt now:**" if bad else "",
        _bullets(problems),
    ]
    return "\n\n".join(each for each in paragraphs if each)


def _planned_line(row: RestoreRow) -> str:
    made = f" of {row.image_created_at:%Y-%m-%d %H:%M}" if row.image_created_at else ""
    why = f" ({row.why_size})" if row.why_size else ""
    line = f": {row.size}{why}, ${row.price_monthly:.2f} a month, from image {row.image_id}{made}"
    return f"**{_escape(row.name)}**{_escape(line)}"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


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


def audit_table(report: CoverageReport) -> list[dict[str, str]]:
    """Make the table of an audit, the most urgent first; one row per Droplet, one column per region."""
    rows: dict[str, dict[str, Row]] = {}
    for row in report.rows:
        rows.setdefault(row.source, {})[row.region or ""] = row
    volumes = any(each.volumes for each in report.droplets)
    lines = []
    for audit in report.droplets:
        own = rows.get(audit.droplet, {})
        image_id = next((str(row.image_id) for row in own.values()), "no backups")
        line = {"Droplet": audit.droplet, "Image": image_id, "Backup plan": audit.schedule, "Newest": _newest(audit)}
        line |= {"Proven": _date(audit.proven_at)} if report.proven else {}
        line["Snapshots"] = _snapshots(audit)
        line |= {"Volumes": audit.volumes_text} if volumes else {}
        lines.append(line | {region: _copy(own.get(region)) for region in report.regions})
    return lines


def audit_markdown(report: CoverageReport) -> list[dict[str, str]]:
    """Make the artifact table of an audit, with links to DigitalOcean's control panel."""
    lines = audit_table(report)
    shown = escaped(lines)
    for line, cells in zip(lines, shown, strict=True):
        cells["Droplet"] = _linked(cells["Droplet"])
        if line["Image"].isdecimal():
            cells["Image"] = f"[{line['Image']}]({CONTROL_PANEL}/images/snapshots/droplets)"
    return shown


def audit_description(report: CoverageReport) -> str:
    """Make the Markdown text above the table: how many Droplets meet the objective, then problems, notes and costs."""
    problems = "\n".join(f"- {_escape(each)}" for each in report.problem_lines)
    paragraphs = [f"**{report.headline}**", problems, *map(_escape, report.notes), _escape(report.totals_text)]
    return "\n\n".join(each for each in [*paragraphs, AUDIT_LEGEND] if each)


def problem_list(report: ReplicationReport) -> list[str]:
    """List what went wrong, at most `MOST_REASONS` problems."""
    problems = [f"{each.image_and_regions}: {each.reason}" for each in report.problems]
    more = len(problems) - MOST_REASONS
    return [*problems[:MOST_REASONS], *([f"and {more} more: see the run's log"] if more > 0 else [])]


def _copy(row: Row | None) -> str:
    return f"{SIGNS[row.outcome]} {_age(row.age_hours)}".strip() if row else ""


def _newest(audit: DropletAudit) -> str:
    """Such as `5 h` or `50 h overdue`."""
    return " ".join(each for each in (_age(audit.newest_age_hours), "overdue" if audit.overdue_since else "") if each)


def _snapshots(audit: DropletAudit) -> str:
    """Such as `7.5 GB, $0.45`; empty without snapshots."""
    price = f", ${audit.snapshots_price:,.2f}" if audit.snapshots_price else ""
    return f"{gb(audit.snapshots_gb)}{price}" if audit.snapshots else ""


def _image(image_id: int | None, rows: Sequence[Row]) -> str:
    """The ID of an image, or of which Droplet there is none yet."""
    if image_id is not None:
        return str(image_id)
    return "new snapshot" if all(row.outcome == Outcome.PLANNED for row in rows) else "no snapshot"


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
table_of.register(CoverageReport, audit_table)
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
