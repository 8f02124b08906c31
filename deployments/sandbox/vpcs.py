"""The VPC networks of an account."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from uuid import UUID

FIRST_OCTET, FIRST_DEFAULT, EXTRA = 10, 100, 200
"""Default networks are 10.100.0.0/16 and up; the extra one is 10.200.0.0/16."""
CREATED_AT = 1_574_198_375.0
EXTRA_REGION = "nyc3"


@dataclass(frozen=True, slots=True)
class Vpc:
    """A VPC network; `prefix` holds the first two octets of its addresses."""

    id: str
    name: str
    region: str
    prefix: str
    default: bool = True
    description: str = ""
    created_at: float = CREATED_AT

    @property
    def ip_range(self) -> str:
        """Its range of addresses."""
        return f"{self.prefix}.0.0/16"


def make_vpcs(seed: int, regions: Iterable[str]) -> list[Vpc]:
    """Generate the default network of each region, and one more in a single region.

    Args:
        seed: Seed of the IDs.
        regions: The slugs of the regions.

    Returns:
        The networks, default ones first.
    """
    slugs = list(regions)
    vpcs = [
        Vpc(_vpc_id(seed, slug), f"default-{slug}", slug, f"{FIRST_OCTET}.{FIRST_DEFAULT + number}")
        for number, slug in enumerate(slugs)
    ]
    if EXTRA_REGION in slugs:
        extra_id = _vpc_id(seed, f"{EXTRA_REGION}/extra")
        vpcs.append(Vpc(extra_id, "env.prod-vpc", EXTRA_REGION, f"{FIRST_OCTET}.{EXTRA}", default=False))
    return vpcs


def _vpc_id(seed: int, name: str) -> str:
    return str(UUID(int=Random(f"{seed}/vpc/{name}").getrandbits(128), version=4))  # noqa: S311
