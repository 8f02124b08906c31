"""The token scope that a request needs: https://docs.digitalocean.com/reference/api/scopes/."""

from __future__ import annotations

RESOURCES = {
    "account": "account",
    "actions": "actions",
    "droplets": "droplet",
    "firewalls": "firewall",
    "images": "image",
    "regions": "regions",
    "sizes": "sizes",
    "snapshots": "snapshot",
    "tags": "tag",
    "vpcs": "vpc",
}
VERBS = {"GET": "read", "POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}


def scope_for(method: str, path: str) -> str:
    """Find the scope that a request needs.

    Args:
        method: Its HTTP method.
        path: Its path, without the host.

    Returns:
        The scope, such as `image:read`; empty for requests that this project does not send.
    """
    _, _, collection, *rest = (*path.split("/"), "", "", "")
    resource, verb = "ssh_key" if "keys" in rest else RESOURCES.get(collection), VERBS.get(method)
    if not resource or not verb:
        return ""
    # An action on an image or Droplet needs the scope to update it.
    starts_action = method == "POST" and "actions" in rest
    return f"{resource}:{'update' if starts_action else verb}"
