"""The command line of loadtest: what is simulated to be proved, with a seed, and exit 1 if it is not."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from loadtest.campaign import campaign
from loadtest.campaign.campaign import Account
from loadtest.campaign.one_world import live
from loadtest.campaign.sabotage import TRICKS, seen
from loadtest.fuzzing import fuzz as fuzzing
from spineloop import logs

PRINTED = 50
"""Violations that are printed; all of them stand in the report."""

WORLDS_OF_A_TRICK = 400
"""Worlds in which a trick is tried before it counts as not seen."""

LINE_EVERY_S = 15.0
"""Pause between two lines of progress where there is no terminal."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
_console = Console(highlight=False, soft_wrap=True)

Report = Annotated[Path | None, typer.Option("--report", help="Write the account here, as JSON.")]
Seed = Annotated[int, typer.Option(min=0, help="Everything follows from it.")]


@app.command()
def envelope(  # noqa: PLR0917 - what typer calls by name
    sessions: Annotated[int, typer.Option(min=1, help="Sessions to live through.")] = 100_000,
    seed: Seed = 0,
    processes: Annotated[int, typer.Option(min=1, help="How many work at once.")] = 2,
    only: Annotated[int | None, typer.Option(min=0, help="Live through this one world, and tell its story.")] = None,
    sabotage: Annotated[
        bool, typer.Option("--sabotage", help="Break the envelope row by row; see what is seen.")
    ] = False,
    report: Report = None,
) -> None:
    """Hostile sessions through controller, planner and envelope; exit 1 if any invariant was ever violated."""
    if sabotage:
        raise typer.Exit(_sabotaged(seed))
    started_s = time.perf_counter()
    account = Account(seed) if only is None else _told(only)
    if only is None:
        with _bar() as bar:
            task = bar.add_task("sessions", total=sessions)
            for one in campaign.run(sessions, seed, processes):
                account.add(one)
                bar.update(task, advance=one.sessions)
    if report is not None:
        account.write(report)
    _print(account, time.perf_counter() - started_s)
    raise typer.Exit(bool(account.violations))


@app.command()
def truth(
    seed: Seed = 0,
    patients: Annotated[int | None, typer.Option(min=1, help="How many simulated patients.")] = None,
    report: Report = None,
) -> None:
    """Score what spineloop says against what the simulation knows; exit 1 if a budget is missed."""
    from loadtest import scoring  # noqa: PLC0415 - not needed for anything else here

    raise typer.Exit(scoring.run(seed, patients, report))


@app.command()
def fuzz(
    cases: Annotated[int, typer.Option(min=1, help="Damaged messages to try.")] = 100_000,
    seed: Seed = 0,
    report: Report = None,
) -> None:
    """Damaged messages through bridge, controller and planner; exit 1 if one raises, blocks, or is not put aside."""
    logs.configure("console", "error", role="fuzz")
    started_s = time.perf_counter()
    with _bar() as bar:
        task = bar.add_task("cases", total=cases)
        account = fuzzing.run(cases, seed, lambda done: bar.update(task, advance=done))
    if report is not None:
        report.write_bytes(msgspec.json.format(msgspec.json.encode(account), indent=2) + b"\n")
    _console.print(f"cases {account.cases}, taken {account.taken}, outputs {account.outputs}")
    for name, letters in (("the bridge", account.letters), ("the stages", account.stage_letters)):
        told = ", ".join(f"{reason} {count}" for reason, count in letters.most_common())
        _console.print(f"dead letters of {name}: {letters.total()} ({told})")
    _console.print(f"redrive: {account.went_back} went back, {account.stayed} stayed")
    _console.print(f"wrong {len(account.wrong)}")
    for one in account.wrong[:PRINTED]:
        _console.print(one, markup=False)
    _console.print(f"{time.perf_counter() - started_s:.0f} s")
    raise typer.Exit(bool(account.wrong))


