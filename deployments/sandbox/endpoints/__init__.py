"""The endpoints: each takes a call and returns a response, without I/O."""

from __future__ import annotations

from deployments.sandbox.bodies import account_body, region_body, size_body
from deployments.sandbox.endpoints import (
    actions,
    backup_policies,
    droplet_actions,
    droplet_creation,
    droplets,
    firewalls,
    images,
    snapshots,
    ssh_keys,
    tags,
    volumes,
    vpcs,
)
from deployments.sandbox.endpoints.call import Call, Endpoint
from deployments.sandbox.errors import not_found
from deployments.sandbox.regions import ALL_SIZES
from deployments.sandbox.responses import ResponseBody, json_response


def list_regions(call: Call) -> ResponseBody:
    """`GET /v2/regions`."""
    return call.listing("regions", list(call.account.regions.values()), region_body)


def list_sizes(call: Call) -> ResponseBody:
    """`GET /v2/sizes`."""
    return call.listing("sizes", list(ALL_SIZES.values()), lambda size: size_body(size, call.account))


def get_account(call: Call) -> ResponseBody:
    """`GET /v2/account`."""
    return json_response(200, {"account": account_body(call.account)})


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
    ("GET", "/v2/sizes", list_sizes),
    ("GET", "/v2/vpcs", vpcs.list_vpcs),
    ("GET", "/v2/vpcs/{vpc_id}", vpcs.get_vpc),
    ("GET", "/v2/droplets", droplets.list_droplets),
    ("POST", "/v2/droplets", droplet_creation.create_droplets),
    ("DELETE", "/v2/droplets", droplets.destroy_tagged_droplets),
    ("GET", "/v2/droplets/backups/policies", backup_policies.list_backup_policies),
    ("GET", "/v2/droplets/backups/supported_policies", backup_policies.list_supported_backup_policies),
    ("GET", "/v2/droplets/{droplet_id}", droplets.get_droplet),
    ("DELETE", "/v2/droplets/{droplet_id}", droplets.destroy_droplet),
    ("GET", "/v2/droplets/{droplet_id}/actions", droplet_actions.list_droplet_actions),
    ("POST", "/v2/droplets/{droplet_id}/actions", droplet_actions.post_droplet_action),
    ("GET", "/v2/droplets/{droplet_id}/actions/{action_id}", droplet_actions.get_droplet_action),
    ("GET", "/v2/droplets/{droplet_id}/backups", droplets.list_droplet_backups),
    ("GET", "/v2/droplets/{droplet_id}/backups/policy", backup_policies.get_backup_policy),
    ("GET", "/v2/droplets/{droplet_id}/snapshots", droplets.list_droplet_snapshots),
    ("GET", "/v2/snapshots", snapshots.list_snapshots),
    ("GET", "/v2/snapshots/{snapshot_id}", snapshots.get_snapshot),
    ("DELETE", "/v2/snapshots/{snapshot_id}", snapshots.delete_snapshot),
    ("GET", "/v2/volumes", volumes.list_volumes),
    ("GET", "/v2/firewalls", firewalls.list_firewalls),
    ("POST", "/v2/firewalls", firewalls.create_firewall),
    ("GET", "/v2/firewalls/{firewall_id}", firewalls.get_firewall),
    ("PUT", "/v2/firewalls/{firewall_id}", firewalls.update_firewall),
    ("DELETE", "/v2/firewalls/{firewall_id}", firewalls.delete_firewall),
    ("GET", "/v2/tags", tags.list_tags),
    ("POST", "/v2/tags", tags.create_tag),
    ("GET", "/v2/tags/{tag_id}", tags.get_tag),
    ("DELETE", "/v2/tags/{tag_id}", tags.delete_tag),
    ("POST", "/v2/tags/{tag_id}/resources", tags.tag_resources),
    ("DELETE", "/v2/tags/{tag_id}/resources", tags.untag_resources),
    ("GET", "/v2/account", get_account),
    ("GET", "/v2/account/keys", ssh_keys.list_ssh_keys),
    ("GET", "/v2/account/keys/{key}", ssh_keys.get_ssh_key),
)
