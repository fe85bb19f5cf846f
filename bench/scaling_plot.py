"""The picture of `bench.scaling`: for each load the work and the workers above, the longest wait below, over time."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

from bench.scaling import TRIGGERS, Run

mpl.use("svg")
from matplotlib import pyplot as plt

_COLOURS = dict(zip(TRIGGERS, ("#7a4a00", "#1f4e79", "#2e7d32"), strict=True))


def draw(runs: Sequence[Run], path: Path) -> None:
    """Draw what was simulated as an SVG."""
    mpl.rcParams.update({"svg.hashsalt": "millrace", "font.size": 8})
    loads = list(dict.fromkeys(run.load for run in runs))
    figure, axes = plt.subplots(3, len(loads), figsize=(11, 6), sharex="col", layout="constrained")
    for column, load in enumerate(loads):
        above, middle, below = axes[:, column]
        for run in (run for run in runs if run.load == load):
            unit = 3600 if len(run.replicas) * run.every_s > 20_000 else 60
            times = [index * run.every_s / unit for index in range(len(run.replicas))]
            colour = _COLOURS[run.triggers]
            if run.triggers == TRIGGERS[0]:
                above.fill_between(times, run.arriving, color="#dddddd", lw=0, label="work, in workers")
            above.plot(
                times, run.replicas, color=colour, lw=1, drawstyle="steps-post", label=f"workers, by {run.triggers}"
            )
            middle.plot(times, run.listed, color=colour, lw=0.8)
            below.plot(times, run.wait_s, color=colour, lw=0.8)
            below.set_xlabel("hours" if unit == 3600 else "minutes")
        above.set_title(load)
        for each in (above, middle, below):
            each.set_ylim(bottom=0)
            each.spines[["top", "right"]].set_visible(False)
    for row, label in enumerate(("workers", "tasks in the list", "oldest request: seconds")):
        axes[row, 0].set_ylabel(label)
    axes[0, 0].legend(loc="upper right", frameon=False)
    figure.savefig(path, metadata={"Date": None})
