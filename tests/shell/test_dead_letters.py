"""Dead letters: listed, shown, and put back once, wherever somebody dies between two writes."""

import asyncio
import re
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from time import process_time
from typing import Any

import msgspec
import pytest
import typer

from adaptors import kafka_clients, sqlite_reading
from adaptors.kafka_clients import Cluster
from adaptors.sqlite_erasure import rewrite
from adaptors.sqlite_file import partition_of
from adaptors.sqlite_log import SqliteLog, open_sqlite_log
from ingest.arrival import to_dead_letter
from spineloop import dead_lettering, redriving
from spineloop.embedded import PARTITIONS
from spineloop.redriving import Place, Redriven, redrive
from streams.checkpoint import State
from streams.core import codec
from streams.core.commands import Command
from streams.core.dead_letters import CUT, CUT_BYTES, REDRIVE_MARK, dead_letter
from streams.core.erasure import Erasure
from streams.core.errors import Busy, Malformed
from streams.core.records import NewRecord, Record, header
from streams.core.telemetry import Heartbeat
from streams.core.topics import COMMAND, CONTROLLER_STATE, DEAD_LETTER, METRIC, PATIENT, RECORD_BYTES, TELEMETRY
from streams.engine import Engine, EngineSettings
from streams.forgetting import Forgetting
from streams.reducer import REDRIVE, REDRIVEN
from tests.shell.counts import Counts
from tests.shell.spoken import Spineloop
from tests.shell.tally import Tally, told
from tests.shell.week import everything

