"""Reports as text, for terminals of any width and for pipes; nothing is truncated."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from itertools import chain

from rich.cells import cell_len, chop_cells

from flows.reporting.coverage_report import CoverageReport
from flows.reporting.report import ReplicationReport, RunReport
from flows.reporting.restore_report import RestoreReport
from flows.reporting.tables import AUDIT_LEGEND, LEGEND, WHAT_TO_DO, WHAT_WENT_WRONG, problem_list, table_of
from tasks.digitalocean.responses import one_line

GAP = "  "
# For encodings without these signs.
ASCII_SIGNS = str.maketrans({"✓": "=", "⊕": "@", "○": "o", "…": "~", "✗": "x", "·": "|", "─": "-"})
# Enough for the names and IDs of most Droplets; longer ones are wrapped to leave room for regions.
NAME_COLUMN = 24

Rows = Sequence[dict[str, str]]


def print_report(report: RunReport) -> None:
    """Print a report, wrapped to the width of the terminal; unwrapped to anything else."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    _print(_encodable(text_of(report, width), sys.stdout.encoding or "utf-8"))


def print_json(report: RunReport) -> None:
    """Print a report as JSON, in ASCII, which every encoding has."""
    _print(report.model_dump_json(indent=2, ensure_ascii=True))


def _print(text: str) -> None:
    try:
        print(text, flush=True)  # noqa: T201
    except BrokenPipeError:
        # The reader, such as `head`, has closed the pipe. Without this, Python would report an error at its exit:
        # https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def text_of(report: RunReport, width: int | None) -> str:
    """Render a report.

    Args:
        report: The report.
        width: Maximum width of a line, in columns; None for no limit.
    """
    # Names are free text.
    rows = [{title: one_line(cell) for title, cell in row.items()} for row in table_of(report)]
    if isinstance(report, CoverageReport):
        return _joined(_audit(report, rows, width))
    if not isinstance(report, ReplicationReport):
        paragraphs = [_table(rows, width)]
    elif width is None or _width_of(rows) <= width or not report.regions:
        paragraphs = [_table(rows, width), _wrapped(LEGEND, width)]
    else:
        bare = [{title: cell for title, cell in row.items() if title != WHAT_WENT_WRONG} for row in rows]
        paragraphs = [*_blocks(bare, report.regions, width), _wrapped(LEGEND, width), _problems(report, width)]
    if isinstance(report, ReplicationReport):
        paragraphs += [_wrapped(note, width) for note in report.notes]
    if isinstance(report, RestoreReport) and report.next_steps:
        items = (_wrapped(f"- {each}", width, indent="  ", first="") for each in report.next_steps)
        paragraphs.append(["What to do next:", *chain(*items)])
    paragraphs.append(_wrapped(report.summary, width))
    return _joined(paragraphs)


def _joined(paragraphs: Iterable[Sequence[str]]) -> str:
    return "\n\n".join("\n".join(lines) for lines in paragraphs if lines)


def _audit(report: CoverageReport, rows: Rows, width: int | None) -> list[list[str]]:
    """Render an audit: how many Droplets meet the objective, then problems, the table, notes and costs."""
    items = [_wrapped(one_line(f"- {each}"), width, indent="  ", first="") for each in report.problem_lines]
    paragraphs = [_wrapped(report.headline, width), ["Problems:", *chain(*items)] if items else []]
    if width is None or _width_of(rows) <= width:
        paragraphs.append(_table(rows, width))
    else:
        copies = ("Droplet", "Image", *report.regions)
        facts = [{title: cell for title, cell in row.items() if title not in copies[1:]} for row in rows]
        where = [{title: row[title] for title in copies} for row in rows]
        paragraphs += [_named(facts, width), *_blocks(where, report.regions, width)]
    return [*paragraphs, *(_wrapped(each, width) for each in (AUDIT_LEGEND, *report.notes, report.totals_text))]


def _named(rows: Rows, width: int) -> list[str]:
    """Render rows; a long name in the first column is wrapped if that makes the other columns fit."""
    first, *others = rows[0]
    room = width - _width_of(rows, others) - len(GAP)
    if room < NAME_COLUMN or room >= _column(rows, first):
        return _table(rows, width)
    return _grid(rows, {first: room} | {title: _column(rows, title) for title in others})


