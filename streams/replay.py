"""Replay: a stretch of the log recomputed in states of our own. Nothing is written, no device or history hears of it.

A state depends on everything before it, so a replay reads from the earliest record that the log still has and counts
what the wanted stretch leads to. The digest names that: same stretch, same policy, same digest, on any log and however
the records are read. It adds up the outputs instead of chaining them, because their order across machines is chance.
"""

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from streams.checkpoint import State
from streams.core.records import NewRecord, Record, header
from streams.core.stage import Stage
from streams.core.topics import COMMAND, DEAD_LETTER, METRIC, PATIENT, TELEMETRY, tenant_of
from streams.log import Log
from streams.reducer import Reducer

SLICE_RECORDS = 500
"""Records that are reduced together: as many as the engine takes, although any number gives the same bytes."""

MAX_TWICE = 50_000
"""Ids of one topic and partition that are remembered to see what was written twice: at least as many as a worker can
write between two checkpoints, which is how far back a restart repeats itself (E5)."""

OUTPUTS = (METRIC, COMMAND, PATIENT)
"""Topics that hold nothing but outputs. Plans stand in the telemetry, between what machines said."""

Advance = Callable[[int, int], None]
"""Hears how many records are done, of how many."""

Publish = Callable[[NewRecord], Awaitable[None]]
"""Takes a recomputed metric."""


class OutOfRange(ValueError):
    """The wanted stretch is not in the log; the message says what is."""


class At(msgspec.Struct, frozen=True):
    """A place in the log: an offset, which counts in every partition, or a time in ms since 1970."""

    offset: int | None = None
    time_ms: int | None = None


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay is to tell of: from `since` up to, not including, `until`; one tenant, some machines, or all."""

    since: At | None = None
    until: At | None = None
    tenant: str | None = None
    machines: tuple[str, ...] = ()

    def has(self, key: str) -> bool:
        """Tell whether a machine or a patient is wanted; patients are, whichever machines they used."""
        if self.tenant is not None and tenant_of(key) != self.tenant:
            return False
        return not self.machines or key in self.machines or not _is_machine(key)


def _is_machine(key: str) -> bool:
    return key.count("/") == 2  # noqa: PLR2004 - tenant/site/machine


class Digest:
    """Adds outputs up: `sums` by topic and key, `counts` by topic."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, bytes], int] = {}
        self.counts: Counter[str] = Counter()

    def add(self, record: Record | NewRecord) -> None:
        """Add one output. Each is told apart by its id, so an order need not count."""
        self.counts[record.topic] += 1
        place = record.topic, record.key
        self.sums[place] = (self.sums.get(place, 0) + _number(record)) % (1 << 128)

    @property
    def text(self) -> str:
        """The digest, 64 hexadecimal digits."""
        lines = sorted(f"{topic} {key.hex()} {total:032x}" for (topic, key), total in self.sums.items())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def differing(self, other: "Digest") -> list[tuple[str, str]]:
        """Return topic and key of what is not the same in another."""
        places = {place for place in self.sums | other.sums if self.sums.get(place) != other.sums.get(place)}
        return sorted((topic, key.decode(errors="replace")) for topic, key in places)


def _number(record: Record | NewRecord) -> int:
    told = msgspec.msgpack.encode((record.topic, record.key, record.value, record.timestamp_ms, record.headers))
    return int.from_bytes(hashlib.blake2b(told, digest_size=16).digest(), "big")


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay found.

    `records` were read, of which `counted` in the wanted stretch; `outputs` counts what they led to by topic;
    `differing` names topic and key of what stands otherwise in the log; `missing` says for each partition of the
    telemetry how many of its first records retention has removed.
    """

    digest: str
    records: int
    counted: int
    outputs: Mapping[str, int]
    differing: tuple[tuple[str, str], ...]
    missing: Mapping[int, int]


async def stretch(log: Log, topic: str, wanted: Wanted) -> dict[int, tuple[int, int]]:
    """Return for each partition the wanted offsets [start, stop). Raises OutOfRange if the log can't have them."""
    found = {}
    for partition, (earliest, end) in (await log.bounds(topic)).items():
        start = await _offset(log, topic, partition, wanted.since)
        stop = await _offset(log, topic, partition, wanted.until)
        found[partition] = (earliest if start is None else start, end if stop is None else min(stop, end))
    offsets = [at.offset for at in (wanted.since,) if at is not None and at.offset is not None]
    bounds = await log.bounds(topic)
    for offset in offsets:
        if all(offset >= end for _, end in bounds.values()):
            raise OutOfRange(f"offset {offset} is beyond the end of {topic}: {_told(bounds)}")
        if all(offset < earliest for earliest, _ in bounds.values()):
            raise OutOfRange(f"offset {offset} of {topic} was removed by retention: {_told(bounds)}")
    if all(start >= stop for start, stop in found.values()) and any(end for _, end in bounds.values()):
        raise OutOfRange(f"no record of {topic} lies in that stretch: {_told(bounds)}")
    return found


