from __future__ import annotations

import asyncio
import json

import pytest
from pydantic import SecretStr, ValidationError

from deployments.sandbox import Sandbox
from tasks.accounts import DEFAULT_ACCOUNT, UNSAVED_ACCOUNT, for_account
from tasks.connection import connect
from tasks.credentials import DigitalOceanCredentials, account_of
from tasks.digitalocean import ConfigurationError, Settings
from tasks.digitalocean.settings import RateLimit
from tasks.regions import list_regions

TOKEN = "dop_v1_" + "5ec7e7" * 8
OTHER = "dop_v1_" + "0ddba11" * 8


@pytest.fixture(autouse=True)
def _token_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", OTHER)


def block(**fields: object) -> DigitalOceanCredentials:
    return DigitalOceanCredentials(**{"token": TOKEN} | fields)


def test_a_block_without_further_fields_has_the_documented_url_and_limits() -> None:
    settings, default = block().settings(), Settings(token=SecretStr(TOKEN))
    assert settings.token.get_secret_value() == TOKEN
    assert (settings.api_url, settings.rate_limits) == ("https://api.digitalocean.com", default.rate_limits)


def test_the_fields_of_a_block_win_over_the_environment_which_decides_everything_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"API_URL": "http://127.0.0.1:1", "RATE_LIMITS": "[[1, 1]]", "MANAGED_TAG": "ours"}.items():
        monkeypatch.setenv(f"DIGITALOCEAN_{name}", value)
    monkeypatch.setenv("DIGITALOCEAN_ACCESS_TOKEN", OTHER)
    settings = block(api_url="http://127.0.0.1:2", rate_limits=[[20, 6]]).settings()
    assert settings.token.get_secret_value() == TOKEN
    assert settings.api_url == "http://127.0.0.1:2"
    assert settings.rate_limits == (RateLimit(20, 6),)
    assert settings.managed_tag == "ours"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"token": "two words"}, "token: the token is empty or contains characters"),
        ({"api_url": "http://example.com"}, "api_url: http would send the token unencrypted"),
        ({"rate_limits": "many"}, "rate_limits: expected JSON such as"),
    ],
)
def test_a_wrong_field_is_named_with_its_block_and_without_its_value(fields: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        block(**fields).settings()
    assert str(caught.value).startswith("credentials 'unsaved': ")
    assert problem in str(caught.value)
    assert "DIGITALOCEAN_" not in str(caught.value)
    assert next(iter(fields.values())) not in str(caught.value)


def test_a_wrong_setting_of_the_environment_is_not_blamed_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITALOCEAN_HTTP_RETRY_MAX", "many")
    with pytest.raises(ConfigurationError, match="DIGITALOCEAN_HTTP_RETRY_MAX"):
        block().settings()


def test_the_token_shows_neither_in_a_block_nor_in_its_errors() -> None:
    made = block()
    shown = f"{made!r} {made} {made.model_dump()} {made.model_dump_json()} {json.dumps(made.model_dump(mode='json'))}"
    assert TOKEN not in shown
    with pytest.raises(ValidationError) as caught:
        block(token={"not": TOKEN})
    assert TOKEN not in str(caught.value)


def test_calls_with_the_same_credentials_share_a_client_and_accounts_share_none() -> None:
    assert block().get_client() is block().get_client()
    assert connect(block()).client is block().get_client()
    assert block(token=OTHER).get_client() is not block().get_client()
    assert connect().client is not block(token=OTHER).get_client()
    assert connect(connect()) is connect()


def test_accounts_are_named_after_their_blocks() -> None:
    assert account_of(None) == DEFAULT_ACCOUNT
    assert account_of("prod") == "prod"
    assert account_of(block()) == account_of(connect(block())) == UNSAVED_ACCOUNT
    assert for_account("limit", DEFAULT_ACCOUNT) == "limit"
    assert for_account("limit", "prod") == "limit-prod"


def test_a_client_works_in_any_event_loop_and_a_task_takes_the_block() -> None:
    with Sandbox(speed=1000) as sandbox:
        given = block(token=sandbox.token, api_url=sandbox.url)
        for _ in range(2):
            assert asyncio.run(given.get_client().list_regions())
        assert asyncio.run(list_regions.directly(credentials=given))
        assert sandbox.record.requests_by_status() == {200: 3}
