"""Names of accounts, and of what each account has of its own."""

from __future__ import annotations

# The account of runs without credentials: its token is in the environment.
DEFAULT_ACCOUNT = "default"
# A block that is not on Prefect's server has no name.
UNSAVED_ACCOUNT = "unsaved"


def for_account(name: str, account: str) -> str:
    """Make the name of something that each account has of its own, such as a limit; the default one has no suffix."""
    return name if account == DEFAULT_ACCOUNT else f"{name}-{account}"


def tag_for(account: str) -> str:
    """Make the tag on flow runs that work on an account."""
    return f"account:{account}"
