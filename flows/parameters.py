"""Types of flow parameters, as the command line, Prefect's run form and its server check them.

Each validator accepts exactly what its JSON schema accepts, because Prefect's server and form only know the schema.
Lists may be text with commas or spaces, and IDs may be text, as shells and events send them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_before_validator_function

from tasks.digitalocean import InvalidArgument
from tasks.digitalocean.models import TAG_PATTERN


class ContradictoryParameters(InvalidArgument):
    """Parameters that are valid, but contradict each other."""


# Names from the API's list of regions in November 2026, for the form. Other slugs are valid too: the API decides.
REGION_NAMES = {
    "ams3": "Amsterdam 3",
    "atl1": "Atlanta 1",
    "blr1": "Bangalore 1",
    "fra1": "Frankfurt 1",
    "lon1": "London 1",
    "nyc1": "New York 1",
    "nyc2": "New York 2",
    "nyc3": "New York 3",
    "ric1": "Richmond 1",
    "sfo2": "San Francisco 2",
    "sfo3": "San Francisco 3",
    "sgp1": "Singapore 1",
    "syd1": "Sydney 1",
    "tor1": "Toronto 1",
}
# 15 digits: JavaScript, which Prefect's form is written in, rounds larger numbers.
LARGEST_ID = 10**15 - 1
LONGEST_QUOTE = 40

SPACE, SEPARATOR = r"[ \t\r\n]", r"[ ,\t\r\n]"
SLUG, ID = "[A-Za-z][A-Za-z0-9-]{0,31}", "[1-9][0-9]{0,14}"
# A region as in the form, such as `fra1 (Frankfurt 1)`, or only its slug.
CHOICE = rf"{SLUG}(?: \([^()]*\))?"


def _one_or_more(pattern: str) -> str:
    """Make the pattern of a text whose parts are separated by commas or spaces."""
    return f"^{SEPARATOR}*{pattern}(?:{SEPARATOR}+{pattern})*{SEPARATOR}*$"


REGIONS, IDS = _one_or_more(CHOICE), _one_or_more(ID)
TAG = f"^{SPACE}*(?:{TAG_PATTERN.pattern})?{SPACE}*$"


def _refusal(sentence: str) -> PydanticCustomError:
    return PydanticCustomError("parameter", "{sentence}", {"sentence": sentence})


def _quoted(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}..."


def slugs_of(regions: object) -> list[str] | None:
    """Read region slugs.

    Args:
        regions: A text such as `fra1, NYC3`, or a list of such texts or of the form's choices; None for all.

    Raises:
        PydanticCustomError: A part of it is not a slug.
    """
    if regions is None:
        return None
    return [slug for part in _parts(regions) for slug in _slugs_in(part)]


def _slugs_in(text: object) -> list[str]:
    if isinstance(text, str) and re.search(REGIONS, text):
        return [choice.partition(" ")[0].lower() for choice in re.findall(CHOICE, text)]
    wrong = _first_wrong(text, SLUG)
    raise _refusal(f"{_quoted(wrong)} is not a region slug; expected slugs such as fra1,nyc3")


def ids_of(image_ids: object) -> list[int] | None:
    """Read image IDs.

    Args:
        image_ids: An ID, a text such as `62137902, 62137903`, or a list of IDs and such texts; None for none.

    Raises:
        PydanticCustomError: A part of it is not an ID.
    """
    return None if image_ids is None else _required_ids_of(image_ids)


def _required_ids_of(image_ids: object) -> list[int]:
    return [image_id for part in _parts(image_ids) for image_id in _ids_in(part)]


def _ids_in(part: object) -> list[int]:
    if isinstance(part, str) and re.search(IDS, part):
        return [int(digits) for digits in re.findall(ID, part)]
    number = _whole(part)
    if number is not None and 1 <= number <= LARGEST_ID:
        return [number]
    wrong = _first_wrong(part, ID)
    raise _refusal(f"{_quoted(wrong)} is not an image ID; expected positive integers such as 62137902,62137903")


def tag_of(tag: object) -> str | None:
    """Read a Droplet tag.

    Args:
        tag: The tag, alone or in a list; None or an empty text for all Droplets.

    Raises:
        PydanticCustomError: It is not a valid tag, or there are several.
    """
    parts = _parts(tag)
    if len(parts) > 1:
        raise _refusal(f"expected one tag, not {len(parts)}")
    text = parts[0] if parts else ""
    if text is None:
        return None
    if not isinstance(text, str) or not re.search(TAG, text):
        raise _refusal(
            f"{_quoted(text)} is not a valid tag; expected at most 255 letters, digits, colons, dashes and underscores"
        )
    return text.strip() or None


@dataclass(frozen=True)
class Between:
    """An integer from `lowest` to `highest`, for `Annotated`."""

    lowest: int
    highest: int

    def _checked(self, value: object) -> int:
        number = _whole(value)
        if number is None:
            raise _refusal(f"must be an integer, not {_quoted(value)}")
        if number < self.lowest:
            raise _refusal(f"must be at least {self.lowest}")
        if number > self.highest:
            raise _refusal(f"must be at most {self.highest}")
        return number

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_before_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, _: CoreSchema, __: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "integer", "minimum": self.lowest, "maximum": self.highest}


def _parts(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _whole(value: object) -> int | None:
    """Read an integer as JSON schema does: 7.0 is an integer, True is not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if isinstance(value, int) or value.is_integer() else None