@app.command()
def chaos(
    seed: Seed = 0,
    seconds: Annotated[float, typer.Option(min=30.0, help="How long things break.")] = 120.0,
    rate: Annotated[float, typer.Option(min=1.0, help="Reps a second of the fleet.")] = 100.0,
    kills: Annotated[int | None, typer.Option(min=1, help="Kills, evenly; without it a fault every 2 s.")] = None,
    report: Report = None,
) -> None:
    """Break everything on real servers, as a seed says; exit 1 if anything was lost, doubled, stale or disordered."""
    from loadtest.chaos import campaign as breaking  # noqa: PLC0415 - starts servers; not needed for anything else here
    from loadtest.chaos.faults import schedule  # noqa: PLC0415

    _console.print(f"seed {seed}", *(blow.told() for blow in schedule(seed, seconds, kills)), sep="\n", markup=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("chaos", total=1.0)
        lines = _line_by_line()

        def told(what: str, share: float) -> None:
            bar.update(task, description=what, completed=share)
            if not bar.console.is_terminal:
                lines(f"{share:.0%} {what}")

        done = asyncio.run(breaking.run(seed, seconds, rate, told, kills))
    if report is not None:
        done.write(report)
    for name, value in msgspec.structs.asdict(done).items():
        if name not in {"schedule", "findings", "tails"}:
            _console.print(f"{name} {value}", markup=False)
    for one in done.findings[:PRINTED]:
        _console.print(f"{one.kind} {one.where}: {one.record}", markup=False)
    if done.tails:
        _console.print(done.tails, markup=False)
    raise typer.Exit(not done.is_clean)


@app.command()
def rebalances(  # noqa: PLR0917 - what typer calls by name
    seed: Seed = 0,
    count: Annotated[int, typer.Option(min=1, help="How often a worker joins or leaves.")] = 100,
    rate: Annotated[float, typer.Option(min=1.0, help="Reps a second.")] = 2_000.0,
    each: Annotated[float, typer.Option(min=1.0, help="Seconds from one coming or going to the next.")] = 4.0,
    instances: Annotated[bool, typer.Option(help="Workers have fixed names in their group.")] = True,
    report: Report = None,
) -> None:
    """Let a controller join and leave; exit 1 if a partition was silent for more than 3 s."""
    from loadtest.chaos import rebalances as sharing  # noqa: PLC0415 - starts servers; not needed for anything else here

    done = asyncio.run(sharing.run(seed, count, rate, each, instances=instances))
    if report is not None:
        done.write(report)
    _console.print(f"reps told {done.told_per_s}/s, metrics {done.metrics_per_s}/s, lag at the end {done.lag} messages")
    _console.print(f"longest silence without a rebalance {done.quiet_s} s")
    _console.print(f"longest at each coming {done.silences_s[::2]}, at each going {done.silences_s[1::2]}, in s")
    _console.print(f"rebalances {done.rebalances}, longest silence {done.longest_s} s, at most {sharing.AIM_S} s")
    raise typer.Exit(done.longest_s > sharing.AIM_S)


@app.command()
def outage(
    scenes: Annotated[list[str] | None, typer.Argument(help="history, log or flood; all if none is named.")] = None,
    seed: Seed = 0,
    seconds: Annotated[float | None, typer.Option(min=1.0, help="How long it is so.")] = None,
    rate: Annotated[float | None, typer.Option(min=1.0, help="Ordinary reps a second.")] = None,
    report: Report = None,
) -> None:
    """History away, Kafka away, ten times the rate; exit 1 if anything was lost, doubled, died or held over 512 MB."""
    from loadtest.chaos.scenes import SCENES, Account  # noqa: PLC0415 - starts servers; not needed for anything else here

    if unknown := set(scenes or ()).difference(SCENES):
        raise typer.BadParameter(f"no scene is called {min(unknown)}")
    done: list[Account] = []
    for name in scenes or SCENES:
        scene = SCENES[name]
        done.append(asyncio.run(scene.play(seed, seconds or scene.seconds, rate or scene.rate)))
        for field, value in msgspec.to_builtins(done[-1]).items():
            for each, told in value.items() if isinstance(value, dict) else [("", value)]:
                _console.print(f"{name} {field} {each} {told}", markup=False)
    if report is not None:
        report.write_bytes(msgspec.json.format(msgspec.json.encode(done)) + b"\n")
    raise typer.Exit(not all(one.is_clean for one in done))


@app.command()
def soak(
    reps: Annotated[int, typer.Option(min=10_000, help="How many to let through.")] = 10_000_000,
    seed: Seed = 0,
    trace: Annotated[bool, typer.Option("--trace", help="Name the lines that hold more at the end; slow.")] = False,
    report: Report = None,
) -> None:
    """Millions of reps through one process; exit 1 if its memory grows by more than 1 %, or one is lost or doubled."""
    from loadtest.soak import soak as soaking  # noqa: PLC0415 - not needed for anything else here
    from loadtest.soak.memory import Sample, growth_pct  # noqa: PLC0415

    logs.configure("console", "error", role="soak")

    seen: list[Sample] = []

    def told(sample: Sample) -> None:
        seen.append(sample)
        warm = [one for one in seen if one.reps >= soaking.WARM_UP * sample.reps]
        grown = f", {growth_pct(warm):+.2f} % since a tenth of them" if len(warm) > 2 else ""
        rate = sample.reps / sample.at_s if sample.at_s else 0.0
        held = f"{sample.rss_bytes / 1e6:.1f} MB, {sample.blocks} blocks and {sample.malloc_bytes / 1e6:.1f} MB in use"
        _console.print(f"{sample.reps} reps, {held}, {rate:.0f} reps a second{grown}")

    done = asyncio.run(soaking.run(reps, seed, told, is_traced=trace))
    if report is not None:
        done.write(report)
    for name, value in msgspec.structs.asdict(done).items():
        if name not in {"samples", "grown", "host"}:
            _console.print(f"{name} {value}", markup=False)
    _console.print(*done.grown, sep="\n", markup=False)
    raise typer.Exit(not done.is_good)


@app.command()
def drain(
    seed: Seed = 0,
    rounds: Annotated[int, typer.Option(min=1, help="How often each role is told to end.")] = 3,
    rate: Annotated[float, typer.Option(min=1.0, help="Reps a second of the fleet.")] = 60.0,
    report: Report = None,
) -> None:
    """End each role under load, and while a server is away; exit 1 if one takes 10 s, or does anything again."""
    from loadtest import drain as draining  # noqa: PLC0415 - starts servers; not needed for anything else here

    done = asyncio.run(draining.run(seed, rounds, rate))
    if report is not None:
        done.write(report)
    for one in done.drains:
        where = "under load" if one.away is None else f"without an answer of the {one.away}"
        _console.print(f"{one.role} {where}: {one.took_s} s, status {one.status}", markup=False)
    _console.print(f"reps {done.reps}, done again {done.again}", markup=False)
    raise typer.Exit(not done.is_good)


@app.command()
def sabotage() -> None:
    """Take each promise out of a copy of the sources; exit 1 if no test notices one."""
    from loadtest.chaos import sabotage as spoiling  # noqa: PLC0415 - not needed for anything else here

    missed = 0
    for one, failed in spoiling.committed():
        _console.print(f"{one.promise}: {', '.join(failed) or 'NOT NOTICED'}", markup=False)
        missed += not failed
    raise typer.Exit(bool(missed))


def _line_by_line() -> Callable[[str], None]:
    """Return what prints a line of progress now and then: for a run whose output goes into a file."""
    started_s, told_s = time.monotonic(), -LINE_EVERY_S

    def tell(line: str) -> None:
        nonlocal told_s
        now_s = time.monotonic() - started_s
        if now_s - told_s >= LINE_EVERY_S:
            told_s = now_s
            _console.print(f"{now_s:.0f} s: {line}", markup=False)

    return tell


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _told(seed: int) -> Account:
    account, one = Account(seed), live(seed, is_told=True)
    account.add(one)
    _console.print(*one.journal, sep="\n", markup=False)
    return account


def _print(account: Account, took_s: float) -> None:
    for name in ("sessions", "messages", "commands", "increases"):
        _console.print(f"{name} {getattr(account, name)}")
    _console.print(f"violations {len(account.violations)}")
    for one in account.violations[:PRINTED]:
        _console.print(f"{one.invariant} {one.detail}", markup=False)
        _console.print(f"    python -m loadtest envelope --only {one.seed}")
    if len(account.violations) > PRINTED:
        _console.print(f"and {len(account.violations) - PRINTED} more; --report has them all")
    _console.print(f"{took_s:.0f} s, {account.sessions / max(took_s, 1e-9):.0f} sessions a second")


def _sabotaged(seed: int) -> int:
    """Play every trick without the row that stands against it; return 1 if one that must be seen is not."""
    missed = 0
    for name, trick in TRICKS.items():
        alone = seen(trick, (trick.row,), WORLDS_OF_A_TRICK, seed)
        found = alone or seen(trick, (trick.row, *trick.behind), WORLDS_OF_A_TRICK, seed)
        missed += not found
        behind = "" if alone else f" only without {', '.join(row.__name__ for row in trick.behind)} too"
        told = f"seen as {', '.join(sorted(found))}{behind}" if found else "NOT SEEN"
        _console.print(f"{name}, without {trick.row.__name__}: {told}")
    return min(missed, 1)


if __name__ == "__main__":
    app()
