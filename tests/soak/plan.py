"""How long everything in the soak takes, all of it following from the product's own times."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from flows.prefect_settings import DEAD_AFTER, LONGEST_OUTAGE

# A worker looks for runs every ten seconds and needs some more to start one, on two cores that are busy with others.
SOON = timedelta(minutes=3)
# From the last heartbeat to Crashed: runs and automations check only every few minutes.
RECOGNISED_WITHIN = DEAD_AFTER + timedelta(minutes=3)
# A finished transfer is seen after two minutes at most, and what follows takes a few requests.
SEEN_WITHIN = timedelta(minutes=4)


@dataclass(frozen=True)
class Plan:
    """How long things take.

    Attributes:
        quick: What the long ones are divided by; more than 1 only to develop the soak itself.
    """

    quick: float = 1.0

    @property
    def work(self) -> timedelta:
        """A run's length: twice the time after which a silent run counts as dead, and a little."""
        return 2 * DEAD_AFTER / self.quick + timedelta(seconds=30)

    @property
    def outage(self) -> timedelta:
        """The longest that Prefect's server may be away."""
        return LONGEST_OUTAGE / self.quick

    def shortened(self, minutes: float) -> timedelta:
        return timedelta(minutes=minutes / self.quick)
