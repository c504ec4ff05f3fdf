"""Replay: a stretch of the log recomputed in states of our own. Nothing is written, no device or history hears of it.

A state depends on everything before it, so a replay reads from the earliest record that the log still has and counts
what the wanted stretch leads to. The digest names that: same stretch, same policy, same digest, on any log and however
the records are read.
"""

from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np

from streams.checkpoint import State
from streams.core import codec
from streams.core.dead_letters import reason_of
from streams.core.errors import Malformed
from streams.core.records import NewRecord, Record, header
from streams.core.stage import Stage
from streams.core.topics import COMMAND, DEAD_LETTER, METRIC, PATIENT, TELEMETRY
from streams.digest import Digest, Recent
from streams.reducer import Reducer
from streams.settled import OUTPUTS, ends_of, is_answer, is_copy, oldest_since, settled_before
from streams.stretch import OutOfRange, Part, Readable, Wanted, check_known, closing, is_machine, parts

SLICE_RECORDS = 500
"""Records that are reduced together: as many as the engine takes, although any number gives the same bytes."""

Advance = Callable[[int, int], None]
"""Hears how many records are done, of how many."""

Publish = Callable[[NewRecord], Awaitable[None]]
"""Takes a recomputed metric."""


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """What the log itself says of the stretch: topic and key of all that differs, or why that was not looked at.

    `policies` counts the commands in the log by the policy that decided them.
    """

    differing: tuple[tuple[str, str], ...] = ()
    policies: Mapping[str, int] = {}
    not_done: str | None = None


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay found.

    `records` were read, of which `counted` in the wanted stretch; `outputs` counts what they led to by topic, and
    `letters` what became dead letters by reason; `missing` says for each partition of the telemetry how many of its
    first records retention has removed.
    """

    digest: str
    records: int
    counted: int
    outputs: Mapping[str, int]
    letters: Mapping[str, int]
    missing: Mapping[int, int]
    log: Compared


class _Silent:
    """A witness who goes on whatever happens: a replay freezes and puts aside as the engine does."""

    def stepped(self) -> None: ...
    def put_aside(self, record: Record, reason: str) -> None: ...
    def froze(self, record: Record, trace: str) -> None: ...


async def replay(
    log: Readable,
    stages: Iterable[Stage[Any, Any]],
    wanted: Wanted,
    *,
    advance: Advance | None = None,
    publish: Publish | None = None,
    slice_records: int = SLICE_RECORDS,
) -> Replayed:
    """Let stages hear their topics again, each from what the log holds, and compare with what it says they said.

    Parameters
    ----------
    log : Readable
        Where to read; nothing is written.
    stages : iterable of Stage
        Controller and planner, with the policy that is to be tried. The one that hears the telemetry comes first.
    wanted : Wanted
        Which stretch to tell of.
    advance : callable
        Hears of the progress.
    publish : callable
        Takes every recomputed metric of the stretch, if the owner of the log wants them written again. Commands are
        never among them. It hears of nothing from a log whose beginning is gone.
    slice_records : int
        How many records are reduced together.

    Raises
    ------
    streams.stretch.OutOfRange
        The log does not hold the stretch, or no such machine or tenant, or not what states began with, and metrics
        are to be published.
    """
    return await _Work(log, wanted, publish, slice_records).done(tuple(stages), advance)


class _Work:
    """One replay while it runs."""

    def __init__(self, log: Readable, wanted: Wanted, publish: Publish | None, slice_records: int) -> None:
        self._log, self._wanted, self._publish, self._slice = log, wanted, publish, slice_records
        self._facts = _Facts() if wanted.by_offset else None
        self._early, self._late, self._said = Digest(), Digest(), Digest()
        self._letters: Counter[str] = Counter()
        self._policies: Counter[str] = Counter()
        self._limit_ms: float = 0
        self._records = self._counted = 0

    async def done(self, stages: Sequence[Stage[Any, Any]], advance: Advance | None) -> Replayed:
        """Do it all; return what was found."""
        log, wanted = self._log, self._wanted
        ends = await ends_of(log, stages)
        read = {stage.topic: await parts(log, wanted, stage.topic) for stage in stages}
        await check_known(log, wanted, read[TELEMETRY])
        first = {(topic, number): part.first for topic, each in read.items() for number, part in each.items()}
        if self._publish is not None:
            _check_whole(first)
        not_done = _why_not(wanted, first)
        outputs: dict[str, dict[int, Part]] = {}
        if not_done is None:
            settled_ms = await settled_before(log, stages)
            outputs = {topic: await parts(log, Wanted(), topic) for topic in OUTPUTS}
            self._limit_ms = min(settled_ms, await oldest_since(log, ends))
        total = sum(part.stop - part.first for each in (*read.values(), *outputs.values()) for part in each.values())

        def moved(records: int) -> None:
            self._records += records
            if advance is not None:
                advance(self._records, total)

        for stage in stages:
            for number, part in sorted(read[stage.topic].items()):
                await self._replay(stage, number, part, moved)
        records = self._records
        for topic, each in outputs.items():
            for number, part in each.items():
                await self._listen(topic, number, part, moved)
        together = Digest(self._early, self._late)
        return Replayed(
            digest=together.text,
            records=records,
            counted=self._counted,
            outputs=dict(sorted(together.counts.items())),
            letters=dict(sorted(self._letters.items())),
            missing={number: part.first for number, part in read[TELEMETRY].items() if part.first},
            log=Compared(not_done=not_done) if not_done else self._compared(),
        )

    def _compared(self) -> Compared:
        if not self._early.counts and not self._said.counts:
            return Compared(not_done="nothing of the stretch has been decided in the log yet")
        return Compared(
            differing=tuple(self._early.differing(self._said)), policies=dict(sorted(self._policies.items()))
        )

    async def _replay(self, stage: Stage[Any, Any], number: int, part: Part, moved: Callable[[int], None]) -> None:
        """Let a stage hear one partition of its topic."""
        reducer, plans = Reducer(stage, State(stage), _Silent()), Recent()
        async with closing(self._log.read(stage.topic, number, part.first, part.stop)) as batches:
            async for batch in batches:
                for start in range(0, len(batch), self._slice):
                    some = batch[start : start + self._slice]
                    for record, outputs in reducer.take([record for record in some if self._is_heard(stage, record)]):
                        await self._count(stage, record, outputs)
                        if is_answer(record):
                            self._hear_said(record, plans)
                    moved(len(some))

    def _is_heard(self, stage: Stage[Any, Any], record: Record) -> bool:
        """Leave out the machines that nobody asked for; patients go to many machines, so all of theirs are needed."""
        key = record.key.decode(errors="replace")
        return self._wanted.has_machine(key) if stage.topic == TELEMETRY else self._wanted.has_tenant(key)

    async def _count(self, stage: Stage[Any, Any], record: Record, outputs: Sequence[NewRecord]) -> None:
        if not self._has_cause(stage, record):
            return
        self._counted += 1
        for output in outputs:
            if output.topic == DEAD_LETTER:
                self._letters[reason_of(output)] += 1
            elif is_of(output, self._wanted):
                (self._early if output.timestamp_ms < self._limit_ms else self._late).add(output)
                if self._facts is not None and output.topic == PATIENT:
                    self._facts.note(output)
                if self._publish is not None and output.topic == METRIC:
                    await self._publish(output)

    def _has_cause(self, stage: Stage[Any, Any], record: Record) -> bool:
        """Tell whether what a record leads to is wanted. By offset, a fact counts if its cause does."""
        if stage.topic == TELEMETRY or self._facts is None:
            return self._wanted.has(record)
        return self._facts.has(record)

    async def _listen(self, topic: str, number: int, part: Part, moved: Callable[[int], None]) -> None:
        """Add up what a topic says was said."""
        recent = Recent()
        async with closing(self._log.read(topic, number, part.first, part.stop)) as batches:
            async for records in batches:
                for record in records:
                    self._hear_said(record, recent)
                moved(len(records))

    def _hear_said(self, record: Record, recent: Recent) -> None:
        """Add one output that stands in the log; what was written again, after a crash or by hand, counts once."""
        if record.timestamp_ms >= self._limit_ms or not self._wanted.has(record) or is_copy(record):
            return
        if is_of(record, self._wanted) and recent.is_new(record):
            self._said.add(record)
            if record.topic == COMMAND and record.value is not None:
                self._policies[_policy(record.value)] += 1


class _Facts:
    """Which facts the wanted stretch of the telemetry led to, by 8 bytes of their ids; there are three a session."""

    def __init__(self) -> None:
        self._noted = array("Q")
        self._sorted: np.ndarray[tuple[int], np.dtype[np.uint64]] | None = None

    def note(self, fact: NewRecord) -> None:
        self._noted.append(_id(fact))

    def has(self, fact: Record) -> bool:
        if self._sorted is None:
            self._sorted = np.sort(np.frombuffer(self._noted, np.uint64))
        wanted = np.uint64(_id(fact))
        place = int(np.searchsorted(self._sorted, wanted))
        return place < len(self._sorted) and bool(self._sorted[place] == wanted)


def _id(fact: NewRecord | Record) -> int:
    return int.from_bytes(blake2b((header(fact, "ce_id") or "").encode(), digest_size=8).digest(), "big")


def is_of(output: Record | NewRecord, wanted: Wanted) -> bool:
    """Tell whether an output is about somebody who is wanted; a fact about a patient is about its machine."""
    key = output.key.decode(errors="replace")
    if not wanted.machines:
        return wanted.has_tenant(key)
    if output.topic == PATIENT:
        try:
            key = codec.decode_patient_fact(output.value or b"").machine
        except Malformed:
            return False
    return is_machine(key) and wanted.has_machine(key)


class _Decided(msgspec.Struct, frozen=True):
    """Of a command, who decided it."""

    policy: str = "unknown"


_decided = msgspec.msgpack.Decoder(_Decided).decode


def _policy(command: bytes) -> str:
    try:
        return _decided(command).policy
    except msgspec.MsgspecError:
        return "unknown"


def _check_whole(first: Mapping[tuple[str, int], int]) -> None:
    """Refuse to write anything again that was recomputed from states without their beginning: it would be wrong."""
    for (topic, number), offset in sorted(first.items()):
        if offset:
            raise OutOfRange(
                f"nothing is published: {topic} has lost its beginning to retention (partition {number} begins at "
                f"{offset}), and what states lack would make metrics wrong; docs/operations.md says what to do"
            )


def _why_not(wanted: Wanted, first: Mapping[tuple[str, int], int]) -> str | None:
    """Say why what is recomputed can't be compared with what stands in the log, if so."""
    if wanted.by_offset:
        return "offsets cut the telemetry only; choose times"
    if any(first.values()):
        return "retention has removed the beginning, and with it what states began with"
    return None
