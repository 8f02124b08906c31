"""The endpoints: each takes a call and returns a response, without I/O."""

from __future__ import annotations

from deployments.sandbox.bodies import account_body, region_body
from deployments.sandbox.endpoints import actions, droplets, images, tags
from deployments.sandbox.endpoints.call import Call, Endpoint
from deployments.sandbox.errors import not_found
from deployments.sandbox.responses import ResponseBody, json_response


def list_regions(call: Call) -> ResponseBody:
    """`GET /v2/regions`."""
    return call.listing("regions", list(call.account.regions.values()), region_body)


def get_account(_: Call) -> ResponseBody:
    """`GET /v2/account`."""
    return json_response(200, {"account": account_body()})


def nothing_here(_: Call) -> ResponseBody:
    """Every other path."""
    raise not_found()


ENDPOINTS: tuple[tuple[str, str, Endpoint], ...] = (
    ("GET", "/v2/images", images.list_images),
    ("GET", "/v2/images/{image_id}", images.get_image),
    ("PUT", "/v2/images/{image_id}", images.update_image),
    ("DELETE", "/v2/images/{image_id}", images.delete_image),
    ("GET", "/v2/images/{image_id}/actions", actions.list_image_actions),
    ("POST", "/v2/images/{image_id}/actions", actions.post_image_action),
    ("GET", "/v2/images/{image_id}/actions/{action_id}", actions.get_image_action),
    ("GET", "/v2/actions", actions.list_actions),
    ("GET", "/v2/actions/{action_id}", actions.get_action),
    ("GET", "/v2/regions", list_regions),
    ("GET", "/v2/droplets", droplets.list_droplets),
    ("GET", "/v2/droplets/{droplet_id}", droplets.get_droplet),
    ("GET", "/v2/droplets/{droplet_id}/backups", droplets.list_droplet_backups),
    ("GET", "/v2/droplets/{droplet_id}/snapshots", droplets.list_droplet_snapshots),
    ("GET", "/v2/snapshots", droplets.list_snapshots),
    ("GET", "/v2/tags", tags.list_tags),
    ("POST", "/v2/tags", tags.create_tag),
    ("GET", "/v2/tags/{tag_id}", tags.get_tag),
    ("POST", "/v2/tags/{tag_id}/resources", tags.tag_resources),
    ("DELETE", "/v2/tags/{tag_id}/resources", tags.untag_resources),
    ("GET", "/v2/account", get_account),
)
