"""The stages as Faust apps, for teams that operate Faust: the same records in, the same bytes out.

Reducer, dead letters and quarantines are those of the engine; Faust reads, shares out partitions and keeps the states
in a table. What the engine promises of positions has to be seen to here, because Faust leaves out records when it
starts and commits beyond records that are not done: the position of each partition stands in the table as well, after
the states that it covers, and records are taken only in order from there. docs/faust.md has the measurements, how to
run it, and what Faust does not give.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import faust
import msgspec
from faust import Stream
from faust.types import EventT, FutureMessage, StreamT
from faust.types.tuples import TP, Message
from mode import CrashingSupervisor

from streams.checkpoint import POSITION_KEY, Kept, State, position_entry
from streams.core.dead_letters import InARow
from streams.core.errors import BrokenPromise
from streams.core.records import Header, NewRecord, Record
from streams.core.stage import Stage
from streams.core.topics import RECORD_BYTES, STATE_COMPACTION_LAG_MS
from streams.engine import QUARANTINE_WINDOW_S, QUARANTINES, EngineSettings
from streams.partition import SLICE_RECORDS
from streams.reducer import Reducer
from streams.traces import Trace

TAKE_S = 0.05
"""How long a batch collects records, in s. Faust waits it out even if only one came, so a command waits for it too."""

COMMIT_S = 1.0
"""Pause between two commits, in s. They are where Faust begins to read after a start, and for monitoring."""

LOOK_S = 5.0
"""Pause between two looks, in s, whether a partition has stopped although there is more in it. Faust's fetches take up
to 1.5 s even if there is something, and to seek where nothing is missing makes it leave records out."""

REBALANCE_S = 30.0
"""How long the members of a group have to finish when partitions are shared out anew, in s; Faust's default is 60."""

FETCH_BYTES = 4 * 1024 * 1024
BATCH_BYTES = 256 * 1024
"""Fetched of a partition at once, and in a record batch before it is closed: as in the engine. Faust's defaults are
1 MiB and 16 KiB."""

_log = logging.getLogger("spineloop.faust")  # a Faust worker configures this, and knows nothing of structlog
_kept = msgspec.msgpack.Decoder(Kept).decode


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where Kafka is, and how its topics were made.

    Parameters
    ----------
    bootstrap : str
        `host:port` of one broker or more, with commas.
    partitions, replication : int
        Of every topic. The changelog gets the same, for a state is kept beside the records that it is made of.
    session_timeout_s : float
        After this silence a worker is replaced.
    instance : str or None
        Name under which a worker that restarts finds its partitions as they were; one for each process.
    """

    bootstrap: str
    partitions: int
    replication: int = 1
    session_timeout_s: float = 10.0
    instance: str | None = None


class States(faust.Table[bytes, bytes]):
    """The state of each key, stored as in a checkpoint: with the position up to which it is true."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - what Faust gives every table
        super().__init__(*args, **options)
        self._partitions = {_position_key(number): number for number in range(self.partitions or 0)}
        self._leaving: list[FutureMessage] = []

    def position(self, partition: int) -> int:
        """Return the offset up to which a partition's records are in the states."""
        saved = self.data.get(_position_key(partition))
        return 0 if saved is None else _kept(saved).position

    def partition_for_key(self, key: bytes) -> int | None:
        """Place a partition's position beside the states that it covers, and leave these to Kafka's partitioner."""
        return self._partitions.get(key)

    def entries(self, keys: Iterable[bytes]) -> Iterable[Record]:
        """Return what is kept of these keys, as if it came from a state topic."""
        for key in keys:
            saved = self.data.get(key)
            if saved is not None:
                yield Record(self.name, 0, 0, key, saved, 0)

    async def write(self, entries: Iterable[tuple[bytes, bytes]], positions: Mapping[int, int]) -> None:
        """Keep these entries, then the positions that they reach; when it returns, the changelog has them.

        A partition of the changelog has them in this order, so a position is never there without its states.
        """
        for key, saved in entries:
            self[key] = saved
        for partition, position in positions.items():
            self[_position_key(partition)] = position_entry(position)[1]
        leaving, self._leaving = self._leaving, []
        await asyncio.gather(*leaving)

    def send_changelog(self, *args: Any, **options: Any) -> FutureMessage:  # noqa: ANN401 - passed on
        """Send an entry. Faust lets go of it here, but `write` has to know when it has arrived."""
        sent = super().send_changelog(*args, **options)
        self._leaving.append(sent)
        return sent

    def apply_changelog_batch(self, batch: Iterable[EventT[Any]]) -> None:
        """Read entries back; of two of one key the one with the higher position counts, whoever wrote last.

        A worker that was replaced while it slept writes late. What it writes is true, but old, and the committed offset
        is its successor's: if it counted, the records between the two would never get into the state.
        """
        newest: dict[bytes, int] = {}
        super().apply_changelog_batch([event for event in batch if self._is_newest(event.message, newest)])

    def _is_newest(self, message: Message, newest: dict[bytes, int]) -> bool:
        """Tell whether an entry is not older than what was read of its key before, and remember it if so."""
        key = message.key or b""
        saved = self.data.get(key)
        known = newest.get(key, -1 if saved is None else _kept(saved).position)
        position = _kept(message.value or b"").position
        newest[key] = max(known, position)
        return position >= known


