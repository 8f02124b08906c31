"""A stand-in for the DigitalOcean API on this machine, with its rate limits and its bad days."""

from __future__ import annotations

from deployments.sandbox.account import Account, Action, Deletion, Droplet, Image
from deployments.sandbox.app import ConnectionDropped, sandbox_app
from deployments.sandbox.faults import Fault, FaultKind, Faults
from deployments.sandbox.limits import Limits
from deployments.sandbox.quirks import Quirks
from deployments.sandbox.record import Record, SeenRequest
from deployments.sandbox.server import Sandbox
from deployments.sandbox.world import make_account

__all__ = [
    "Account",
    "Action",
    "ConnectionDropped",
    "Deletion",
    "Droplet",
    "Fault",
    "FaultKind",
    "Faults",
    "Image",
    "Limits",
    "Quirks",
    "Record",
    "Sandbox",
    "SeenRequest",
    "make_account",
    "sandbox_app",
]
