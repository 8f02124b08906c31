"""A fake of the DigitalOcean API on localhost, with rate limits and fault injection."""

from __future__ import annotations

from deployments.sandbox.account import Account, Action, Deletion, Droplet, DropletRecord, FirewallRecord, Image
from deployments.sandbox.app import ConnectionDropped, sandbox_app
from deployments.sandbox.backup_policies import BackupPolicy
from deployments.sandbox.behavior import Behavior
from deployments.sandbox.faults import Fault, FaultKind, Faults
from deployments.sandbox.firewalls import Firewall
from deployments.sandbox.fixtures import make_account
from deployments.sandbox.limits import Limits
from deployments.sandbox.listeners import Listener
from deployments.sandbox.request_log import RequestLog, SeenRequest
from deployments.sandbox.server import Sandbox
from deployments.sandbox.volumes import Volume, VolumeSnapshot

__all__ = [
    "Account",
    "Action",
    "BackupPolicy",
    "Behavior",
    "ConnectionDropped",
    "Deletion",
    "Droplet",
    "DropletRecord",
    "Fault",
    "FaultKind",
    "Faults",
    "Firewall",
    "FirewallRecord",
    "Image",
    "Limits",
    "Listener",
    "RequestLog",
    "Sandbox",
    "SeenRequest",
    "Volume",
    "VolumeSnapshot",
    "make_account",
    "sandbox_app",
]
