"""The HTTP client: each request needs a permit of the rate limiter, is counted, and is limited in time and size."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tasks.digitalocean.clock import ServerClock
from tasks.digitalocean.errors import SSH_KEYS_PATH
from tasks.digitalocean.rate_limiter import TOO_MANY_REQUESTS, RateLimiter
from tasks.digitalocean.settings import Settings
from tasks.digitalocean.usage import count_request

# Larger responses are not read, to limit memory. A page of 200 Droplets has about 2 MB.
LARGEST_BODY_BYTES = 8 * 2**20
# The part of a request's timeout for connecting, so that a failure to connect is recognized as one.
PART_FOR_CONNECTING = 0.9
USER_AGENT = "digitalocean-backups"
# The key of the permit in a request's httpx extensions.
PERMIT = "permit"


class BodyTooLarge(Exception):
    """The body of a success is too large."""


class RateLimitedClient(httpx.AsyncClient):
    """Sends each request when the rate limiter permits it, and updates the rate limiter and the clock from responses.

    Args:
        settings: Token, URL and timeout. The timeout covers a request and its whole response, but not the wait for a
            permit.
        rate_limiter: Issues the permits.
        server_clock: The clock to update.
        transport: Sends the requests; None for the network.
        loop: The event loop in which requests are sent; None for the caller's, which must then always be the same.
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
                # Not Brotli or zstd, which could decompress to any size at once.
                "Accept-Encoding": "gzip, deflate",
                "User-Agent": USER_AGENT,
            },
            timeout=httpx.Timeout(self._seconds, connect=PART_FOR_CONNECTING * self._seconds),
            # A redirect would send the token along; the API has no redirects.
            follow_redirects=False,
            # Plain HTTP is only for loopback, where a proxy from the environment does not apply.
            trust_env=settings.api_url.startswith("https:"),
            transport=transport,
        )

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request.

        Returns:
            The complete response. The body of an error that is too large is empty.

        Raises:
            BodyTooLarge: The body of a success is too large.
            TimeoutError: There was no complete response in time.
            httpx.HTTPError: There was no response.
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
            if _has_own_limit(request, status):
                self._rate_limiter.record_response(permit)
            else:
                self._rate_limiter.record_response(permit, status, headers)
            count_request(status)
        self._server_clock.update(response.headers)
        decoded = [(name, value) for name, value in response.headers.multi_items() if name not in ENCODING_HEADERS]
        return httpx.Response(response.status_code, headers=decoded, content=content, request=request)


def _has_own_limit(request: httpx.Request, status: int | None) -> bool:
    """Whether a response is a 429 that says nothing about the token's rate limit.

    SSH keys have a limit of their own, 10 requests a minute.
    https://docs.digitalocean.com/reference/api/digitalocean/#section/Introduction/Rate-Limit
    """
    return status == TOO_MANY_REQUESTS and request.url.path.rstrip("/").endswith(SSH_KEYS_PATH)


ENCODING_HEADERS = ("content-encoding", "content-length", "transfer-encoding")


async def _read(response: httpx.Response) -> bytes:
    content = bytearray()
    async for piece in response.aiter_bytes():
        content += piece
        if len(content) > LARGEST_BODY_BYTES:
            if response.is_success:
                raise BodyTooLarge(f"the response is larger than {LARGEST_BODY_BYTES // 2**20} MiB")
            return b""
    return bytes(content)
