"""Exporting: what `spineloop export` does, from the topics of results to one Parquet file for each kind of them."""

import sqlite3
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Protocol, get_args

import msgspec
import typer
from msgspec.structs import replace

from spineloop import looking
from spineloop.looking import Data
from spineloop.rows import SHEETS, What
from spineloop.settings import Settings, WrongSetting
from spineloop.whole_file import whole_file
from streams.core import codec
from streams.core.danger import EARLY
from streams.core.errors import Malformed
from streams.core.records import REPLAYED, Record, header
from streams.core.results import CommandClosed
from streams.core.topics import COMMAND, METRIC
from streams.digest import Recent, has_any
from streams.merging import merged
from streams.reducer import REDRIVE, REDRIVEN
from streams.stretch import At, OutOfRange, Part, Readable, Wanted, check_order, parts

SLICE_RECORDS = 500
"""Records that are read as rows before the progress bar moves."""

OUTCOME_MS = 3_600_000
"""How long after a command its outcome is looked for, in ms: rows wait for it in memory, so it has an end."""

SUFFIX = ".parquet"
_CLOSED = f"spineloop.{CommandClosed.__struct_config__.tag}.v1"


def command(
    out: Annotated[Path, typer.Option(help="Folder for one file of each kind, or FILE.parquet for a single one.")],
    *,
    since: Annotated[str | None, typer.Option("--from", help="Where it begins: a time (UTC unless it says).")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Where it ends: a time, itself not included.")] = None,
    what: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(get_args(What))}; repeatable. All, if none is named.")
    ] = None,
    data: Data = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write results to Parquet: a row for each, a column for each metric, units in the metadata of the columns.

    Example: `spineloop export --data ./data --what reps --from 2026-11-01 --out reps.parquet`
    """
    wanted = Wanted(since=looking.time_only(since, "--from"), until=looking.time_only(until, "--to"))
    try:
        check_order(wanted)
    except OutOfRange as error:
        raise WrongSetting(f"--to: {error}") from error
    looking.in_folder(Settings.read(), data)  # before a folder is made for what can't be read
    files = _files(out, what or list(get_args(What)))
    found = looking.run(
        "export",
        lambda settings: _run(looking.in_folder(settings, data), wanted, files),
        "no file was written",
    )
    if as_json:
        paths = {name: str(file) for name, file in files.items()}
        typer.echo(msgspec.json.encode(msgspec.to_builtins(found) | {"files": paths}))
        return
    for name, file in files.items():
        typer.echo(f"{found.rows[name]:,} {name}: {file}")
    for reason, count in sorted(found.unread.items()):
        typer.echo(f"{count:,} records could not be read: {reason}")


def _files(out: Path, named: Sequence[str]) -> dict[What, Path]:
    """Choose the file of each kind. Raises WrongSetting."""
    wrong = [name for name in named if name not in SHEETS]
    if wrong:
        raise WrongSetting(f"--what: expected one of {', '.join(SHEETS)}, got {wrong[0]!r}")
    kinds = [what for what in SHEETS if what in named]
    if out.suffix == SUFFIX:
        if len(kinds) > 1:
            raise WrongSetting(f"--out: {out} is one file, for one --what; name a folder for {', '.join(kinds)}")
        looking.check_place_for(out, "--out")
        return {kinds[0]: out}
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WrongSetting(f"--out: {error}") from error
    files = {what: out / f"{what}{SUFFIX}" for what in kinds}
    for file in files.values():
        looking.check_place_for(file, "--out")
    return files


class Exported(msgspec.Struct, frozen=True):
    """Rows written by kind, and records that could not be read by reason."""

    rows: Mapping[str, int]
    unread: Mapping[str, int]


class File(Protocol):
    """Takes rows."""

    @property
    def written(self) -> int:
        """How many it has taken."""

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one row."""


