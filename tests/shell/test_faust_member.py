"""How a Faust worker ends a batch: outputs durable, then states durable, then acknowledged; or nothing of that."""

import asyncio
import re
import time
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import faust
import msgspec
import pytest
from faust.types import EventT, StreamT
from faust.types.tuples import TP, Message
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import faust_app
from streams.checkpoint import Kept
from streams.core.errors import BrokenPromise
from streams.core.records import Record, header
from streams.core.topics import TELEMETRY
from streams.engine import QUARANTINES, EngineSettings
from streams.faust_app import Member, Place, States, in_ms, in_seconds
from tests.shell.tally import Tally

INPUT = TP(TELEMETRY, 0)
OURS, LATER = 3, 4
"""Generations of the group: partitions are shared out anew between two of them."""


@dataclass(frozen=True)
class Event:
    """A message as a stream hands it out."""

    message: Message
    key: bytes = b""
    value: bytes = b""


@dataclass
class Kafka:
    """What a member asks of Faust, noted in order; outputs arrive when they are let, states at once."""

    consumer_generation_id: int = OURS
    rebalancing: bool = False
    in_recovery: bool = False
    first: int = 0
    end: int = 0
    noted: list[str] = field(default_factory=list)
    arriving: asyncio.Event = field(default_factory=asyncio.Event)
    kept: dict[bytes, bytes] = field(default_factory=dict)
    reached: dict[int, int] = field(default_factory=lambda: {0: 7})

    @property
    def producer(self) -> "Kafka":
        return self

    @property
    def consumer(self) -> "Kafka":
        return self

    async def send(
        self, topic: str, _key: bytes, value: bytes, _partition: None, time_s: float, _headers: object
    ) -> Awaitable[object]:
        self.noted.append(f"{topic.split('.')[1]} {value.decode()} at {int(1_000.0 * time_s)}")
        return asyncio.ensure_future(self.arriving.wait())

    def entries(self, keys: Iterable[bytes]) -> Iterable[Record]:
        return [Record("", 0, 0, key, self.kept[key], 0) for key in keys if key in self.kept]

    def position(self, partition: int) -> int:
        return self.reached[partition]

    async def write(self, entries: Iterable[tuple[bytes, bytes]], positions: Mapping[int, int]) -> None:
        for key, value in entries:
            self.kept[key] = value
            kept = msgspec.msgpack.decode(value, type=Kept)
            self.noted.append(f"state of {key.decode()} at {kept.position}")
        self.reached.update(positions)
        self.noted += [f"position {one}" for one in positions.values()]

    async def ack(self, event: Event) -> None:
        self.noted.append(f"ack {event.message.offset}")

    def assignment(self) -> set[TP]:
        return {INPUT, TP("changelog", 0)}

    def highwater(self, _place: TP) -> int:
        return self.end

    async def earliest_offsets(self, place: TP) -> dict[TP, int]:
        return {place: self.first}

    async def seek(self, place: TP, offset: int) -> None:
        self.noted.append(f"{place.topic} from {offset}")


def told(offset: int, value: bytes = b"x", generation: int = OURS, key: bytes = b"m") -> Event:
    return Event(Message(TELEMETRY, 0, offset, 1.001, 0, [], key, value, None, generation_id=generation))


def test_a_header_of_a_foreign_producer_that_has_no_value_gets_an_empty_one() -> None:
    message = told(7).message
    message.headers = [("traceparent", None), ("bytes", b"\xff")]  # type: ignore[list-item]  # as aiokafka has them
    record = faust_app.as_record(message)
    assert record.headers == (("traceparent", b""), ("bytes", b"\xff"))
    assert header(record, "traceparent") == ""


def member_of(kafka: Kafka) -> Member:
    return Member(Tally(), cast("faust.App", kafka), cast("States", kafka))


def taking(kafka: Kafka, *events: Event, member: Member | None = None) -> Awaitable[None]:
    taker = member or member_of(kafka)
    return taker.take(cast("StreamT[bytes]", kafka), cast("list[EventT[bytes]]", list(events)))


