"""How requests travel: each with a permit of the rate limiter, counted, and bounded in time and size."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tasks.digitalocean.clock import ServerClock
from tasks.digitalocean.rate_limiter import RateLimiter
from tasks.digitalocean.settings import Settings
from tasks.digitalocean.usage import count_request

# A page of 200 Droplets has some 2 MB. What is larger than this is not read: it would cost memory, and keep others
# waiting.
LARGEST_BODY_BYTES = 8 * 2**20
# How much of a request's time the connection may take, so that a failure to connect is known to be one.
PART_FOR_CONNECTING = 0.9
USER_AGENT = "digitalocean-backups"
# The key of a request's permit in httpx's extensions of the request.
PERMIT = "permit"


class BodyTooLarge(Exception):
    """A success whose body is larger than any of the API's."""


class RateLimitedClient(httpx.AsyncClient):
    """Sends each request when the rate limiter permits it, and lets the response set the rate limiter and the clock.

    Usable from any event loop: the work is done in one.

    Args:
        settings: Token, address and timeout. The timeout covers a request and its whole response, and not the wait for
            a permit.
        rate_limiter: Decides when a request may go.
        server_clock: Is set by the responses.
        transport: What sends the requests; None for the network.
        loop: The event loop that the work is done in; None for the caller's, which must always be the same then.
    """

    def __init__(
        self,
        settings: Settings,
        rate_limiter: RateLimiter,
        server_clock: ServerClock,
        transport: httpx.AsyncBaseTransport | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._rate_limiter = rate_limiter
        self._server_clock = server_clock
        self._loop = loop
        self._seconds = settings.http_timeout_seconds
        super().__init__(
            base_url=settings.api_url,
            headers={
                "Authorization": f"Bearer {settings.token.get_secret_value()}",
                "Accept": "application/json",
                # What is packed more tightly could be unpacked to any size at once.
                "Accept-Encoding": "gzip, deflate",
                "User-Agent": USER_AGENT,
            },
            timeout=httpx.Timeout(self._seconds, connect=PART_FOR_CONNECTING * self._seconds),
            # A redirect would take the token along; the API has none.
            follow_redirects=False,
            # A proxy from the environment is for the world, not for this machine's own addresses.
            trust_env=settings.api_url.startswith("https:"),
            transport=transport,
        )

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request.

        Returns:
            The response, read to its end. Its body is empty where it is not a success and too large to be read.

        Raises:
            BodyTooLarge: The response is a success that is too large to be read.
            TimeoutError: The response did not come in time.
            httpx.HTTPError: It did not come at all.
        """
        if self._loop is None or self._loop is asyncio.get_running_loop():
            return await self._send(request, **options)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._send(request, **options), self._loop))

    async def _send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        permit = await self._rate_limiter.acquire(held=request.extensions.get(PERMIT))
        response = None
        try:
            async with asyncio.timeout(self._seconds):
                response = await super().send(request, **{**options, "stream": True})
                try:
                    content = await _read(response)
                finally:
                    await response.aclose()
        finally:
            status, headers = (None, None) if response is None else (response.status_code, response.headers)
            self._rate_limiter.record_response(permit, status, headers)
            count_request(status)
        self._server_clock.hear(response.headers)
        unpacked = [(name, value) for name, value in response.headers.multi_items() if name not in PACKING]
        return httpx.Response(response.status_code, headers=unpacked, content=content, request=request)


PACKING = ("content-encoding", "content-length", "transfer-encoding")


async def _read(response: httpx.Response) -> bytes:
    content = bytearray()
    async for piece in response.aiter_bytes():
        content += piece
        if len(content) > LARGEST_BODY_BYTES:
            if response.is_success:
                raise BodyTooLarge(f"the response is larger than {LARGEST_BODY_BYTES // 2**20} MiB")
            return b""
    return bytes(content)
