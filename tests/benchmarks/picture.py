"""Requests spent over time, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

from tests.benchmarks.measure import Measurement

mpl.use("Agg")
from matplotlib import pyplot as plt  # after the choice of a backend without a screen

HOUR = 3600.0
HOURS_SHOWN = 3.0
HOURLY_LIMIT = 5000


def draw_requests(measurements: Sequence[Measurement], path: Path) -> None:
    """Draw how many requests each run had counted against it in the hour before, over time.

    Args:
        measurements: The runs.
        path: Where to write the picture.
    """
    figure, axes = plt.subplots(figsize=(8, 4), dpi=110)
    for each in measurements:
        moments = [moment for moment in each.spent if moment <= HOURS_SHOWN * HOUR]
        arrived = f"{each.finished:,} of {each.actions:,} done, {each.requests:,} requests"
        axes.plot(
            [moment / HOUR for moment in moments], _in_last_hour(moments), label=f"{each.name}: {arrived}", linewidth=2
        )
    axes.axhline(HOURLY_LIMIT, color="black", linestyle="--", linewidth=1)
    axes.text(HOURS_SHOWN, HOURLY_LIMIT, "the hour's limit ", ha="right", va="bottom")
    axes.set(
        xlabel="hours since the start",
        ylabel="requests in the last hour",
        xlim=(0, HOURS_SHOWN),
        ylim=(0, HOURLY_LIMIT * 1.15),
        title=f"{measurements[0].droplets} Droplets, every region",
    )
    axes.legend(loc="center right", fontsize="small")
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def _in_last_hour(moments: Sequence[float]) -> list[int]:
    counts, first = [], 0
    for place, moment in enumerate(moments):
        while moments[first] <= moment - HOUR:
            first += 1
        counts.append(place - first + 1)
    return counts
