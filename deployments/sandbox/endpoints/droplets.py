"""Droplets and their images: `/v2/droplets`."""

from __future__ import annotations

from deployments.sandbox.account import Droplet
from deployments.sandbox.bodies import droplet_body, droplet_image_body
from deployments.sandbox.endpoints.call import Call, find, find_named
from deployments.sandbox.errors import unprocessable
from deployments.sandbox.responses import NO_CONTENT, ResponseBody, json_response
from deployments.sandbox.rules import PENDING_EVENT


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
    return json_response(200, {"droplet": droplet_body(droplet_named(call), call.account, call.now)})


def list_droplet_backups(call: Call) -> ResponseBody:
    """`GET /v2/droplets/{droplet_id}/backups`."""
    return _images_of_droplet(call, "backups", "backup")


def list_droplet_snapshots(call: Call) -> ResponseBody:
    """`GET /v2/droplets/{droplet_id}/snapshots`."""
    return _images_of_droplet(call, "snapshots", "snapshot")


def destroy_droplet(call: Call) -> ResponseBody:
    """`DELETE /v2/droplets/{droplet_id}`."""
    return _destroy(call, [droplet_named(call)])


def destroy_tagged_droplets(call: Call) -> ResponseBody:
    """`DELETE /v2/droplets?tag_name=`: all Droplets with the tag, or none if one is refused."""
    tag = call.query.get("tag_name")
    if not tag:
        raise unprocessable("tag_name is required.")
    find_named(call.account.tags, tag)
    return _destroy(call, [droplet for droplet in call.account.droplets.values() if tag in droplet.tags])


def droplet_named(call: Call) -> Droplet:
    """The Droplet in the path."""
    return find(call.account.droplets, call.params["droplet_id"])


def _destroy(call: Call, droplets: list[Droplet]) -> ResponseBody:
    if any(droplet.is_busy() for droplet in droplets):
        raise unprocessable(PENDING_EVENT)
    for droplet in droplets:
        call.account.destroy_droplet(droplet, call.now, call.lag)
    return NO_CONTENT


def _images_of_droplet(call: Call, name: str, kind: str) -> ResponseBody:
    images = [call.account.images[image_id] for image_id in droplet_named(call).image_ids]
    shown = [image for image in images if image.shown_type(call.now) == kind]
    return call.listing(name, shown, lambda image: droplet_image_body(image, call.now))
