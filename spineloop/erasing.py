"""Erasing: `spineloop erase`: a patient's pseudonym out of states, history and log (docs/privacy.md)."""

import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer

from spineloop import looking, wiring
from spineloop.looking import Data
from spineloop.recordings import Failed
from spineloop.settings import Settings, WrongSetting
from streams.checkpoint import ENTRY_OVERHEAD_BYTES, POSITION_KEY, Entries, Kept
from streams.core.erasure import Erasure
from streams.core.limits import NAME
from streams.core.records import Record
from streams.core.stage import Stage
from streams.core.topics import LOG_TOPICS, STATE_MAX_BATCH_BYTES, TELEMETRY, tenant_of
from streams.forgetting import Forgetting
from streams.log import Log
from streams.stretch import Readable, closing

_PATIENT = re.compile(rf"{NAME}/{NAME}", re.ASCII)
ALIAS_BYTES = 12
"""Of randomness in the name that takes the place: no patient has it, and nobody writes down whose it was."""

SLICE_RECORDS = 500
"""Records that are rewritten before the progress bar moves."""

Change = Callable[[Record], Record | None]

Places = dict[tuple[str, int], int]
"""Offsets by topic and partition."""


class Remains(msgspec.Struct, frozen=True):
    """Records of a topic that still bear the pseudonym, and when retention will have removed the last of them."""

    records: int
    until_ms: int


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """What was done: records of the log that were changed or taken away, points that were changed, what is left.

    `innocent` are records of others that lay before the patient's in a partition of Kafka, and went with them.
    """

    log: Mapping[str, int]
    innocent: int = 0
    history: int
    remains: Mapping[str, Remains]


