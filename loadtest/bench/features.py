"""Features: every metric of a rep, measured in batches of several sizes by one core, with nothing around it.

Beside it, a third of the metrics a rep at a time, as one writes them with NumPy.
"""

import time
from collections.abc import AsyncGenerator, Sequence
from statistics import fmean

from loadtest.bench import one_by_one, stories
from loadtest.bench.report import Effort, Run
from streams.core.measure import measure
from streams.core.telemetry import Rep

BATCHES = (1, 10, 100, 500)
REPS, QUICK_REPS = 20_000, 2_000
"""Reps that each batch size is given in one run; single ones are so slow that they get a tenth."""

POOL = 2_000
"""Different reps, given again and again: 6 MB, more than the core's own cache."""

COMPARED = 500
"""Reps whose numbers must be the same whatever the batch."""


async def features(effort: Effort) -> AsyncGenerator[Run, None]:
    """Measure the same reps in every batch size; all sizes must give the same numbers."""
    pool = stories.reps(seed=1, count=POOL)
    _us_per_rep(pool, 100, POOL)  # warms caches and allocator
    wanted = QUICK_REPS if effort.quick else REPS
    for _ in range(effort.runs):
        figures = {f"us_per_rep_in_batches_of_{size}": _us_per_rep(pool, size, wanted) for size in BATCHES}
        figures["us_per_rep_one_by_one"] = _us_one_by_one(pool, wanted // 10)
        figures |= {
            f"ratio_to_one_by_one_in_batches_of_{size}": figures["us_per_rep_one_by_one"]
            / figures[f"us_per_rep_in_batches_of_{size}"]
            for size in BATCHES
        }
        figures["samples_per_rep"] = fmean(rep.samples for rep in pool)
        yield Run(figures, why_void(pool[:COMPARED]))


def _us_per_rep(pool: Sequence[Rep], size: int, wanted: int) -> float:
    """Return the CPU time of this process for one rep, in us; threads of libraries would count, too."""
    batches = [pool[start : start + size] for start in range(0, len(pool), size)]
    done, start_s = 0, time.process_time()
    while done < (wanted if size > 1 else wanted // 10):
        done += len(measure(batches[(done // size) % len(batches)]))
    return 1e6 * (time.process_time() - start_s) / done


def _us_one_by_one(pool: Sequence[Rep], wanted: int) -> float:
    start_s = time.process_time()
    for number in range(wanted):
        one_by_one.measured(pool[number % len(pool)])
    return 1e6 * (time.process_time() - start_s) / wanted


def why_void(pool: Sequence[Rep]) -> tuple[str, ...]:
    """Say which batch size loses a rep or changes a number, compared with one batch of all."""
    together = measure(pool)
    return tuple(
        f"batches of {size} change what is measured"
        for size in BATCHES
        if [one for start in range(0, len(pool), size) for one in measure(pool[start : start + size])] != together
    )
