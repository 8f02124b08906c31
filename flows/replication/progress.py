"""How far a run has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from flows.reporting.report import Row
from tasks.digitalocean import Action


@dataclass
class Progress:
    """The progress of a run.

    Attributes:
        total: Number of copies; of conversions if `counts_conversions`.
        rows: The steps whose outcome is known, by image and region; the region is None for a conversion.
        actions: The latest action of each step that was started or adopted.
        conversions_left: Number of images still to convert.
        smallest_gigabytes: Size of the smallest image, whose transfers start last.
        counts_conversions: Whether the run only converts images.
        snapshots_left: Returns the number of snapshots still to be taken.
    """

    total: int = 0
    rows: dict[tuple[int, str | None], Row] = field(default_factory=dict)
    actions: dict[tuple[int, str | None], Action] = field(default_factory=dict)
    conversions_left: int = 0
    smallest_gigabytes: float = 0.0
    counts_conversions: bool = False
    snapshots_left: Callable[[], int] = lambda: 0

    @property
    def done(self) -> int:
        """Number of copies or conversions whose outcome is known."""
        return sum((region is None) == self.counts_conversions for _, region in self.rows)

    @property
    def percent(self) -> float:
        """The percentage whose outcome is known."""
        return 100.0 * self.done / self.total if self.total else 0.0

    @property
    def running(self) -> int:
        """Transfers in flight."""
        return sum(region is not None for _, region in self.actions.keys() - self.rows.keys())

    @property
    def unstarted(self) -> int:
        """Transfers still to be started."""
        return 0 if self.counts_conversions else self.total - self.done - self.running
