"""The command line. Each command is a few lines: read the settings, put the parts together, run, say what happened."""

import asyncio
import gc
import io
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import structlog
import typer
from rich.console import Console
from rich.table import Table

from loadtest.bench import asked
from loadtest.child import NotInstalled
from loadtest.disturbance import UNDISTURBED, Rates
from loadtest.fleet import FleetSettings
from spineloop import (
    dead_lettering,
    embedded,
    enrolling,
    erasing,
    exporting,
    logs,
    looking,
    process,
    recordings,
    replaying,
    running,
    simulation,
    wiring,
)
from spineloop import demo as demos
from spineloop import doctor as doctors
from spineloop.demo import Demo
from spineloop.embedded import Embedding
from spineloop.exposition import Exposition
from spineloop.settings import Settings, WrongSetting
from spineloop.whole_file import whole_file
from streams.core.errors import BrokenPromise, Busy
from streams.traces import Trace

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a traceback is for us, and belongs in a log
    rich_markup_mode="markdown",
    help="The open control loop for strength and spine-rehabilitation machines.",
)
topics_app = typer.Typer(no_args_is_help=True, help="Topics of the log in Kafka.")
app.add_typer(topics_app, name="topics")
app.add_typer(dead_lettering.app, name="dead-letters")
app.add_typer(enrolling.app, name="machines")
app.command()(recordings.analyse)
app.command()(recordings.play)
app.command("replay")(replaying.command)
app.command("export")(exporting.command)
app.command("erase")(erasing.command)

_log = structlog.get_logger()
EXIT_FAILED = 1
EXIT_WRONG_SETTING = 2
LAST_PORT = 65_535

_TOLD = (BrokenPromise, Busy, ValueError, OSError)
"""What says by itself why a long-lived command ends. Anything else is a defect of ours, and may quote a patient."""


