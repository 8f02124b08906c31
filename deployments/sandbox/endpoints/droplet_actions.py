"""The actions of a Droplet: `/v2/droplets/{droplet_id}/actions`."""

from __future__ import annotations

from deployments.sandbox.account import Droplet
from deployments.sandbox.bodies import action_body
from deployments.sandbox.endpoints.call import Call, find
from deployments.sandbox.endpoints.droplets import droplet_named
from deployments.sandbox.errors import not_found, unprocessable
from deployments.sandbox.responses import ResponseBody, json_response
from deployments.sandbox.rules import why_not_snapshot

LONGEST_NAME = 255


def list_droplet_actions(call: Call) -> ResponseBody:
    """`GET /v2/droplets/{droplet_id}/actions`, newest first."""
    actions = [action for action in reversed(droplet_named(call).actions) if action.fate.listed]
    return call.listing("actions", actions, lambda action: action_body(action, call.account))


def get_droplet_action(call: Call) -> ResponseBody:
    """`GET /v2/droplets/{droplet_id}/actions/{action_id}`."""
    droplet, action = droplet_named(call), find(call.account.actions, call.params["action_id"])
    if (action.resource_type, action.resource_id) != ("droplet", droplet.id):
        raise not_found()
    return json_response(200, {"action": action_body(action, call.account)})


def post_droplet_action(call: Call) -> ResponseBody:
    """`POST /v2/droplets/{droplet_id}/actions`: only `snapshot`."""
    droplet = droplet_named(call)
    if call.body_field("type") != "snapshot":
        raise unprocessable("Type is invalid. It must be one of: snapshot.")
    name = _name(call, droplet)
    if reason := why_not_snapshot(droplet, call.account.regions[droplet.region]):
        raise unprocessable(reason)
    action = call.account.take_snapshot(droplet, name, call.now, call.fate)
    return json_response(201, {"action": action_body(action, call.account)})


def _name(call: Call, droplet: Droplet) -> str:
    """The name of a snapshot; without one, the Droplet's name and the time in milliseconds.

    The default is that of https://docs.digitalocean.com/reference/api/digitalocean/#operation/snapshots_get; that there
    is a longest name, and which, is a guess.
    """
    name = call.body_field("name")
    if name is not None and not isinstance(name, str):
        raise unprocessable("name must be a string.")
    if name and len(name) > LONGEST_NAME:
        raise unprocessable(f"Name is too long (maximum is {LONGEST_NAME} characters).")
    return name or f"{droplet.name}-{int(call.now * 1000)}"
