"""Parsing of the API's headers. A proxy may send anything, so values that make no sense count as missing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime

# More digits than any number of the API.
MOST_DIGITS = 12
# A date that is further off is ignored: with such a clock, TLS certificates would not be valid either.
MOST_OFF_SECONDS = 86_400.0


def whole_number(text: str) -> int | None:
    """Parse a whole number of at most 12 digits; None for anything else."""
    text = text.strip()
    # `isdigit` is also true for the digits of other scripts.
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else None


def http_date(text: str) -> float | None:
    """Parse an HTTP date into Unix seconds; None if it is not valid."""
    with suppress(ValueError, TypeError, OverflowError, LookupError):
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return None


def server_time(headers: Mapping[str, str], unix: float) -> float | None:
    """Read the time of a response by the server's clock.

    Args:
        headers: The response's headers, with lower-case names.
        unix: The time by this machine's clock, in Unix seconds.

    Returns:
        Unix seconds; None if the date is missing or implausible.
    """
    date = http_date(headers.get("date", ""))
    return date if date is not None and abs(date - unix) <= MOST_OFF_SECONDS else None


def retry_after(headers: Mapping[str, str], unix: float) -> float | None:
    """Read how long to wait before the next request.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after

    Args:
        headers: The response's headers, with lower-case names.
        unix: The time of the response, in Unix seconds.

    Returns:
        Seconds, without an upper bound; None if the header is missing, not valid, or in the past.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        seconds = float(value)
    elif (date := http_date(value)) is not None:
        seconds = date - unix
    else:
        return None
    return seconds if seconds > 0 else None