class App(faust.App):
    """Faust's app, whose queues keep what is in them when a worker has read its states back and begins.

    Faust has them emptied at that moment, when it has begun to read already. Of 40 workers started on a backlog five
    left records out for it, or stood still for ever. A record knows its generation, so an old one is found out anyway.
    """

    def FlowControlQueue(self, maxsize: int | None = None, *, clear_on_resume: bool = False) -> Any:  # noqa: ANN401, ARG002, N802 - Faust's name
        """Make a queue."""
        return super().FlowControlQueue(maxsize)


def app(stage: Stage[Any, Any], place: Place) -> faust.App:
    """Build the app of a stage; its id, which is its group's as well, is `spineloop-{stage}-faust`.

    Faust reads settings of its own from variables `FAUST_...`, and those stand above what is chosen here.
    """
    worker = App(
        f"spineloop-{stage.name}-faust",
        env_prefix="FAUST_",
        broker=[f"kafka://{address}" for address in place.bootstrap.split(",")],
        broker_session_timeout=place.session_timeout_s,
        broker_heartbeat_interval=0.3 * place.session_timeout_s,
        broker_rebalance_timeout=REBALANCE_S,
        broker_commit_interval=COMMIT_S,
        consumer_group_instance_id=place.instance,
        consumer_max_fetch_size=FETCH_BYTES,
        producer_max_batch_size=BATCH_BYTES,
        producer_max_request_size=RECORD_BYTES,
        topic_partitions=place.partitions,
        topic_replication_factor=place.replication,
        topic_disable_leader=True,  # nothing here asks who leads, and the topic for it would be one more
        store="memory://",  # RocksDB finds a key's database by the event in hand, and a batch has many
        agent_supervisor=CrashingSupervisor,  # the others start an agent again, behind the records that it dropped
        stream_wait_empty=False,  # else a worker that is to stop waits for ever for what a failed agent left behind
        web_enabled=False,  # it would tell everybody what is in the table
    )
    source = worker.topic(
        stage.topic,
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
        allow_empty=True,
        partitions=place.partitions,
    )
    states = States(
        worker,
        name="state",
        key_type=bytes,
        value_type=bytes,
        partitions=place.partitions,
        use_partitioner=True,  # by key: Faust would take the partition of a batch's last event for all of it
        extra_topic_configs={"min.compaction.lag.ms": str(STATE_COMPACTION_LAG_MS)},
    )
    worker.tables.add(states)
    member = Member(stage, worker, states)

    @worker.agent(source)
    async def reduce(stream: StreamT[bytes]) -> None:
        # `take` would acknowledge a batch even if reducing it failed; this one hands out events and leaves that to us
        batches = cast("Stream[EventT[bytes]]", stream).noack_take(SLICE_RECORDS, within=TAKE_S)
        async for events in batches:
            member.check_partitions()
            await member.take(stream, events)

    @worker.timer(LOOK_S)  # type: ignore[untyped-decorator]  # faust does not say what it returns
    async def look() -> None:
        await member.look_after_holes()

    return worker


