"""The global concurrency limits: the mutex of the image locks, and the distributed rate limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate

from deployments.server_resources.server_resource import MISSING, if_exists
from flows.image_locks import MUTEX, MUTEX_DECAY_PER_SECOND, MUTEX_SLOTS
from tasks.accounts import DEFAULT_ACCOUNT, for_account
from tasks.digitalocean.settings import RateLimit
from tasks.distributed_rate_limit import DISTRIBUTED_LIMIT, MOST_SLOTS, slots_per_second


@dataclass(frozen=True)
class LimitResource:
    """A global concurrency limit.

    Attributes:
        limit: Its name.
        decay: How many slots are freed per second; 0 if they must be released.
    """

    limit: str
    slots: int
    decay: float = 0.0

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"concurrency limit {self.limit}"

    async def diff(self, client: PrefectClient) -> str:
        """Say what differs on the server; empty if nothing does."""
        limit = await if_exists(client.read_global_concurrency_limit_by_name(self.limit))
        if limit is None:
            return MISSING
        if not limit.active:
            return "switched off"
        same = limit.limit == self.slots and math.isclose(limit.slot_decay_per_second, self.decay)
        return "" if same else "limit or decay differs"

    async def apply(self, client: PrefectClient) -> None:
        """Create or update the limit."""
        await client.upsert_global_concurrency_limit_by_name(self.limit, self.slots, self.decay)
        await client.update_global_concurrency_limit(self.limit, GlobalConcurrencyLimitUpdate(active=True))


def limits(rate_limits: Sequence[RateLimit], account: str = DEFAULT_ACCOUNT) -> list[LimitResource]:
    """List the limits of an account.

    Args:
        rate_limits: Those of its token.
        account: Its name.
    """
    return [
        LimitResource(for_account(MUTEX, account), MUTEX_SLOTS, MUTEX_DECAY_PER_SECOND),
        LimitResource(for_account(DISTRIBUTED_LIMIT, account), MOST_SLOTS, slots_per_second(rate_limits)),
    ]