async def turns(kafka: Kafka) -> list[str]:
    """Let the event loop turn until nothing moves any more, and return what was noted."""
    before = -1
    while len(kafka.noted) > before:
        before = len(kafka.noted)
        for _ in range(5):
            await asyncio.sleep(0)
    return kafka.noted


async def test_nothing_is_kept_or_acknowledged_before_the_outputs_have_arrived() -> None:
    kafka = Kafka()
    batch = asyncio.ensure_future(taking(kafka, told(7), told(8)))
    outputs = ["metric x:1 at 1001", "metric x:2 at 1001"]
    assert await turns(kafka) == outputs
    kafka.arriving.set()
    await batch
    assert kafka.noted == [*outputs, "state of m at 9", "position 9", "ack 7", "ack 8"]


async def test_a_batch_that_partitions_are_shared_out_under_is_neither_kept_nor_acknowledged() -> None:
    kafka = Kafka()
    member = member_of(kafka)
    batch = asyncio.ensure_future(taking(kafka, told(7), member=member))
    await turns(kafka)
    kafka.consumer_generation_id = LATER
    kafka.arriving.set()
    await batch
    await taking(kafka, told(7, generation=LATER), member=member)
    assert kafka.noted == ["metric x:1 at 1001", "metric x:1 at 1001", "state of m at 8", "position 8", "ack 7"]


async def test_what_was_fetched_before_partitions_were_shared_out_is_left_to_come_again() -> None:
    kafka = Kafka(consumer_generation_id=LATER)
    kafka.arriving.set()
    await taking(kafka, told(8, generation=OURS), told(7, generation=LATER))
    assert kafka.noted == ["metric x:1 at 1001", "state of m at 8", "position 8", "ack 7"]


async def test_what_is_in_the_states_already_is_acknowledged_and_changes_nothing() -> None:
    kafka = Kafka()
    kafka.arriving.set()
    await taking(kafka, told(5), told(6), told(7))
    assert kafka.noted == ["metric x:1 at 1001", "state of m at 8", "position 8", "ack 5", "ack 6", "ack 7"]


async def test_a_key_whose_state_is_ahead_of_the_position_as_a_kill_leaves_it_is_not_stepped_twice() -> None:
    kafka = Kafka()
    kafka.arriving.set()
    await taking(kafka, told(7), told(8))
    kafka.reached[0] = 7
    kafka.noted.clear()
    await taking(kafka, told(7), told(8), told(9))
    assert kafka.noted[:3] == ["metric x:3 at 1001", "state of m at 10", "position 10"]


async def test_what_comes_behind_a_record_that_faust_left_out_waits_for_it_and_it_is_asked_for_again() -> None:
    kafka = Kafka(end=10)
    kafka.arriving.set()
    member = member_of(kafka)
    await taking(kafka, told(7), told(9), member=member)
    await member.look_after_holes()  # sees where it stands
    await member.look_after_holes()  # sees that it still does
    assert kafka.noted[-2:] == ["ack 7", f"{TELEMETRY} from 8"]
    kafka.noted.clear()
    await taking(kafka, told(8), told(9), member=member)
    await member.look_after_holes()
    assert kafka.noted[-4:] == ["state of m at 10", "position 10", "ack 8", "ack 9"]


async def test_records_that_retention_has_removed_are_not_waited_for() -> None:
    kafka = Kafka(first=20, end=30)
    kafka.arriving.set()
    member = member_of(kafka)
    await member.look_after_holes()
    await member.look_after_holes()
    await taking(kafka, told(20), member=member)
    assert kafka.noted == [f"{TELEMETRY} from 20", "metric x:1 at 1001", "state of m at 21", "position 21", "ack 20"]