async def _run(settings: Settings, wanted: Wanted, files: Mapping[What, Path]) -> Exported:
    from adaptors.parquet_file import ParquetFile  # noqa: PLC0415 - a third of a second that only this needs

    async with looking.for_reading(settings, "export") as log:
        with ExitStack() as stack:
            advance = stack.enter_context(looking.progress("export"))
            unfinished = {what: stack.enter_context(whole_file(file)) for what, file in files.items()}
            with ExitStack() as writing:
                opened: dict[What, File] = {
                    what: writing.enter_context(ParquetFile(file, SHEETS[what].columns))
                    for what, file in unfinished.items()
                }
                return await export(log, wanted, opened, advance)


async def export(
    log: Readable, wanted: Wanted, files: Mapping[What, File], advance: looking.Advance | None = None
) -> Exported:
    """Write what the log holds of a time range into files; each result once, as it was written last.

    Raises
    ------
    streams.stretch.OutOfRange
        The log does not hold the range.
    """
    work = _Work(log, wanted, advance)
    await work.find({SHEETS[what].topic for what in files})
    results = {SHEETS[what].ce_type: what for what in files if SHEETS[what].topic == METRIC}
    async for record in work.records(METRIC, results):
        work.add(record, results[header(record, "ce_type") or ""], files)
    if "commands" in files:
        await _commands(work, files["commands"])
    return Exported({what: file.written for what, file in files.items()}, work.unread)


class _Work:
    """One export while it runs: where the range lies in each topic, and what of it is current."""

    def __init__(self, log: Readable, wanted: Wanted, advance: looking.Advance | None) -> None:
        self._log, self._wanted, self._advance = log, wanted, advance
        self._parts: dict[str, dict[int, Part]] = {}
        self._newest = _Newest()
        self._done = self._total = 0
        self.unread: Counter[str] = Counter()

    async def find(self, topics: Collection[str]) -> None:
        """Find the range in these topics, and what a replay has written again of it."""
        for topic in {METRIC, *topics}:
            self._parts[topic] = await _in_range(self._log, topic, self._wanted)
        to_end = await _in_range(self._log, METRIC, Wanted(since=self._wanted.since))
        passes = [to_end, *self._parts.values(), *([self._parts[METRIC]] if COMMAND in topics else [])]
        self._total = sum(part.stop - part.first for each in passes for part in each.values())
        if METRIC in topics:
            async for some in merged(self._log, METRIC, to_end, SLICE_RECORDS):
                self._newest.note([one for one in some if has_any(one, (REPLAYED,)) and self._wanted.has(one)])
                self._moved(len(some))
        if self._newest:
            self._parts[METRIC] = to_end

    def _moved(self, records: int) -> None:
        self._done += records
        if self._advance is not None:
            self._advance(self._done, max(self._done, self._total))

    async def records(self, topic: str, types: Collection[str], after_ms: int = 0) -> AsyncIterator[Record]:
        """Read what lies in the range or so much after it, of these types, each once; nearly in the order of time."""
        until = self._wanted.until
        if until is not None and until.time_ms is not None:
            until = At(time_ms=until.time_ms + after_ms)
        wanted = replace(self._wanted, until=until)
        if not types:
            return
        recent = {number: Recent() for number in self._parts[topic]}
        async for some in merged(self._log, topic, self._parts[topic], SLICE_RECORDS):
            for one in some:
                if (
                    wanted.has(one)
                    and header(one, "ce_type") in types
                    and not has_any(one, (REDRIVE, REDRIVEN))  # it stands in the topic before it
                    and self._newest.has(one)
                    and recent[one.partition].is_new(one)
                ):
                    yield one
            self._moved(len(some))

    def add(self, record: Record, what: What, files: Mapping[What, File]) -> None:
        """Write one record as a row, or count why not."""
        try:
            files[what].add(SHEETS[what].row(record))
        except Malformed as malformed:
            self.unread[malformed.reason] += 1


