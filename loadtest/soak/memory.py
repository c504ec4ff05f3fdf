"""Memory: what a process holds, sample by sample, and how fast that grows."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Sample(msgspec.Struct, frozen=True):
    """Memory held (the resident set, in bytes) after so many reps; `at_s` since the start."""

    reps: int
    rss_bytes: int
    at_s: float


def rss_bytes() -> int:
    """Return the memory that this process holds now, in bytes.

    Examples
    --------
    >>> rss_bytes() > 5_000_000
    True
    """
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * _PAGE


def growth_pct(samples: Sequence[Sample]) -> float:
    """Return by how much a straight line through samples grows from the first one to the last, in % of its beginning.

    Examples
    --------
    >>> round(growth_pct([Sample(10, 100, 0.0), Sample(20, 104, 1.0), Sample(30, 102, 2.0)]), 6)
    1.980198
    """
    reps = np.array([sample.reps for sample in samples], dtype=float)
    held = np.array([sample.rss_bytes for sample in samples], dtype=float)
    slope, start = np.polyfit(reps - reps[0], held, 1)
    return float(100.0 * slope * (reps[-1] - reps[0]) / start)
