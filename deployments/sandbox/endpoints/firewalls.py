"""Cloud firewalls: `/v2/firewalls`."""

from __future__ import annotations

import re

from deployments.sandbox.account import FIREWALL_SECONDS, FirewallRecord
from deployments.sandbox.bodies import firewall_body
from deployments.sandbox.endpoints.call import Call, find_named
from deployments.sandbox.errors import error, unprocessable
from deployments.sandbox.firewalls import Firewall, Rule
from deployments.sandbox.responses import NO_CONTENT, ResponseBody, json_response

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]+")
PROTOCOLS = ("tcp", "udp", "icmp")
PORTS = re.compile(r"\d+(-\d+)?")


def list_firewalls(call: Call) -> ResponseBody:
    """`GET /v2/firewalls`."""
    firewalls = list(call.account.firewalls.values())
    return call.listing("firewalls", firewalls, lambda firewall: firewall_body(firewall, call.now))


def get_firewall(call: Call) -> ResponseBody:
    """`GET /v2/firewalls/{firewall_id}`."""
    return json_response(200, {"firewall": firewall_body(_firewall(call), call.now)})


def create_firewall(call: Call) -> ResponseBody:
    """`POST /v2/firewalls`."""
    firewall = Firewall(id="", name="", created_at=call.now, applied_at=call.now)
    _apply(call, firewall)
    firewall.id = call.account.new_firewall_id()
    call.account.add_firewall(firewall)
    call.account.firewalls_created.append(FirewallRecord.of(firewall, call.now))
    return json_response(202, {"firewall": firewall_body(firewall, call.now)})


def update_firewall(call: Call) -> ResponseBody:
    """`PUT /v2/firewalls/{firewall_id}`: what is not given is reset."""
    firewall = _firewall(call)
    _apply(call, firewall)
    return json_response(200, {"firewall": firewall_body(firewall, call.now)})


def delete_firewall(call: Call) -> ResponseBody:
    """`DELETE /v2/firewalls/{firewall_id}`."""
    firewall = _firewall(call)
    call.account.firewalls_deleted.append(FirewallRecord.of(firewall, call.now))
    del call.account.firewalls[firewall.id]
    return NO_CONTENT


def _firewall(call: Call) -> Firewall:
    return find_named(call.account.firewalls, call.params["firewall_id"])


def _apply(call: Call, firewall: Firewall) -> None:
    """Set all that the body says, or nothing if something is refused."""
    name = _name(call, firewall)
    inbound, outbound = _rules(call, "inbound_rules", "sources"), _rules(call, "outbound_rules", "destinations")
    if not inbound and not outbound:
        raise unprocessable("must have at least one rule")
    tags, droplet_ids = _tags(call, call.body_field("tags")), _droplet_ids(call)
    firewall.name, firewall.inbound_rules, firewall.outbound_rules = name, inbound, outbound
    firewall.tags, firewall.droplet_ids = tags, droplet_ids
    firewall.applied_at = call.now + (FIREWALL_SECONDS / call.account.speed if droplet_ids else 0)


def _name(call: Call, firewall: Firewall) -> str:
    name = call.body_field("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise unprocessable("invalid firewall name")
    if any(other.name == name for other in call.account.firewalls.values() if other is not firewall):
        raise error(409, "conflict", "duplicate name")
    return name


def _rules(call: Call, field: str, targets: str) -> list[Rule]:
    return [_rule(call, rule, targets) for rule in _list(call.body_field(field), field)]


def _rule(call: Call, rule: object, targets: str) -> Rule:
    if not isinstance(rule, dict) or rule.get("protocol") not in PROTOCOLS:
        raise unprocessable("invalid protocol")
    ports = "0" if rule["protocol"] == "icmp" or rule.get("ports") == "all" else rule.get("ports")
    if not isinstance(ports, str) or not PORTS.fullmatch(ports):
        raise unprocessable("invalid port range")
    target = rule.get(targets)
    if not isinstance(target, dict) or not any(target.values()):
        raise unprocessable(f"{targets} must not be empty")
    _tags(call, target.get("tags"))
    return {"protocol": rule["protocol"], "ports": ports, targets: target}


def _tags(call: Call, named: object) -> list[str]:
    tags = [str(tag) for tag in _list(named, "tags")]
    for tag in tags:
        if tag not in call.account.tags:
            raise unprocessable(f"tag {tag} does not exist")
    return tags


def _droplet_ids(call: Call) -> list[int]:
    ids: list[int] = []
    for one in _list(call.body_field("droplet_ids"), "droplet_ids"):
        if not isinstance(one, int) or one not in call.account.droplets:
            raise unprocessable(f"droplet {one} does not exist")
        ids.append(one)
    return ids


def _list(value: object, field: str) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise unprocessable(f"{field} must be a list.")
    return value
