"""Past: the facts about patients to which the telemetry that is left no longer leads.

Retention, or a log that was trimmed, takes the beginning of each partition away, and not all at one time. Up to the
first session that is left of it, what a machine led to can't be recomputed: it is taken as it stands in the log, each
fact at its own time, for the next machine may ask for a plan meanwhile.
"""

import heapq
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count

from streams.core import codec
from streams.core.errors import Malformed
from streams.core.records import Record, header
from streams.core.telemetry import SessionRequested, SessionStarted
from streams.core.topics import PATIENT, TELEMETRY
from streams.merging import Source, merged
from streams.stretch import LATE_MS, Part, Readable, Wanted, closing

_BEGINS = frozenset(f"spineloop.{kind.__struct_config__.tag}.v1" for kind in (SessionRequested, SessionStarted))


class Past:
    """Facts in the order of their times, as far as nobody recomputes them.

    Parameters
    ----------
    facts : Source or None
        Where they are; None if the telemetry is whole.
    since_ms : mapping of bytes to float
        From when on what a machine leads to is recomputed, in ms since 1970; never of one that is not in it.
    wanted : Wanted
        Whose facts.
    missing : mapping of int to int
        How many of their first facts have been removed from partitions that had any.
    """

    def __init__(
        self,
        facts: Source | None,
        since_ms: Mapping[bytes, float],
        wanted: Wanted,
        missing: Mapping[int, int],
    ) -> None:
        self.missing = missing
        self._facts, self._since_ms, self._wanted = facts, since_ms, wanted
        self._ahead: list[tuple[int, int, Record]] = []
        self._count = count()

    async def until(self, time_ms: int) -> Sequence[Record]:
        """Return what became known up to and at this time, and was not returned before."""
        if self._facts is None:
            return ()
        # one worker may be behind the others, so an older fact stands behind newer ones: up to a day of them is held
        while (fact := await self._facts.first()) is not None and fact.timestamp_ms <= time_ms + LATE_MS:
            self._facts.take()
            if self._is_past(fact):
                heapq.heappush(self._ahead, (fact.timestamp_ms, next(self._count), fact))
        found = list[Record]()
        while self._ahead and self._ahead[0][0] <= time_ms:
            found.append(heapq.heappop(self._ahead)[-1])
        return found

    def _is_past(self, fact: Record) -> bool:
        if not self._wanted.has_tenant(fact.key.decode(errors="replace")):
            return False
        try:
            machine = codec.decode_patient_fact(fact.value or b"").machine
        except Malformed:
            return False
        return fact.timestamp_ms < self._since_ms.get(machine.encode(), math.inf)


@asynccontextmanager
async def open_past(log: Readable, read: Mapping[int, Part], wanted: Wanted, slice_records: int) -> AsyncIterator[Past]:
    """Open what happened before these parts of the telemetry."""
    if not any(part.first for part in read.values()):
        yield Past(None, {}, wanted, {})
        return
    since_ms = await _recomputed_since_ms(log, read)
    facts = {number: Part(first, end) for number, (first, end) in (await log.bounds(PATIENT)).items()}
    async with closing(merged(log, PATIENT, facts, slice_records)) as batches:
        missing = {number: part.first for number, part in facts.items() if part.first}
        yield Past(Source(batches), since_ms, wanted, missing)


async def _recomputed_since_ms(log: Readable, read: Mapping[int, Part]) -> Mapping[bytes, float]:
    """Say from when on each machine's facts are recomputed: always, or from the first session that is left of it.

    A session of which the beginning is gone has a summary of its remains; the log has one of the whole.
    """
    since_ms = dict[bytes, float]()
    for number, part in read.items():
        async with closing(log.read(TELEMETRY, number, part.first, part.stop)) as batches:
            async for records in batches:
                for record in records:
                    if not part.first:
                        since_ms[record.key] = -math.inf
                    elif header(record, "ce_type") in _BEGINS:
                        since_ms.setdefault(record.key, record.timestamp_ms)
    return since_ms
