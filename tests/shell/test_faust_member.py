"""How a Faust worker ends a batch: outputs durable, then states durable, then acknowledged; or nothing of that."""

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import faust
import msgspec
import pytest
from faust.types import EventT, StreamT
from faust.types.tuples import Message
from hypothesis import given
from hypothesis import strategies as st

from streams import faust_app
from streams.checkpoint import Kept
from streams.core.errors import BrokenPromise
from streams.core.records import Record
from streams.engine import QUARANTINES, EngineSettings
from streams.faust_app import Member, Place, States, in_ms, in_seconds
from tests.shell.tally import Tally

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
    noted: list[str] = field(default_factory=list)
    arriving: asyncio.Event = field(default_factory=asyncio.Event)
    kept: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def producer(self) -> "Kafka":
        return self

    async def send(
        self, topic: str, _key: bytes, value: bytes, _partition: None, time_s: float, _headers: object
    ) -> Awaitable[object]:
        self.noted.append(f"{topic.split('.')[1]} {value.decode()} at {int(1_000.0 * time_s)}")
        return asyncio.ensure_future(self.arriving.wait())

    def entries(self, keys: Iterable[bytes]) -> Iterable[Record]:
        return [Record("", 0, 0, key, self.kept[key], 0) for key in keys if key in self.kept]

    async def write(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        for key, value in entries:
            self.kept[key] = value
            kept = msgspec.msgpack.decode(value, type=Kept)
            self.noted.append(f"state of {key.decode()} at {kept.position}")

    async def ack(self, event: Event) -> None:
        self.noted.append(f"ack {event.message.offset}")


def told(offset: int, value: bytes = b"x", generation: int = OURS, key: bytes = b"m") -> Event:
    return Event(Message("t", 0, offset, 1.001, 0, [], key, value, None, generation_id=generation))


def taking(kafka: Kafka, *events: Event) -> Awaitable[None]:
    member = Member(Tally(), cast("faust.App", kafka), cast("States", kafka))
    return member.take(cast("StreamT[bytes]", kafka), cast("list[EventT[bytes]]", list(events)))


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
    assert kafka.noted == [*outputs, "state of m at 9", "ack 7", "ack 8"]


async def test_a_batch_that_partitions_are_shared_out_under_is_neither_kept_nor_acknowledged() -> None:
    kafka = Kafka()
    batch = asyncio.ensure_future(taking(kafka, told(7)))
    await turns(kafka)
    kafka.consumer_generation_id = LATER
    kafka.arriving.set()
    await batch
    assert kafka.noted == ["metric x:1 at 1001"]


async def test_what_was_fetched_before_partitions_were_shared_out_is_left_to_come_again() -> None:
    kafka = Kafka(consumer_generation_id=LATER)
    kafka.arriving.set()
    await taking(kafka, told(7, generation=OURS), told(6, generation=LATER))
    assert kafka.noted == ["metric x:1 at 1001", "state of m at 7", "ack 6"]


async def test_what_a_state_covers_already_is_acknowledged_and_changes_nothing() -> None:
    kafka = Kafka()
    kafka.arriving.set()
    await taking(kafka, told(7), told(8))
    kafka.noted.clear()
    await taking(kafka, told(8), told(9))
    assert kafka.noted == ["metric x:3 at 1001", "state of m at 10", "ack 8", "ack 9"]


async def test_too_many_dead_letters_in_a_row_end_the_worker_and_none_is_acknowledged() -> None:
    kafka = Kafka()
    kafka.arriving.set()
    limit = EngineSettings().dead_letters_in_a_row
    with pytest.raises(BrokenPromise, match="dead letters in a row"):
        await taking(kafka, *(told(offset, b"?") for offset in range(limit + 1)))
    assert not any(one.startswith("ack") for one in kafka.noted)


async def test_too_many_quarantines_end_the_worker_and_none_is_acknowledged() -> None:
    kafka = Kafka()
    kafka.arriving.set()
    with pytest.raises(BrokenPromise, match="keys quarantined"):
        await taking(kafka, *(told(offset, b"boom", key=b"m%d" % offset) for offset in range(QUARANTINES)))
    assert not any(one.startswith("ack") for one in kafka.noted)


async def test_a_quarantine_outlives_the_batch() -> None:
    kafka = Kafka()
    kafka.arriving.set()
    await taking(kafka, told(1), told(2, b"boom"))
    kafka.noted.clear()
    await taking(kafka, told(3))
    assert kafka.noted[0] == "dead-letter x at 1001"


@given(time_ms=st.integers(0, 4_000_000_000_000))
def test_a_timestamp_survives_the_way_through_faust(time_ms: int) -> None:
    assert int(in_seconds(time_ms) * 1_000.0) == time_ms  # as Faust hands it to Kafka
    assert in_ms(time_ms / 1_000.0) == time_ms  # as it hands it to us


def entry(key: bytes, position: int, offset: int) -> Event:
    value = msgspec.msgpack.encode(Kept(position, b"%d" % position))
    return Event(Message("changelog", 0, offset, 0.0, 0, [], key, value, None), key, value)


@given(positions=st.lists(st.integers(0, 20), min_size=1), cut=st.integers(0, 20))
def test_of_the_entries_of_a_key_the_one_with_the_highest_position_is_read_back(positions: list[int], cut: int) -> None:
    app = faust_app.app(Tally(), Place(bootstrap="127.0.0.1:9", partitions=1))
    states = cast("States", app.tables["state"])
    batch = [entry(b"m", position, offset) for offset, position in enumerate(positions)]
    for part in (batch[:cut], batch[cut:]):
        states.apply_changelog_batch(cast("list[EventT[Any]]", part))
    (read,) = states.entries([b"m"])
    assert msgspec.msgpack.decode(read.value or b"", type=Kept).position == max(positions)
