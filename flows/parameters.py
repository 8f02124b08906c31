"""Types of flow parameters, as the command line, Prefect's run form and its server check them.

Each validator accepts exactly what its JSON schema accepts, because Prefect's server and form only know the schema.
Lists may be text with commas or spaces, and IDs may be text, as shells and events send them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_before_validator_function

from tasks.credentials import DigitalOceanCredentials
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
# Prefect's rule for the names of blocks, but shorter than a token.
BLOCK_NAME = "[a-z0-9-]{1,60}"
SLUG, ID = "[A-Za-z][A-Za-z0-9-]{0,31}", "[1-9][0-9]{0,14}"
# A region as in the form, such as `fra1 (Frankfurt 1)`, or only its slug.
CHOICE = rf"{SLUG}(?: \([^()]*\))?"


def _one_or_more(pattern: str) -> str:
    """Make the pattern of a text whose parts are separated by commas or spaces."""
    return f"^{SEPARATOR}*{pattern}(?:{SEPARATOR}+{pattern})*{SEPARATOR}*$"


REGIONS, IDS = _one_or_more(CHOICE), _one_or_more(ID)
CREDENTIALS = f"^{SEPARATOR}*(?:{BLOCK_NAME}(?:{SEPARATOR}+{BLOCK_NAME})*{SEPARATOR}*)?$"
REGION = f"^{SPACE}*{CHOICE}{SPACE}*$"
TAG = f"^{SPACE}*(?:{TAG_PATTERN.pattern})?{SPACE}*$"
# A key's ID, or its MD5 fingerprint: https://docs.digitalocean.com/reference/api/digitalocean/#tag/SSH-Keys
SSH_KEY = "(?:[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){15}|[1-9][0-9]{0,14})"
NAME_SUFFIX = f"^{SPACE}*[A-Za-z0-9.-]{{0,100}}{SPACE}*$"
UUID = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


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


def region_of(region: object) -> str:
    """Read one region slug.

    Args:
        region: A slug, or a choice of the form.

    Raises:
        PydanticCustomError: It is not a slug.
    """
    text = region[0] if isinstance(region, (list, tuple)) and len(region) == 1 else region
    if isinstance(text, str) and re.search(REGION, text):
        return text.split()[0].lower()
    raise _refusal(f"{_quoted(text)} is not a region slug; expected a slug such as fra1")


def optional_region_of(region: object) -> str | None:
    """Read one region slug; None for none."""
    return None if region is None else region_of(region)


def ids_of(ids: object, what: str = "image") -> list[int] | None:
    """Read IDs.

    Args:
        ids: An ID, a text such as `62137902, 62137903`, or a list of IDs and such texts; None for none.
        what: What they are IDs of, for the message.

    Raises:
        PydanticCustomError: A part of it is not an ID.
    """
    return None if ids is None else _required_ids_of(ids, what)


def _required_ids_of(ids: object, what: str = "image") -> list[int]:
    return [each for part in _parts(ids) for each in _ids_in(part, what)]


def _ids_in(part: object, what: str) -> list[int]:
    if isinstance(part, str) and re.search(IDS, part):
        return [int(digits) for digits in re.findall(ID, part)]
    number = _whole(part)
    if number is not None and 1 <= number <= LARGEST_ID:
        return [number]
    wrong = _first_wrong(part, ID)
    article = "an" if what == "image" else "a"
    raise _refusal(f"{_quoted(wrong)} is not {article} {what} ID; expected positive integers such as 62137902,62137903")


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


def name_suffix_of(suffix: object) -> str:
    """Read the end of a Droplet's name, which may be empty.

    Raises:
        PydanticCustomError: It cannot be a part of a name.
    """
    if isinstance(suffix, str) and re.search(NAME_SUFFIX, suffix):
        return suffix.strip()
    raise _refusal(f"{_quoted(suffix)} is not a valid suffix; expected at most 100 letters, digits, dots and dashes")


@dataclass(frozen=True)
class Words:
    """One text, or several separated by commas or spaces, for `Annotated`; None or an empty text for none.

    Args:
        pattern: What each must match.
        what: What each is, such as `a valid tag`, for the message.
        none: What none means, such as `The original's`, for the form.
        several: Whether there may be several; then the value is a list.
    """

    pattern: str
    what: str
    none: str
    several: bool = False

    @property
    def _may_be_number(self) -> bool:
        return re.fullmatch(self.pattern, "7") is not None

    def _checked(self, value: object) -> list[str] | str | None:
        parts = _parts(value)
        words = [word for part in parts for word in self._words_in(part)]
        if self.several:
            return words or None
        if max(len(parts), len(words)) > 1:
            raise _refusal(f"expected one value, not {max(len(parts), len(words))}")
        return words[0] if words else None

    def _words_in(self, part: object) -> list[str]:
        if part is None:
            return []
        number = _whole(part) if self._may_be_number else None
        if number is not None and 1 <= number <= LARGEST_ID:
            return [str(number)]
        words = [word for word in re.split(SEPARATOR, part) if word] if isinstance(part, str) else [part]
        for word in words:
            if not isinstance(word, str) or not re.fullmatch(self.pattern, word):
                raise _refusal(f"{_quoted(word)} is not {self.what}")
        return [str(word) for word in words]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_before_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, _: CoreSchema, __: GetJsonSchemaHandler) -> JsonSchemaValue:
        more = f"(?:{SEPARATOR}+{self.pattern})*" if self.several else ""
        text = f"^{SEPARATOR}*(?:{self.pattern}{more}{SEPARATOR}*)?$"
        numbers = {"minimum": 1, "maximum": LARGEST_ID}
        kinds = ["integer"] if self._may_be_number else []
        items = {"type": ["null", "string", *kinds], "pattern": text, **numbers}
        nothing = {"title": self.none, "type": ["null", "array", *kinds], "items": items, **numbers}
        if not self.several:
            nothing["maxItems"] = 1
        return {"anyOf": [nothing, {"title": "Type", "type": "string", "pattern": text}]}


@dataclass(frozen=True)
class Between:
    """An integer from `lowest` to `highest`, for `Annotated`; with a title in forms, also None."""

    lowest: int
    highest: int
    title: str = ""

    def _checked(self, value: object) -> int | None:
        if value is None and self.title:
            return None
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
        number = {"type": "integer", "minimum": self.lowest, "maximum": self.highest}
        # Without titles, forms would call the alternatives "int" and "None".
        nothing = {"title": "Not given", "type": ["null", "array"], "maxItems": 0}
        return {"anyOf": [nothing, {**number, "title": self.title}]} if self.title else number


def credentials_of(value: object) -> DigitalOceanCredentials | str | None:
    """Read the credentials of one account.

    Args:
        value: A block or its name; None or an empty text for the token in the environment.

    Raises:
        PydanticCustomError: It cannot be the name of a block.
    """
    several = several_credentials_of(value) or []
    if (number := max(len(_parts(value)), len(several))) > 1:
        raise _refusal(f"expected the credentials of one account, not of {number}")
    return several[0] if several else None


def several_credentials_of(value: object) -> list[DigitalOceanCredentials | str] | None:
    """Read the credentials of any number of accounts: blocks, or names separated by commas or spaces."""
    return [each for part in _parts(value) for each in _credentials_in(part)] or None


def _credentials_in(part: object) -> list[DigitalOceanCredentials | str]:
    if part is None:
        return []
    if isinstance(part, DigitalOceanCredentials):
        return [part]
    if isinstance(part, dict):
        # As `run_deployment` sends a block: without its token.
        part = part.get("_block_document_name")
    if not isinstance(part, str) or not re.search(CREDENTIALS, part):
        # The value is not quoted: it may be a token.
        raise _refusal("expected the name of a credentials block, of lowercase letters, digits and dashes; not a token")
    return re.findall(BLOCK_NAME, part)


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


def _optional_ids(what_none_means: str) -> dict[str, object]:
    """Make the schema of IDs that may be left out."""
    return {
        "anyOf": [
            {
                **_ID_SCHEMA,
                "title": what_none_means,
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

_REGION_SCHEMA = {
    "anyOf": [
        {"title": "Choose", "type": "string", "enum": [f"{slug} ({name})" for slug, name in REGION_NAMES.items()]},
        {"title": "Type a slug", "type": "string", "pattern": REGION},
    ]
}
_OPTIONAL_REGION_SCHEMA = {
    "anyOf": [
        {
            "title": "All other regions",
            "type": ["null", "array"],
            "items": {"type": "string", "pattern": REGION},
            "minItems": 1,
            "maxItems": 1,
        },
        *_REGION_SCHEMA["anyOf"],
    ]
}


def _credentials_schema(*, several: bool) -> dict[str, object]:
    """Make the schema of credentials: an object is a reference to a block, which Prefect replaces by the block."""
    text = CREDENTIALS if several else f"^{SEPARATOR}*(?:{BLOCK_NAME}{SEPARATOR}*)?$"
    items = {"type": ["null", "string", "object"], "pattern": text, "minProperties": 1}
    nothing = {"title": "Token in the environment", "type": ["null", "object", "array"], "minProperties": 1}
    limits = {} if several else {"maxItems": 1}
    named = {"title": "Names of blocks" if several else "Name of a block", "type": "string", "pattern": text}
    return {"anyOf": [{**nothing, "items": items, **limits}, named]}


OptionalCredentials: TypeAlias = Annotated[
    DigitalOceanCredentials | str | None,
    BeforeValidator(credentials_of),
    WithJsonSchema(_credentials_schema(several=False)),
]
SeveralCredentials: TypeAlias = Annotated[
    list[DigitalOceanCredentials | str] | None,
    BeforeValidator(several_credentials_of),
    WithJsonSchema(_credentials_schema(several=True)),
]
Region: TypeAlias = Annotated[str, BeforeValidator(region_of), WithJsonSchema(_REGION_SCHEMA)]
OptionalRegion: TypeAlias = Annotated[
    str | None, BeforeValidator(optional_region_of), WithJsonSchema(_OPTIONAL_REGION_SCHEMA)
]
Regions: TypeAlias = Annotated[list[str] | None, BeforeValidator(slugs_of), WithJsonSchema(_REGIONS_SCHEMA)]
DropletTag: TypeAlias = Annotated[str | None, BeforeValidator(tag_of), WithJsonSchema(_TAG_SCHEMA)]
ImageIds: TypeAlias = Annotated[list[int], BeforeValidator(_required_ids_of), WithJsonSchema(_IDS_SCHEMA)]
OptionalImageIds: TypeAlias = Annotated[
    list[int] | None, BeforeValidator(ids_of), WithJsonSchema(_optional_ids("Newest of each Droplet"))
]
OptionalDropletIds: TypeAlias = Annotated[
    list[int] | None, BeforeValidator(partial(ids_of, what="Droplet")), WithJsonSchema(_optional_ids("All Droplets"))
]
SizeSlug: TypeAlias = Annotated[
    str | None, Words("[a-z0-9][a-z0-9.-]*", "the slug of a size, such as s-1vcpu-1gb", none="The original's")
]
SshKeys: TypeAlias = Annotated[
    list[str] | None, Words(SSH_KEY, "the ID or MD5 fingerprint of an SSH key", none="None", several=True)
]
VpcUuid: TypeAlias = Annotated[str | None, Words(UUID, "the UUID of a VPC", none="The region's default")]
Tags: TypeAlias = Annotated[list[str] | None, Words(TAG_PATTERN.pattern, "a valid tag", none="None", several=True)]
NameSuffix: TypeAlias = Annotated[
    str, BeforeValidator(name_suffix_of), WithJsonSchema({"type": "string", "pattern": NAME_SUFFIX})
]
Sample: TypeAlias = Annotated[int, Between(1, 100)]
Newest: TypeAlias = Annotated[int, Between(1, 100)]
TimeoutMinutes: TypeAlias = Annotated[int, Between(1, 7 * 24 * 60)]
HowMany: TypeAlias = Annotated[int, Between(0, 10000)]
Source: TypeAlias = Literal["backups", "snapshots"]
ApprovalHours: TypeAlias = Annotated[int, Between(1, 7 * 24)]
OptionalHours: TypeAlias = Annotated[int | None, Between(1, 365 * 24, "Hours")]
OptionalDays: TypeAlias = Annotated[int | None, Between(1, 3650, "Days")]
OptionalAge: TypeAlias = Annotated[int | None, Between(0, 10000, "Days")]
OptionalPort: TypeAlias = Annotated[int | None, Between(1, 65535, "Port")]