def main() -> None:
    """Run the command line; what a person can mend is one line, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that has no umlaut gets its escape
    try:
        app()
    except WrongSetting as wrong:
        _fail(str(wrong), EXIT_WRONG_SETTING)
    except recordings.Failed as failed:
        _fail(str(failed))


def _fail(message: str, code: int = EXIT_FAILED) -> NoReturn:
    typer.echo(f"spineloop: {message}", err=True)
    sys.exit(code)


def _run(name: str, work: Callable[[Settings, Exposition], Coroutine[Any, Any, None]]) -> None:
    """Run one long-lived command; end with 1 if a promise was broken, and say which."""
    settings = Settings.read()
    wiring.check_files(settings)  # before anything is waited for: a server that is away would take the blame
    logs.configure(settings.log_format, settings.log_level, role=name)
    gc.freeze()  # what is there now lives as long as the process: no collection has to look at it again
    try:
        asyncio.run(work(settings, Exposition()))
    except Exception as error:  # noqa: BLE001 - Python would print what a defect says
        _ended(name, error)


def _ended(name: str, error: Exception) -> NoReturn:
    """Say why a command has ended."""
    _raise_wrong_setting(error)
    leaves = _leaves(error)
    for one in leaves:
        _log.error("ended", why=_why(one), error=type(one).__name__)
    _fail(f"{name}: {_why(leaves[0])}")


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _leaves(one)]
    return [error]


def _raise_wrong_setting(error: BaseException) -> None:
    """Raise the wrong setting among what ended a command, if there is one: it is the cause."""
    for one in _leaves(error):
        if isinstance(one, WrongSetting):
            raise one from error


def _why(error: BaseException) -> str:
    """Return what an error says, and of a defect where it was: what that says may quote a patient."""
    return str(error) if isinstance(error, _TOLD) else f"a defect of ours: {Trace.of(error).places}"


def _role(name: str) -> None:
    async def work(settings: Settings, exposition: Exposition) -> None:
        await running.run([process.of_role(name, settings, exposition)], settings, exposition, asyncio.Event())

    _run(name, work)


@app.command()
def ingest() -> None:
    """Carry what machines say from the MQTT broker into the log.

    Example: `SPINELOOP_MQTT_URL=mqtt://broker:1883 SPINELOOP_LOG_URL=kafka://kafka:9092 spineloop ingest`
    """
    _role("ingest")


@app.command()
def control() -> None:
    """Turn reps into metrics, and metrics into commands. Several processes share the machines among themselves.

    Example: `SPINELOOP_LOG_URL=kafka://kafka:9092 SPINELOOP_POLICY_FILE=clinic.toml spineloop control`
    """
    _role("control")


@app.command()
def plan() -> None:
    """Prescribe the next session of each patient. Several processes share the patients among themselves.

    Example: `SPINELOOP_LOG_URL=kafka://kafka:9092 SPINELOOP_POLICY_FILE=clinic.toml spineloop plan`
    """
    _role("plan")


@app.command()
def history() -> None:
    """Write metrics and commands to InfluxDB.

    Example: `SPINELOOP_HISTORY_URL=http://influxdb:8086 SPINELOOP_HISTORY_PASSWORD=$TOKEN spineloop history`
    """
    _role("history")


@app.command()
def downlink() -> None:
    """Send commands to the machines.

    Example: `SPINELOOP_MQTT_URL=mqtt://broker:1883 SPINELOOP_LOG_URL=kafka://kafka:9092 spineloop downlink`
    """
    _role("downlink")


@app.command()
def reflex() -> None:
    """Answer a symptom, a stop button, a fault or a red flag with STOP at once, from broker to broker, past the log.

    Example: `SPINELOOP_MQTT_URL=mqtt://broker:1883 spineloop reflex`
    """
    _role("reflex")


@app.command()
def page() -> None:
    """Show the fleet, machine by machine, to operators: http://127.0.0.1:8480. Beyond loopback only with a token.

    Example: `SPINELOOP_LOG_URL=kafka://kafka:9092 SPINELOOP_PAGE_HOST=0.0.0.0 SPINELOOP_PAGE_TOKEN=... spineloop page`
    """
    _role("page")


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=1.0, help="How long the fleet trains, in s.")] = 60.0,
    machines: Annotated[int, typer.Option(min=1, max=1_000, help="How many simulated machines.")] = 24,
    seed: Annotated[int, typer.Option(help="Decides everything that is left to chance.")] = 1,
    data: Annotated[Path | None, typer.Option(help="Keep log and history in this folder, for replay.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the report here, as JSON.")] = None,
    page: Annotated[bool, typer.Option(help="Show the operator page meanwhile.")] = True,
    page_port: Annotated[
        int | None, typer.Option(min=0, max=LAST_PORT, help="Its port, or any free one where that is taken; 0 is none.")
    ] = None,
) -> None:
    """Run the whole loop with a simulated fleet, and say what became of every rep and command.

    Example: `spineloop demo --seconds 30 --machines 24 --report r.json`
    """
    settings = Settings.read()
    wiring.check_files(settings)
    if report is not None:
        looking.check_place_for(report, "--report")
    if data is not None and looking.has_log(data):  # the same machines would speak in it twice, and nobody could count
        raise WrongSetting(f"--data: {data} has a log already: name another folder, or go on with `spineloop serve`")
    logs.configure("console", "error", role="demo")
    port = (settings.page_port if page_port is None else page_port) if page else 0
    chosen = Demo(seconds=seconds, machines=machines, seed=seed, data=data, page=port)
    try:
        shown = asyncio.run(demos.run(chosen, settings, Console()))
    except Exception as error:  # noqa: BLE001 - as in every long-lived command
        _ended("demo", error)
    Console().print(demos.table(shown))
    typer.echo(f"digest {shown.digest}")
    if report is not None:
        with whole_file(report) as file:
            file.write_bytes(msgspec.json.format(msgspec.json.encode(shown), indent=2) + b"\n")
    if not shown.is_well:
        _fail("demo: a promise was broken: see lost and duplicate effects")


@app.command()
def serve(
    data: Annotated[Path, typer.Option(help="Folder for the log and the history.")],
    mqtt: Annotated[
        str | None, typer.Option(help="Broker to use instead of the embedded one: mqtt://host:port")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=LAST_PORT, help="Port of the embedded broker on loopback.")] = 1883,
    page: Annotated[bool, typer.Option(help="Show the operator page.")] = True,
    page_port: Annotated[
        int | None, typer.Option(min=0, max=LAST_PORT, help="Its port, 0 is none; SPINELOOP_PAGE_PORT otherwise.")
    ] = None,
) -> None:
    """Run the whole loop in one process: one clinic, no servers to install.

    Example: `spineloop serve --data ./data`
    """

    async def work(settings: Settings, exposition: Exposition) -> None:
        chosen = settings.at_broker(mqtt)  # looked at before anything is opened
        if page_port is not None:
            chosen = msgspec.structs.replace(chosen, page_port=page_port)
        embedding = Embedding(data=data, mqtt_url=mqtt, port=port, page=page and chosen.page_port > 0, waits=True)
        async with embedded.opened(chosen, embedding, exposition) as loop:
            await running.run(loop.roles, loop.settings, exposition, asyncio.Event())

    _run("serve", work)


@app.command()
def simulate(
    machines: Annotated[int, typer.Option(min=1, max=10_000, help="How many simulated machines.")] = 24,
    seconds: Annotated[float, typer.Option(min=1.0, max=86_400.0, help="How long they train, in s.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Decides everything that is left to chance.")] = 1,
    speed: Annotated[float, typer.Option(min=0.01, max=1_000.0, help="Simulated seconds in a second.")] = 1.0,
    reps_per_s: Annotated[
        float | None, typer.Option(min=0.01, max=100_000.0, help="Reps a second of all together; the speed follows.")
    ] = None,
    name: Annotated[str, typer.Option(help="Of this run; runs that share a log need different ones.")] = "run",
    disturbed: Annotated[bool, typer.Option(help="Lose, double, delay and reorder messages; reboot.")] = False,
) -> None:
    """Let a simulated fleet speak real MQTT to the configured broker, and print what it saw, as JSON.

    Example: `SPINELOOP_MQTT_URL=mqtt://broker:1883 spineloop simulate --machines 100 --speed 5 --seconds 120`
    """
    settings = Settings.read()
    logs.configure(settings.log_format, "warning", role="simulate")
    chosen = FleetSettings(
        machines=machines,
        seed=seed,
        run=name,
        speed=speed,
        reps_per_s=reps_per_s,
        max_s=seconds,
        rates=Rates() if disturbed else UNDISTURBED,
    )
    try:
        seen = asyncio.run(simulation.run(chosen, settings))
    except (TimeoutError, ExceptionGroup, BrokenPromise) as error:
        _raise_wrong_setting(error)
        _fail(f"simulate: {str(_leaves(error)[0]) or 'the broker was away too long'}")
    else:
        typer.echo(msgspec.json.format(msgspec.json.encode(seen), indent=2).decode())


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Try each component that is configured; say what is wrong and how to mend it. Exit 1 if anything is wrong.

    Example: `SPINELOOP_LOG_URL=kafka://kafka:9092 SPINELOOP_HISTORY_URL=http://influxdb:8086 spineloop doctor --json`
    """
    settings = Settings.read()
    logs.configure("console", "error")
    findings = asyncio.run(doctors.examine(settings))
    if as_json:
        typer.echo(json.dumps(doctors.as_builtins(findings), indent=2))
    else:
        Console().print(doctors.table(findings))
    if not all(finding.is_well for finding in findings):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Which benches. If none is named, all; with --quick, what is most likely to get worse."),
    ] = None,
    quick: asked.Quick = False,
    rate: asked.Rate = asked.RATE,
    plots: asked.Plots = None,
    report_file: asked.ReportFile = None,
) -> None:
    """Measure parts of spineloop on real servers; exit 1 if anything was lost or doubled, and never for being slow.

    It needs what `scripts/bench` sets up before it does the same: the servers, a browser, and the peers beside us.

    Example: `spineloop bench features --quick`
    """
    try:
        from loadtest.bench import __main__ as benches  # noqa: PLC0415 - of all commands, only this one needs peers
    except ModuleNotFoundError as missing:
        _fail(f"bench: {missing}; `scripts/bench`, where the sources are, sets up what it needs")
    try:
        benches.main(names, quick=quick, rate=rate, plots=plots, report_file=report_file)
    except (NotInstalled, ExceptionGroup) as error:
        for one in _leaves(error):
            if isinstance(one, NotInstalled):
                _fail(f"bench: {one}")
        raise


@topics_app.command()
def create(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Create the topics that are missing, with the configured number of partitions. Safe to repeat.

    Example: `SPINELOOP_LOG_URL=kafka://kafka:9092 SPINELOOP_PARTITIONS=24 spineloop topics create`
    """
    settings = Settings.read()
    logs.configure("console", "error")
    try:
        made = asyncio.run(wiring.create_topics(settings))
    except (ValueError, Busy, BrokenPromise) as error:
        _fail(str(error))
    if as_json:
        typer.echo(json.dumps({"created": made}))
    else:
        typer.echo("\n".join(f"created {name}" for name in made) or "nothing to create")


@topics_app.command()
def describe(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show every topic: partitions, replication, clean-up, records, and what is not as it should be.

    Example: `SPINELOOP_LOG_URL=kafka://kafka:9092 spineloop topics describe --json`
    """
    settings = Settings.read()
    logs.configure("console", "error")
    try:
        rows = msgspec.to_builtins(asyncio.run(wiring.describe_topics(settings)))
    except (ValueError, Busy, BrokenPromise) as error:
        _fail(str(error))
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("topic", "partitions", "replication", "clean-up", "records", "differences")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)
