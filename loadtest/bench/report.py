"""Report: what the runs of a bench brought, as minimum, median and maximum, and on which machine."""

import os
import platform
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import msgspec
from rich.table import Table


class Run(msgspec.Struct, frozen=True):
    """One run: its figures, each with its unit in its name, and why they mean nothing, if so."""

    figures: Mapping[str, float]
    void: tuple[str, ...] = ()


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """How much to do: `quick` is one short run instead of three, `reps_per_s` what the fleet of end-to-end brings.

    Pictures go to the folder `plots`, if it is named.
    """

    quick: bool = False
    reps_per_s: float = 200.0
    plots: str | None = None

    @property
    def runs(self) -> int:
        """How many runs count."""
        return 1 if self.quick else 3


Bench = Callable[[Effort], AsyncGenerator[Run, None]]
"""Yields the runs that count, one after the other."""


class Spread(msgspec.Struct, frozen=True):
    """Least, middle and largest value of a figure over the runs."""

    min: float
    median: float
    max: float


class Outcome(msgspec.Struct, frozen=True):
    """What a bench found: the number of runs that are not void, the reasons of those that are, and every figure.

    `slow` says why there are not more of them, if this machine was too slow for that.
    """

    runs: int
    void: tuple[str, ...]
    figures: Mapping[str, Spread]
    slow: str = ""


class Host(msgspec.Struct, frozen=True):
    """Where it was measured; the load is the mean number of runnable processes in the minute before."""

    cpu: str
    cores: int
    memory_GB: float
    kernel: str
    python: str
    load_1min: float


class Report(msgspec.Struct, frozen=True):
    """One call of `scripts/bench`; `ratios` are the medians of those among the figures, as `engine.ratio_to_bare`."""

    at: str
    effort: Effort
    host: Host
    benches: Mapping[str, Outcome]
    ratios: Mapping[str, float] = {}

    @property
    def is_void(self) -> bool:
        """Whether any run lost or doubled something, or a bench has no run at all for another reason than time."""
        return any(outcome.void or not (outcome.runs or outcome.slow) for outcome in self.benches.values())

    def json(self) -> bytes:
        """Write it down."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def outcome(runs: Sequence[Run], slow: str = "") -> Outcome:
    """Summarise runs; a void one gives its reasons and no figure.

    Examples
    --------
    >>> outcome([Run({"reps_per_s": 3.0}), Run({"reps_per_s": 1.0}), Run({"reps_per_s": 9.0}, ("1 lost",))])
    Outcome(runs=2, void=('1 lost',), figures={'reps_per_s': Spread(min=1.0, median=2.0, max=3.0)}, slow='')
    """
    good = [run.figures for run in runs if not run.void]
    names = dict.fromkeys(name for figures in good for name in figures)
    told = {name: [figures[name] for figures in good if name in figures] for name in names}
    return Outcome(
        runs=len(good),
        void=tuple(reason for run in runs for reason in run.void),
        figures={name: Spread(min(values), median(values), max(values)) for name, values in told.items()},
        slow=slow,
    )


def report(benches: Mapping[str, Outcome], effort: Effort) -> Report:
    """Put date and machine to what was found."""
    ratios = {
        f"{name}.{figure}": spread.median
        for name, found in benches.items()
        for figure, spread in found.figures.items()
        if "ratio_to_" in figure
    }
    return Report(datetime.now(UTC).isoformat(timespec="seconds"), effort, host(), benches, ratios)


def host() -> Host:
    """Describe this machine, without its name."""
    return Host(
        cpu=next(iter(_told("/proc/cpuinfo", "model name")), platform.machine()),
        cores=len(os.sched_getaffinity(0)),
        memory_GB=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        kernel=platform.release(),
        python=platform.python_version(),
        load_1min=round(os.getloadavg()[0], 2),
    )


def _told(path: str, name: str) -> list[str]:
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return [line.partition(":")[2].strip() for line in lines if line.startswith(name)]


def table(name: str, found: Outcome) -> Table:
    """Draw what a bench found for a person."""
    drawn = Table(name, "min", "median", "max", title=f"{name}: {found.runs} runs", title_justify="left")
    for figure, spread in found.figures.items():
        drawn.add_row(figure, *(f"{value:,.4g}" if value < 1_000 else f"{value:,.0f}" for value in _values(spread)))
    if found.slow:
        drawn.add_row(f"[yellow]too slow: {found.slow}[/]")
    for reason in found.void:
        drawn.add_row(f"[bold red]VOID: {reason}[/]")
    return drawn


def _values(spread: Spread) -> tuple[float, float, float]:
    return spread.min, spread.median, spread.max
