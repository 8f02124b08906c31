"""The cloud firewall that isolates drills, which would otherwise run as a second production."""

from __future__ import annotations

from collections.abc import Iterable

from flows.recovery.markers import DRILL
from flows.waiting import waiting_for
from tasks.digitalocean import APIError, Connection, DigitalOceanError, Firewall
from tasks.firewalls import create_firewall, list_firewalls
from tasks.tags import create_tag

EVERYWHERE = ("0.0.0.0/0", "::/0")
# Reserved for documentation (RFC 5737), so that nothing is let in: a firewall must have at least one rule.
# https://docs.digitalocean.com/reference/api/digitalocean/#operation/firewalls_create
NOWHERE = ("192.0.2.1/32",)


class NotIsolated(DigitalOceanError):
    """Another firewall lets more traffic through to drills."""


def isolation_tag(probe_port: int | None) -> str:
    """The tag of the Droplets that the firewall for a port applies to."""
    return f"{DRILL.tag}-port-{probe_port}" if probe_port else f"{DRILL.tag}-closed"


def isolate_drills(probe_port: int | None, connection: Connection) -> None:
    """Make sure that a firewall isolates the Droplets with the tag, before they exist.

    Args:
        probe_port: The only TCP port that lets traffic in; None for none.
        connection: The API.

    Raises:
        NotIsolated: Another firewall allows drills more traffic.
        APIError: The firewall cannot be created.
    """
    tag = isolation_tag(probe_port)
    with waiting_for("Preparing the firewall", connection):
        create_tag(tag, credentials=connection)
        if _is_isolated(list_firewalls(credentials=connection), tag, probe_port):
            return
        try:
            create_firewall(_firewall(tag, probe_port), credentials=connection)
        except APIError:
            # It may have been created all the same, and then its name is taken.
            if not _is_isolated(list_firewalls(credentials=connection), tag, probe_port):
                raise


def _firewall(tag: str, probe_port: int | None) -> dict[str, object]:
    rule = {
        "protocol": "tcp",
        "ports": str(probe_port or 22),
        "sources": {"addresses": list(EVERYWHERE if probe_port else NOWHERE)},
    }
    return {"name": tag.replace(":", "-"), "tags": [tag], "inbound_rules": [rule], "outbound_rules": []}


def _is_isolated(firewalls: Iterable[Firewall], tag: str, probe_port: int | None) -> bool:
    """Whether a firewall applies to a drill; firewalls add up, so each must be strict enough.

    Raises:
        NotIsolated: One allows drills more traffic.
    """
    applying = [each for each in firewalls if {tag, DRILL.tag} & set(each.tags)]
    for each in applying:
        if each.outbound_rules or not all(_is_strict(rule, probe_port) for rule in each.inbound_rules):
            raise NotIsolated(
                f"the firewall {each.name} ({each.id}) allows drills more traffic than the probe port: delete it, or "
                "remove the drill's tag from it; nothing was created"
            )
    return any(tag in each.tags for each in applying)


def _is_strict(rule: object, probe_port: int | None) -> bool:
    if not isinstance(rule, dict):
        return False
    sources = rule.get("sources")
    # The API may add empty lists. Tags or Droplets beside the addresses let traffic in too.
    given = {kind: each for kind, each in sources.items() if each} if isinstance(sources, dict) else {}
    nowhere = given == {"addresses": list(NOWHERE)}
    return nowhere or (rule.get("protocol") == "tcp" and rule.get("ports") == str(probe_port))
