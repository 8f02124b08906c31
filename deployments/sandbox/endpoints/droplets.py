"""Droplets and their images: `/v2/droplets`, `/v2/snapshots`."""

from __future__ import annotations

from deployments.sandbox.account import Droplet
from deployments.sandbox.bodies import droplet_body, droplet_image_body, snapshot_body
from deployments.sandbox.endpoints.call import Call, find
from deployments.sandbox.errors import unprocessable
from deployments.sandbox.responses import ResponseBody, json_response


def list_droplets(call: Call) -> ResponseBody:
    """`GET /v2/droplets`, which shows GPU Droplets only with `type=gpus`."""
    kind = call.one_of("type", ("droplets", "gpus"))
    tag, name = call.query.get("tag_name"), call.query.get("name")
    if tag is not None and (kind or name is not None):
        raise unprocessable("tag_name can not be combined with name or type.")
    droplets = [
        droplet
        for droplet in call.account.droplets.values()
        if (droplet.size.gpu_model is not None) == (kind == "gpus")
        and (tag is None or tag in droplet.tags)
        and (name is None or droplet.name.lower() == name.lower())
    ]
    return call.listing("droplets", droplets, lambda droplet: droplet_body(droplet, call.account, call.now))


def get_droplet(call: Call) -> ResponseBody:
    """`GET /v2/droplets/{droplet_id}`."""
    return json_response(200, {"droplet": droplet_body(_droplet(call), call.account, call.now)})


def list_droplet_backups(call: Call) -> ResponseBody:
    """`GET /v2/droplets/{droplet_id}/backups`."""
    return _images_of_droplet(call, "backups", "backup")


def list_droplet_snapshots(call: Call) -> ResponseBody:
    """`GET /v2/droplets/{droplet_id}/snapshots`."""
    return _images_of_droplet(call, "snapshots", "snapshot")


def list_snapshots(call: Call) -> ResponseBody:
    """`GET /v2/snapshots`; the account has no volumes."""
    kind = call.one_of("resource_type", ("droplet", "volume"))
    snapshots = [
        image
        for image in call.account.images.values()
        if image.droplet_id is not None and image.shown_type(call.now) == "snapshot" and kind != "volume"
    ]
    return call.listing("snapshots", snapshots, lambda image: snapshot_body(image, call.now))


def _droplet(call: Call) -> Droplet:
    return find(call.account.droplets, call.params["droplet_id"])


def _images_of_droplet(call: Call, name: str, kind: str) -> ResponseBody:
    images = [call.account.images[image_id] for image_id in _droplet(call).image_ids]
    shown = [image for image in images if image.shown_type(call.now) == kind]
    return call.listing(name, shown, lambda image: droplet_image_body(image, call.now))
