"""The picture of `bench.bulk_search`: latency of searches above, the job's documents per second below, over time."""

import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

_SHADES = {"idle": "#e8f1e4", "bulk alone": "#f1efe4", "bulk and searches": "#f4e3e0"}


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw what was measured as an SVG."""
    mpl.rcParams.update({"svg.hashsalt": "millrace", "font.size": 9})
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(9, 5), layout="constrained")
    for stretch in found["stretches"]:
        for axes in (above, below):
            axes.axvspan(stretch["from"], stretch["to"], color=_SHADES[stretch["what"]], lw=0)
        middle = (stretch["from"] + stretch["to"]) / 2
        label = stretch["what"].replace(" and ", " and\n").replace("bulk alone", "bulk\nalone")
        above.text(middle, 1.02, label, transform=above.get_xaxis_transform(), ha="center", va="bottom", fontsize=8)
    times, latencies = zip(*found["searches"], strict=True)
    above.plot(times, latencies, ".", ms=3, color="#1f4e79")
    allowed = found["idle_ms"]["p99"] + 2 * found["batch_ms"]
    above.axhline(allowed, color="#a33", lw=1, ls="--", label=f"p99 when idle + 2 batches: {allowed:.0f} ms")
    above.set_ylabel("search, one text: ms")
    above.set_ylim(bottom=0)
    above.legend(loc="upper left", frameon=False)
    window = 8
    samples = found["progress"]
    rates = [
        ((a[0] + b[0]) / 2, (b[1] - a[1]) / (b[0] - a[0])) for a, b in zip(samples, samples[window:], strict=False)
    ]
    below.plot(*zip(*rates, strict=True), color="#7a4a00", lw=1.2)
    below.axhline(statistics.median(found["bare_texts_per_s"]), color="#555", lw=1, ls=":", label="bare engine")
    below.set_ylabel("bulk job: documents/s")
    below.set_xlabel("seconds")
    below.set_ylim(bottom=0)
    below.legend(loc="lower left", frameon=False)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
