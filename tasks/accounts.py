"""Names of accounts, and of what each account has of its own."""

from __future__ import annotations

# The account of runs without credentials: its token is in the environment.
DEFAULT_ACCOUNT = "default"
# A block that is not on Prefect's server has no name.
UNSAVED_ACCOUNT = "unsaved"
# How the names of flow runs begin, except those of the default account, of several, and of unsaved blocks.
RUNS_OF_ACCOUNTS = "@"


def for_account(name: str, account: str) -> str:
    """Make the name of something that each account has of its own, such as a limit; the default one has no suffix."""
    return name if account == DEFAULT_ACCOUNT else f"{name}-{account}"


def prefix_of_runs(account: str) -> str:
    """Make the beginning of the names of an account's flow runs, by which automations tell accounts apart.

    Tags would not do: events show tags that a run adds to itself only minutes later (Prefect's server caches them).
    """
    return f"{RUNS_OF_ACCOUNTS}{account}: "
