"""The command line of `scripts/bench`."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Annotated

import typer
from rich.console import Console

from loadtest.bench import asked
from loadtest.bench.bridge import bridge
from loadtest.bench.checkpoint import checkpoint
from loadtest.bench.end_to_end import end_to_end
from loadtest.bench.engine import engine
from loadtest.bench.features import features
from loadtest.bench.first_command import first_command
from loadtest.bench.history import history
from loadtest.bench.lap import TooSlow
from loadtest.bench.latency import latency
from loadtest.bench.page import page
from loadtest.bench.queries import queries
from loadtest.bench.ramp import ramp
from loadtest.bench.replay import replaying
from loadtest.bench.report import Bench, Effort, Outcome, Report, Run, outcome, report, table
from loadtest.bench.scale import scale
from loadtest.bench.stepping import stepping
from loadtest.bench.wall import wall
from streams.core.errors import Busy

BENCHES: Mapping[str, Bench] = {
    "features": features,
    "stepping": stepping,
    "bridge": bridge,
    "engine": engine,
    "latency": latency,
    "history": history,
    "replay": replaying,
    "scale": scale,
    "end-to-end": end_to_end,
    "ramp": ramp,
    "page": page,
    "queries": queries,
    "wall": wall,
    "checkpoint": checkpoint,
    "first-command": first_command,
}

QUICK = ("features", "bridge", "engine", "latency")
"""What `--quick` alone runs: what is most likely to get worse unseen, in less than five minutes. The others by name."""

LIMIT_S = 1_800.0
"""Longest time in s for one bench with all its runs; the longest, `queries`, needs half of it on a busy machine."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_console = Console()


@app.command()
def main(
    names: Annotated[
        list[str] | None,
        typer.Argument(help=f"{', '.join(BENCHES)}. If none is named, all; with --quick {', '.join(QUICK)}."),
    ] = None,
    quick: asked.Quick = False,
    rate: asked.Rate = asked.RATE,
    plots: asked.Plots = None,
    report_file: asked.ReportFile = None,
) -> None:
    """Measure parts of spineloop on real servers; exit 1 if anything was lost or doubled, and never for being slow."""
    unknown = set(names or ()).difference(BENCHES)
    if unknown:
        raise typer.BadParameter(f"no bench is called {min(unknown)}")
    effort = Effort(quick=quick, reps_per_s=rate, plots=None if plots is None else str(plots))
    chosen = names or (QUICK if quick else tuple(BENCHES))
    found = asyncio.run(measured({name: BENCHES[name] for name in chosen}, effort))
    if report_file is not None:
        report_file.write_bytes(found.json())
    if found.is_void:
        raise typer.Exit(1)


async def measured(benches: Mapping[str, Bench], effort: Effort) -> Report:
    """Run benches one after the other, and print each as soon as it is done."""
    found: dict[str, Outcome] = {}
    for name, bench in benches.items():
        found[name] = outcome(*await _runs(name, bench, effort))
        _console.print(table(name, found[name]))
    return report(found, effort)


async def _runs(name: str, bench: Bench, effort: Effort) -> tuple[Sequence[Run], str]:
    """Return the runs, and why there are no more if this machine was too slow, or a server silent for too long."""
    runs: list[Run] = []
    slow = ""
    try:
        async with asyncio.timeout(LIMIT_S) as limit, aclosing(bench(effort)) as one_by_one:
            with _console.status(f"{name}: starting") as status:
                async for run in one_by_one:
                    runs.append(run)
                    status.update(f"{name}: {len(runs)} runs done")
    except (TooSlow, Busy) as why:
        slow = str(why)
    except ExceptionGroup as several:
        if several.split((TooSlow, Busy))[1] is not None:
            raise
        slow = str(_first(several))
    except TimeoutError:
        if not limit.expired():
            raise
        slow = f"not done within {LIMIT_S:.0f} s"
    return runs, slow


def _first(error: Exception) -> Exception:
    return _first(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error


if __name__ == "__main__":
    app()
