"""Snapshots: `/v2/snapshots`; the account has no volumes."""

from __future__ import annotations

from deployments.sandbox.account import Image
from deployments.sandbox.bodies import snapshot_body
from deployments.sandbox.endpoints.call import Call, find
from deployments.sandbox.endpoints.images import remove_image
from deployments.sandbox.errors import bad_request
from deployments.sandbox.responses import ResponseBody, json_response


def list_snapshots(call: Call) -> ResponseBody:
    """`GET /v2/snapshots`."""
    kind = call.one_of("resource_type", ("droplet", "volume"))
    snapshots = [image for image in call.account.images.values() if _is_snapshot(image, call) and kind != "volume"]
    return call.listing("snapshots", snapshots, lambda image: snapshot_body(image, call.now))


def get_snapshot(call: Call) -> ResponseBody:
    """`GET /v2/snapshots/{snapshot_id}`."""
    return json_response(200, {"snapshot": snapshot_body(_snapshot(call), call.now)})


def delete_snapshot(call: Call) -> ResponseBody:
    """`DELETE /v2/snapshots/{snapshot_id}`."""
    return remove_image(call, _snapshot(call))


def _snapshot(call: Call) -> Image:
    image = find(call.account.images, call.params["snapshot_id"])
    if not _is_snapshot(image, call):
        raise bad_request("the resource is not a snapshot")
    return image


def _is_snapshot(image: Image, call: Call) -> bool:
    return image.droplet_id is not None and image.shown_type(call.now) == "snapshot"
