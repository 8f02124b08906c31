"""Two other ways to wait for transfers, replayed against the sandbox in virtual time.

They are the ways of tools that people use today, reduced to when they send which request:

- Packer's plugin (digitalocean/packer-plugin-digitalocean, `builder/digitalocean/step_snapshot.go`) starts all
  transfers at once and asks for each action every 3 seconds.
- Terraform's provider (digitalocean/terraform-provider-digitalocean, `digitalocean/util/action.go`) starts one after
  another, and asks for it first after 10 seconds, then every 5.

Both send their requests through godo with hashicorp/go-retryablehttp: a 429 or 5xx is sent again four times, after
`retry-after` if there is one, else after 1, 2, 4 and 8 seconds. A transfer is lost if a request for it fails for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import httpx

from deployments.sandbox import Limits, RequestLog, make_account, sandbox_app
from tests.benchmarks.measure import Measurement, record_of
from tests.virtual_time import EPOCH, VirtualClock, run

MOST_RETRIES = 4
PACKER_SECONDS_BETWEEN_LOOKS = 3.0
TERRAFORM_FIRST_PAUSE_SECONDS = 10.0
TERRAFORM_SECONDS_BETWEEN_LOOKS = 5.0
TOKEN = "benchmark"  # of the sandbox


class Lost(Exception):
    """A request failed for good, and with it the transfer it was for."""


@dataclass
class Tool:
    """What the tools have in common: transfers to make, and how a request is sent."""

    http: httpx.AsyncClient
    transfers: list[tuple[int, str]]
    arrived: list[tuple[int, str]] = field(default_factory=list)

    async def transfer(self, image_id: int, region: str, first_pause: float, pause: float) -> None:
        """Make one transfer and wait for it."""
        path = f"/v2/images/{image_id}/actions"
        try:
            started = await self._send("POST", path, {"type": "transfer", "region": region})
            await asyncio.sleep(first_pause)
            while (await self._send("GET", f"{path}/{started['id']}"))["status"] != "completed":  # noqa: ASYNC110
                await asyncio.sleep(pause)
        except Lost:
            return
        self.arrived.append((image_id, region))

    async def _send(self, method: str, path: str, body: dict[str, str] | None = None) -> dict[str, str]:
        for attempt in range(MOST_RETRIES + 1):
            answer = await self.http.request(method, path, json=body)
            if answer.is_success:
                action: dict[str, str] = answer.json()["action"]
                return action
            if attempt < MOST_RETRIES:
                await asyncio.sleep(float(answer.headers.get("retry-after", 2**attempt)))
        raise Lost


async def like_packer(tool: Tool) -> None:
    """All transfers at once, each looked at every 3 seconds."""
    pause = PACKER_SECONDS_BETWEEN_LOOKS
    await asyncio.gather(*(tool.transfer(image_id, region, pause, pause) for image_id, region in tool.transfers))


async def like_terraform(tool: Tool) -> None:
    """One transfer after another, each looked at after 10 seconds and then every 5."""
    for image_id, region in tool.transfers:
        await tool.transfer(image_id, region, TERRAFORM_FIRST_PAUSE_SECONDS, TERRAFORM_SECONDS_BETWEEN_LOOKS)


STRATEGIES: dict[str, Callable[[Tool], Awaitable[None]]] = {
    "Packer's way": like_packer,
    "Terraform's way": like_terraform,
}


def replay(name: str, droplets: int, regions: Iterable[str] | None = None) -> Measurement:
    """Have a strategy copy the newest backup of every Droplet to every region.

    The backups are snapshots from the start: these tools convert nothing.

    Args:
        name: Which strategy.
        droplets: How many Droplets.
        regions: Slugs; None for all that take images.

    Returns:
        What the sandbox has seen.
    """
    return run(_replay(name, droplets, regions))


async def _replay(name: str, droplets: int, regions: Iterable[str] | None) -> Measurement:
    clock = VirtualClock()
    account = make_account(now=EPOCH, droplets=droplets)
    record = RequestLog(actions=account.started)
    app = sandbox_app(account, token=TOKEN, limits=Limits(), record=record, clock=clock.unix, sleep=asyncio.sleep)
    slugs = list(regions or (region.slug for region in account.regions.values() if region.takes_images))
    newest = [
        max(backups, key=lambda image: image.created_at)
        for droplet in account.droplets.values()
        if (backups := [account.images[each] for each in droplet.image_ids if account.images[each].type == "backup"])
    ]
    for image in newest:
        image.type = "snapshot"
    transport = httpx.ASGITransport(app)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox", headers=headers) as http:
        tool = Tool(http, [(image.id, slug) for image in newest for slug in slugs if slug not in image.regions])
        await STRATEGIES[name](tool)
    return record_of(
        record, speed=1.0, name=name, droplets=droplets, actions=len(tool.transfers), finished=len(tool.arrived)
    )
