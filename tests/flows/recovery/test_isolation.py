"""What isolates a drill: nothing goes out, and nothing comes in but on the probe port."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.recovery.isolation import EVERYWHERE, NOWHERE, NotIsolated, _firewall, _is_isolated, isolation_tag
from flows.recovery.markers import DRILL, is_marker
from tasks.digitalocean import Firewall
from tasks.digitalocean.models import TAG_PATTERN

PORT = 8080
PORTS = st.none() | st.integers(1, 65535)
OUTBOUND = {"protocol": "udp", "ports": "53", "destinations": {"addresses": ["192.0.2.53/32"]}}


def inbound(ports: str = str(PORT), protocol: str = "tcp", **sources: list[Any]) -> dict[str, Any]:
    return {"protocol": protocol, "ports": ports, "sources": sources or {"addresses": list(EVERYWHERE)}}


def firewall(*rules: object, tags: tuple[str, ...] = (DRILL.tag,), outbound: tuple[object, ...] = ()) -> Firewall:
    return Firewall(id="bb4b2611", name="ours", tags=tags, inbound_rules=rules, outbound_rules=outbound)


def made_for(port: int | None) -> Firewall:
    """The firewall that a drill creates, as the API returns it."""
    return Firewall.model_validate({"id": "0a343fac", **_firewall(isolation_tag(port), port)})


def is_isolated(port: int | None, *firewalls: Firewall) -> bool:
    return _is_isolated(firewalls, isolation_tag(port), port)


@given(PORTS)
def test_the_firewall_of_a_drill_applies_to_its_tag_and_lets_nothing_out(port: int | None) -> None:
    own = made_for(port)
    assert own.tags == (isolation_tag(port),)
    assert own.outbound_rules == ()
    assert is_isolated(port, own)


@given(PORTS, PORTS)
def test_drills_with_different_ports_have_firewalls_of_their_own(one: int | None, other: int | None) -> None:
    assert (made_for(one).name == made_for(other).name) == (one == other)
    assert is_isolated(one, made_for(other)) == (one == other)
    assert is_isolated(one, made_for(one), made_for(other))


@given(PORTS)
def test_the_tag_is_valid_and_is_neither_the_tag_of_drills_nor_a_marker(port: int | None) -> None:
    tag = isolation_tag(port)
    assert TAG_PATTERN.fullmatch(tag)
    assert tag != DRILL.tag
    assert not is_marker(tag)


def test_with_a_port_only_that_port_is_open() -> None:
    assert made_for(PORT).inbound_rules == (inbound("8080"),)


def test_without_a_port_the_only_rule_lets_nobody_in() -> None:
    (rule,) = made_for(None).inbound_rules
    assert rule["sources"] == {"addresses": ["192.0.2.1/32"]}


def test_without_any_firewall_a_drill_is_not_isolated() -> None:
    assert not is_isolated(PORT)
    assert not is_isolated(PORT, firewall(inbound("22"), tags=("env:prod",), outbound=(OUTBOUND,)))


def test_a_strict_firewall_on_all_drills_does_no_harm_but_does_not_replace_the_one_for_the_port() -> None:
    strict = firewall(inbound(), inbound("22", addresses=list(NOWHERE)))
    assert not is_isolated(PORT, strict)
    assert is_isolated(PORT, strict, made_for(PORT))
    assert is_isolated(PORT, firewall(inbound(addresses=["10.0.0.0/8"]), tags=(isolation_tag(PORT),)))


@pytest.mark.parametrize("tag", [DRILL.tag, isolation_tag(PORT)])
@pytest.mark.parametrize(
    "rule",
    [
        inbound("22"),
        inbound("0"),
        inbound("8000-9000"),
        inbound(protocol="udp"),
        inbound("0", protocol="icmp"),
        inbound("22", addresses=["192.0.2.0/24"]),
        inbound("22", addresses=[*NOWHERE, "10.0.0.0/8"]),
        inbound("22", tags=["bastion"]),
        inbound("22", addresses=list(NOWHERE), tags=["bastion"]),
        inbound("22", addresses=list(NOWHERE), droplet_ids=[8043964]),
        "odd",
        {},
    ],
)
def test_a_firewall_that_lets_more_in_stops_the_drill(rule: object, tag: str) -> None:
    with pytest.raises(NotIsolated, match=r"^the firewall ours \(bb4b2611\) allows .*nothing was created$"):
        is_isolated(PORT, made_for(PORT), firewall(inbound(), rule, tags=("other", tag)))


@pytest.mark.parametrize("port", [None, PORT])
def test_a_firewall_that_lets_anything_out_stops_the_drill(port: int | None) -> None:
    for tag in (DRILL.tag, isolation_tag(port)):
        with pytest.raises(NotIsolated):
            is_isolated(port, made_for(port), firewall(tags=(tag,), outbound=(OUTBOUND,)))


def test_the_probe_port_of_another_drill_is_not_open_to_a_drill_without_one() -> None:
    with pytest.raises(NotIsolated):
        is_isolated(None, made_for(None), firewall(inbound()))


def test_empty_fields_that_the_api_adds_to_a_rule_do_not_matter() -> None:
    rule = inbound("22", addresses=list(NOWHERE), tags=[], droplet_ids=[], load_balancer_uids=[])
    assert is_isolated(None, firewall(rule, tags=(isolation_tag(None),)))
