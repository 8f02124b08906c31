"""The settings, from the environment or a `.env` file.

The parser skips lines of `.env` that it cannot parse, and a skipped DIGITALOCEAN_API_URL would send a test to the real
API. So the file is checked first.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, NamedTuple, TypeAlias
from urllib.parse import SplitResult, urlsplit

from dotenv.parser import Binding, parse_stream
from pydantic import AliasChoices, Field, PositiveInt, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tasks.digitalocean.errors import ConfigurationError, TokenMissing
from tasks.digitalocean.models import TagName

PREFIX = "DIGITALOCEAN_"
ENV_FILE = Path(".env")
OURS = (PREFIX, "PREFECT_")
MOST_RETRIES = 10
# Instead of a token, in the deployments of other accounts: an empty variable would let one in `.env` count.
NO_TOKEN = "only with credentials"  # noqa: S105  # not a token


Seconds: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class RateLimit(NamedTuple):
    """A sliding window: at most `requests` in any `seconds`."""

    requests: PositiveInt
    seconds: Seconds


class Settings(BaseSettings):
    """Settings of the API client.

    Attributes:
        token: API token; the only setting without a default.
        api_url: URL of the API. Plain HTTP is allowed only for loopback addresses.
        rate_limits: Sliding windows of the token. The defaults are those of the documentation:
            https://docs.digitalocean.com/reference/api/digitalocean/#section/Introduction/Rate-Limit
        poll_interval_seconds: The shortest pause between two polls of the same action.
        poll_interval_max_seconds: The longest pause between two polls of the same action.
        http_timeout_seconds: Timeout of one request.
        http_retry_max: Retries of a request that may be repeated, 0 to 10.
        action_restart_max: Restarts of an action that ended errored, 0 to 10.
        managed_tag: The tag on images that this project converts.
        snapshot_price_per_gb_month: Monthly price of a GB of snapshots in US dollars, for reports; 0 to report no
            costs. Copies in further regions are free: https://docs.digitalocean.com/products/images/snapshots/details/pricing/
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        # A rejected value may be the token itself.
        hide_input_in_errors=True,
    )

    token: SecretStr = Field(validation_alias=AliasChoices(f"{PREFIX}TOKEN", f"{PREFIX}ACCESS_TOKEN", "token"))
    api_url: str = "https://api.digitalocean.com"
    rate_limits: Annotated[tuple[RateLimit, ...], Field(min_length=1), NoDecode] = (
        RateLimit(250, 60),
        RateLimit(5000, 3600),
    )
    poll_interval_seconds: Seconds = 5
    poll_interval_max_seconds: Seconds = 120
    http_timeout_seconds: Seconds = 30
    http_retry_max: int = Field(default=5, ge=0, le=MOST_RETRIES)
    action_restart_max: int = Field(default=2, ge=0, le=10)
    managed_tag: TagName = "prefect:replicated"
    snapshot_price_per_gb_month: float = Field(default=0.06, ge=0, allow_inf_nan=False)

    @field_validator("token")
    @classmethod
    def _fits_a_header(cls, token: SecretStr) -> SecretStr:
        value = token.get_secret_value().strip()
        if value == NO_TOKEN:
            raise ValueError(
                "this deployment is another account's: set its parameter credentials to the account's name"
            )
        if not value or not value.isascii() or not _is_one_word(value):
            raise ValueError("the token is empty or contains characters that are not allowed in a token")
        return SecretStr(value)

    @field_validator("rate_limits", mode="before")
    @classmethod
    def _from_json(cls, limits: object) -> object:
        # Not by pydantic-settings, whose error has another type and quotes the value.
        try:
            return json.loads(limits) if isinstance(limits, str) else limits
        except ValueError:
            raise ValueError("expected JSON such as [[250, 60], [5000, 3600]]") from None

    @field_validator("api_url")
    @classmethod
    def _is_safe_to_send_a_token_to(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or not _is_one_word(url) or not _has_port(parts):
            raise ValueError("expected a URL such as https://api.digitalocean.com")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("the URL may contain only scheme, host, port and path")
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise ValueError("http would send the token unencrypted; use https (http is allowed only for loopback)")
        return parts.geturl().rstrip("/").removesuffix("/v2")

    @model_validator(mode="after")
    def _pauses_are_in_order(self) -> Settings:
        if self.poll_interval_seconds > self.poll_interval_max_seconds:
            raise ValueError("POLL_INTERVAL_SECONDS is longer than POLL_INTERVAL_MAX_SECONDS")
        return self

    def pause_after(self, tries: int) -> float:
        """How long to wait after a try before the next, in seconds: doubles, up to the longest poll interval."""
        return min(self.poll_interval_seconds * 2.0 ** (tries - 1), self.poll_interval_max_seconds)


def _is_one_word(text: str) -> bool:
    return text.isprintable() and " " not in text


def _has_port(parts: SplitResult) -> bool:
    """Whether the port is valid or left to the scheme."""
    try:
        return parts.port != 0
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings(**given: object) -> Settings:
    """Read the settings from the environment and `.env`.

    Args:
        **given: Settings that come from elsewhere, such as `token`.

    Returns:
        The settings.

    Raises:
        TokenMissing: Only the token is missing.
        ConfigurationError: A variable, a line of `.env` or a given setting is not valid; the message names it, but not
            its value.
    """
    if problem := env_file_problem():
        raise ConfigurationError(problem)
    try:
        return Settings(**given)  # type: ignore[arg-type]  # validated here
    except ValidationError as error:
        # The token is the only setting without a default.
        only_missing = all(problem["type"] == "missing" for problem in error.errors(include_input=False))
        kind = TokenMissing if only_missing else ConfigurationError
        raise kind(explain(error, given)) from None


def env_file_problem() -> str:
    """Find out why the settings in `.env` cannot be read.

    Returns:
        A message with the path and the line number, but not the contents; empty if the file is valid or missing.
    """
    if not ENV_FILE.exists():
        return ""
    path = ENV_FILE.absolute()
    try:
        with ENV_FILE.open(encoding="utf-8") as file:
            wrong = [_line_of(each) for each in parse_stream(file) if each.error or _sets_nothing(each)]
    except (OSError, UnicodeDecodeError) as error:
        return f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}"
    if not wrong:
        return ""
    return f"{path}, line {wrong[0]}: expected NAME=value, with a value in quotes if it contains spaces or a #"