def _table(rows: Rows, width: int | None) -> list[str]:
    """Render rows; columns that do not fit go below, each on its own lines."""
    titles = list(rows[0]) if rows else []
    if not titles:
        return []
    if width is None or _width_of(rows) <= width:
        return _grid(rows, {title: _column(rows, title) for title in titles})
    fitting = titles[:1]
    while _width_of(rows, [*fitting, titles[len(fitting)]]) <= width:
        fitting.append(titles[len(fitting)])
    head = {title: min(_column(rows, title), width) for title in fitting}
    below = titles[len(fitting) :]
    lines = _grid(rows[:0], head)
    for row in rows:
        lines += _cells(row, head)
        for title in below:
            if row[title]:
                lines += _wrapped(f"{title}: {row[title]}", width, indent="    ")
    return lines


def _blocks(rows: Rows, regions: Sequence[str], width: int) -> list[list[str]]:
    """Render rows with one column per region: as many regions side by side as fit, the others below."""
    fixed = [title for title in rows[0] if title not in regions] if rows else []
    if not fixed:
        return []
    each = max((len(GAP) + _column(rows, region) for region in regions), default=0)
    head = {title: _column(rows, title) for title in fixed}
    room = width - _width_of(rows, fixed[1:]) - len(GAP) - each
    head[fixed[0]] = min(head[fixed[0]], max(NAME_COLUMN, width // 3), max(room, len("Droplet")))
    side_by_side = max((width - sum(head.values()) - len(GAP) * (len(head) - 1)) // each, 1) if each else 1
    parts = [regions[start : start + side_by_side] for start in range(0, len(regions), side_by_side)]
    return [_grid(rows, head | {region: each - len(GAP) for region in part}) for part in parts]


def _problems(report: ReplicationReport, width: int) -> list[str]:
    items = [_wrapped(one_line(f"- {each}"), width, indent="  ", first="") for each in problem_list(report)]
    return [f"{WHAT_WENT_WRONG}:", *chain(*items), *_wrapped(WHAT_TO_DO, width)] if items else []


def _grid(rows: Rows, columns: dict[str, int]) -> list[str]:
    """Render cells in columns of these widths, under their titles."""
    return [
        *_cells({title: title for title in columns}, columns),
        GAP.join("─" * width for width in columns.values()),
        *(line for row in rows for line in _cells(row, columns)),
    ]


def _cells(row: dict[str, str], columns: dict[str, int]) -> list[str]:
    """Render one row, on several lines if a cell is wider than its column."""
    cells = [_wrapped(row[title], width) or [""] for title, width in columns.items()]
    height = max(map(len, cells))
    filled = [cell + [""] * (height - len(cell)) for cell in cells]
    return [
        GAP.join(
            part + " " * (width - cell_len(part)) for part, width in zip(line, columns.values(), strict=True)
        ).rstrip()
        for line in zip(*filled, strict=True)
    ]


def _wrapped(text: str, width: int | None, indent: str = "", first: str | None = None) -> list[str]:
    """Wrap a text between words; within a word only if it is wider than a line.

    Args:
        text: The text.
        width: Maximum width of a line; None for a single line.
        indent: Prefix of each line.
        first: Prefix of the first line, if it differs.
    """
    if width is None:
        return [text] if text else []
    room = max(width - cell_len(indent), 1)
    lines: list[str] = []
    words = [part for word in text.split() for part in chop_cells(word, room)]
    for word in words:
        begun = len(lines) > 0
        if begun and cell_len(lines[-1]) + 1 + cell_len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append((indent if begun or first is None else first) + word)
    return lines


def _column(rows: Rows, title: str) -> int:
    return max([cell_len(title), *(cell_len(row[title]) for row in rows)])


def _width_of(rows: Rows, titles: Sequence[str] | None = None) -> int:
    columns = titles if titles is not None else list(rows[0]) if rows else []
    return sum(_column(rows, title) for title in columns) + len(GAP) * max(len(columns) - 1, 0)


def _encodable(text: str, encoding: str) -> str:
    """Replace characters that the encoding does not have."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(ASCII_SIGNS).encode(encoding, errors="replace").decode(encoding)
    return text
