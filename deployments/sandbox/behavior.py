"""What DigitalOcean does not document, or leaves to its users, and a client has to be ready for either way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Behavior:
    """How the sandbox behaves where the API's description leaves it open.

    Seconds are the API's own: the sandbox's speed divides them.

    Args:
        taggable_backups: Whether a backup can be tagged before it is a snapshot; if not, tagging answers 422.
        duplicate_transfers: What becomes of a transfer to a region that another transfer of the image is under
            way to.
        lag_seconds: How long after an action's status an image's `regions` and `type` follow.
        feed_lag_seconds: How long after an action was accepted it appears in `/v2/actions`.
        lock_seconds: How long after its conversion an image refuses other actions.
        max_per_page: The longest page a list has, however much is asked for.
        out_of_scope: Paths that the token's scopes do not cover, such as `/v2/actions`: they answer 403.
    """

    taggable_backups: bool = True
    duplicate_transfers: Literal["refuse", "accept"] = "refuse"
    lag_seconds: float = 0.0
    feed_lag_seconds: float = 0.0
    lock_seconds: float = 3.0
    max_per_page: int = 200
    out_of_scope: frozenset[str] = frozenset()
