"""Recordings: the commands that read one, `spineloop analyse` and `spineloop play`, and the options they share."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from adaptors.recording_file import read_recording
from loadtest.exercise import EXERCISES
from spineloop import analyse as analyses
from spineloop import logs, retold, tables, wiring
from spineloop.analyse import Analysis
from spineloop.play import Played, Player
from spineloop.retold import Said, Teller
from spineloop.settings import Settings, WrongSetting
from spineloop.whole_file import whole_file
from streams.core.errors import BrokenPromise, Busy
from streams.core.excursions import Cuts
from streams.core.limits import MachineKey, Name, PatientKey, Token
from streams.core.recording import REST_S, UNNAMED, Protocol, WrongRecording
from streams.core.telemetry import Capabilities, Rep
from streams.core.topics import tenant_of

TABLE_WIDTH = 150
"""Characters of a line where nobody looks at a terminal: no column is cut off in a file."""

PICTURES = (".png", ".svg")

File = Annotated[Path, typer.Argument(help="The recording: CSV with t_s, force_N and position_m or position_rad.")]
LoadN = Annotated[float | None, typer.Option(help="Set load in N, or N m where position is in rad.")]
ExerciseName = Annotated[str, typer.Option(help="Name of the exercise, for example lumbar_extension.")]
IntentName = Annotated[Literal["max", "paced", "unknown"], typer.Option(help="How the patient was to move.")]
SignOf = Annotated[int, typer.Option(min=-1, max=1, help="1, or -1 where the sensor counts the other way.")]
Window = Annotated[tuple[float, float] | None, typer.Option(help="Prescribed window in m or rad, signs applied.")]
Tempo = Annotated[tuple[float, float, float] | None, typer.Option(help="Prescribed concentric, hold, eccentric in s.")]
ForceLimit = Annotated[float | None, typer.Option(help="End of the load cell's range, in N or N m.")]
PositionLimit = Annotated[float | None, typer.Option(help="End of the position sensor's range, in m or rad.")]
Rest = Annotated[float, typer.Option(min=1.0, help="Pause in s that ends a set, where no column says so.")]


class Failed(Exception):
    """A command could not do what it was asked for; the message is one line."""


def analyse(
    file: File,
    *,
    load_n: LoadN = None,
    exercise: ExerciseName = UNNAMED,
    intent: IntentName = "unknown",
    concentric_sign: SignOf = 1,
    force_sign: SignOf = 1,
    window: Window = None,
    tempo: Tempo = None,
    force_limit: ForceLimit = None,
    position_limit: PositionLimit = None,
    rest_s: Rest = REST_S,
    only_set: Annotated[int | None, typer.Option("--set", min=1, help="Show this set only.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    out: Annotated[Path | None, typer.Option("--csv", help="Write a row for each rep here.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw the recording here: .png or .svg.")] = None,
) -> None:
    """Measure every repetition of a recording, and say of each one that is rejected why.

    Example: `spineloop analyse rec.csv --load-n 400 --intent max --picture rec.png`
    """
    protocol = _protocol(
        load_N=load_n,
        exercise=exercise,
        intent=intent,
        concentric_sign=concentric_sign,
        force_sign=force_sign,
        window=window,
        tempo=tempo,
        force_limit=force_limit,
        position_limit=position_limit,
        rest_s=rest_s,
    )
    if picture is not None and picture.suffix.casefold() not in PICTURES:
        raise WrongSetting(f"--picture: {picture} ends neither in {' nor in '.join(PICTURES)}")
    for option, written in (("--csv", out), ("--picture", picture)):
        if written is not None and written.resolve() == file.resolve():
            raise WrongSetting(f"{option}: {written} is the recording itself, which would be lost")
    analysis, cuts = _analysed(file, protocol)
    if only_set is not None:
        try:
            analysis = analyses.of_set(analysis, only_set)
        except ValueError as error:
            raise WrongSetting(f"--set: {error}") from None
    if as_json:
        typer.echo(analyses.as_json(analysis))
    else:
        console = Console()
        (console if console.is_terminal else Console(width=TABLE_WIDTH)).print(tables.table(analysis))
    _write(analysis, cuts, out, picture)


def _write(analysis: Analysis, cuts: Cuts, out: Path | None, picture: Path | None) -> None:
    """Write the table and the picture, each if it is wanted."""
    try:
        if out is not None:
            with whole_file(out) as unfinished:
                analyses.write_csv(analysis, unfinished)
        if picture is not None:
            from spineloop.picture import draw  # noqa: PLC0415 - half a second that only pictures need

            with whole_file(picture) as unfinished:
                draw(analysis, cuts, unfinished, picture.suffix.casefold().removeprefix("."))
    except OSError as error:
        raise Failed(f"{error.filename or 'not written'}: {error.strerror}") from error


def play(
    file: File,
    *,
    machine: Annotated[str, typer.Option(help="Who speaks: tenant/site/machine.")],
    mqtt: Annotated[str | None, typer.Option(help="Broker: mqtt://host:port; else SPINELOOP_MQTT_URL.")] = None,
    speed: Annotated[float, typer.Option(min=0.01, max=1_000.0, help="Seconds of the recording in a second.")] = 1.0,
    patient: Annotated[str | None, typer.Option(help="Who trains: tenant/pseudonym.")] = None,
    session: Annotated[str | None, typer.Option(help="Id of the session.")] = None,
    boot: Annotated[str | None, typer.Option(help="Id of the boot: a second play of it is a repetition.")] = None,
    settings_hash: Annotated[str, typer.Option("--settings", help="Hash of seat and lever positions.")] = UNNAMED,
    load_n: LoadN = None,
    exercise: ExerciseName = UNNAMED,
    intent: IntentName = "unknown",
    concentric_sign: SignOf = 1,
    force_sign: SignOf = 1,
    window: Window = None,
    tempo: Tempo = None,
    force_limit: ForceLimit = None,
    position_limit: PositionLimit = None,
    rest_s: Rest = REST_S,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say a recording as a machine says it: online, a session, its sets, each rep 0.5 s after its end, farewell.

    Example: `spineloop play rec.csv --mqtt mqtt://127.0.0.1:1883 --machine acme/north/m1 --speed 10 --load-n 400`
    """
    protocol = _protocol(
        load_N=load_n,
        exercise=exercise,
        intent=intent,
        concentric_sign=concentric_sign,
        force_sign=force_sign,
        window=window,
        tempo=tempo,
        force_limit=force_limit,
        position_limit=position_limit,
        rest_s=rest_s,
    )
    settings = Settings.read().at_broker(mqtt)
    logs.configure("console", "error", role="play")
    machine = _checked("--machine", machine, MachineKey)
    boot = _checked("--boot", boot or f"play-{wiring.wall_clock_ms()}", Token)
    teller = Teller(
        machine=machine,
        boot_id=boot,
        patient=_checked("--patient", patient or f"{tenant_of(machine)}/{UNNAMED}", PatientKey),
        session=_checked("--session", session or f"{boot}.1", Token),
        settings=_checked("--settings", settings_hash, Token),
    )
    if tenant_of(teller.patient) != tenant_of(machine):
        raise WrongSetting(f"--patient: {teller.patient} is of another tenant than {machine}")
    _, cuts = _analysed(file, protocol)
    said = retold.session(cuts, cuts.reps, protocol, teller)
    try:
        played = asyncio.run(_played(said, teller, _capabilities(cuts, protocol), settings, speed))
    except (Busy, BrokenPromise, ValueError) as error:
        raise Failed(f"play: {error}") from error
    left_out = len(cuts.reps) - played.reps
    if as_json:
        told = {"machine": machine, "boot": boot, "sets": len(cuts.sets), "reps": played.reps}
        typer.echo(msgspec.json.encode(told | {"left_out": left_out, "refused": played.refused}))
        return
    typer.echo(
        f"played {played.reps} reps in {len(cuts.sets)} sets as {machine}, boot {boot}; "
        f"{left_out} left out, {played.refused} commands refused"
    )