def command(
    patient: Annotated[str, typer.Option(help="tenant/patient, as the machines say it.")],
    *,
    data: Data = None,
    trim_log: Annotated[
        bool,
        typer.Option("--trim-log", help="Kafka: take away all records up to the patient's last one, of others too."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Erase a patient's pseudonym. Stop `control` and `plan`, or `serve`, first. It can't be undone.

    In a SQLite log every mention is replaced where it stands, by a random name. Kafka can't change a record: states and
    history are rewritten at once; records go by retention, or with --trim-log now, together with what is older than
    they. Exit 1 if anything still bears the name.

    Example: `spineloop erase --patient acme/p-17 --data ./data`
    """
    if not _PATIENT.fullmatch(patient):
        raise WrongSetting(f"--patient: expected tenant/patient, got {patient!r}")
    if not yes:
        typer.confirm(f"Erase {patient} for good?", abort=True, err=True)
    done = looking.run(
        "erase", lambda settings: erase(_of(settings, data), patient, trim_log=trim_log), "run it again to finish"
    )
    if as_json:
        typer.echo(msgspec.json.encode(done))
    else:
        for topic, count in sorted(done.log.items()):
            typer.echo(f"{count:>9,}  records of {topic}")
        typer.echo(f"{done.history:>9,}  points of history")
        if done.innocent:
            typer.echo(f"{done.innocent:>9,}  older records of others, gone with them")
        if not (done.log or done.history or done.remains):
            typer.echo(f"nothing bore the name {patient}: nothing was changed")
    for topic, left in done.remains.items():
        until = f"{datetime.fromtimestamp(left.until_ms / 1_000, UTC):%Y-%m-%d}"
        typer.echo(f"spineloop: erase: {left.records} records of {topic} still bear the name, until {until}", err=True)
    if done.remains:
        raise typer.Exit(1)


def _of(settings: Settings, data: Any) -> Settings:  # noqa: ANN401 - as typer gives it
    """Let the settings name log and history of an embedded folder, if one is given."""
    told = looking.in_folder(settings, data, writes=True)
    return told if data is None else msgspec.structs.replace(told, history_url=f"sqlite://{data.absolute()}")


async def erase(settings: Settings, patient: str, *, trim_log: bool = False) -> Erased:
    """Erase a pseudonym everywhere, then look for it everywhere.

    Raises
    ------
    Failed
        A stage is at work, or has not come as far as the patient's last record; or a machine, of whatever tenant, has
        the name within its own, and what is said of which could not be told apart.
    """
    erasure = Erasure(patient, f"{tenant_of(patient)}/erased-{secrets.token_hex(ALIAS_BYTES)}")
    async with looking.for_reading(settings, "erase") as reading:
        total = await looking.size(reading, LOG_TOPICS)
        if machine := await _named_alike(reading, erasure):
            told = "what is said of which can't be told apart"
            raise Failed(f"{patient} is also in the name of the machine {machine}: {told}")
    async with looking.failing(), wiring.open_history(settings):
        pass  # a history that is away, or refuses us, is told before anything is changed
    forgetting = Forgetting(erasure, wiring.stages(settings))
    innocent = 0
    if wiring.is_sqlite(settings):
        async with looking.failing():
            with looking.progress("erase: log") as advance:
                changed = await wiring.rewrite_log(settings, _told(forgetting.record, advance, total))
    else:
        async with looking.for_writing(settings, "erase") as log:
            changed, innocent = await _in_kafka(settings, log, forgetting, trim_log=trim_log)
    async with looking.failing(), wiring.open_history(settings) as history:
        points = await history.rewrite(patient, erasure.text)
    async with looking.for_reading(settings, "erase") as reading:
        remains = await _remains(reading, forgetting)
    return Erased(log=dict(changed), innocent=innocent, history=points, remains=remains)


async def _named_alike(log: Readable, erasure: Erasure) -> str | None:
    """Return a machine that would be taken for the patient, if there is one: its name has the patient's in it."""
    with looking.progress("erase: machines") as advance:
        async with closing(looking.through(log, [TELEMETRY], advance)) as batches:
            async for batch in batches:
                for record in batch:
                    if erasure.raw(record.key) != record.key:
                        return record.key.decode(errors="replace")
    return None


def _told(change: Change, advance: looking.Advance, total: int) -> Change:
    """Tell after each so many records how many there were."""
    done = 0

    def one(record: Record) -> Record | None:
        nonlocal done
        done += 1
        if done % SLICE_RECORDS == 0 or done == total:
            advance(done, total)
        return change(record)

    return one


async def _in_kafka(
    settings: Settings, log: Log, forgetting: Forgetting, *, trim_log: bool
) -> tuple[Counter[str], int]:
    await _check_states_are_ours(settings)
    changed = Counter[str]()
    cuts: Places = {}
    positions: Places = {}
    anew: list[tuple[str, int, list[Record]]] = []
    for stage in wiring.stages(settings):
        for number in await log.bounds(stage.state_topic):
            records, mentions, positions[stage.topic, number] = await _states(log, stage, number, forgetting)
            if mentions:
                changed[stage.state_topic] += mentions
                anew.append((stage.state_topic, number, records))
    await _check_read(log, positions | dict(await wiring.delivered(settings)), forgetting)
    for topic, number, records in anew:
        cuts[topic, number] = await _anew(log, topic, number, forgetting, records)
    innocent = 0
    if trim_log:
        with looking.progress("erase: log") as advance:
            async with closing(looking.through(log, _others(settings), advance)) as batches:
                last = await _last(batches, forgetting)
        for (topic, number), (cut, mentions, before) in last.items():
            cuts[topic, number] = cut
            changed[topic] += mentions
            innocent += before
    await wiring.delete_before(settings, cuts)
    return changed, innocent


async def _check_states_are_ours(settings: Settings) -> None:
    """Refuse while somebody else holds states: in memory, from which they would be written again, or on Faust."""
    if busy := await wiring.who_is_at_work(settings):
        raise Failed(f"{' and '.join(busy)} would write from memory what is erased: stop every process of it first")
    if topics := await wiring.states_of_faust(settings):
        told = "erasing does not reach states of workers on Faust: go over to the roles, and delete the topic first"
        raise Failed(f"{' and '.join(topics)}: {told}")


def _others(settings: Settings) -> list[str]:
    states = {stage.state_topic for stage in wiring.stages(settings)}
    return [topic for topic in LOG_TOPICS if topic not in states]


async def _check_read(log: Readable, positions: Places, forgetting: Forgetting) -> None:
    """Refuse while somebody has still to read of the patient: what comes of it would bear the name again."""
    for (topic, number), position in positions.items():
        first, _ = (await log.bounds(topic))[number]
        async for batch in log.read(topic, number, max(first, position)):
            if any(map(forgetting.mentions, batch)):
                raise Failed(
                    f"of the patient there is more in {topic}/{number} than was read, up to {position}: "
                    "let all roles catch up, then stop them"
                )


async def _states(
    log: Log, stage: Stage[Any, Any], number: int, forgetting: Forgetting
) -> tuple[list[Record], int, int]:
    """Read a partition of a state topic: its records, how many mention the patient, the position reached."""
    records = [record async for batch in log.read(stage.state_topic, number) for record in batch]
    reached = [
        msgspec.msgpack.decode(record.value, type=Kept).position
        for record in records
        if record.key == POSITION_KEY and record.value is not None
    ]
    return records, sum(map(forgetting.mentions, records)), max(reached, default=0)


async def _anew(log: Log, topic: str, number: int, forgetting: Forgetting, records: list[Record]) -> int:
    """Write a partition's states again without the patient, the position last; return the offset of the first."""
    entries, first, now_ms = forgetting.states(records), None, wiring.wall_clock_ms()
    some: Entries = []
    room = STATE_MAX_BATCH_BYTES
    for entry in entries:
        size = len(entry[0]) + len(entry[1]) + ENTRY_OVERHEAD_BYTES
        if size > room:
            offset = await log.checkpoint(topic, number, some, now_ms)
            first, some, room = (offset if first is None else first), [], STATE_MAX_BATCH_BYTES
        some.append(entry)
        room -= size
    offset = await log.checkpoint(topic, number, some, now_ms)
    return offset if first is None else first


async def _last(
    batches: AsyncIterator[Sequence[Record]], forgetting: Forgetting
) -> dict[tuple[str, int], tuple[int, int, int]]:
    """Return, where there are mentions, the offset behind the last one, their number, and that of others before it."""
    last: dict[tuple[str, int], tuple[int, int, int]] = {}
    others = Counter[tuple[str, int]]()
    async for batch in batches:
        for record in batch:
            place = record.topic, record.partition
            if forgetting.mentions(record):
                _, mentions, _ = last.get(place, (0, 0, 0))
                last[place] = record.offset + 1, mentions + 1, others[place]
            else:
                others[place] += 1
    return last


async def _remains(log: Readable, forgetting: Forgetting) -> dict[str, Remains]:
    """Look for the pseudonym in every record that can be read."""
    counts, newest_ms = Counter[str](), Counter[str]()
    with looking.progress("erase: what is left") as advance:
        async with closing(looking.through(log, LOG_TOPICS, advance)) as batches:
            async for batch in batches:
                for record in filter(forgetting.mentions, batch):
                    counts[record.topic] += 1
                    newest_ms[record.topic] = max(newest_ms[record.topic], record.timestamp_ms)
    return {topic: Remains(count, newest_ms[topic] + LOG_TOPICS[topic].retention_ms) for topic, count in counts.items()}
