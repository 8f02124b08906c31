"""What is wrong with the environment of a command, before Prefect is imported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows.environment import environment_problem
from flows.prefect_settings import PROXY_VARIABLES, set_defaults


@pytest.fixture(autouse=True)
def _nothing_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (*PROXY_VARIABLES, "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)


def test_an_empty_environment_has_no_problem() -> None:
    assert environment_problem() == ""


@pytest.mark.parametrize("name", PROXY_VARIABLES)
@pytest.mark.parametrize(
    "value",
    ["socks5://user:secret@127.0.0.1:1", " http://user:secret@127.0.0.1:1 ", "http://secret:port", "ftp://secret"],
)
def test_an_unusable_proxy_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert environment_problem().startswith(f"{name} ")
    assert "secret" not in environment_problem()


@pytest.mark.parametrize(
    "value", ["http://proxy.example:3128", "proxy.example:3128", "https://user:secret@proxy.example"]
)
def test_a_usable_proxy_is_not_a_problem(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    assert environment_problem() == ""


@pytest.mark.parametrize("file", ["/missing/certificates.pem", os.devnull, "."])
def test_an_unreadable_certificate_file_is_named(monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", file)
    assert environment_problem().startswith(f"SSL_CERT_FILE names {file}, ")


def test_an_address_that_no_client_can_parse_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://[::1")
    assert environment_problem().startswith("PREFECT_API_URL ")


@pytest.mark.parametrize(
    ("contents", "line"),
    [
        ("DIGITALOCEAN_API_URL http://127.0.0.1", 1),
        ("\n# secret\n\n  DIGITALOCEAN_API_URL: secret\n", 4),
        ("A=b\nexport DIGITALOCEAN_TOKEN='secret\nC=d\n", 2),
        ('A="secret', 1),
        ("A=b\r\n\r\n=secret\r\n", 3),
        ("DIGITALOCEAN_API_URL\n", 1),
        ("A=b\nPREFECT_API_URL:http://secret\n", 2),
    ],
)
def test_a_line_of_the_env_file_that_would_be_skipped_is_named_without_its_text(
    tmp_path: Path, contents: str, line: int
) -> None:
    (tmp_path / ".env").write_bytes(contents.encode())
    assert environment_problem().startswith(f"{tmp_path / '.env'}, line {line}: ")
    assert "secret" not in environment_problem()


@pytest.mark.parametrize(
    "contents", ["", "# only a comment", "\ufeffA=b", "export A = b # c\n\nB='x y'\nC=\"x\ny\"\nSOME_SWITCH\nD="]
)
def test_a_readable_env_file_is_not_a_problem(tmp_path: Path, contents: str) -> None:
    (tmp_path / ".env").write_text(contents, encoding="utf-8")
    assert environment_problem() == ""


def test_an_env_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff")
    assert environment_problem() == f"{tmp_path / '.env'} cannot be read: it is not UTF-8"


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("NO_PROXY", "", "127.0.0.1,localhost"),
        ("NO_PROXY", "internal.example, localhost", "internal.example,127.0.0.1,localhost"),
        ("no_proxy", "internal.example", "internal.example,127.0.0.1,localhost"),
    ],
)
def test_the_proxy_is_bypassed_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, name: str, before: str, after: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv(name, before)
    set_defaults()
    assert os.environ[name] == after
