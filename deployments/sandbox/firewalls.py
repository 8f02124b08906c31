"""The cloud firewalls of an account."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from uuid import UUID

Rule = dict[str, object]


@dataclass(slots=True)
class Firewall:
    """A firewall; until `applied_at`, its latest change is not in effect on all of its Droplets."""

    id: str
    name: str
    created_at: float
    applied_at: float
    inbound_rules: list[Rule] = field(default_factory=list)
    outbound_rules: list[Rule] = field(default_factory=list)
    droplet_ids: list[int] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)


def firewall_id(seed: int, number: int) -> str:
    """The ID of the account's nth firewall."""
    return str(UUID(int=Random(f"{seed}/firewall/{number}").getrandbits(128), version=4))  # noqa: S311


def allow(port: str, **targets: list[str]) -> Rule:
    """An inbound rule for a TCP port."""
    return {"protocol": "tcp", "ports": port, "sources": targets}


def allow_out(protocol: str) -> Rule:
    """An outbound rule for all ports and all addresses."""
    return {"protocol": protocol, "ports": "0", "destinations": {"addresses": ["0.0.0.0/0", "::/0"]}}
