"""Reading the API's headers, which may come from any proxy and say anything: what makes no sense is not there."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime

# More than any number of the API has, and few enough for every computation with it.
MOST_DIGITS = 12
# A clock that is further off than this is not a clock: with one, no certificate would be valid either.
MOST_OFF_SECONDS = 86_400.0


def whole_number(text: str) -> int | None:
    """Read a whole number; None for anything else, and for what is beyond all sense."""
    text = text.strip()
    # Digits of other scripts are digits to Python, and thousands of them more than it converts.
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else None


def http_date(text: str) -> float | None:
    """Read a date as HTTP writes it; in seconds since 1970, None where it is not a date."""
    with suppress(ValueError, TypeError, OverflowError, LookupError):
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return None


def server_time(headers: Mapping[str, str], unix: float) -> float | None:
    """Read when an answer was given, by the server's clock.

    Args:
        headers: The answer's headers, by lower-case names.
        unix: The time by this machine's clock, in seconds since 1970.

    Returns:
        Seconds since 1970; None if the date is missing or implausible.
    """
    date = http_date(headers.get("date", ""))
    return date if date is not None and abs(date - unix) <= MOST_OFF_SECONDS else None


def retry_after(headers: Mapping[str, str], unix: float) -> float | None:
    """Read how long to wait before the next request.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after

    Args:
        headers: The answer's headers, by lower-case names.
        unix: The time of the answer, in seconds since 1970.

    Returns:
        Seconds, without any bound; None where no time to come is named.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        seconds = float(value)
    elif (date := http_date(value)) is not None:
        seconds = date - unix
    else:
        return None
    return seconds if seconds > 0 else None
