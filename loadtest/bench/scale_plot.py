"""Scale plot: CPU time and memory by the number of machines, and the time of a start by the number of states."""

import re
from collections.abc import Mapping
from pathlib import Path

PANELS = (
    (r"(\d+)_machines_cpu_us_per_rep", "machines", "CPU, us a rep"),
    (r"(\d+)_machines_peak_rss_MB", "machines", "peak memory, MB"),
    (r"restore_(\d+)_states_s", "states", "start, s"),
)


def series(figures: Mapping[str, float], pattern: str) -> list[tuple[int, float]]:
    """Return size and value of the figures whose whole name matches.

    Examples
    --------
    >>> series({"100_machines_peak_rss_MB": 5.0, "other": 1.0}, PANELS[1][0])
    [(100, 5.0)]
    """
    found = ((re.fullmatch(pattern, name), value) for name, value in figures.items())
    return [(int(match[1]), value) for match, value in found if match]


def draw(figures: Mapping[str, float], file: Path) -> None:
    """Draw three panels; write them as SVG."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - half a second, for those alone who want a picture

    figure = Figure(figsize=(9.0, 2.6), layout="constrained")
    for axes, (pattern, across, up) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        points = series(figures, pattern)
        axes.plot([size for size, _ in points], [value for _, value in points], marker="o")
        axes.set_xscale("log")
        axes.set_ylim(bottom=0.0)
        axes.set_xlabel(across)
        axes.set_ylabel(up)
    figure.savefig(file, metadata={"Date": None})
