"""Volumes: `/v2/volumes`."""

from __future__ import annotations

from deployments.sandbox.bodies import volume_body
from deployments.sandbox.endpoints.call import Call
from deployments.sandbox.responses import ResponseBody


def list_volumes(call: Call) -> ResponseBody:
    """`GET /v2/volumes`."""
    name, region = call.query.get("name"), call.query.get("region")
    volumes = [
        volume
        for volume in call.account.volumes.values()
        if name in (None, volume.name) and region in (None, volume.region)
    ]
    return call.listing("volumes", volumes, lambda volume: volume_body(volume, call.account))