class Witness:
    """Hears what went well and what did not, and ends the process when too much did not, as the engine does."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._letters = InARow(EngineSettings().dead_letters_in_a_row)
        self._quarantined_s: deque[float] = deque(maxlen=QUARANTINES)
        self._broken: str | None = None

    def stepped(self) -> None:
        """Hear that a record was reduced: not all of them are bad."""
        self._letters.good()

    def put_aside(self, record: Record, reason: str) -> None:
        """Hear of a dead letter, and note when there were too many with nothing good between them."""
        _log.warning("%s: dead letter: %s", self._stage, reason)
        self._letters.bad(record.key, reason)
        if self._letters.are_too_many:
            self._broken = f"{self._stage}: {self._letters.total} dead letters in a row"

    def froze(self, record: Record, trace: Trace) -> None:
        """Hear that a key was frozen, and note when that happens too often."""
        where = trace.places  # what the exception says may quote a patient
        _log.error("%s: key of %d/%d quarantined: %s", self._stage, record.partition, record.offset, where)
        now_s = time.monotonic()
        self._quarantined_s.append(now_s)
        if len(self._quarantined_s) == QUARANTINES and now_s - self._quarantined_s[0] < QUARANTINE_WINDOW_S:
            self._broken = f"{QUARANTINES} keys quarantined within {QUARANTINE_WINDOW_S:.0f} s"

    def check(self) -> None:
        """Raise BrokenPromise if there were too many. Asked when a batch is durable: a restart must get further."""
        if self._broken is not None:
            raise BrokenPromise(self._broken)


class Member:
    """One worker's part in the group: takes batches of a stage's input, one after the other."""

    def __init__(self, stage: Stage[Any, Any], worker: faust.App, states: States) -> None:
        self._stage = stage
        self._worker = worker
        self._states = states
        self._witness = Witness(stage.name)
        self._generation = -1
        self._next: dict[int, int] = {}
        self._stands_since: dict[TP, tuple[int, float]] = {}

    async def take(self, stream: StreamT[bytes], events: Sequence[EventT[bytes]]) -> None:
        """Reduce a batch, and acknowledge it when outputs and states are durable.

        What is raised ends the process. What was fetched before partitions were shared out anew, or comes behind a
        hole, is passed over: it will come again, here or elsewhere.
        """
        generation = self._begin_generation()
        current = [event for event in events if event.message.generation_id == generation]
        records = [as_record(event.message) for event in current if self._is_next(event.message)]
        state = State(self._stage)
        state.join(self._states.entries({record.key for record in records}))
        reducer = Reducer(self._stage, state, self._witness)
        await self._send([output for _, caused in reducer.take(records) for output in caused])
        if self._worker.consumer_generation_id != generation:
            return
        entries = [entry for some in state.snapshot() for entry in some if entry[0] != POSITION_KEY]
        await self._states.write(entries, {record.partition: record.offset + 1 for record in records})
        self._witness.check()
        for event in current:
            if event.message.offset < self._expected(event.message.partition):
                await stream.ack(event)

    async def look_after_holes(self) -> None:
        """Have records read again that Faust left out; raises BrokenPromise if that does not help.

        They show when others come behind them, which are passed over, or when nothing more comes though there is more.
        """
        self._begin_generation()
        for place in self._worker.consumer.assignment():
            if self._worker.rebalancing or self._worker.in_recovery:
                self._stands_since.clear()
            elif place.topic == self._stage.topic and self._stands(place):
                await self._read_again(place)

    def _begin_generation(self) -> int:
        """Forget what was expected if partitions have been shared out anew; return the number of that event."""
        generation = self._worker.consumer_generation_id
        if generation != self._generation:
            self._generation, self._next = generation, {}
            self._stands_since.clear()
        return generation

    def _stands(self, place: TP) -> bool:
        """Tell whether there is more in a partition and nothing has moved since the last look."""
        expected, now_s = self._expected(place.partition), time.monotonic()
        end = self._worker.consumer.highwater(place) or 0  # None before the first answer
        before, since_s = self._stands_since.get(place, (-1, now_s))
        if before != expected or end <= expected:
            self._stands_since[place] = (expected, now_s)
            return False
        if now_s - since_s > EngineSettings().stall_s:
            raise BrokenPromise(f"{self._stage.name}: {place} stands at {expected} of {end}")
        return True

    async def _read_again(self, place: TP) -> None:
        consumer = self._worker.consumer
        earliest = (await consumer.earliest_offsets(place))[place]
        start = self._next[place.partition] = max(self._expected(place.partition), earliest)  # what is deleted is gone
        _log.warning("%s: %s is read again from %d", self._stage.name, place, start)
        await consumer.seek(place, start)

    def _expected(self, partition: int) -> int:
        """Return the offset of the record that has to come next."""
        if partition not in self._next:
            self._next[partition] = self._states.position(partition)
        return self._next[partition]

    def _is_next(self, message: Message) -> bool:
        """Tell whether a record comes in order, and wait for the one after it if so."""
        if message.offset != self._expected(message.partition):
            return False
        self._next[message.partition] = message.offset + 1
        return True

    async def _send(self, outputs: Iterable[NewRecord]) -> None:
        """Send records in order, and return when Kafka has them."""
        producer = self._worker.producer
        sent = [
            await producer.send(
                record.topic,
                record.key,
                record.value,
                None,
                in_seconds(record.timestamp_ms),
                list(record.headers),
            )
            for record in outputs
        ]
        await asyncio.gather(*sent)

    def check_partitions(self) -> None:
        """Raise BrokenPromise if the changelog was made with another number of partitions than the input.

        Faust looks at that only where it chooses partitions itself; here a state would be restored by another worker
        than the one that reads its key.
        """
        counts = {
            topic: self._worker.consumer.topic_partitions(topic)
            for topic in (self._stage.topic, self._states.changelog_topic_name)
        }
        if len(set(counts.values())) > 1:
            raise BrokenPromise(f"different numbers of partitions: {counts}")


def _position_key(partition: int) -> bytes:
    return POSITION_KEY + b"%d" % partition


def as_record(message: Message) -> Record:
    """Turn Faust's message into a record as the log hands it out."""
    return Record(
        message.topic,
        message.partition,
        message.offset,
        message.key or b"",
        message.value,
        in_ms(message.timestamp),
        # as aiokafka hands them out; one that has no value, as Kafka allows and none of ours is, gets an empty one
        tuple((name, value or b"") for name, value in cast("Sequence[Header]", message.headers or ())),
    )


def in_ms(time_s: float) -> int:
    """Take a record's timestamp back from Faust, which keeps it in s.

    Examples
    --------
    >>> in_ms(1_700_000_000_123 / 1000.0)
    1700000000123
    """
    return round(1_000.0 * time_s)


def in_seconds(time_ms: int) -> float:
    """Give Faust a record's timestamp, so that it stays what it is although Faust cuts off what is below 1 ms.

    Examples
    --------
    >>> int(1_000.0 * (1_001 / 1_000.0)), int(1_000.0 * in_seconds(1_001))
    (1000, 1001)
    """
    return (time_ms + 0.5) / 1_000.0