async def _in_range(log: Readable, topic: str, wanted: Wanted) -> dict[int, Part]:
    """Say what has to be read of a topic for a range of time; results need nothing before it."""
    found = await parts(log, wanted, topic)
    if wanted.since is None or wanted.since.time_ms is None:
        return found
    starts = {number: await log.offset_at(topic, number, wanted.since.time_ms) for number in found}
    return {number: Part(starts[number], max(starts[number], part.stop)) for number, part in found.items()}


class _Newest:
    """Where the last of those records lies that a replay wrote again; on disk, for there may be a month of a fleet."""

    def __init__(self) -> None:
        self._places = sqlite3.connect("")  # a file without a name, which goes when we go
        self._places.execute("CREATE TABLE place (id TEXT PRIMARY KEY, number INTEGER, at INTEGER) WITHOUT ROWID")
        self._is_empty = True

    def __bool__(self) -> bool:
        return not self._is_empty

    def note(self, records: Sequence[Record]) -> None:
        """Take note of copies, in the order in which they lie."""
        if records:
            self._is_empty = False
            rows = [(header(one, "ce_id"), one.partition, one.offset) for one in records]
            self._places.executemany("INSERT OR REPLACE INTO place VALUES (?, ?, ?)", rows)

    def has(self, record: Record) -> bool:
        """Tell whether there is nothing newer."""
        if self._is_empty:
            return True
        query = "SELECT number, at FROM place WHERE id = ?"
        place = self._places.execute(query, (header(record, "ce_id"),)).fetchone()
        return place is None or place == (record.partition, record.offset)


async def _commands(work: _Work, file: File) -> None:
    """Write commands, each with how it ended, which the metric topic says later; rows wait for that for a while."""
    closings = work.records(METRIC, (_CLOSED,), OUTCOME_MS)
    ahead = await anext(closings, None)
    ended = _Ended(file)
    async for record in work.records(COMMAND, (SHEETS["commands"].ce_type,)):
        while ahead is not None and ahead.timestamp_ms <= record.timestamp_ms:
            ended.hear(ahead)
            ahead = await anext(closings, None)
        if header(record, EARLY) is not None:  # the controller's own says it again, with all that it knows
            continue
        try:
            ended.add(SHEETS["commands"].row(record), record.timestamp_ms)
        except Malformed as malformed:
            work.unread[malformed.reason] += 1
    while ahead is not None:
        ended.hear(ahead)
        ahead = await anext(closings, None)
    ended.release(float("inf"))


class _Ended:
    """Joins commands with how they ended, both in the order of time."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._waiting: deque[tuple[float, dict[str, Any]]] = deque()
        self._ends: OrderedDict[str, tuple[float, dict[str, Any]]] = OrderedDict()

    def add(self, row: dict[str, Any], now_ms: float) -> None:
        """Take a command."""
        self._waiting.append((now_ms, row))
        self.release(now_ms - OUTCOME_MS)

    def hear(self, record: Record) -> None:
        """Take what the metric topic says of a command."""
        try:
            closed = codec.decode_metric(record.value or b"")
        except Malformed:
            return  # the pass over the metrics counts it
        if isinstance(closed, CommandClosed):
            told = {"outcome": closed.outcome, "outcome_reason": closed.reason, "closed": closed.at_ms}
            self._ends[closed.command_id] = record.timestamp_ms, told
        self.release(record.timestamp_ms - OUTCOME_MS)

    def release(self, before_ms: float) -> None:
        """Write the rows that know their end or are as old; forget ends that are."""
        while self._waiting and (self._waiting[0][1]["command_id"] in self._ends or self._waiting[0][0] < before_ms):
            _, row = self._waiting.popleft()
            self._file.add(row | self._ends.get(row["command_id"], (0.0, {}))[1])
        while self._ends and next(iter(self._ends.values()))[0] < before_ms:
            self._ends.popitem(last=False)
