"""Looking: what the commands share that look into a log: where it is, which stretch, how they end, how far they are."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from msgspec.structs import replace
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from spineloop import logs, wiring
from spineloop.embedded import PARTITIONS
from spineloop.recordings import Failed
from spineloop.settings import Settings, WrongSetting
from streams.core.errors import BrokenPromise, Busy
from streams.core.records import Record
from streams.log import Log
from streams.stretch import At, OutOfRange, Readable, closing

EXIT_INTERRUPTED = 130
"""Of a command that was ended by Ctrl-C, as shells have it."""

Advance = Callable[[int, int], None]
T = TypeVar("T")

From = Annotated[str | None, typer.Option("--from", help="Where it begins: an offset, or a time (UTC unless it says).")]
To = Annotated[str | None, typer.Option("--to", help="Where it ends: an offset or a time, itself not included.")]
Data = Annotated[Path | None, typer.Option("--data", help="Folder of an embedded log; else the log of the settings.")]


def place(text: str | None, option: str) -> At | None:
    """Read an offset or a time. Raises WrongSetting naming the option.

    Examples
    --------
    >>> place("1200", "--from"), place("2026-11-01", "--to")
    (At(offset=1200, time_ms=None), At(offset=None, time_ms=1793491200000))
    """
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return At(offset=int(text))
    try:
        moment = datetime.fromisoformat(text)
        aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return At(time_ms=round(aware.timestamp() * 1_000))
    except (ValueError, OverflowError):
        raise WrongSetting(f"{option}: expected an offset or a time such as 2026-11-23T18:00, got {text!r}") from None


def time_only(text: str | None, option: str) -> At | None:
    """Read a time. Raises WrongSetting naming the option."""
    at = place(text, option)
    if at is not None and at.time_ms is None:
        raise WrongSetting(f"{option}: expected a time such as 2026-11-23T18:00, got {text!r}")
    return at


def has_log(data: Path) -> bool:
    """Tell whether there is an embedded log in a folder."""
    return (data / wiring.LOG).is_file()


def in_folder(settings: Settings, data: Path | None, *, writes: bool = False) -> Settings:
    """Let the settings name the embedded log in a folder, if one is given. Raises WrongSetting if there is none.

    With `writes`, also if it could not be written.
    """
    if data is None:
        return settings
    if not has_log(data):
        raise WrongSetting(f"--data: no log in {data}")
    if writes:
        wiring.check_folder(data, "--data")
    return replace(settings, log_url=f"sqlite://{data.absolute()}", partitions=PARTITIONS)


@asynccontextmanager
async def for_reading(settings: Settings, role: str) -> AsyncIterator[Readable]:
    """Open the log to look at it."""
    async with _opened(wiring.open_for_reading(settings, role)) as log:
        yield log


@asynccontextmanager
async def for_writing(settings: Settings, role: str) -> AsyncIterator[Log]:
    """Open the log as the roles do."""
    async with _opened(wiring.open_log(settings, role)) as log:
        yield log


@asynccontextmanager
async def _opened(opening: AbstractAsyncContextManager[T]) -> AsyncIterator[T]:
    """Tell what a person can mend as one line; a defect of ours keeps its trace."""
    async with AsyncExitStack() as stack:
        try:
            log = await stack.enter_async_context(opening)
        except ValueError as error:
            raise WrongSetting(str(error)) from error
        except (Busy, BrokenPromise) as error:
            raise Failed(str(error)) from error
        try:
            async with failing():
                yield log
        except OutOfRange as error:
            raise WrongSetting(str(error)) from error


@asynccontextmanager
async def failing() -> AsyncIterator[None]:
    """Tell what is away or refuses as one line."""
    try:
        yield
    except (Busy, BrokenPromise) as error:
        raise Failed(str(error)) from error


def run(name: str, work: Callable[[Settings], Coroutine[Any, Any, T]], interrupted: str) -> T:
    """Run one command to its end; Ctrl-C ends it with 130 and one line that says what that left behind."""
    settings = Settings.read()
    logs.configure("console", "error", role=name)
    try:
        return asyncio.run(work(settings))
    except KeyboardInterrupt:
        typer.echo(f"spineloop: {name}: interrupted; {interrupted}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def progress(what: str) -> AbstractContextManager[Advance]:
    """Show a progress bar on stderr if that is a terminal, and nothing anywhere else."""
    return _progress(what, Console(stderr=True))


@contextmanager
def _progress(what: str, err: Console) -> Iterator[Advance]:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def unseen(_done: int, _of: int) -> None:
    """Advance where nobody looks."""


async def size(log: Readable, topics: Collection[str]) -> int:
    """Count the offsets that topics hold; where records were compacted away, there are fewer of these."""
    ends = [ends for topic in topics for ends in (await log.bounds(topic)).values()]
    return sum(end - first for first, end in ends)


async def through(log: Readable, topics: Collection[str], advance: Advance) -> AsyncIterator[Sequence[Record]]:
    """Read topics from the beginning to the end, a partition after the other, and tell how far that is."""
    done, total = 0, await size(log, topics)
    for topic in topics:
        for number, (first, end) in (await log.bounds(topic)).items():
            async with closing(log.read(topic, number, first, end)) as batches:
                async for records in batches:
                    yield records
                    advance(done + records[-1].offset + 1 - first, total)
            done += end - first
            advance(done, total)  # an end that was compacted away is behind us, too


def check_place_for(file: Path, option: str) -> None:
    """Refuse a file that could not be written, before hours of work. Raises WrongSetting."""
    if file.is_dir():
        raise WrongSetting(f"{option}: {file} is a folder")
    if not os.access(file.absolute().parent, os.W_OK):
        raise WrongSetting(f"{option}: no folder to write to: {file.absolute().parent}")