MACHINE = "acme/north/m1"
NOW_MS = 1_790_000_000_000
TRACE = (("traceparent", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"),)
ticks = count(NOW_MS)


def now_ms() -> int:
    return next(ticks)


class Brittle:
    """A SQLite log whose process can be made to die before or after any append."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log
        self.read, self.bounds, self.offset_at = log.read, log.bounds, log.offset_at
        self.checkpoint, self.subscribe = log.checkpoint, log.subscribe
        self.appends = 0
        self.dies_before: int | None = None
        self.dies_after: int | None = None

    async def append(self, records: Sequence[NewRecord]) -> None:
        if self.appends == self.dies_before:
            raise Busy("killed")
        await self._log.append(records)
        self.appends += 1
        if self.appends - 1 == self.dies_after:
            raise Busy("killed")


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Brittle]:
    async with open_sqlite_log(folder / "log.db", PARTITIONS) as log:
        yield Brittle(log)


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[Brittle]:
    async with opened(tmp_path) as one:
        yield one


def heartbeat(seq: int) -> bytes:
    return codec.encode(Heartbeat(boot_id="b1", seq=seq, t_us=5), "json")


def heard(seq: int, reason: str = "bad_value", machine: str = MACHINE) -> NewRecord:
    """Put a record of the telemetry aside as the controller does, which an older release could not read."""
    record = Record(TELEMETRY, 1, seq, machine.encode(), heartbeat(seq), NOW_MS - 5_000 + seq, (("ce_id", b"x"),))
    return dead_letter(record, stage="control", reason=reason, detail="of an older release", trace="")


class Message:
    """What the bridge heard."""

    def __init__(self, topic: str, payload: bytes) -> None:
        self.topic, self.payload, self.user_properties = topic, payload, TRACE


def refused_at_the_door(topic: str, payload: bytes, reason: str = "unknown_version") -> NewRecord:
    return to_dead_letter(Message(topic, payload), Malformed(reason, "told"), NOW_MS - 9_000)


async def put(log: Brittle, *letters: NewRecord) -> list[Place]:
    """Append letters; return where they lie, in this order."""
    await log.append(letters)
    log.appends = 0
    lie = {
        (record.key, record.value): Place(record.partition, record.offset)
        for record in await everything(log, DEAD_LETTER)
    }
    return [lie[letter.key, letter.value] for letter in letters]


async def back(log: Brittle, wanted: Sequence[Place], *, all_or_none: bool = True) -> Redriven:
    return await redrive(log, wanted, now_ms, all_or_none=all_or_none)


# --- back, once -------------------------------------------------------------------------------------------------------


async def test_a_letter_goes_back_unchanged_at_its_own_time_and_says_where_it_lay(log: Brittle) -> None:
    (place,) = await put(log, heard(3))
    assert await back(log, [place]) == Redriven((place,), {})
    (record,) = await everything(log, TELEMETRY)
    assert (record.key, record.value, record.timestamp_ms) == (MACHINE.encode(), heartbeat(3), NOW_MS - 4_997)
    assert record.headers == (("ce_id", b"x"), (REDRIVEN, str(place).encode()))


async def test_a_second_redrive_of_the_same_letter_is_refused(log: Brittle) -> None:
    (place,) = await put(log, heard(3))
    await back(log, [place])
    assert await back(log, [place]) == Redriven((), {place: "it went back already"})
    assert len(await everything(log, TELEMETRY)) == 1


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("before", [True, False])
async def test_killed_before_or_after_any_write_the_letter_goes_back_once(
    log: Brittle, at: int, *, before: bool
) -> None:
    places = await put(log, heard(3), heard(4), heard(5, machine="acme/north/m2"))
    log.dies_before, log.dies_after = (at, None) if before else (None, at)
    with pytest.raises(Busy):
        await back(log, places)
    log.dies_before = log.dies_after = None
    await log.append([NewRecord(TELEMETRY, MACHINE.encode(), b"goes on", NOW_MS)])
    again = await back(log, places)
    is_noted = (at, before) == (2, False)
    assert again == (Redriven((), dict.fromkeys(sorted(places), "it went back already")) if is_noted else
                     Redriven(tuple(sorted(places)), {}))  # fmt: skip
    assert (await back(log, places)).done == ()
    values = Counter(record.value for record in await everything(log, TELEMETRY))
    assert values == Counter([heartbeat(3), heartbeat(4), heartbeat(5), b"goes on"])


async def test_what_was_stored_of_a_chunk_that_was_cut_short_is_not_stored_again(log: Brittle) -> None:
    places = await put(log, heard(3), heard(4))
    log.dies_before = 1  # the marks are written, the records are not
    with pytest.raises(Busy):
        await back(log, places)
    log.dies_before = None
    half = redriving.put_back(await redriving.whole(log, places[0]))
    await log.append([half])  # as Kafka may store some of a batch
    assert (await back(log, places)).done == tuple(places)
    assert Counter(record.value for record in await everything(log, TELEMETRY)) == Counter([heartbeat(3), heartbeat(4)])


async def test_letters_go_back_in_the_order_in_which_they_lie(log: Brittle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redriving, "CHUNK_LETTERS", 3)
    places = await put(log, *(heard(seq) for seq in range(10)))
    await back(log, places[::-1])
    assert [record.value for record in await everything(log, TELEMETRY)] == [heartbeat(seq) for seq in range(10)]


# --- what the bridge refused ------------------------------------------------------------------------------------------


async def test_what_the_bridge_refused_goes_to_the_telemetry_if_it_is_valid_now(log: Brittle) -> None:
    (place,) = await put(log, refused_at_the_door(f"spineloop/v1/{MACHINE}/event", heartbeat(7)))
    assert (await back(log, [place])).done == (place,)
    (record,) = await everything(log, TELEMETRY)
    assert (record.key, record.value, record.timestamp_ms) == (MACHINE.encode(), heartbeat(7), NOW_MS - 9_000)
    assert header(record, "ce_id") == f"{MACHINE}/b1/7"
    assert header(record, "ce_type") == "spineloop.heartbeat.v1"
    assert header(record, "traceparent") == TRACE[0][1]


@pytest.mark.parametrize(
    ("topic", "payload", "why"),
    [
        ("factory/line/3", heartbeat(1), "bad_topic"),
        (f"spineloop/v1/{MACHINE}/event", b"{", "not_a_message"),
        (f"spineloop/v1/{MACHINE}/event", b'{"type":"dance"}', "unknown_type"),
        (f"spineloop/v1/{MACHINE}/rep", heartbeat(1), "unknown_type"),
        (f"spineloop/v1/{MACHINE}/command", heartbeat(1), "wrong_stream"),
    ],
)
async def test_what_is_still_malformed_is_refused_with_the_reason_and_nothing_is_written(
    log: Brittle, topic: str, payload: bytes, why: str
) -> None:
    places = await put(log, refused_at_the_door(topic, payload), heard(4))
    found = await back(log, places)
    assert found.done == ()
    assert list(found.refused) == [places[0]]
    assert found.refused[places[0]].startswith(f"it still can't be understood: {why}")
    assert (log.appends, await everything(log, TELEMETRY)) == (0, [])


async def test_with_all_those_that_are_refused_stay_and_the_others_go(log: Brittle) -> None:
    places = await put(log, refused_at_the_door("factory/line/3", b"?"), heard(4))
    found = await back(log, places, all_or_none=False)
    assert (found.done, list(found.refused)) == ((places[1],), [places[0]])


@pytest.mark.parametrize(
    ("topic", "value", "is_read"),
    [
        (TELEMETRY, b"?", False),
        (PATIENT, b"?", False),
        (METRIC, b"?", False),
        (COMMAND, b"?", False),
        ("other.topic", heartbeat(1), False),
        (TELEMETRY, heartbeat(1), True),
    ],
)
async def test_a_letter_goes_back_where_it_came_from_if_that_can_read_it_now(
    log: Brittle, topic: str, value: bytes, *, is_read: bool
) -> None:
    record = Record(topic, 0, 5, MACHINE.encode(), value, NOW_MS)
    (place,) = await put(log, dead_letter(record, stage="control", reason="bad_value", detail=""))
    found = await back(log, [place])
    assert bool(found.done) == is_read
    assert bool(found.refused) != is_read


async def test_a_command_that_history_put_aside_goes_back_to_the_commands(log: Brittle) -> None:
    command = Command(
        command_id="c1", machine=MACHINE, boot_id="b1", sequence=1, action="end_set", rule="r", cause="x",
        evidence=(), policy="p", issued_ms=1, expires_ms=2,
    )  # fmt: skip
    record = Record(COMMAND, 0, 5, MACHINE.encode(), codec.encode(command), NOW_MS)
    (place,) = await put(log, dead_letter(record, stage="history", reason="bad_point", detail=""))
    assert (await back(log, [place])).done == (place,)
    assert [one.value for one in await everything(log, COMMAND)] == [codec.encode(command)]


# --- headers of somebody else -----------------------------------------------------------------------------------------

FOREIGN = (
    ("", b""),
    ("bytes", b"\xff\xfe"),
    (REDRIVE, b"0/0"),
    (REDRIVEN, b"\xff"),
    (REDRIVE_MARK, b"done"),
    (redriving.MARKED, b"not a place"),
    ("__connect.errors.topic", b"other.topic"),
)


@pytest.mark.parametrize("reason", ["bad_value", "quarantined"])
async def test_headers_that_look_like_ours_make_no_mark_of_a_letter_and_go_back_where_they_do_no_harm(
    log: Brittle, reason: str
) -> None:
    record = Record(TELEMETRY, 1, 3, MACHINE.encode(), heartbeat(3), NOW_MS, FOREIGN)
    (place,) = await put(log, dead_letter(record, stage="control", reason=reason, detail=""))
    assert list((await redriving.letters(log)).by_place) == [place]
    assert await redriving.whole(log, place)
    assert await back(log, [place]) == Redriven((place,), {})
    (again,) = await everything(log, TELEMETRY)
    ours = (REDRIVEN, str(place).encode()), (REDRIVE, str(place).encode())
    kept = (*FOREIGN[:2], *FOREIGN[4:6])
    assert again.headers == (*kept, *ours[: 2 if reason == "quarantined" else 1])
    assert (await back(log, [place])).refused == {place: "it went back already"}


@pytest.mark.parametrize(
    ("says", "of", "value"), [("begun", "0/0", b"?"), ("begun", "0/0", b"{}"), ("done", "", None), ("no", "0/0", None)]
)
async def test_what_somebody_else_wrote_among_the_letters_is_one_and_stops_nobody(
    log: Brittle, says: str, of: str, value: bytes | None
) -> None:
    headers = ((REDRIVE_MARK, says.encode()), (redriving.MARKED, of.encode()))
    first, foreign = await put(log, heard(3), NewRecord(DEAD_LETTER, b"k", value, NOW_MS, headers))
    found = (await redriving.letters(log)).by_place
    assert (found[foreign].stage, found[foreign].reason) == ("unknown", "unknown")
    assert (await back(log, [foreign])).refused == {
        foreign: "it still can't be understood: bad_topic: no way back to unknown"
    }
    assert (await back(log, [first])).done == (first,)


# --- what is too large ------------------------------------------------------------------------------------------------


def large(key: bytes = b"k", value: bytes | None = b"v", headers: Sequence[tuple[str, Any]] = ()) -> Record:
    return Record(TELEMETRY, 3, 17, key, value, NOW_MS, tuple(headers))


@pytest.mark.parametrize(
    "record",
    [
        large(value=bytes(RECORD_BYTES - 12_000)),
        large(value=bytes(RECORD_BYTES)),
        large(value=bytes(5 * RECORD_BYTES)),
        large(key=bytes(2 * RECORD_BYTES), value=bytes(2 * RECORD_BYTES)),
        large(value=None, headers=[("h", bytes(2 * RECORD_BYTES))]),
        large(headers=[("", None)] * 500_000),
        large(headers=[("ü" * 600_000, b"")]),
    ],
)
async def test_whatever_a_record_holds_kafka_takes_its_letter_and_that_says_where_it_was(record: Record) -> None:
    letter = dead_letter(record, stage="control", reason="too_large", detail="ü" * 3_000, trace="ü" * 20_000)
    batch = kafka_clients.producer(Cluster(bootstrap="hand:1", client_id="test"), batch_bytes=1).create_batch()
    batch.append(timestamp=NOW_MS, key=letter.key, value=letter.value, headers=list(letter.headers))
    batch.close()
    assert batch.size() <= RECORD_BYTES
    assert (letter.key, letter.value) == (record.key[:CUT_BYTES], None if record.value is None else letter.value)
    assert [header(letter, f"__connect.errors.{name}") for name in ("partition", "offset")] == ["3", "17"]


def test_a_letter_is_cut_only_if_its_record_is_too_large_and_says_how_large_it_was() -> None:
    headers = (("ce_id", b"x"), (CUT, b"said by somebody else"))
    whole = dead_letter(large(value=bytes(RECORD_BYTES - 2_000), headers=headers), stage="s", reason="r", detail="d")
    assert (len(whole.value or b""), header(whole, "ce_id"), header(whole, CUT)) == (RECORD_BYTES - 2_000, "x", None)
    cut = dead_letter(large(value=bytes(RECORD_BYTES), headers=headers), stage="s", reason="r", detail="d")
    assert (len(cut.value or b""), header(cut, "ce_id"), header(cut, CUT)) == (CUT_BYTES, "x", f"{RECORD_BYTES + 41}")
    by_its_headers = large(value=b"v", headers=(("much", bytes(RECORD_BYTES)), ("ce_id", b"x")))
    cut = dead_letter(by_its_headers, stage="s", reason="r", detail="d")
    assert (cut.value, header(cut, "ce_id"), len(cut.headers)) == (b"v", None, 8)


async def test_a_letter_that_was_cut_stays_and_keeps_no_other_of_its_key_back(log: Brittle) -> None:
    beat = heartbeat(1)
    before = Record(TELEMETRY, 0, 5, MACHINE.encode(), beat + b" " * RECORD_BYTES, NOW_MS)
    cut = dead_letter(before, stage="control", reason="quarantined", detail="a defect")
    first, second = await put(log, cut, heard(6, "quarantined"))
    assert await back(log, [first]) == Redriven((), {first: redriving.IS_CUT})
    assert await back(log, [second]) == Redriven((second,), {})


# --- a key that was frozen --------------------------------------------------------------------------------------------


async def run_until_done(log: Brittle, stage: Tally) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(Engine(stage, log, Counts(), EngineSettings(checkpoint_s=0.01)).run(stop))
    await until(lambda: is_covered(log, stage))
    stop.set()
    await running


async def is_covered(log: Brittle, stage: Tally) -> bool:
    for number, (_, end) in (await log.bounds(TELEMETRY)).items():
        if (await state(log, stage, number)).position < end:
            return False
    return True


async def state(log: Brittle, stage: Tally, number: int) -> State:
    found = State(stage)
    async for records in log.read(CONTROLLER_STATE, number):
        found.join(records)
    return found


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(120.0):
        while not await holds():
            await asyncio.sleep(0.005)


@pytest.fixture
def any_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the telemetry be what a Tally understands."""
    monkeypatch.setitem(redriving._READS, TELEMETRY, lambda key, value: (key, value))  # noqa: SLF001


@pytest.mark.usefixtures("any_bytes")
async def test_after_a_mend_a_frozen_key_goes_on_where_it_stood_with_everything_since(log: Brittle) -> None:
    await log.append([told("m0", "r0"), told("m0", "boom"), told("m1", "s0"), told("m0", "r1"), told("m0", "r2")])
    await run_until_done(log, Tally())
    places = sorted((await redriving.letters(log)).by_place)
    assert len(places) == 3
    await back(log, places)
    await run_until_done(log, Tally(mended=True))
    said = [record.value or b"" for record in await everything(log, METRIC)]
    assert sorted(value for value in said if b"ZeroDivision" not in value) == [
        b"boom:2", b"r0:1", b"r1:3", b"r2:4", b"s0:1",
    ]  # fmt: skip
    lifting = [header(record, REDRIVE) is not None for record in await everything(log, TELEMETRY)]
    assert sum(lifting) == 1  # the first of them; were it not mended, the others would have to wait again


@pytest.mark.usefixtures("any_bytes")
async def test_without_a_mend_the_key_is_frozen_again_and_its_records_are_letters_again(log: Brittle) -> None:
    await log.append([told("m0", "boom"), told("m0", "r1")])
    await run_until_done(log, Tally())
    first = sorted((await redriving.letters(log)).by_place)
    await back(log, first)
    await run_until_done(log, Tally())
    found = (await redriving.letters(log)).by_place
    again = [letter for place, letter in found.items() if place not in first]
    assert [letter.reason for letter in again] == ["quarantined", "quarantined"]
    assert [found[place].redriven for place in first] == ["done", "done"]
    await back(log, [letter.place for letter in again])
    await run_until_done(log, Tally(mended=True))
    said = {record.value for record in await everything(log, METRIC)}
    assert {b"boom:1", b"r1:2"} < said


@pytest.mark.usefixtures("any_bytes")
async def test_a_later_record_of_a_frozen_key_does_not_go_back_before_the_first(log: Brittle) -> None:
    await log.append([told("m0", "boom"), told("m0", "r1"), told("m0", "r2")])
    await run_until_done(log, Tally())
    one, two, three = sorted((await redriving.letters(log)).by_place)
    assert await back(log, [three]) == Redriven((), {three: f"{one} of the same key has to go back before it"})
    assert (await back(log, [one])).done == (one,)
    assert (await back(log, [two, three])).done == (two, three)


@pytest.mark.parametrize("alias", ["erased-1", "erased-5"])
async def test_a_letter_of_a_patient_who_was_erased_goes_back_once_though_its_marks_lie_elsewhere(
    tmp_path: Path, alias: str
) -> None:
    async with opened(tmp_path) as log:
        (at,) = await put(log, heard(1, machine="acme/p1"))
    rewrite(tmp_path / "log.db", Forgetting(Erasure("acme/p1", f"acme/{alias}"), []).record)
    assert partition_of(f"acme/{alias}".encode(), PARTITIONS) < at.partition  # where its marks will be read before it
    async with opened(tmp_path) as log:
        assert (await back(log, [at])).done == (at,)
        assert (await back(log, [at])).refused == {at: "it went back already"}
        assert len(await everything(log, TELEMETRY)) == 1


async def test_thousands_of_letters_of_one_frozen_key_take_seconds(log: Brittle) -> None:
    number = 2_000
    await put(log, *(heard(seq, reason="quarantined") for seq in range(number)))
    first, *others = sorted((await redriving.letters(log)).by_place)
    began_s = process_time()
    refused = (await back(log, others)).refused  # a list, and each letter has to know whether an earlier one stays
    assert set(refused.values()) == {f"{first} of the same key has to go back before it"}
    assert len((await back(log, [first, *others])).done) == number
    assert process_time() - began_s < 20.0  # it took minutes, and eight times as many for twice as many letters


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    async def fill() -> None:
        async with opened(tmp_path) as log:
            await put(
                log,
                refused_at_the_door(f"spineloop/v1/{MACHINE}/event", heartbeat(1)),
                heard(2),
                heard(3, reason="quarantined"),
                refused_at_the_door("factory/line/3", b"\xff\xfe", reason="bad_topic"),
            )

    asyncio.run(fill())
    return tmp_path


def listed(spineloop: Spineloop, folder: Path, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = spineloop("dead-letters", "list", "--json", "--data", folder, *words).told
    return found


def test_letters_are_listed_with_their_stage_and_reason(spineloop: Spineloop, folder: Path) -> None:
    found = listed(spineloop, folder)
    assert Counter((one["stage"], one["reason"]) for one in found) == Counter(
        [("ingest", "unknown_version"), ("control", "bad_value"), ("control", "quarantined"), ("ingest", "bad_topic")]
    )
    assert {one["redriven"] for one in found} == {"no"}
    assert [one["topic"] for one in found if one["reason"] == "bad_topic"] == ["factory/line/3"]
    assert [one["reason"] for one in listed(spineloop, folder, "--stage", "control", "--reason", "bad_value")] == [
        "bad_value"
    ]
    text = spineloop("dead-letters", "list", "--data", folder)
    assert (text.code, "1  bad_topic at ingest" in text.out) == (0, True)
    assert spineloop("dead-letters", "list", "--reason", "x", "--data", folder).out == "no dead letters\n"


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_of_many_letters_no_more_are_in_memory_than_are_shown(
    spineloop: Spineloop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: tuple[str, ...]
) -> None:
    async def fill() -> None:
        async with opened(tmp_path) as log:
            for start in range(0, 3_000, 100):
                await log.append([heard(seq, "x" * 1_000) for seq in range(start, start + 100)])

    asyncio.run(fill())
    monkeypatch.setattr(sqlite_reading, "READ_RECORDS", 100)
    monkeypatch.setattr(typer, "echo", lambda *_, **__: None)
    words = ("dead-letters", "list", "--data", tmp_path, *option)
    spineloop(*words)  # once before, for what is loaded only then
    tracemalloc.start()
    try:
        assert spineloop(*words).code == 0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000  # their reasons alone are as much


def test_the_table_has_the_newest_letters_and_the_sums_of_all(
    spineloop: Spineloop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fill() -> None:
        async with opened(tmp_path) as log:
            await put(log, *(heard(seq, machine=f"acme/north/m{seq}") for seq in (5, 1, 4, 2, 3)))
            await log.append([heard(9, "bad_type", machine="acme/north/m9")])

    asyncio.run(fill())
    monkeypatch.setattr(dead_lettering, "SHOWN", 3)
    said = spineloop("dead-letters", "list", "--data", tmp_path)
    assert re.findall(r"acme/north/m\d", said.out) == ["acme/north/m4", "acme/north/m5", "acme/north/m9"]
    assert ("3 of 6 dead letters" in said.out, "5  bad_value at control" in said.out) == (True, True)


def test_no_letters_are_an_empty_list(spineloop: Spineloop, folder: Path) -> None:
    assert listed(spineloop, folder, "--reason", "x") == []


def test_one_letter_is_shown_with_all_that_is_known_of_it(spineloop: Spineloop, folder: Path) -> None:
    (place,) = [one["place"] for one in listed(spineloop, folder, "--reason", "bad_value")]
    shown = spineloop("dead-letters", "show", place, "--data", folder, "--json").told
    assert (shown["place"], shown["stage"], shown["why"]) == (place, "control", "bad_value: of an older release")
    assert shown["value"]["type"] == "heartbeat"
    assert shown["headers"]["__connect.errors.offset"] == "2"
    assert '"type": "heartbeat"' in spineloop("dead-letters", "show", place, "--data", folder).out
    (place,) = [one["place"] for one in listed(spineloop, folder, "--reason", "bad_topic")]
    assert spineloop("dead-letters", "show", place, "--data", folder).out.endswith("value\n\\xff\\xfe\n")


NASTY = "[/x] [red]hidden[/red] \x1b]0;pwn\x07 \x9b31m \u202e"
TOLD = r"[/x] [red]hidden[/red] \x1b]0;pwn\x07 \x9b31m \u202e"


@pytest.fixture
def nasty(tmp_path: Path) -> Path:
    """Make a log whose letter has markup and terminal sequences in its topic, its detail and its value."""

    async def fill() -> None:
        why = Malformed("bad_topic", f"no such type: {NASTY}")
        message = Message(f"factory/{NASTY}", msgspec.json.encode({"type": NASTY}))
        async with opened(tmp_path) as log:
            await put(log, to_dead_letter(message, why, NOW_MS))

    asyncio.run(fill())
    return tmp_path


def test_text_of_a_sender_is_printed_as_it_is_and_moves_no_terminal(spineloop: Spineloop, nasty: Path) -> None:
    table = spineloop("dead-letters", "list", "--data", nasty)
    assert (table.code, table.out.count(TOLD)) == (0, 2)  # key and detail
    (letter,) = listed(spineloop, nasty)
    assert (letter["key"], letter["detail"]) == (f"factory/{NASTY}", f"no such type: {NASTY}")
    shown = spineloop("dead-letters", "show", letter["place"], "--data", nasty)
    assert (shown.code, f"why       bad_topic: no such type: {TOLD}" in shown.out) == (0, True)
    again = spineloop("dead-letters", "redrive", "--all", "--data", nasty)
    assert again.code == 1
    raw = spineloop("dead-letters", "show", letter["place"], "--data", nasty, "--json")
    assert raw.told["value"]["type"] == NASTY
    for said in (table, shown, again, raw):
        assert (said.out + said.err).replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"\x81\xa1a\xd4\x05\x00", id="an extension type"),
        pytest.param(b"\x81\xc0\x01", id="nil as a key"),
        pytest.param(b"\x81\x91\x01\x01", id="a list as a key"),
        pytest.param(b"\x81\xa1a" * 30_000 + b"\x01", id="without end"),
    ],
)
@pytest.mark.parametrize("option", [(), ("--json",)])
def test_a_value_that_json_can_not_have_is_shown_as_bytes(
    spineloop: Spineloop, tmp_path: Path, value: bytes, option: tuple[str, ...]
) -> None:
    async def fill() -> None:
        async with opened(tmp_path) as log:
            await put(log, refused_at_the_door(f"spineloop/v1/{MACHINE}/event", value))

    asyncio.run(fill())
    (place,) = [one["place"] for one in listed(spineloop, tmp_path)]
    shown = spineloop("dead-letters", "show", place, "--data", tmp_path, *option)
    assert (shown.code, repr(value[:20])[2:-1].replace("\\", "\\\\" if option else "\\") in shown.out) == (0, True)


def test_redriven_on_the_command_line_once(spineloop: Spineloop, folder: Path) -> None:
    (place,) = [one["place"] for one in listed(spineloop, folder, "--reason", "unknown_version")]
    done = spineloop("dead-letters", "redrive", place, "--data", folder)
    assert (done.code, done.out) == (0, "1 went back\n")
    again = spineloop("dead-letters", "redrive", place, "--data", folder)
    assert (again.code, again.err) == (1, f"{place} refused: it went back already\n")
    assert [one["redriven"] for one in listed(spineloop, folder, "--reason", "unknown_version")] == ["done"]
    (shown,) = [one for one in listed(spineloop, folder) if one["place"] == place]
    assert shown["bytes"] == len(heartbeat(1))


def test_all_of_a_reason_are_redriven_and_what_went_back_is_left_out(spineloop: Spineloop, folder: Path) -> None:
    words = ("dead-letters", "redrive", "--all", "--json", "--data", folder)
    first = spineloop(*words, "--reason", "quarantined")
    assert (first.code, len(first.told["redriven"])) == (0, 1)
    second = spineloop(*words)
    assert (second.code, len(second.told["redriven"]), len(second.told["refused"])) == (1, 2, 1)
    third = spineloop(*words)
    assert (len(third.told["redriven"]), len(third.told["refused"])) == (0, 1)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("show", "17"), "dead-letters: expected PARTITION/OFFSET such as 3/17, got '17'"),
        (("show", "0/999"), "no dead letter at 0/999: partition 0 "),
        (("redrive", "0/999"), "no dead letter at 0/999: partition 0 "),
        (("redrive", "9/0"), "no dead letter at 9/0: partition 0 "),
        (("redrive",), "dead-letters redrive: name letters as PARTITION/OFFSET, or --all, not both"),
        (("redrive", "0/1", "--all"), "dead-letters redrive: name letters as PARTITION/OFFSET, or --all, not both"),
        (("redrive", "0/1", "--reason", "r"), "dead-letters redrive: --reason and --stage choose among --all"),
    ],
)
def test_a_wrong_question_is_one_clear_line(
    spineloop: Spineloop, folder: Path, words: Sequence[str], told: str
) -> None:
    said = spineloop("dead-letters", *words, "--data", folder)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith(f"spineloop: {told}")


def test_looking_at_letters_touches_nothing(spineloop: Spineloop, folder: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    place = listed(spineloop, folder)[0]["place"]
    spineloop("dead-letters", "show", place, "--data", folder)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
