"""The SSH keys of an account."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

NAMES = ("sammy@laptop", "deploy")


@dataclass(frozen=True, slots=True)
class SshKey:
    """A public SSH key."""

    id: int
    name: str
    fingerprint: str
    public_key: str


def make_ssh_keys(seed: int) -> list[SshKey]:
    """Generate an account's keys."""
    draw = Random(f"{seed}/ssh-keys")  # noqa: S311
    return [
        SshKey(
            id=512_000 + number * 1000 + draw.randint(1, 999),
            name=name,
            fingerprint=draw.randbytes(16).hex(":"),
            public_key=f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{draw.getrandbits(210):053x} {name}",
        )
        for number, name in enumerate(NAMES)
    ]
