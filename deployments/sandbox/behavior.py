"""Behavior that DigitalOcean does not document, so that a client must handle each variant."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal


@dataclass(frozen=True, slots=True)
class Behavior:
    """How the sandbox behaves where the API is not documented. Its speed divides the seconds.

    Args:
        taggable_backups: Whether a backup can be tagged before it is a snapshot; if not, tagging returns 422.
        duplicate_transfers: Whether a second transfer of an image to the same region is accepted while the first is in
            progress.
        lag_seconds: How long an image's `regions` and `type`, and new snapshots, lag behind the status of the action.
        feed_lag_seconds: How long after its start an action appears in `/v2/actions`.
        lock_seconds: How long after its conversion an image refuses other actions.
        max_per_page: The maximum of `per_page`.
        out_of_scope: Paths that the token's scopes do not cover, such as `/v2/actions`, or pairs of method and path,
            such as `("POST", "/v2/droplets/*/actions")`, where `*` stands for anything: they return 403.
        reachable_droplets: Whether new Droplets have the public address 127.0.0.1; if not, theirs leads nowhere.
    """

    taggable_backups: bool = True
    duplicate_transfers: Literal["refuse", "accept"] = "refuse"
    lag_seconds: float = 0.0
    feed_lag_seconds: float = 0.0
    lock_seconds: float = 3.0
    max_per_page: int = 200
    out_of_scope: frozenset[str | tuple[str, str]] = frozenset()
    reachable_droplets: bool = False

    def is_out_of_scope(self, method: str, path: str) -> bool:
        """Whether the token's scopes do not cover a request."""
        pairs = ((None, each) if isinstance(each, str) else each for each in self.out_of_scope)
        return any(asked in (None, method) and fnmatchcase(path, pattern) for asked, pattern in pairs)
