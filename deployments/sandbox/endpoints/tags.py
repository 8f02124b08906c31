"""Tags: `/v2/tags`."""

from __future__ import annotations

import re

from deployments.sandbox.account import Droplet, Image, Tag
from deployments.sandbox.bodies import tag_body
from deployments.sandbox.endpoints.call import Call, find, find_named
from deployments.sandbox.errors import ApiError, not_found, unprocessable
from deployments.sandbox.responses import NO_CONTENT, ResponseBody, json_response

MAX_LENGTH = 255
TAG_NAME = re.compile(rf"[A-Za-z0-9_:-]{{1,{MAX_LENGTH}}}")


def list_tags(call: Call) -> ResponseBody:
    """`GET /v2/tags`."""
    return call.listing("tags", list(call.account.tags.values()), lambda tag: tag_body(tag, call.base_url))


def get_tag(call: Call) -> ResponseBody:
    """`GET /v2/tags/{tag_id}`."""
    return json_response(200, {"tag": tag_body(_tag(call), call.base_url)})


def create_tag(call: Call) -> ResponseBody:
    """`POST /v2/tags`; returns the existing tag if the name differs only in case."""
    name = call.body_field("name")
    if not isinstance(name, str) or not TAG_NAME.fullmatch(name):
        raise _bad_tag(name)
    return json_response(201, {"tag": tag_body(call.account.tag_named(name), call.base_url)})


def delete_tag(call: Call) -> ResponseBody:
    """`DELETE /v2/tags/{tag_id}`: removes it from all resources."""
    call.account.delete_tag(_tag(call))
    return NO_CONTENT


def tag_resources(call: Call) -> ResponseBody:
    """`POST /v2/tags/{tag_id}/resources`: tags all of them, or none if one is refused."""
    tag, resources = _tag(call), _resources(call)
    if not call.account.behavior.taggable_backups:
        for _, resource in resources:
            if isinstance(resource, Image) and resource.shown_type(call.now) == "backup":
                raise unprocessable(f"Image {resource.id} is a backup and cannot be tagged.")
    for kind, resource in resources:
        call.account.tag(tag, kind, resource)
    return NO_CONTENT


def untag_resources(call: Call) -> ResponseBody:
    """`DELETE /v2/tags/{tag_id}/resources`."""
    tag, resources = _tag(call), _resources(call)
    for kind, resource in resources:
        call.account.untag(tag, kind, resource)
    return NO_CONTENT


def _tag(call: Call) -> Tag:
    return find_named(call.account.tags, call.params["tag_id"])


def _bad_tag(name: object) -> ApiError:
    reason = "is too long" if isinstance(name, str) and len(name) > MAX_LENGTH else "contains invalid characters"
    message = f'Error validating resource tag: "tag-name \\"{name or ""}\\" {reason}"'
    cause = f"rpc error: code = InvalidArgument desc = {message}"
    return ApiError(400, {"error": message, "messages": None, "root_causes": [cause]})


def _resources(call: Call) -> list[tuple[str, Image | Droplet]]:
    named = call.body_field("resources")
    if not isinstance(named, list):
        raise unprocessable("resources must be a list.")
    return [_resource(call, one) for one in named]


def _resource(call: Call, named: object) -> tuple[str, Image | Droplet]:
    kind, resource_id = (
        (named.get("resource_type"), named.get("resource_id")) if isinstance(named, dict) else (None, None)
    )
    if not isinstance(resource_id, str):
        raise unprocessable("resource_id must be a string.")
    if kind == "image":
        image = find(call.account.images, resource_id)
        if image.public:
            raise not_found()
        return "image", image
    if kind == "droplet":
        return "droplet", find(call.account.droplets, resource_id)
    raise unprocessable("resource_type must be one of: droplet, image.")
