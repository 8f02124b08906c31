"""Snapshots of Droplets and volumes: `/v2/snapshots`."""

from __future__ import annotations

from deployments.sandbox.account import Image
from deployments.sandbox.bodies import Body, snapshot_body, volume_snapshot_body
from deployments.sandbox.endpoints.call import Call, find
from deployments.sandbox.endpoints.images import remove_image
from deployments.sandbox.errors import bad_request
from deployments.sandbox.responses import NO_CONTENT, ResponseBody, json_response
from deployments.sandbox.volumes import VolumeSnapshot


def list_snapshots(call: Call) -> ResponseBody:
    """`GET /v2/snapshots`."""
    kind = call.one_of("resource_type", ("droplet", "volume"))
    of_droplets = [image for image in call.account.images.values() if _is_snapshot(image, call) and kind != "volume"]
    of_volumes = list(call.account.volume_snapshots.values()) if kind != "droplet" else []
    snapshots: list[Image | VolumeSnapshot] = [*of_droplets, *of_volumes]
    return call.listing("snapshots", snapshots, lambda snapshot: _body(snapshot, call))


def get_snapshot(call: Call) -> ResponseBody:
    """`GET /v2/snapshots/{snapshot_id}`."""
    return json_response(200, {"snapshot": _body(_snapshot(call), call)})


def delete_snapshot(call: Call) -> ResponseBody:
    """`DELETE /v2/snapshots/{snapshot_id}`."""
    snapshot = _snapshot(call)
    if isinstance(snapshot, Image):
        return remove_image(call, snapshot)
    del call.account.volume_snapshots[snapshot.id]
    return NO_CONTENT


def _snapshot(call: Call) -> Image | VolumeSnapshot:
    snapshot_id = call.params["snapshot_id"]
    if snapshot_id in call.account.volume_snapshots:
        return call.account.volume_snapshots[snapshot_id]
    image = find(call.account.images, snapshot_id)
    if not _is_snapshot(image, call):
        raise bad_request("the resource is not a snapshot")
    return image


def _is_snapshot(image: Image, call: Call) -> bool:
    return image.droplet_id is not None and image.shown_type(call.now) == "snapshot"


def _body(snapshot: Image | VolumeSnapshot, call: Call) -> Body:
    return snapshot_body(snapshot, call.now) if isinstance(snapshot, Image) else volume_snapshot_body(snapshot)
