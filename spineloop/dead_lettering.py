"""Dead-lettering: `spineloop dead-letters list`, `show` and `redrive`."""

from collections import Counter
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spineloop import looking, redriving, wiring
from spineloop.looking import Data
from spineloop.policy_report import at
from spineloop.printable import printable, printable_json
from spineloop.redriving import Letter, Place, Redriven
from spineloop.settings import Settings, WrongSetting
from streams.core import codec
from streams.core.dead_letters import PREFIX
from streams.core.records import Record
from streams.stretch import Readable, closing

SHOWN = 50
"""Letters in the table, the newest, which are all that is kept of them; `--json` prints each as it is read."""

SHOWN_BYTES = 4_096
"""How much of a value is shown that is no message."""

_LINE_FEED = "\n"

app = typer.Typer(no_args_is_help=True, help="What could not be understood: look at it, and put it back after a mend.")

Reason = Annotated[str | None, typer.Option(help="Only those with this reason, unknown_version for example.")]
Stage = Annotated[
    str | None, typer.Option(help="Only those of this stage: ingest, control, plan, history or downlink.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def listed(*, reason: Reason = None, stage: Stage = None, as_json: Json = False, data: Data = None) -> None:
    """List dead letters: when, whose, why, and whether they went back.

    Example: `spineloop dead-letters list --reason unknown_version`
    """
    if as_json:
        looking.run(
            "dead-letters",
            lambda settings: _print_all(looking.in_folder(settings, data), reason, stage),
            "nothing was changed",
        )
        return
    found = looking.run(
        "dead-letters",
        lambda settings: _in_short(looking.in_folder(settings, data), reason, stage),
        "nothing was changed",
    )
    if not found.newest:
        typer.echo("no dead letters")
        return
    Console().print(_table(found))
    for (why, who), count in sorted(found.reasons.items()):
        typer.echo(printable(f"{count:>9,}  {why} at {who}"))


@app.command()
def show(
    where: Annotated[str, typer.Argument(metavar="PARTITION/OFFSET", help="Where it lies, as `list` says.")],
    *,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Show one dead letter: where it came from, why it lies here, the stack trace if the fault is ours, its value.

    Example: `spineloop dead-letters show 3/17`
    """
    (wanted,) = _places([where])
    record = looking.run(
        "dead-letters", lambda settings: _whole(looking.in_folder(settings, data), wanted), "nothing was changed"
    )
    told = _told(record)
    if as_json:
        _echo_json(told)
        return
    value, trace = told.pop("value"), told.pop("trace")
    for name, what in told.items():
        typer.echo(printable(f"{name:<10}{what if not isinstance(what, dict) else ''}".rstrip()))
        for header, text in what.items() if isinstance(what, dict) else ():
            typer.echo(printable(f"  {header}: {text}"))
    if trace:
        typer.echo(f"trace\n{printable(trace.rstrip(), keep=_LINE_FEED)}")
    typer.echo("value")
    if isinstance(value, str):
        typer.echo(printable(value))
    else:
        typer.echo(printable_json(msgspec.json.format(msgspec.json.encode(value), indent=2)))


@app.command()
def redrive(
    where: Annotated[
        list[str] | None, typer.Argument(metavar="PARTITION/OFFSET...", help="Which letters, as `list` says.")
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All that have not gone back yet.")] = False,
    reason: Reason = None,
    stage: Stage = None,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Put dead letters back where they came from, after a mend, each once. One that is refused keeps all others back.

    With --all, those that are refused stay, and the others go. Exit 1 if any was refused.

    Example: `spineloop dead-letters redrive --all --reason quarantined`
    """
    places = _places(where or [])
    if bool(places) == every:
        raise WrongSetting("dead-letters redrive: name letters as PARTITION/OFFSET, or --all, not both")
    if (reason or stage) and not every:
        raise WrongSetting("dead-letters redrive: --reason and --stage choose among --all")
    found = looking.run(
        "dead-letters",
        lambda settings: _redrive(looking.in_folder(settings, data, writes=True), places, reason, stage),
        "some letters may have gone back; the same command goes on",
    )
    if as_json:
        refused = {str(one): why for one, why in found.refused.items()}
        _echo_json({"redriven": [str(one) for one in found.done], "refused": refused})
    else:
        for one, why in found.refused.items():
            typer.echo(printable(f"{one} refused: {why}"), err=True)
        typer.echo(f"{len(found.done):,} went back" + (f", {len(found.refused):,} refused" if found.refused else ""))
    if found.refused:
        raise typer.Exit(1)


def _places(texts: Sequence[str]) -> list[Place]:
    try:
        return [redriving.place(text) for text in texts]
    except ValueError as error:
        raise WrongSetting(f"dead-letters: {error}") from error


class _InShort(msgspec.Struct):
    """The newest letters, and how many there are by reason and stage."""

    newest: list[tuple[int, Place, Letter]] = msgspec.field(default_factory=list)
    reasons: Counter[tuple[str, str]] = msgspec.field(default_factory=Counter)

    def take(self, letter: Letter) -> None:
        """Take a letter in, and let go of the oldest if that is one too many."""
        self.reasons[letter.reason, letter.stage] += 1
        heappush(self.newest, (letter.at_ms, letter.place, letter))
        if len(self.newest) > SHOWN:
            heappop(self.newest)


async def _in_short(settings: Settings, reason: str | None, stage: str | None) -> _InShort:
    found = _InShort()
    async with looking.for_reading(settings, "dead-letters") as log:
        said = await _marks(log)
        with looking.progress("dead letters") as advance:
            async with closing(redriving.one_by_one(log, said, advance)) as letters:
                async for one in letters:
                    if _is_chosen(one, reason, stage):
                        found.take(one)
    return found


async def _print_all(settings: Settings, reason: str | None, stage: str | None) -> None:
    """Print letters as one JSON array, each as soon as it was read."""
    before = "["
    async with looking.for_reading(settings, "dead-letters") as log:
        said = await _marks(log)
        async with closing(redriving.one_by_one(log, said)) as letters:  # no bar: it would take stdout away
            async for one in letters:
                if _is_chosen(one, reason, stage):
                    typer.echo(before + printable_json(msgspec.json.encode(_plain(one))), nl=False)
                    before = ",\n"
    typer.echo("[]" if before == "[" else "]")


async def _marks(log: Readable) -> redriving.Marks:
    with looking.progress("dead letters: marks") as advance:
        return await redriving.marks(log, advance)


def _is_chosen(one: Letter, reason: str | None, stage: str | None) -> bool:
    return (reason is None or one.reason == reason) and (stage is None or one.stage == stage)


async def _whole(settings: Settings, wanted: Place) -> Record:
    async with looking.for_reading(settings, "dead-letters") as log:
        return await redriving.whole(log, wanted)


async def _redrive(settings: Settings, places: Sequence[Place], reason: str | None, stage: str | None) -> Redriven:
    async with looking.for_writing(settings, "dead-letters") as log:
        chosen = list(places)
        if not chosen:
            with looking.progress("dead letters") as advance:
                found = (await redriving.letters(log, advance)).by_place.values()
            chosen = [one.place for one in found if _is_chosen(one, reason, stage) and one.redriven != "done"]
        with looking.progress("redrive") as advance:
            return await redriving.redrive(log, chosen, wiring.wall_clock_ms, all_or_none=bool(places), advance=advance)


def _echo_json(told: object) -> None:
    typer.echo(printable_json(msgspec.json.encode(told)))


def _plain(letter: Letter) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(letter)
    return told | {"place": str(letter.place)}


def _table(found: _InShort) -> Table:
    newest = [letter for _, _, letter in sorted(found.newest)]
    table = Table(title=f"{len(newest):,} of {found.reasons.total():,} dead letters", title_justify="left")
    for name in ("place", "time (UTC)", "key", "stage", "reason", "detail", "went back"):
        table.add_column(name)
    for one in newest:
        cells = (str(one.place), at(one.at_ms), one.key, one.stage, one.reason, one.detail, one.redriven)
        table.add_row(*(Text(printable(cell)) for cell in cells))  # as it is: in a plain str rich reads markup
    return table


def _told(record: Record) -> dict[str, Any]:
    letter = redriving.letter_of(record)
    headers = {name: value.decode(errors="backslashreplace") for name, value in record.headers}
    trace = headers.pop(PREFIX + "exception.stacktrace", "")
    told = {
        "place": str(letter.place),
        "time": at(letter.at_ms),
        "key": letter.key,
        "stage": letter.stage,
        "why": headers.get(PREFIX + "exception.message", ""),
        "from": letter.topic,
        "bytes": letter.bytes,
        "headers": headers,
    }
    return told | {"trace": trace, "value": _value(record.value or b"")}


def _value(value: bytes) -> Any:  # noqa: ANN401 - whatever was sent
    """Return a value as a person can read it: as JSON if it is a message of any kind, else its bytes."""
    try:
        read = msgspec.json.decode(value) if codec.is_json(value) else msgspec.msgpack.decode(value)
        if isinstance(read, dict):
            return msgspec.json.decode(msgspec.json.encode(read))
    except (ValueError, TypeError, OverflowError, RecursionError):
        pass  # MessagePack has values, and keys, that JSON can't have
    some = repr(value[:SHOWN_BYTES])[2:-1]
    return some if len(value) <= SHOWN_BYTES else f"{some}... ({len(value):,} bytes)"