async def _offset(log: Log, topic: str, partition: int, at: At | None) -> int | None:
    if at is None:
        return None
    return at.offset if at.time_ms is None else await log.offset_at(topic, partition, at.time_ms)


def _told(bounds: Mapping[int, tuple[int, int]]) -> str:
    return ", ".join(f"partition {number} has {first} to {end}" for number, (first, end) in sorted(bounds.items()))


class _Silent:
    """A witness who goes on whatever happens: a replay freezes and puts aside as the engine does."""

    def stepped(self) -> None: ...
    def put_aside(self, reason: str) -> None: ...
    def froze(self, record: Record, trace: str) -> None: ...


async def replay(
    log: Log,
    stages: Iterable[Stage[Any, Any]],
    wanted: Wanted,
    advance: Advance | None = None,
    publish: Publish | None = None,
) -> Replayed:
    """Let stages hear their topics again, each from what the log holds, and compare with what it says they said.

    Parameters
    ----------
    log : Log
        Where to read; nothing is written.
    stages : iterable of Stage
        Controller and planner, with the policy that is to be tried.
    wanted : Wanted
        Which stretch to tell of.
    advance : callable
        Hears of the progress.
    publish : callable
        Takes every recomputed metric of the stretch, if the owner of the log wants them written again. Commands are
        never among them.

    Raises
    ------
    OutOfRange
        The log does not hold the stretch.
    """
    stages = tuple(stages)
    told = Digest()
    windows = {stage.topic: await stretch(log, stage.topic, wanted) for stage in stages}
    bounds = {topic: await log.bounds(topic) for topic in windows}
    total = sum(windows[topic][number][1] - bounds[topic][number][0] for topic in windows for number in windows[topic])
    records = counted = 0
    for stage in stages:
        for number, (start, stop) in sorted(windows[stage.topic].items()):
            reducer = Reducer(stage, State(stage), _Silent())
            async for some in log.read(stage.topic, number, stop=stop):
                for record, outputs in reducer.take(_heard(some, stage, wanted)):
                    if record.offset >= start:
                        counted += 1
                        for output in _counting(outputs, wanted):
                            told.add(output)
                            if publish is not None and output.topic == METRIC:
                                await publish(output)
                records += len(some)
                if advance is not None:
                    advance(records, total)
    causes = (windows.get(TELEMETRY, {}), windows.get(PATIENT, {}))
    complete = all(not first for where in bounds.values() for first, _ in where.values())
    differing: tuple[tuple[str, str], ...] = ()
    if complete and wanted.since is None and wanted.until is None and all(causes):
        differing = tuple(told.differing(await said(log, wanted)))
    missing = {number: first for number, (first, _) in bounds.get(TELEMETRY, {}).items() if first}
    return Replayed(
        digest=told.text,
        records=records,
        counted=counted,
        outputs=dict(sorted(told.counts.items())),
        differing=differing,
        missing=missing,
    )


def _heard(records: Sequence[Record], stage: Stage[Any, Any], wanted: Wanted) -> Sequence[Record]:
    """Leave out the machines that nobody asked for; patients go to many machines, so all of theirs are needed."""
    if stage.topic != TELEMETRY:
        return records
    return [record for record in records if wanted.has(record.key.decode(errors="replace"))]


def _counting(outputs: Sequence[NewRecord], wanted: Wanted) -> Sequence[NewRecord]:
    return [one for one in outputs if one.topic != DEAD_LETTER and wanted.has(one.key.decode(errors="replace"))]


async def said(log: Log, wanted: Wanted) -> Digest:
    """Add up what stands in the log as said by the stages; what was written twice after a crash counts once."""
    told = Digest()
    for topic in (*OUTPUTS, TELEMETRY):
        for number in await log.bounds(topic):
            seen = _Recent()
            async for records in log.read(topic, number):
                for record in records:
                    is_output = topic != TELEMETRY or header(record, "ce_type") == _PLAN
                    if is_output and wanted.has(record.key.decode(errors="replace")) and seen.is_new(record):
                        told.add(record)
    return told


_PLAN = "spineloop.plan_made.v1"


class _Recent:
    """The ids seen last."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str | None, None] = OrderedDict()

    def is_new(self, record: Record) -> bool:
        """Tell whether a record's id was not seen lately, and remember it."""
        name = header(record, "ce_id")
        if name in self._ids:
            return False
        self._ids[name] = None
        if len(self._ids) > MAX_TWICE:
            self._ids.popitem(last=False)
        return True
