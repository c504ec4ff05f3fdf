"""Stretch: which part of a log somebody asks for, from words such as an offset or a time to the records that count."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

import msgspec

from streams.core.records import Record, rfc3339
from streams.core.topics import TELEMETRY, tenant_of

LATE_MS = 86_400_000
"""How much later than its own time a record may stand in the log, in ms. A plan keeps the time of the request, however
long the planner was away; a redriven record keeps its own. A stretch that ends at a time is looked for so much further.
"""

_KEY_PARTS = 3
T = TypeVar("T")


class Readable(Protocol):
    """A log as somebody needs it who only looks."""

    def read(
        self, topic: str, partition: int, start: int | None = None, stop: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        """Read from `start` (None: the earliest) up to, not including, `stop` (None: the end at the time of call)."""

    async def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Return for each partition the earliest offset and the offset of the next record. KeyError: no such topic."""

    async def offset_at(self, topic: str, partition: int, time_ms: int) -> int:
        """Return the offset of the first record that is not older than `time_ms`, or the end."""


class OutOfRange(ValueError):
    """The log does not hold what was asked for; the message is one line that says what it holds."""


class At(msgspec.Struct, frozen=True):
    """A place in the log: an offset, which counts in every partition, or a time in ms since 1970."""

    offset: int | None = None
    time_ms: int | None = None

    def __str__(self) -> str:
        """Say it to a person."""
        return f"offset {self.offset}" if self.time_ms is None else rfc3339(self.time_ms)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for: from `since` up to, not including, `until`; one tenant, some machines, or all.

    A record is within two times by its own timestamp, so a stretch is the same on every log, however its partitions
    are cut. Offsets are those of the telemetry.
    """

    since: At | None = None
    until: At | None = None
    tenant: str | None = None
    machines: tuple[str, ...] = ()

    @property
    def by_offset(self) -> bool:
        """Whether it is cut at an offset, which means something in one topic of one log only."""
        return any(at is not None and at.offset is not None for at in (self.since, self.until))

    def has_machine(self, key: str) -> bool:
        """Tell whether a machine is wanted.

        Examples
        --------
        >>> Wanted(tenant="acme").has_machine("acme/north/m1"), Wanted(machines=("acme/north/m2",)).has_machine("x")
        (True, False)
        """
        return self.has_tenant(key) and (not self.machines or key in self.machines)

    def has_tenant(self, key: str) -> bool:
        """Tell whether a machine or a patient is of the wanted tenant."""
        return self.tenant is None or tenant_of(key) == self.tenant

    def has(self, record: Record) -> bool:
        """Tell whether a record lies within both ends."""
        return _is_from(record, self.since) and not (self.until is not None and _is_from(record, self.until))


def _is_from(record: Record, at: At | None) -> bool:
    if at is None:
        return True
    return record.timestamp_ms >= at.time_ms if at.time_ms is not None else record.offset >= (at.offset or 0)


class Part(msgspec.Struct, frozen=True):
    """One partition: the earliest offset that the log still has, and where reading for a stretch ends."""

    first: int
    stop: int


async def parts(log: Readable, wanted: Wanted, topic: str = TELEMETRY) -> dict[int, Part]:
    """Say for each partition what has to be read for a stretch; states need everything before it, too.

    Raises
    ------
    OutOfRange
        The stretch is not in the log.
    """
    try:
        bounds = await log.bounds(topic)
    except KeyError:
        raise OutOfRange(f"the log has no topic {topic}") from None
    if topic == TELEMETRY:
        _check_offsets(wanted, bounds)
    else:
        wanted = Wanted(since=_time_of(wanted.since), until=_time_of(wanted.until))
    found = {}
    for number, (first, end) in bounds.items():
        await _check_kept(log, topic, number, bounds[number], wanted.since)
        found[number] = Part(first, max(first, min(end, await _stop(log, topic, number, wanted.until, end))))
    if topic == TELEMETRY and any(end > first for first, end in bounds.values()):
        await _check_not_empty(log, wanted, bounds, found)
    return found


def _time_of(at: At | None) -> At | None:
    return at if at is not None and at.time_ms is not None else None


async def _stop(log: Readable, topic: str, number: int, until: At | None, end: int) -> int:
    if until is None:
        return end
    return (
        await log.offset_at(topic, number, until.time_ms + LATE_MS) if until.time_ms is not None else until.offset or 0
    )


def _check_offsets(wanted: Wanted, bounds: Mapping[int, tuple[int, int]]) -> None:
    check_order(wanted)
    for at in (wanted.since, wanted.until):
        if at is not None and at.offset is not None and at.offset > max(end for _, end in bounds.values()):
            raise OutOfRange(f"{at} is beyond the end of {TELEMETRY}: {told(bounds)}")


def check_order(wanted: Wanted) -> None:
    """Raise OutOfRange if the end lies before the beginning.

    Examples
    --------
    >>> check_order(Wanted(since=At(offset=7), until=At(offset=3)))
    Traceback (most recent call last):
    ...
    streams.stretch.OutOfRange: the stretch ends at offset 3, before it begins at offset 7
    """
    since, until = wanted.since, wanted.until
    if since is None or until is None:
        return
    pairs = ((since.offset, until.offset), (since.time_ms, until.time_ms))
    if any(one is not None and other is not None and other < one for one, other in pairs):
        raise OutOfRange(f"the stretch ends at {until}, before it begins at {since}")


async def _check_kept(log: Readable, topic: str, number: int, bounds: tuple[int, int], since: At | None) -> None:
    """Refuse a beginning of which retention has removed something."""
    first, end = bounds
    if since is None or first in {0, end}:
        return
    if since.time_ms is None:
        gone = (since.offset or 0) < first
    else:
        oldest = await first_record(log, topic, number, first)
        gone = oldest is not None and oldest.timestamp_ms > since.time_ms
    if gone:
        raise OutOfRange(
            f"{since} of {topic} was removed by retention: partition {number} begins at offset {first}"
            + (f", {rfc3339(oldest.timestamp_ms)}" if since.time_ms is not None and oldest is not None else "")
        )


async def _check_not_empty(
    log: Readable, wanted: Wanted, bounds: Mapping[int, tuple[int, int]], found: Mapping[int, Part]
) -> None:
    for number, part in found.items():
        if await _edge(log, number, wanted.since, part.first) < await _edge(log, number, wanted.until, part.stop):
            return
    raise OutOfRange(f"no record of {TELEMETRY} lies in that stretch: {told(bounds)}")


async def _edge(log: Readable, number: int, at: At | None, otherwise: int) -> int:
    """Return the offset of a place in a partition of the telemetry."""
    if at is None or at.offset is not None:
        return otherwise if at is None else at.offset or 0
    return await log.offset_at(TELEMETRY, number, at.time_ms or 0)


def told(bounds: Mapping[int, tuple[int, int]]) -> str:
    """Say what a topic holds.

    Examples
    --------
    >>> told({0: (0, 12), 1: (3, 3)})
    'partition 0 has 0 to 12, partition 1 is empty'
    """
    return ", ".join(
        f"partition {number} has {first} to {end}" if first < end else f"partition {number} is empty"
        for number, (first, end) in sorted(bounds.items())
    )


async def first_record(log: Readable, topic: str, number: int, first: int) -> Record | None:
    """Read the first record of a partition from an offset on, or None if there is none."""
    async with closing(log.read(topic, number, first, first + 1)) as batches:
        async for records in batches:
            return records[0]
    return None


async def check_known(log: Readable, wanted: Wanted, parts_read: Mapping[int, Part]) -> None:
    """Raise OutOfRange unless every wanted machine, and some machine of the tenant, is heard in what is read."""
    missing = set(wanted.machines)
    tenant = wanted.tenant
    if tenant is not None and any(tenant_of(machine) != tenant for machine in missing):
        raise OutOfRange(f"machine {min(missing)} is not of tenant {tenant}")
    if not missing and tenant is None:
        return
    seen: set[str] = set()
    for number, part in parts_read.items():
        async with closing(log.read(TELEMETRY, number, part.first, part.stop)) as batches:
            async for records in batches:
                seen.update(record.key.decode(errors="replace") for record in records)
                if missing <= seen and (tenant is None or tenant in {tenant_of(key) for key in seen}):
                    return
    if missing - seen:
        raise OutOfRange(f"the log has no machine {min(missing - seen)}{_known(seen)}")
    raise OutOfRange(f"the log has no tenant {tenant}{_known({tenant_of(key) for key in seen})}")


_MOST_NAMED = 5


def _known(names: Iterable[str]) -> str:
    some = sorted(names)
    more = f" and {len(some) - _MOST_NAMED} more" if len(some) > _MOST_NAMED else ""
    return f"; it has {', '.join(some[:_MOST_NAMED])}{more}" if some else "; it is empty"


def is_machine(key: str) -> bool:
    """Tell a machine's key from a patient's.

    Examples
    --------
    >>> is_machine("acme/north/m1"), is_machine("acme/p1")
    (True, False)
    """
    return key.count("/") == _KEY_PARTS - 1


@asynccontextmanager
async def closing(batches: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close a read at the end of the block, also one that nobody read to its end."""
    try:
        yield batches
    finally:
        aclose = getattr(batches, "aclose", None)
        if aclose is not None:
            await aclose()
