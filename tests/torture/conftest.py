from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.conftest import (
    _far_from_any_env_file,
    _flows_of_this_process_have_a_server,
    start,
)
from tests.torture.ledger import Ledger
from tests.torture.reliability import write_section

__all__ = ["_far_from_any_env_file", "_flows_of_this_process_have_a_server", "start"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--torture", action="store_true", help="everything here, and write tests/RELIABILITY.md")


def is_full(config: pytest.Config) -> bool:
    # Where pytest did not begin in this folder, the option came too late to be known.
    return bool(config.getoption("--torture", default=False))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if is_full(config):
        return
    left_out = [item for item in items if item.get_closest_marker("torture")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("torture")]


@pytest.fixture(scope="module")
def ledger(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Iterator[Ledger]:
    """What came of a module's runs with faults; written down at the end if it is the whole of them."""
    ledger = Ledger()
    yield ledger
    if is_full(pytestconfig) and not pytestconfig.option.keyword and ledger.verdicts:
        write_section(request.module.TITLE, ledger.text(request.module.CONDITIONS))
