"""What an operator may set, and what he is told when it is wrong."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from tasks.digitalocean import ConfigurationError, Settings, load_settings
from tests.tasks.digitalocean.in_process import TOKEN, make_settings


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", TOKEN)
    return TOKEN


def complaint() -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    return str(caught.value)


def test_only_a_token_is_required(token: str) -> None:
    settings = load_settings()
    assert settings.token == SecretStr(token)
    assert settings.api_url == "https://api.digitalocean.com"
    assert settings.rate_limits == ((250, 60), (5000, 3600))
    assert (settings.poll_interval_seconds, settings.poll_interval_max_seconds) == (5, 120)
    assert (settings.http_timeout_seconds, settings.http_retry_max) == (30, 5)
    assert settings.managed_tag == "prefect:replicated"
    assert settings.snapshot_price_per_gb_month == 0.06


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("API_URL", "https://api.example.com", "https://api.example.com"),
        ("RATE_LIMITS", "[[5, 1], [100, 60.5]]", ((5, 1), (100, 60.5))),
        ("POLL_INTERVAL_SECONDS", "0.5", 0.5),
        ("POLL_INTERVAL_MAX_SECONDS", "300", 300),
        ("HTTP_TIMEOUT_SECONDS", "7.5", 7.5),
        ("HTTP_RETRY_MAX", "0", 0),
        ("MANAGED_TAG", "team:a_copies-1", "team:a_copies-1"),
        ("SNAPSHOT_PRICE_PER_GB_MONTH", "0.06", 0.06),
        ("SNAPSHOT_PRICE_PER_GB_MONTH", "0", 0),
    ],
)
@pytest.mark.usefixtures("token")
def test_every_variable_is_read(monkeypatch: pytest.MonkeyPatch, variable: str, text: str, value: object) -> None:
    monkeypatch.setenv(f"DIGITALOCEAN_{variable}", text)
    assert getattr(load_settings(), variable.lower()) == value


def test_the_token_may_be_set_under_either_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITALOCEAN_ACCESS_TOKEN", "from-doctl")
    assert load_settings().token.get_secret_value() == "from-doctl"
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", "ours")
    assert load_settings().token.get_secret_value() == "ours"


def test_whitespace_around_the_token_is_stripped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", f" {TOKEN}\n")
    assert load_settings().token.get_secret_value() == TOKEN


def test_the_environment_overrides_the_env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "DIGITALOCEAN_ACCESS_TOKEN=from-file\nDIGITALOCEAN_HTTP_RETRY_MAX=2\n"
        "DIGITALOCEAN_HTTP_TIMEOUT_SECONDS=9\nDIGITALOCEAN_SOMETHING_ELSE=1\nDATABASE_URL=elsewhere\n"
    )
    monkeypatch.setenv("DIGITALOCEAN_HTTP_TIMEOUT_SECONDS", "8")
    settings = load_settings()
    assert settings.token.get_secret_value() == "from-file"
    assert (settings.http_retry_max, settings.http_timeout_seconds) == (2, 8)


@pytest.mark.parametrize("empty", [{}, {"DIGITALOCEAN_TOKEN": ""}])
def test_without_a_token_the_message_names_the_variable_and_the_demo(
    monkeypatch: pytest.MonkeyPatch, empty: dict[str, str]
) -> None:
    for name, value in empty.items():
        monkeypatch.setenv(name, value)
    assert "DIGITALOCEAN_TOKEN is not set" in complaint()
    assert "make demo" in complaint()


@pytest.mark.usefixtures("token")
def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITALOCEAN_HTTP_RETRY_MAX", "")
    monkeypatch.setenv("DIGITALOCEAN_RATE_LIMITS", "")
    assert load_settings() == make_settings()


@pytest.mark.parametrize(
    "url",
    ["http://localhost:8080", "http://127.0.0.1", "http://127.8.9.10:1", "http://[::1]:8080", "https://203.0.113.9"],
)
def test_plain_http_is_allowed_only_for_this_machine(url: str) -> None:
    assert make_settings(api_url=url).api_url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://api.digitalocean.com",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://0.0.0.0:8080",
        "http://10.0.0.1",
        "http://localhost@example.com",
        "https://user:password@example.com",
        "https://example.com/?next=1",
        "https://example.com/#part",
        "ftp://localhost",
        "api.digitalocean.com",
        "https://",
        "https://example.com:99999",
        "https://exam ple.com",
    ],
)
@pytest.mark.usefixtures("token")
def test_unsafe_addresses_are_rejected_naming_the_variable(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DIGITALOCEAN_API_URL", url)
    assert complaint().startswith("DIGITALOCEAN_API_URL: ")


@pytest.mark.parametrize("tail", ["/", "/v2", "/v2/"])
def test_the_address_may_include_the_api_version(tail: str) -> None:
    assert make_settings(api_url=f"https://api.example.com{tail}").api_url == "https://api.example.com"


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("RATE_LIMITS", "[]"),
        ("RATE_LIMITS", "[[250]]"),
        ("RATE_LIMITS", "[[0, 60]]"),
        ("RATE_LIMITS", "[[250, 0]]"),
        ("RATE_LIMITS", "[[250, -60]]"),
        ("RATE_LIMITS", "[[2.5, 60]]"),
        ("RATE_LIMITS", "250"),
        ("RATE_LIMITS", "250 a minute"),
        ("RATE_LIMITS", "[[250, 60]"),
        ("POLL_INTERVAL_SECONDS", "0"),
        ("POLL_INTERVAL_MAX_SECONDS", "-1"),
        ("HTTP_TIMEOUT_SECONDS", "soon"),
        ("HTTP_RETRY_MAX", "-1"),
        ("HTTP_RETRY_MAX", "11"),
        ("HTTP_RETRY_MAX", "1.5"),
        ("MANAGED_TAG", "two words"),
        ("MANAGED_TAG", "x" * 256),
        ("SNAPSHOT_PRICE_PER_GB_MONTH", "-0.01"),
        ("SNAPSHOT_PRICE_PER_GB_MONTH", "6 cents"),
        ("SNAPSHOT_PRICE_PER_GB_MONTH", "nan"),
        ("SNAPSHOT_PRICE_PER_GB_MONTH", "inf"),
    ],
)
@pytest.mark.usefixtures("token")
def test_invalid_values_are_rejected_naming_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    monkeypatch.setenv(f"DIGITALOCEAN_{variable}", text)
    assert f"DIGITALOCEAN_{variable}" in complaint()


@pytest.mark.usefixtures("token")
def test_the_poll_intervals_must_be_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITALOCEAN_POLL_INTERVAL_SECONDS", "121")
    assert "POLL_INTERVAL_SECONDS is longer than" in complaint()
    monkeypatch.setenv("DIGITALOCEAN_POLL_INTERVAL_MAX_SECONDS", "121")
    assert load_settings().poll_interval_max_seconds == 121


@pytest.mark.usefixtures("token")
def test_all_errors_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITALOCEAN_HTTP_RETRY_MAX", "many")
    monkeypatch.setenv("DIGITALOCEAN_API_URL", "nowhere")
    assert "DIGITALOCEAN_HTTP_RETRY_MAX" in complaint()
    assert "DIGITALOCEAN_API_URL" in complaint()


def test_the_token_is_not_in_the_repr_of_the_settings() -> None:
    settings = make_settings()
    for shown in (str(settings), repr(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert TOKEN not in shown


@pytest.mark.parametrize("bad", ["two-halves of-it", "with\x00zero", "clé-secrète", "line\nbreak"])
@pytest.mark.parametrize("variable", ["DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN"])
def test_an_impossible_token_is_rejected_without_being_repeated(tmp_path: Path, bad: str, variable: str) -> None:
    with pytest.raises(ValidationError) as direct:
        Settings.model_validate({variable: bad})
    assert bad not in "".join(traceback.format_exception(direct.value))
    assert bad not in repr(direct.value)


@pytest.mark.parametrize(
    "wrong", [{"TOKEN": "two halves"}, {"HTTP_RETRY_MAX": "x"}, {"RATE_LIMITS": "x"}, {"API_URL": "x"}]
)
def test_no_exception_shows_the_token(monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str]) -> None:
    variables = {"TOKEN": TOKEN, **wrong}
    for name, value in variables.items():
        monkeypatch.setenv(f"DIGITALOCEAN_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert variables["TOKEN"] not in shown


@pytest.mark.parametrize("change", [{"http_retry_max": 1}, {"token": "other"}])
def test_settings_are_values(change: dict[str, Any]) -> None:
    settings = make_settings()
    assert settings == make_settings()
    assert hash(settings) == hash(make_settings())
    assert settings != make_settings(**change)
    with pytest.raises(ValidationError):
        settings.http_retry_max = 3  # type: ignore[misc]
