"""What if: what another policy would have decided on what really happened.

Both policies hear the same telemetry, in the order of its time, each in a state of its own: the controller first, and
the planner what the controller makes of it. A recorded plan gives way to the one that the policy in question would have
made. The repetitions stay as they were done: what a patient would have done otherwise, nobody knows.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from streams.core import codec
from streams.core.commands import Command
from streams.core.controller import Arrival, Controller
from streams.core.errors import Malformed
from streams.core.muscles import NONE, Catalogue
from streams.core.planning import Planner
from streams.core.plans import PlanMade
from streams.core.policy import Policy
from streams.core.records import NewRecord, Record, header
from streams.core.results import SessionSummarised
from streams.core.telemetry import SessionRequested, SessionStarted
from streams.core.topics import COMMAND, METRIC, PATIENT, TELEMETRY
from streams.log import Log
from streams.replay import SLICE_RECORDS, Advance, Wanted, stretch

MAX_SHOWN = 2_000
"""Differences that are kept to be shown; all are counted."""


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """One command in short: what for, what it changes, and the numbers that led to it."""

    machine: str
    patient: str | None
    session: str | None
    set_number: int | None
    at_ms: int
    cause: str
    rule: str
    action: str
    changes: tuple[tuple[str, float, float], ...]
    evidence: tuple[tuple[str, str, float | str | None], ...]


class Difference(msgspec.Struct, frozen=True):
    """What one cause led to under either policy; None is nothing."""

    before: Decided | None
    after: Decided | None


class Tally(msgspec.Struct, frozen=True):
    """How many commands of a rule, or for a patient, there were under either policy, and how many were the same."""

    before: int = 0
    after: int = 0
    same: int = 0


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """Two policies side by side. `shown` are the first differences, `differences` how many there are."""

    records: int
    sessions: int
    rules: Mapping[str, Tally]
    patients: Mapping[str, Tally]
    differences: int
    shown: tuple[Difference, ...]


class Course:
    """One policy at work: controller and planner in memory, joined without a log between them."""

    def __init__(self, chosen: Policy, machines: Catalogue = NONE) -> None:
        self._controller = Controller(chosen)
        self._planner = Planner(chosen, machines)
        self._machines: dict[bytes, Any] = {}
        self._patients: dict[bytes, Any] = {}
        self._frozen: set[bytes] = set()
        self._who: dict[str, str] = {}
        self.sessions = 0

    def hear(self, record: Record, item: Arrival | Malformed) -> list[Decided]:
        """Reduce one record of the telemetry; return what was decided because of it."""
        if isinstance(item, Malformed) or isinstance(item.message, PlanMade) or record.key in self._frozen:
            return []
        if isinstance(item.message, SessionRequested | SessionStarted):
            self._who[item.message.session] = item.message.patient
        return self._reduce(record.key, item, record.timestamp_ms)

    def _reduce(self, key: bytes, item: Arrival, now_ms: int) -> list[Decided]:
        state = self._machines.get(key) or self._controller.start(key)
        try:
            self._machines[key], outputs = self._controller.step(state, item, now_ms)
        except Exception:  # noqa: BLE001 - a defect of ours freezes the key, as in the engine (E7)
            self._frozen.add(key)
            return []
        decided = []
        for output in outputs:
            if output.topic == COMMAND and "#" not in (header(output, "ce_id") or ""):  # not one that is repeated
                decided.append(self._decided(codec.decode_command(output.value or b""), now_ms))
            elif output.topic == PATIENT:
                decided += self._plan(output, now_ms)
            elif output.topic == METRIC and header(output, "ce_type") == _SESSION:
                self.sessions += 1
        return decided

    def _plan(self, fact: NewRecord, now_ms: int) -> list[Decided]:
        """Let the planner hear a fact, and the controller at once what it makes of it."""
        (item,) = self._planner.prepare([Record(fact.topic, 0, 0, fact.key, fact.value, now_ms, fact.headers)])
        if isinstance(item, Malformed) or fact.key in self._frozen:
            return []
        state = self._patients.get(fact.key) or self._planner.start(fact.key)
        try:
            self._patients[fact.key], outputs = self._planner.step(state, item, now_ms)
        except Exception:  # noqa: BLE001
            self._frozen.add(fact.key)
            return []
        decided = []
        for plan in (
            codec.decode_telemetry(one.key.decode(), one.value or b"") for one in outputs if one.topic == TELEMETRY
        ):
            if isinstance(plan, PlanMade):
                arrival = Arrival(plan.command.machine, plan.command.cause, plan)
                decided += self._reduce(plan.command.machine.encode(), arrival, now_ms)
        return decided

    def _decided(self, command: Command, now_ms: int) -> Decided:
        return Decided(
            machine=command.machine,
            patient=self._who.get(command.session or ""),
            session=command.session,
            set_number=command.set_number,
            at_ms=now_ms,
            cause=command.cause,
            rule=command.rule,
            action=command.action,
            changes=tuple((one.quantity, one.old, one.new) for one in command.changes),
            evidence=tuple((one.source, one.name, one.value) for one in command.evidence),
        )


_SESSION = f"spineloop.{SessionSummarised.__struct_config__.tag}.v1"


async def compare(  # noqa: PLR0917 - two policies, where to read, what, and who wants to know
    log: Log,
    before: Policy,
    after: Policy,
    wanted: Wanted,
    machines: Catalogue = NONE,
    advance: Advance | None = None,
) -> Compared:
    """Let two policies hear the same telemetry, and put side by side what they decide in the wanted stretch.

    Raises
    ------
    streams.replay.OutOfRange
        The log does not hold the stretch.
    """
    window = await stretch(log, TELEMETRY, wanted)
    bounds = await log.bounds(TELEMETRY)
    total = sum(stop - bounds[number][0] for number, (_, stop) in window.items())
    one, other = Course(before, machines), Course(after, machines)
    rules, patients = _Sides(), _Sides()
    shown: list[Difference] = []
    read = differences = 0
    async for records, items in _in_order(log, {number: stop for number, (_, stop) in window.items()}, wanted):
        for record, item in zip(records, items, strict=True):
            pair = one.hear(record, item), other.hear(record, item)
            if record.offset < window[record.partition][0] or pair == ([], []):
                continue
            for difference in _matched(*pair):
                rules.add(difference, _rule)
                patients.add(difference, _patient)
                if not _is_same(difference):
                    differences += 1
                    shown += [difference] if len(shown) < MAX_SHOWN else []
        read += len(records)
        if advance is not None:
            advance(read, total)
    return Compared(
        records=read,
        sessions=one.sessions,
        rules=rules.tallies(),
        patients=patients.tallies(),
        differences=differences,
        shown=tuple(shown),
    )


async def _in_order(
    log: Log, stops: Mapping[int, int], wanted: Wanted
) -> AsyncIterator[tuple[list[Record], Sequence[Arrival | Malformed]]]:
    """Merge the partitions by time, in slices that are prepared together; order within a partition stays."""
    stage = Controller()  # decoding and measuring know no policy
    sources = [_Source(log.read(TELEMETRY, number, stop=stop)) for number, stop in sorted(stops.items())]
    some: list[Record] = []
    while True:
        ready = [source for source in sources if await source.head() is not None]
        if not ready or len(some) >= SLICE_RECORDS:
            wanted_ones = [record for record in some if wanted.has(record.key.decode(errors="replace"))]
            yield wanted_ones, stage.prepare(wanted_ones)
            some = []
            if not ready:
                return
        heads = [(source.first.timestamp_ms, place) for place, source in enumerate(ready)]
        some.append(ready[min(heads)[1]].take())


class _Source:
    """One partition, read ahead by a batch."""

    def __init__(self, batches: AsyncIterator[Sequence[Record]]) -> None:
        self._batches = batches
        self._ahead: list[Record] = []

    async def head(self) -> Record | None:
        """Return the next record without taking it; None at the end."""
        while not self._ahead:
            batch = await anext(self._batches, None)
            if batch is None:
                return None
            self._ahead = list(reversed(batch))
        return self._ahead[-1]

    @property
    def first(self) -> Record:
        """The record that `head` found."""
        return self._ahead[-1]

    def take(self) -> Record:
        """Take that record."""
        return self._ahead.pop()


def _matched(before: Sequence[Decided], after: Sequence[Decided]) -> list[Difference]:
    """Pair what one cause led to under both policies."""
    rest = {one.cause: one for one in after}
    pairs = [Difference(one, rest.pop(one.cause, None)) for one in before]
    return pairs + [Difference(None, one) for one in rest.values()]


def _is_same(difference: Difference) -> bool:
    one, other = difference.before, difference.after
    return one is not None and other is not None and _core(one) == _core(other)


def _core(decided: Decided) -> tuple[str, str, tuple[tuple[str, float, float], ...]]:
    """Return what a decision is, without the evidence, which names the policy's own numbers."""
    return decided.rule, decided.action, decided.changes


def _rule(decided: Decided) -> str:
    return decided.rule


def _patient(decided: Decided) -> str:
    return decided.patient or "unknown"


class _Sides:
    """Counts both sides under a name."""

    def __init__(self) -> None:
        self._before: Counter[str] = Counter()
        self._after: Counter[str] = Counter()
        self._same: Counter[str] = Counter()

    def add(self, difference: Difference, name: Any) -> None:  # noqa: ANN401 - one of the two functions above
        """Count one pair."""
        for side, decided in ((self._before, difference.before), (self._after, difference.after)):
            if decided is not None:
                side[name(decided)] += 1
        if difference.before is not None and _is_same(difference):
            self._same[name(difference.before)] += 1

    def tallies(self) -> dict[str, Tally]:
        """Return the counts of every name, in alphabetical order."""
        names = sorted(self._before.keys() | self._after.keys())
        return {name: Tally(self._before[name], self._after[name], self._same[name]) for name in names}
