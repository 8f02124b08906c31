"""Validation of the file `.env` before settings are read from it.

The parser skips lines that it cannot parse, and a skipped DIGITALOCEAN_API_URL would send a test to the real API.
"""

from __future__ import annotations

from pathlib import Path

from dotenv.parser import Binding, parse_stream

ENV_FILE = Path(".env")
OURS = ("DIGITALOCEAN_", "PREFECT_")


def env_file_problem() -> str:
    """Find out why the settings in `.env` cannot be read.

    Returns:
        A message with the path and the line number, but not the contents; empty if the file is valid or missing.
    """
    if not ENV_FILE.exists():
        return ""
    path = ENV_FILE.absolute()
    try:
        with ENV_FILE.open(encoding="utf-8") as file:
            wrong = [line_of(each) for each in parse_stream(file) if each.error or _sets_nothing(each)]
    except (OSError, UnicodeDecodeError) as error:
        return f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}"
    if not wrong:
        return ""
    return f"{path}, line {wrong[0]}: expected NAME=value, with a value in quotes if it contains spaces or a #"


def line_of(binding: Binding) -> int:
    """The line number of a binding; the parser counts the blank lines before it as part of it."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _sets_nothing(binding: Binding) -> bool:
    """Whether a line has a name of ours without `=`, which the parser ignores."""
    return binding.value is None and (binding.key or "").startswith(OURS)
