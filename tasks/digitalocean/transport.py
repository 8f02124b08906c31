"""Sending one request, within bounds: of the rate limit, of time, and of what is read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import httpx

from tasks.digitalocean.clock import ServerClock
from tasks.digitalocean.errors import ConnectionFailed, MalformedResponse, TransportError
from tasks.digitalocean.rate_limiter import RateLimiter
from tasks.digitalocean.responses import Response, ResponseBody, parse_response
from tasks.digitalocean.settings import Settings
from tasks.digitalocean.usage import count_request

# A page of 200 Droplets has some 2 MB. What is larger than this is not read: it would cost memory, and keep others
# waiting.
LARGEST_BODY_BYTES = 8 * 2**20
# How much of a request's time the connection may take, so that a failure to connect is known to be one.
PART_FOR_CONNECTING = 0.9
USER_AGENT = "digitalocean-image-replication"
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# All that can be raised between here and the server, addresses and headers that make no sense included.
BROKEN = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError)


class Sender:
    """Sends requests with the token, each when the budget allows it.

    Args:
        settings: Token, address and time limit.
        budget: What decides when a request may go.
        server_clock: What is set by the answers.
        transport: How requests travel; None for the network.
    """

    def __init__(
        self,
        settings: Settings,
        rate_limiter: RateLimiter,
        server_clock: ServerClock,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings = settings
        self._rate_limiter = rate_limiter
        self._server_clock = server_clock
        seconds = settings.http_timeout_seconds
        self._http = httpx.AsyncClient(
            base_url=settings.api_url,
            headers={
                "Authorization": f"Bearer {settings.token.get_secret_value()}",
                "Accept": "application/json",
                # What is packed more tightly could be unpacked to any size at once.
                "Accept-Encoding": "gzip, deflate",
                "User-Agent": USER_AGENT,
            },
            timeout=httpx.Timeout(seconds, connect=PART_FOR_CONNECTING * seconds),
            # A redirect would take the token along; the API has none.
            follow_redirects=False,
            # A proxy from the environment is for the world, not for this machine's own addresses.
            trust_env=settings.api_url.startswith("https:"),
            transport=transport,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, json: object = None
    ) -> ResponseBody:
        """Send one request when the budget allows it, once.

        Raises:
            APIError: The answer was not a success, or there was none.
        """
        permit = await self._rate_limiter.acquire()
        response = None
        seconds = self._settings.http_timeout_seconds
        try:
            async with asyncio.timeout(seconds), self._http.stream(method, path, params=params, json=json) as answer:
                response = Response(answer.status_code, answer.headers, b"")
                response = response._replace(content=await _content(method, path, answer))
        except TimeoutError as error:
            raise TransportError(method, path, message=f"no answer within {seconds:g} s") from error
        except BROKEN as error:
            never_sent = isinstance(error, NEVER_SENT)
            kind = ConnectionFailed if never_sent else TransportError
            what = f"no connection to {self._settings.api_url}" if never_sent else "no answer, the connection broke"
            raise kind(method, path, message=f"{what} ({type(error).__name__}: {error})".replace(": )", ")")) from error
        finally:
            status, headers = (None, None) if response is None else (response.status, response.headers)
            self._rate_limiter.record_response(permit, status, headers)
            count_request(status)
        self._server_clock.hear(response.headers)
        return parse_response(method, path, response, self._settings.token.get_secret_value())


async def _content(method: str, path: str, response: httpx.Response) -> bytes:
    """Read a body, unless it is larger than any answer of the API.

    Raises:
        MalformedAnswer: A success is; of anything else, the status is enough.
    """
    content = bytearray()
    async for piece in response.aiter_bytes():
        content += piece
        if len(content) > LARGEST_BODY_BYTES:
            if not response.is_success:
                return b""
            message = f"the answer is larger than {LARGEST_BODY_BYTES // 2**20} MiB"
            raise MalformedResponse(method, path, response.status_code, message=message)
    return bytes(content)