def _first_wrong(value: object, pattern: str) -> object:
    """Find the first part of a text that does not match; the whole value if all do, or if it is not a text."""
    parts = re.split(f"{SEPARATOR}+", value) if isinstance(value, str) else []
    return next((part for part in parts if part and not re.fullmatch(pattern, part)), value)


_ID_SCHEMA = {"type": "integer", "minimum": 1, "maximum": LARGEST_ID}
_TYPED_IDS_SCHEMA = {"title": "Type or paste", "type": "string", "pattern": IDS}
# The form shows no input for a type such as ["null", "array"], which is right for None. Lists from shells, programs and
# events are accepted there, because the form assigns every list to the first alternative that is only a list.
_REGIONS_SCHEMA = {
    "anyOf": [
        {"title": "All available", "type": ["null", "array"], "items": {"type": "string", "pattern": REGIONS}},
        {
            "title": "Choose",
            "type": "array",
            "items": {"type": "string", "enum": [f"{slug} ({name})" for slug, name in REGION_NAMES.items()]},
        },
        {"title": "Type slugs", "type": "string", "pattern": REGIONS},
    ]
}
_TAG_SCHEMA = {
    "anyOf": [
        {
            "title": "All Droplets",
            "type": ["null", "array"],
            "items": {"type": ["null", "string"], "pattern": TAG},
            "maxItems": 1,
        },
        {"title": "Only those with the tag", "type": "string", "pattern": TAG},
    ]
}
_OPTIONAL_IDS_SCHEMA = {
    "anyOf": [
        {
            **_ID_SCHEMA,
            "title": "Newest of each Droplet",
            "type": ["null", "array", "integer"],
            "items": {**_ID_SCHEMA, "type": ["integer", "string"], "pattern": IDS},
        },
        _TYPED_IDS_SCHEMA,
        {"title": "List", "type": "array", "items": _ID_SCHEMA},
    ]
}
# Required, so there is no alternative for None that could accept lists of text.
_IDS_SCHEMA = {
    "anyOf": [
        _TYPED_IDS_SCHEMA,
        {"title": "List", "type": "array", "items": {"anyOf": [_ID_SCHEMA, {"type": "string", "pattern": IDS}]}},
        {"title": "One", **_ID_SCHEMA},
    ]
}

Regions: TypeAlias = Annotated[list[str] | None, BeforeValidator(slugs_of), WithJsonSchema(_REGIONS_SCHEMA)]
DropletTag: TypeAlias = Annotated[str | None, BeforeValidator(tag_of), WithJsonSchema(_TAG_SCHEMA)]
ImageIds: TypeAlias = Annotated[list[int], BeforeValidator(_required_ids_of), WithJsonSchema(_IDS_SCHEMA)]
OptionalImageIds: TypeAlias = Annotated[list[int] | None, BeforeValidator(ids_of), WithJsonSchema(_OPTIONAL_IDS_SCHEMA)]
Newest: TypeAlias = Annotated[int, Between(1, 100)]
TimeoutMinutes: TypeAlias = Annotated[int, Between(1, 7 * 24 * 60)]
HowMany: TypeAlias = Annotated[int, Between(0, 10000)]
Hours: TypeAlias = Annotated[int, Between(1, 365 * 24)]
