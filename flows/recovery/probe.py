"""Waits until a TCP port of a new Droplet answers."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

LONGEST_ATTEMPT_SECONDS = 5.0
SECONDS_BETWEEN_ATTEMPTS = 1.0


async def seconds_until_answer(address: str, port: int, timeout_seconds: float) -> float | None:
    """Connect to a port until it answers.

    Args:
        address: An IP address.
        port: The port.
        timeout_seconds: When to give up.

    Returns:
        The seconds it took; None if the port did not answer in time.
    """
    began = time.monotonic()
    while (waited := time.monotonic() - began) < timeout_seconds:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(min(LONGEST_ATTEMPT_SECONDS, timeout_seconds - waited)):
                _, writer = await asyncio.open_connection(address, port)
            writer.close()
            return time.monotonic() - began
        await asyncio.sleep(SECONDS_BETWEEN_ATTEMPTS)
    return None
