"""Parameters that several flows have, as the command line, Prefect's run form and its server check them."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema

from tasks.digitalocean import ResourceId, TagName
from tasks.digitalocean.models import SLUG_PATTERN, TAG_PATTERN

# What the API's list of regions called them in November 2026, so that nobody needs to know slugs by heart. Only a
# choice: the API says which regions there are, and a slug that is not here is as good.
REGION_NAMES = {
    "ams3": "Amsterdam 3",
    "atl1": "Atlanta 1",
    "blr1": "Bangalore 1",
    "fra1": "Frankfurt 1",
    "lon1": "London 1",
    "nyc1": "New York 1",
    "nyc2": "New York 2",
    "nyc3": "New York 3",
    "sfo2": "San Francisco 2",
    "sfo3": "San Francisco 3",
    "sgp1": "Singapore 1",
    "syd1": "Sydney 1",
    "tor1": "Toronto 1",
}
_SLUG = SLUG_PATTERN.pattern
CHOICE = re.compile(rf"({_SLUG})( \(.*\))?")
SEPARATORS = re.compile("[ ,]+")


def slug_of(choice: Any) -> Any:
    """Take the slug from a choice such as `fra1 (Frankfurt 1)`; leaves alone what is none."""
    found = CHOICE.fullmatch(choice) if isinstance(choice, str) else None
    return found[1] if found else choice


def slugs_of(regions: Any) -> Any:
    """Take the slugs from a list of choices, or from a text such as `fra1 nyc3`; leaves alone what is neither."""
    if isinstance(regions, str):
        regions = SEPARATORS.split(regions.strip(" "))
    return [slug_of(each) for each in regions] if isinstance(regions, (list, tuple)) else regions


_REGIONS_SCHEMA = {
    "anyOf": [
        # The form shows nothing for such a type, which is right for None. Lists from shells and programs are let
        # through here, because the form takes every list for the first alternative that is nothing but a list.
        {
            "title": "All that take images",
            "type": ["null", "array"],
            "items": {"type": "string", "pattern": f"^{CHOICE.pattern}$"},
        },
        {
            "title": "Choose",
            "type": "array",
            "items": {"type": "string", "enum": [f"{slug} ({name})" for slug, name in REGION_NAMES.items()]},
        },
        {"title": "Type slugs", "type": "string", "pattern": f"^ *{_SLUG}({SEPARATORS.pattern}{_SLUG})* *$"},
    ]
}

Region: TypeAlias = Annotated[str, StringConstraints(pattern=f"^{_SLUG}$")]
Regions: TypeAlias = Annotated[list[Region] | None, BeforeValidator(slugs_of), WithJsonSchema(_REGIONS_SCHEMA)]
DropletTag: TypeAlias = Annotated[
    TagName | None,
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "null", "title": "All Droplets"},
                {"title": "Only those with the tag", "type": "string", "pattern": f"^{TAG_PATTERN.pattern}$"},
            ]
        }
    ),
]
_IDS_SCHEMA = {"type": "array", "items": {"type": "integer", "minimum": 1}}
ImageIds: TypeAlias = Annotated[list[ResourceId], WithJsonSchema(_IDS_SCHEMA)]
OptionalImageIds: TypeAlias = Annotated[
    list[ResourceId] | None,
    WithJsonSchema({"anyOf": [{"type": "null", "title": "Newest of each Droplet"}, {"title": "These", **_IDS_SCHEMA}]}),
]
Newest: TypeAlias = Annotated[int, Field(ge=1, le=100)]
TimeoutMinutes: TypeAlias = Annotated[int, Field(ge=1, le=10080)]
HowMany: TypeAlias = Annotated[int, Field(ge=0, le=10000)]
Hours: TypeAlias = Annotated[int, Field(ge=1, le=8760)]
