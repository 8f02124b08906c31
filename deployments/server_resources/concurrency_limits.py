"""The global concurrency limits: one lock is acquired at a time, and the API's rate limit, shared by all runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.exceptions import ObjectNotFound

from flows.image_locks import MUTEX, MUTEX_DECAY_PER_SECOND, MUTEX_SLOTS
from tasks.digitalocean.settings import RateLimit
from tasks.distributed_rate_limit import DISTRIBUTED_LIMIT, MOST_SLOTS, slots_a_second


@dataclass(frozen=True)
class LimitPart:
    """A global concurrency limit.

    Attributes:
        limit: Its name.
        slots: How many slots it has.
        decay: How many slots free themselves a second; 0 if they are given back.
    """

    limit: str
    slots: int
    decay: float = 0.0

    @property
    def name(self) -> str:
        """What it is, for people."""
        return f"concurrency limit {self.limit}"

    async def lacking(self, client: PrefectClient) -> str:
        """Say what is not as it should be; empty if nothing."""
        try:
            limit = await client.read_global_concurrency_limit_by_name(self.limit)
        except ObjectNotFound:
            return "is missing"
        if not limit.active:
            return "is switched off"
        as_it_should_be = limit.limit == self.slots and math.isclose(limit.slot_decay_per_second, self.decay)
        return "" if as_it_should_be else "has other numbers"

    async def make(self, client: PrefectClient) -> None:
        """Make the limit, or correct it."""
        await client.upsert_global_concurrency_limit_by_name(self.limit, self.slots, self.decay)
        await client.update_global_concurrency_limit(self.limit, GlobalConcurrencyLimitUpdate(active=True))


def limits(rate_limits: Sequence[RateLimit]) -> list[LimitPart]:
    """List the limits.

    Args:
        rate_limits: The token's.

    Returns:
        The limits.
    """
    return [
        LimitPart(MUTEX, MUTEX_SLOTS, MUTEX_DECAY_PER_SECOND),
        LimitPart(DISTRIBUTED_LIMIT, MOST_SLOTS, slots_a_second(rate_limits)),
    ]
