"""`tests/RELIABILITY.md`: a section for each torture test and for the soak, written by the test itself."""

from __future__ import annotations

import platform
import re
from datetime import UTC, datetime
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "RELIABILITY.md"
COMMAND = "make torture"

SECTION = re.compile(r"<!-- section: (?P<title>[^\n]+) -->\n(?P<body>.*?)\n<!-- end of section -->", re.DOTALL)

INTRODUCTION = """\
# What a run survives

The sandbox stands in for DigitalOcean and fails on purpose; runs go through a real Prefect server and real HTTP. The
results are judged by the sandbox's own request log, never by what the client reports. Nothing here has been measured
against DigitalOcean itself. The tests write the tables, and name failures in them."""


def write_section(title: str, text: str, page: Path = PAGE, *, command: str = COMMAND) -> None:
    """Write a section of the page, leaving the others as they are.

    Args:
        title: Title of the section.
        text: Its contents, in Markdown.
        page: The page.
        command: The command that makes it.
    """
    sections = read_sections(page)
    made = f"`{command}`, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}"
    sections[title] = f"## {title}\n\nMade by {made}.\n\n{text.strip()}"
    body = "\n\n".join(
        f"<!-- section: {name} -->\n{sections[name]}\n<!-- end of section -->" for name in sorted(sections)
    )
    page.write_text(f"{INTRODUCTION}\n\n{body}\n")


def read_sections(page: Path = PAGE) -> dict[str, str]:
    """Read what was written, by title."""
    text = page.read_text() if page.exists() else ""
    return {match["title"]: match["body"] for match in SECTION.finditer(text)}
