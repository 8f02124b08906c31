"""The file `.env`, looked at before settings are read from it.

What reads it skips a line that it cannot parse, and a skipped DIGITALOCEAN_API_URL would send a trial to the real API.
"""

from __future__ import annotations

from pathlib import Path

from dotenv.parser import Binding, parse_stream

ENV_FILE = Path(".env")
OURS = ("DIGITALOCEAN_", "PREFECT_")


def env_file_problem() -> str:
    """Say what keeps the settings in `.env` from being read.

    Returns:
        A sentence that names the file and the line, and quotes neither; empty if nothing is wrong or there is no file.
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
    """Find the line of the file on which a binding begins, after blank lines that the parser counts with it."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _sets_nothing(binding: Binding) -> bool:
    """Whether a line holds a name of ours without `=`, which is read as if it were not there."""
    return binding.value is None and (binding.key or "").startswith(OURS)