def _line_of(binding: Binding) -> int:
    """The line number of a binding; the parser counts the blank lines before it as part of it."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _sets_nothing(binding: Binding) -> bool:
    """Whether a line has a name of ours without `=`, which the parser ignores."""
    return binding.value is None and (binding.key or "").startswith(OURS)


def explain(error: ValidationError, given: Collection[str] = ()) -> str:
    """Say which settings are missing or wrong, without their values.

    Args:
        error: What pydantic found.
        given: Names of settings that do not come from the environment.
    """
    problems = []
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        name = str(problem["loc"][0]).upper().removeprefix(PREFIX) if problem["loc"] else ""
        if (field := "token" if name == "ACCESS_TOKEN" else name.lower()) in given:
            problems.append(f"{field}: {problem['msg'].removeprefix('Value error, ')}")
        elif name in {"TOKEN", "ACCESS_TOKEN"} and problem["type"] == "missing":
            problems.append(
                f"{PREFIX}TOKEN is not set: create an API token in DigitalOcean's control panel and put it into "
                "the environment or .env; to try this project without one, run `make demo` or "
                "`digitalocean-backups demo`"
            )
        else:
            text = problem["msg"].removeprefix("Value error, ")
            problems.append(f"{PREFIX}{name}: {text}" if name else text)
    return "; ".join(problems)