def _analysed(file: Path, protocol: Protocol) -> tuple[Analysis, Cuts]:
    try:
        return analyses.analyse(str(file), read_recording(file), protocol)
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}") from error
    except WrongRecording as error:
        raise Failed(f"{file}: {error}") from error


def _protocol(**given: Any) -> Protocol:  # noqa: ANN401 - the fields of Protocol
    """Check what was said about a recording. Raises WrongSetting, with the option that is wrong."""
    for option in ("concentric_sign", "force_sign"):
        if given[option] == 0:
            raise WrongSetting(f"--{option.replace('_', '-')}: 1 or -1")
    for option in ("load_N", "force_limit", "position_limit"):
        if given[option] is not None and not 0.0 < given[option] <= _LARGEST:
            raise WrongSetting(f"--{option.casefold().replace('_', '-')}: {given[option]:g} is not above 0")
    if given["window"] is not None and not -10.0 <= given["window"][0] < given["window"][1] <= 10.0:  # noqa: PLR2004
        raise WrongSetting("--window: two positions in m or rad, the lower one first")
    if given["tempo"] is not None and not all(0.0 <= phase <= _LONGEST_S for phase in given["tempo"]):
        raise WrongSetting("--tempo: three times in s: concentric, hold, eccentric")
    name = given["exercise"]
    known = name.replace("-", "_")
    return Protocol(**given | {"exercise": _checked("--exercise", known if known in EXERCISES else name, Name)})


_LARGEST, _LONGEST_S = 50_000.0, 3_600.0
T = TypeVar("T")


def _checked(option: str, value: str, kind: Any) -> str:  # noqa: ANN401 - typing has no name for annotated types
    try:
        return str(msgspec.convert(value, kind))
    except msgspec.ValidationError:
        raise WrongSetting(f"{option}: {value!r} is not of its form") from None


def _capabilities(cuts: Cuts, protocol: Protocol) -> Capabilities:
    """Say what a machine of a known exercise can do; of another, what was recorded."""
    known = EXERCISES.get(protocol.exercise)
    if known is not None and known.unit == cuts.position_unit:
        return known.capabilities
    return retold.capabilities(cuts, protocol)


async def _played(
    said: Sequence[Said], teller: Teller, capabilities: Capabilities, settings: Settings, speed: float
) -> Played:
    player: Player[Any] = Player(teller, capabilities, wiring.machine_connect(settings), speed)
    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*bar, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reps", total=sum(isinstance(message, Rep) for message in said))
        return await player.run(said, lambda _: progress.advance(task))
