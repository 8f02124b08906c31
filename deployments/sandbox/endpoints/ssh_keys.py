"""SSH keys: `/v2/account/keys`, which have a rate limit of their own."""

from __future__ import annotations

from deployments.sandbox.bodies import ssh_key_body
from deployments.sandbox.endpoints.call import Call
from deployments.sandbox.errors import not_found
from deployments.sandbox.responses import ResponseBody, json_response
from deployments.sandbox.ssh_keys import SshKey


def list_ssh_keys(call: Call) -> ResponseBody:
    """`GET /v2/account/keys`."""
    return call.listing("ssh_keys", list(call.account.ssh_keys.values()), ssh_key_body)


def get_ssh_key(call: Call) -> ResponseBody:
    """`GET /v2/account/keys/{key}`, by ID or fingerprint."""
    key = ssh_key_named(call, call.params["key"])
    if key is None:
        raise not_found()
    return json_response(200, {"ssh_key": ssh_key_body(key)})


def ssh_key_named(call: Call, name: str) -> SshKey | None:
    """The key with that ID or fingerprint."""
    keys = call.account.ssh_keys.values()
    return next((key for key in keys if name in (str(key.id), key.fingerprint)), None)
