"""What if: what another policy would have decided on what really happened.

Both policies hear the same telemetry, in the order of its time, each in a state of its own: the controller first, and
the planner what the controller makes of it. A recorded plan gives way to the one that the policy in question would have
made. The repetitions stay as they were done: what a patient would have done otherwise, nobody knows.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from streams.core import codec
from streams.core.commands import Command
from streams.core.controller import Arrival, Controller
from streams.core.errors import Malformed
from streams.core.muscles import NONE, Catalogue
from streams.core.planning import Planner
from streams.core.plans import Answer
from streams.core.policy import Policy
from streams.core.records import NewRecord, Record, header
from streams.core.results import SessionSummarised
from streams.core.stage import Stage
from streams.core.telemetry import Rep, SessionRequested, SessionStarted
from streams.core.topics import COMMAND, METRIC, PATIENT, TELEMETRY
from streams.decisions import Decided, Difference, Pairing
from streams.digest import Digest
from streams.merging import merged
from streams.past import open_past
from streams.reducer import REDRIVE, Defect, prepared
from streams.replay import SLICE_RECORDS, Advance, is_of
from streams.stretch import Readable, Wanted, check_known, parts

MAX_SHOWN = 2_000
"""Differences that are kept to be shown; all are counted."""

_SESSION = f"spineloop.{SessionSummarised.__struct_config__.tag}.v1"


class Tally(msgspec.Struct, frozen=True):
    """How many commands there were under either policy, and how many were the same."""

    before: int = 0
    after: int = 0
    same: int = 0

    @property
    def is_same(self) -> bool:
        """Whether nothing differs."""
        return self.before == self.after == self.same


class SideBySide(msgspec.Struct, frozen=True, kw_only=True):
    """Two policies side by side.

    `differences` counts all, `shown` holds the first of them in the order of time. `digest_before` and `digest_after`
    name all that either policy would have said, as `streams.replay.Replayed.digest` does. `missing` says for each
    partition of the telemetry how many of its first records are gone, and `missing_facts` how many of the facts about
    patients that take their place.
    """

    records: int
    sessions: int
    rules: Mapping[str, Tally]
    patients: Mapping[str, Tally]
    differences: int
    shown: tuple[Difference, ...]
    digest_before: str
    digest_after: str
    letters: Mapping[str, int]
    missing: Mapping[int, int]
    missing_facts: Mapping[int, int] = {}


class Course:
    """One policy at work: controller and planner in memory, joined without a log between them."""

    def __init__(self, chosen: Policy, machines: Catalogue, wanted: Wanted) -> None:
        self._controller = Controller(chosen)
        self._planner = Planner(chosen, machines)
        self._wanted = wanted
        self._states: dict[bytes, Any] = {}
        self._frozen: set[bytes] = set()
        self._who: dict[str, dict[str, str]] = {}
        self._counts = False
        self.digest = Digest()
        self.sessions = 0

    def remember(self, fact: Record) -> None:
        """Let the planner hear a fact that is not recomputed; what it says to that is in the past."""
        self._learn(fact)

    def hear(self, record: Record, item: Any, *, counts: bool) -> list[Decided]:  # noqa: ANN401 - of `prepared`
        """Reduce one record of the telemetry; return what was decided because of it, if that `counts`."""
        self._counts = counts
        if header(record, REDRIVE) is not None:
            self._frozen.discard(record.key)
        if isinstance(item, Defect):
            self._frozen.add(record.key)
        if not isinstance(item, Arrival) or isinstance(item.message, Answer):
            return []
        if isinstance(item.message, SessionRequested | SessionStarted):
            self._note(item.machine, item.message.session, item.message.patient)
        return self._reduce(record.key, item, record.timestamp_ms)

    def _note(self, machine: str, session: str, patient: str) -> None:
        """Remember who trains; of a machine, in the session that ends and the one that begins."""
        known = self._who.setdefault(machine, {})
        known[session] = patient
        if len(known) > 2:  # noqa: PLR2004 - these two
            del known[next(iter(known))]

    def _reduce(self, key: bytes, item: Arrival, now_ms: int) -> list[Decided]:
        decided = []
        for output in self._step(self._controller, key, item, now_ms):
            self._said(output)
            if output.topic == COMMAND and "#" not in (header(output, "ce_id") or ""):  # not one that is repeated
                decided += self._decided(codec.decode_command(output.value or b""), item, now_ms)
            elif output.topic == PATIENT:
                decided += self._plan(_as_read(output))
        return decided

    def _plan(self, fact: Record) -> list[Decided]:
        """Let the planner hear a fact, and the controller at once what it makes of it."""
        decided = []
        for output in self._learn(fact):
            self._said(output)
            if output.topic == TELEMETRY:
                (arrival,) = self._controller.prepare([_as_read(output)])
                if isinstance(arrival, Arrival):
                    decided += self._reduce(output.key, arrival, output.timestamp_ms)
        return decided

    def _learn(self, fact: Record) -> Sequence[NewRecord]:
        (item,) = prepared(self._planner, [fact])
        if isinstance(item, Malformed | Defect):
            return ()
        return self._step(self._planner, fact.key, item, fact.timestamp_ms)

    def _step(self, stage: Stage[Any, Any], key: bytes, item: Any, now_ms: int) -> Sequence[NewRecord]:  # noqa: ANN401
        """Let a stage step; a defect of ours freezes the key, as in the engine (E7)."""
        if key in self._frozen:
            return ()
        state = self._states.get(key) or stage.start(key)
        try:
            self._states[key], outputs = stage.step(state, item, now_ms)
        except Malformed:  # the stage puts it aside
            return ()
        except Exception:  # noqa: BLE001
            self._frozen.add(key)
            return ()
        return outputs

    def _said(self, output: NewRecord) -> None:
        if self._counts and is_of(output, self._wanted):
            self.digest.add(output)
            self.sessions += output.topic == METRIC and header(output, "ce_type") == _SESSION

    def _decided(self, command: Command, item: Arrival, now_ms: int) -> list[Decided]:
        if not self._counts or not self._wanted.has_machine(command.machine):
            return []
        heard = item.message
        return [
            Decided(
                machine=command.machine,
                patient=self._who.get(command.machine, {}).get(command.session or ""),
                session=command.session,
                set_number=command.set_number,
                rep_number=heard.rep_number if isinstance(heard, Rep) else None,
                on=codec.type_name(heard),
                at_ms=now_ms,
                cause=command.cause,
                rule=command.rule,
                action=command.action,
                cue=command.cue,
                changes=tuple((one.quantity, one.old, one.new) for one in command.changes),
                prescription=command.prescription,
                evidence=tuple((one.source, one.name, one.value) for one in command.evidence),
            )
        ]


def _as_read(output: NewRecord) -> Record:
    return Record(output.topic, 0, 0, output.key, output.value, output.timestamp_ms, output.headers)


async def compare(
    log: Readable,
    policies: tuple[Policy, Policy],
    wanted: Wanted,
    machines: Catalogue = NONE,
    *,
    advance: Advance | None = None,
    slice_records: int = SLICE_RECORDS,
) -> SideBySide:
    """Let two policies, before and after, hear the same telemetry; put side by side what they decide in the stretch.

    Raises
    ------
    streams.stretch.OutOfRange
        The log does not hold the stretch, or no such machine or tenant.
    """
    read = await parts(log, wanted)
    await check_known(log, wanted, read)
    before, after = (Course(policy, machines, wanted) for policy in policies)
    stage = Controller()  # decoding and measuring know no policy
    rules, patients, letters, shown = _Sides(), _Sides(), Counter[str](), _Shown()
    total, done, records = sum(part.stop - part.first for part in read.values()), 0, 0

    def count(differences: Iterable[Difference]) -> None:
        for difference in differences:
            rules.add(difference, _rule)
            patients.add(difference, _patient)
            if not difference.is_none:
                shown.add(difference)

    pairing = Pairing()
    async with open_past(log, read, wanted, slice_records) as past:
        async for some in merged(log, TELEMETRY, read, slice_records):
            heard = [record for record in some if wanted.has_tenant(record.key.decode(errors="replace"))]
            for record, item in zip(heard, prepared(stage, heard), strict=True):
                for fact in await past.until(record.timestamp_ms):
                    before.remember(fact)
                    after.remember(fact)
                counts = wanted.has(record)
                records += counts
                letters.update([item.reason] if counts and isinstance(item, Malformed) else [])
                one, other = before.hear(record, item, counts=counts), after.hear(record, item, counts=counts)
                count(pairing.take(one, other))
            done += len(some)
            if advance is not None:
                advance(done, total)
    count(pairing.rest())
    return SideBySide(
        records=records,
        sessions=before.sessions,
        rules=rules.tallies(),
        patients=patients.tallies(),
        differences=shown.count,
        shown=shown.in_order(),
        digest_before=before.digest.text,
        digest_after=after.digest.text,
        letters=dict(sorted(letters.items())),
        missing={number: part.first for number, part in read.items() if part.first},
        missing_facts=past.missing,
    )


class _Shown:
    """Counts differences, and keeps the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self._kept: list[Difference] = []

    def add(self, difference: Difference) -> None:
        """Count one."""
        self.count += 1
        if len(self._kept) < MAX_SHOWN:
            self._kept.append(difference)

    def in_order(self) -> tuple[Difference, ...]:
        """Return what was kept, by time."""
        return tuple(sorted(self._kept, key=lambda one: (one.side.at_ms, one.side.machine)))


class _Sides:
    """Counts both sides under a name."""

    def __init__(self) -> None:
        self._before: Counter[str] = Counter()
        self._after: Counter[str] = Counter()
        self._same: Counter[str] = Counter()

    def add(self, pair: Difference, name: Callable[[Decided], str]) -> None:
        """Count one pair."""
        for side, decided in ((self._before, pair.before), (self._after, pair.after)):
            if decided is not None:
                side[name(decided)] += 1
        if pair.is_none:
            self._same[name(pair.side)] += 1

    def tallies(self) -> dict[str, Tally]:
        """Return the counts of every name, in alphabetical order."""
        names = sorted(self._before.keys() | self._after.keys())
        return {name: Tally(self._before[name], self._after[name], self._same[name]) for name in names}


def _rule(decided: Decided) -> str:
    return decided.rule


def _patient(decided: Decided) -> str:
    return decided.patient or "unknown"
