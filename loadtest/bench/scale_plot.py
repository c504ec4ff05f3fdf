"""Scale plot: CPU time, memory and latency by machines, rate by partitions and workers, time of a start by states."""

import re
from collections.abc import Mapping
from pathlib import Path

PANELS = (
    (r"(\d+)_machines_cpu_us_per_rep", "machines", "CPU, us a rep"),
    (r"(\d+)_machines_peak_rss_MB", "machines", "peak memory, MB"),
    (r"latency_(\d+)_machines_rep_to_metric_ms_p99", "machines", "rep to metric, p99, ms"),
    (r"(\d+)_partitions_reps_per_s", "partitions", "reps/s"),
    (r"(\d+)_workers_reps_per_s", "workers on two cores", "reps/s"),
    (r"restore_(\d+)_states_s", "states", "start, s"),
)
ACROSS = 3


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
    """Draw the panels; write them as SVG."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - half a second, for those alone who want a picture

    figure = Figure(figsize=(9.0, 5.0), layout="constrained")
    panels = figure.subplots(len(PANELS) // ACROSS, ACROSS).flat
    for axes, (pattern, across, up) in zip(panels, PANELS, strict=True):
        points = series(figures, pattern)
        axes.plot([size for size, _ in points], [value for _, value in points], marker="o")
        if len(points) > 1 and points[-1][0] >= 10 * points[0][0]:
            axes.set_xscale("log")
        axes.set_ylim(bottom=0.0)
        axes.set_xlabel(across)
        axes.set_ylabel(up)
    figure.savefig(file, metadata={"Date": None})