@pytest.mark.parametrize("on_their_way", [Kafka(end=10, rebalancing=True), Kafka(end=10, in_recovery=True)])
async def test_nothing_is_asked_for_while_partitions_or_states_are_on_their_way(on_their_way: Kafka) -> None:
    kafka = replace(on_their_way, noted=[])
    member = member_of(kafka)
    for _ in range(3):
        await member.look_after_holes()
    assert not kafka.noted


async def test_a_partition_that_stands_still_for_too_long_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = Kafka(end=10)
    member = member_of(kafka)
    await member.look_after_holes()
    later_s = time.monotonic() + EngineSettings().stall_s + 1.0
    monkeypatch.setattr(time, "monotonic", lambda: later_s)
    with pytest.raises(BrokenPromise, match="stands at 7 of 10"):
        await member.look_after_holes()


async def test_too_many_dead_letters_in_a_row_end_the_worker_when_they_are_kept_and_none_is_acknowledged() -> None:
    kafka = Kafka()
    kafka.arriving.set()
    limit = EngineSettings().dead_letters_in_a_row
    with pytest.raises(BrokenPromise, match="dead letters in a row"):
        await taking(kafka, *(told(7 + n, b"?", key=b"m%d" % (n % 20)) for n in range(limit + 1)))
    assert not any(one.startswith("ack") for one in kafka.noted)
    assert kafka.reached == {0: 7 + limit + 1}  # a restart gets further


async def test_too_many_quarantines_end_the_worker_when_they_are_kept_and_none_is_acknowledged() -> None:
    kafka = Kafka()
    kafka.arriving.set()
    with pytest.raises(BrokenPromise, match="keys quarantined"):
        await taking(kafka, *(told(7 + n, b"boom", key=b"m%d" % n) for n in range(QUARANTINES)))
    assert not any(one.startswith("ack") for one in kafka.noted)
    assert (kafka.reached, len(kafka.kept)) == ({0: 7 + QUARANTINES}, QUARANTINES)  # a restart gets further


async def test_the_log_of_a_worker_says_what_failed_and_where_and_not_on_what(caplog: pytest.LogCaptureFixture) -> None:
    kafka = Kafka()
    kafka.arriving.set()
    await taking(kafka, told(7, b"boom"))  # which is also what the exception says
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert re.fullmatch(r"tally: key of 0/7 quarantined: ZeroDivisionError at .*/tally\.py:\d+ Tally\.step", line)
    assert "boom" not in caplog.text


async def test_a_quarantine_outlives_the_batch() -> None:
    kafka = Kafka()
    kafka.arriving.set()
    await taking(kafka, told(7), told(8, b"boom"))
    kafka.noted.clear()
    await taking(kafka, told(9))
    assert kafka.noted[0] == "dead-letter x at 1001"


@given(time_ms=st.integers(0, 4_000_000_000_000))
def test_a_timestamp_survives_the_way_through_faust(time_ms: int) -> None:
    assert int(in_seconds(time_ms) * 1_000.0) == time_ms  # as Faust hands it to Kafka
    assert in_ms(time_ms / 1_000.0) == time_ms  # as it hands it to us


def entry(key: bytes, position: int, offset: int) -> Event:
    value = msgspec.msgpack.encode(Kept(position, b"%d" % position))
    return Event(Message("changelog", 0, offset, 0.0, 0, [], key, value, None), key, value)


@settings(deadline=None)  # an app's first take long
@given(positions=st.lists(st.integers(0, 20), min_size=1), cut=st.integers(0, 20))
def test_of_the_entries_of_a_key_the_one_with_the_highest_position_is_read_back(positions: list[int], cut: int) -> None:
    app = faust_app.app(Tally(), Place(bootstrap="127.0.0.1:9", partitions=1))
    states = cast("States", app.tables["state"])
    batch = [entry(b"m", position, offset) for offset, position in enumerate(positions)]
    for part in (batch[:cut], batch[cut:]):
        states.apply_changelog_batch(cast("list[EventT[Any]]", part))
    (read,) = states.entries([b"m"])
    assert msgspec.msgpack.decode(read.value or b"", type=Kept).position == max(positions)
