"""Actions: `/v2/images/{image_id}/actions`, and the account's feed, `/v2/actions`."""

from __future__ import annotations

from deployments.sandbox.account import Action
from deployments.sandbox.bodies import action_body
from deployments.sandbox.endpoints.call import Call, find
from deployments.sandbox.endpoints.images import image_named, own_image_named
from deployments.sandbox.errors import not_found, unprocessable
from deployments.sandbox.responses import ResponseBody, json_response
from deployments.sandbox.rules import why_not_convert, why_not_transfer


def list_image_actions(call: Call) -> ResponseBody:
    """`GET /v2/images/{image_id}/actions`, newest first."""
    actions = [action for action in reversed(image_named(call).actions) if action.fate.listed]
    return call.listing("actions", actions, lambda action: action_body(action, call.account))


def get_image_action(call: Call) -> ResponseBody:
    """`GET /v2/images/{image_id}/actions/{action_id}`."""
    image, action = image_named(call), _action(call)
    if (action.resource_type, action.resource_id) != ("image", image.id):
        raise not_found()
    return json_response(200, {"action": action_body(action, call.account)})


def post_image_action(call: Call) -> ResponseBody:
    """`POST /v2/images/{image_id}/actions`: `convert` or `transfer`."""
    image = own_image_named(call)
    kind = call.body_field("type")
    if kind == "convert":
        _refuse(why_not_convert(image, call.now))
        slug = next(iter(image.regions))
    elif kind == "transfer":
        asked = call.body_field("region")
        if not isinstance(asked, str) or not asked:
            raise unprocessable("Region is required.")
        slug = asked
        region = call.account.regions.get(slug)
        _refuse(why_not_transfer(image, region, call.now, call.account.behavior))
    else:
        raise unprocessable("Type is invalid. It must be one of: convert, transfer.")
    action = call.account.start(image, kind, slug, call.now, call.fate)
    return json_response(201, {"action": action_body(action, call.account)})


def list_actions(call: Call) -> ResponseBody:
    """`GET /v2/actions`, the feed, newest first."""
    actions = call.account.newest_actions(call.now)
    return call.listing("actions", actions, lambda action: action_body(action, call.account))


def get_action(call: Call) -> ResponseBody:
    """`GET /v2/actions/{action_id}`."""
    return json_response(200, {"action": action_body(_action(call), call.account)})


def _refuse(reason: str | None) -> None:
    if reason is not None:
        raise unprocessable(reason)


def _action(call: Call) -> Action:
    return find(call.account.actions, call.params["action_id"])
