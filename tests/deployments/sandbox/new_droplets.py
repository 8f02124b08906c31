"""What the tests of new Droplets ask for."""

from __future__ import annotations

from typing import Any

import httpx

from deployments.sandbox import Image, Sandbox

LONGEST_CREATION_SECONDS = 60
LONGEST_SNAPSHOT_SECONDS = 30 * 70


def backup(sandbox: Sandbox, region: str = "nyc3") -> Image:
    """A backup that is in a region."""
    images = sandbox.account.images.values()
    return next(image for image in images if image.type == "backup" and region in image.regions)


def asked(**changes: Any) -> dict[str, Any]:
    """The body of a request for a Droplet; a change to None leaves a field out."""
    usual = {"name": "web-01-recovered", "region": "nyc3", "size": "s-8vcpu-16gb", "image": "ubuntu-24-04-x64"}
    return {field: value for field, value in (usual | changes).items() if value is not None}


def created(http: httpx.Client, **changes: Any) -> dict[str, Any]:
    """The Droplet that such a request creates."""
    response = http.post("/v2/droplets", json=asked(**changes))
    assert response.status_code == 202, response.text
    droplet: dict[str, Any] = response.json()["droplet"]
    return droplet


def shown(http: httpx.Client, droplet_id: int) -> dict[str, Any]:
    """The Droplet as it is now."""
    droplet: dict[str, Any] = http.get(f"/v2/droplets/{droplet_id}").json()["droplet"]
    return droplet
