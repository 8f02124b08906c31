"""Backup policies: `/v2/droplets/backups/policies`, and those of single Droplets."""

from __future__ import annotations

from deployments.sandbox.backup_policies import WEEKDAYS, WINDOW_HOURS, WINDOW_STARTS, BackupPolicy
from deployments.sandbox.bodies import Body, backup_policy_record
from deployments.sandbox.endpoints.call import Call
from deployments.sandbox.endpoints.droplets import droplet_named
from deployments.sandbox.responses import ResponseBody, json_response


def list_backup_policies(call: Call) -> ResponseBody:
    """`GET /v2/droplets/backups/policies`: a map whose keys are the IDs of Droplets."""
    droplets = list(call.account.droplets.values())
    return call.page(
        "policies", droplets, lambda page: {str(each.id): backup_policy_record(each, call.now) for each in page}
    )


def get_backup_policy(call: Call) -> ResponseBody:
    """`GET /v2/droplets/{droplet_id}/backups/policy`."""
    return json_response(200, {"policy": backup_policy_record(droplet_named(call), call.now)})


def list_supported_backup_policies(_: Call) -> ResponseBody:
    """`GET /v2/droplets/backups/supported_policies`: the plans in the description of the API."""
    policies = [_supported(BackupPolicy.weekly(), WEEKDAYS), _supported(BackupPolicy.daily(), ())]
    return json_response(200, {"supported_policies": policies})


def _supported(policy: BackupPolicy, days: tuple[str, ...]) -> Body:
    return {
        "name": policy.plan,
        "possible_window_starts": WINDOW_STARTS,
        "window_length_hours": WINDOW_HOURS,
        "retention_period_days": policy.retention_days,
        "possible_days": days,
    }
