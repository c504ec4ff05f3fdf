"""Waterfall: a picture of where the time of a command goes, hop by hop."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

COLOURS = {
    "to_bridge": "#4c78a8",
    "to_log": "#72b7b2",
    "control": "#f58518",
    "downlink": "#e45756",
    "reflex": "#54a24b",
}


def draw(ways: Mapping[str, Mapping[str, Sequence[float]]], file: Path) -> None:
    """Draw one bar a way, and in it the mean of each hop in ms, where the hop before it ends; write it as SVG."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - half a second, for those alone who want a picture

    figure = Figure(figsize=(8.0, 0.9 + 0.5 * len(ways)), layout="constrained")
    axes = figure.subplots()
    named = set[str]()
    for place, hops in enumerate(ways.values()):
        at_ms = 0.0
        for hop, found in hops.items():
            mean_ms = fmean(found) if found else 0.0
            axes.barh(place, mean_ms, left=at_ms, color=COLOURS[hop], label=None if hop in named else hop)
            named.add(hop)
            axes.text(at_ms + 0.5 * mean_ms, place, f"{mean_ms:.1f}", ha="center", va="center", fontsize=7)
            at_ms += mean_ms
        axes.text(at_ms, place, f"  {at_ms:.1f} ms, n={len(next(iter(hops.values())))}", va="center", fontsize=8)
    axes.set_yticks(range(len(ways)), list(ways))
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.set_xlabel("ms since the machine sent it, mean")
    axes.legend(ncols=5, loc="upper center", bbox_to_anchor=(0.5, 1.25), frameon=False, fontsize=8)
    figure.savefig(file, metadata={"Date": None})
