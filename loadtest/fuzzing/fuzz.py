"""Fuzz: damaged messages through the real bridge, controller and planner, in memory, and dead letters put back.

What has to be so:

- every message ends in the log, as telemetry or as a dead letter; nothing raises, nothing blocks, nothing freezes;
- it lies under the key of the machine on whose topic it came, and its id begins with that machine;
- a dead letter is the message, byte for byte, with all headers that say whose it is and why it lies there;
- a message that was left as it was is no dead letter;
- of dead letters exactly those go back that can be understood now, once.
"""

import asyncio
import random
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from loadtest.bench.stories import story
from loadtest.fuzzing.mutants import Case, mutant
from spineloop import wiring
from spineloop.exposition import Exposition
from spineloop.redriving import letters, redrive
from spineloop.settings import Settings
from streams.checkpoint import State
from streams.core import codec
from streams.core.dead_letters import CUT, CUT_BYTES, PREFIX, dead_letter, reason_of
from streams.core.errors import Malformed
from streams.core.records import NewRecord, Record, header
from streams.core.telemetry import Ack, Event, Rep
from streams.core.topics import DEAD_LETTER, PATIENT, RECORD_BYTES, TELEMETRY, mqtt_topic, parse_mqtt
from streams.reducer import Reducer

START_MS = 1_790_000_000_000
MACHINES, WHOLE, NEAR = 12, 0.35, 1_000
"""Machines that go on with their sessions whatever is said in between; the share of messages that is theirs; how many
of their last ones are damaged, so that a damaged one often speaks of the session that runs."""

CUT_FROM_BYTES = RECORD_BYTES - 16_384
"""Payloads above it may be cut in a letter: with its headers, of which one may have 2 kB, it would not fit the log."""

AT_ONCE = 500
"""Cases that go through together, as the bridge and the stages take them."""

FOREIGN = 0.05
"""Of the records that reach a stage: written into its topic by somebody else, so that no bridge has looked at them."""

LETTERS_BACK = 2_000
"""Most dead letters that a redrive is tried on."""

OF_STAGES = {"control": frozenset({"forgotten_boot"})}
"""What a stage may say beside what the bridge says: damaged messages begin many boots, so the first are forgotten."""

REASONS = {
    "bad_topic", "wrong_stream", "too_large", "not_a_message", "unknown_type", "unknown_version", "bad_value",
    "bad_samples", "foreign_machine", "foreign_patient", "bad_key",
}  # fmt: skip
"""What docs/for-device-makers.md explains, and the key of a record that is none."""

KEYS = (b"", b"\xff\xfe", b"acme", b"acme/north/other", b"other/north/m1", b"\x00position", b"x" * 5_000)
"""Keys of records that somebody else writes."""


class Account(msgspec.Struct, kw_only=True):
    """What became of all cases; `wrong` is what must not be, each with the case that shows it."""

    seed: int
    cases: int = 0
    taken: int = 0
    letters: Counter[str] = msgspec.field(default_factory=Counter)
    stage_letters: Counter[str] = msgspec.field(default_factory=Counter)
    outputs: int = 0
    went_back: int = 0
    stayed: int = 0
    wrong: list[str] = msgspec.field(default_factory=list)


def run(cases: int, seed: int, advance: Callable[[int], None] = lambda _: None) -> Account:
    """Try so many cases; everything follows from the seed."""
    return asyncio.run(_run(cases, seed, advance))


async def _run(cases: int, seed: int, advance: Callable[[int], None]) -> Account:
    dice, account = random.Random(seed), Account(seed=seed)
    told, near = said(seed), deque[Case](maxlen=NEAR)
    stages, aside = _Stages(account, dice), list[NewRecord]()
    for start in range(0, cases, AT_ONCE):
        some = _mixed(dice, told, near, min(AT_ONCE, cases - start))
        records = await _through_the_bridge(some, START_MS + 1_000 * start)
        _check_arrival(account, some, records)
        aside += [one for one in records if one.topic == DEAD_LETTER][: LETTERS_BACK - len(aside)]
        stages.take([one for one in records if one.topic == TELEMETRY])
        account.cases += len(some)
        advance(len(some))
    await _redriven(account, [*near][: len(aside) // 2], aside)
    return account


def _mixed(dice: random.Random, told: Iterator[Case], near: deque[Case], count: int) -> list[Case]:
    """Let machines go on with what they say, and damaged messages come in between, made of what was said lately."""
    whole = list(islice(told, max(1, round(WHOLE * count))))
    near.extend(whole)
    good = [*near]
    cases = [mutant(dice, good) for _ in range(count - len(whole))]
    for place, one in zip(sorted(dice.sample(range(count), len(whole))), whole, strict=True):
        cases.insert(place, one)
    return cases


def said(seed: int) -> Iterator[Case]:
    """Say what machines say, in both encodings."""
    told = story(seed=seed, machines=MACHINES, tenant="acme", start_ms=START_MS)
    for number, one in enumerate(told):
        stream = "rep" if isinstance(one.message, Rep) else "ack" if isinstance(one.message, Ack) else "event"
        if not isinstance(one.message, Rep | Ack | Event):
            stream = "presence"
        payload = codec.encode(one.message, "json" if number % 2 else "msgpack")
        yield Case(mqtt_topic(one.machine, stream), payload, is_whole=True)  # type: ignore[arg-type]  # one of the five


# --- the bridge


class _Heard:
    """A connection to a broker that has these messages and no more."""

    def __init__(self, cases: Sequence[Case], done: asyncio.Event) -> None:
        self._left, self._done = deque(cases), done
        self.held = 0

    async def subscribe(self, filters: Sequence[str]) -> None:
        pass

    async def receive(self, limit: int) -> Sequence[Case]:
        some = [self._left.popleft() for _ in range(min(limit, len(self._left)))]
        if not some:
            await asyncio.Event().wait()  # the broker says nothing more
        self.held += len(some)
        return some

    def ack(self, batch: Sequence[Case]) -> None:
        self.held -= len(batch)
        if not self._left and not self.held:
            self._done.set()

    async def close(self) -> None:
        pass


class _Kept:
    """A log that only keeps."""

    def __init__(self) -> None:
        self.records: list[NewRecord] = []

    async def append(self, records: Sequence[NewRecord]) -> None:
        self.records += records


async def _through_the_bridge(cases: Sequence[Case], now_ms: int) -> Sequence[NewRecord]:
    """Let the bridge of the role take messages; return what it wrote. It may not take longer than a minute."""
    done, kept = asyncio.Event(), _Kept()

    async def connect() -> _Heard:
        return _Heard(cases, done)

    bridge = wiring.bridge(connect, kept, Exposition(), now_ms=lambda: now_ms, dead_letters_in_a_row=len(cases))
    async with asyncio.timeout(60.0):
        await bridge.run(done)
    return kept.records


def _check_arrival(account: Account, cases: Sequence[Case], records: Sequence[NewRecord]) -> None:
    """Hold what came out against what went in: the same messages, in order, but commands on their way down."""
    expected = [one for one in cases if not _is_command(one.topic)]
    if len(expected) != len(records):
        account.wrong.append(f"{len(expected)} messages became {len(records)} records")
        return
    for case, record in zip(expected, records, strict=True):
        is_cut = len(case.payload) > CUT_FROM_BYTES and header(record, CUT) is not None
        if record.value != (case.payload[:CUT_BYTES] if is_cut else case.payload):
            account.wrong.append(f"the bytes were changed: {case!r:.300}")
        if record.key != _key_of(case.topic):
            account.wrong.append(f"under the key of another, {record.key!r:.80}: {case!r:.300}")
        if record.topic == DEAD_LETTER:
            account.letters[reason_of(record)] += 1
            account.wrong += [f"{what}: {case!r:.300}" for what in lacking(record, "ingest")]
            if header(record, "mqtt_topic") != case.topic:
                account.wrong.append(f"a letter does not say on which topic it came: {case!r:.300}")
            if case.is_whole:
                account.wrong.append(f"a good message was put aside, {reason_of(record)}: {case!r:.300}")
        else:
            account.taken += 1
            if not (header(record, "ce_id") or "").startswith(f"{_machine_in(case.topic)}/"):
                account.wrong.append(f"with the id of another, {header(record, 'ce_id')!r:.80}: {case!r:.300}")


def _key_of(topic: str) -> bytes:
    """Return the key under which what came on a topic has to lie: its machine, or the topic itself if it names none."""
    try:
        parse_mqtt(topic)
    except Malformed:
        return topic.encode()
    return _machine_in(topic).encode()


def _machine_in(topic: str) -> str:
    return "/".join(topic.split("/")[2:5])


def _is_command(topic: str) -> bool:
    try:
        return parse_mqtt(topic).stream == "command"
    except Malformed:
        return False


def lacking(letter: NewRecord, stage: str) -> Iterator[str]:
    """Say what a dead letter lacks."""
    told = {name: header(letter, PREFIX + name) for name in ("topic", "connector.name", "stage", "exception.message")}
    yield from (f"a letter without {name}" for name, value in told.items() if not value)
    if told["stage"] != stage:
        yield f"a letter of {told['stage']} instead of {stage}"
    if header(letter, PREFIX + "exception.class.name") != "Malformed":
        yield f"a letter of class {header(letter, PREFIX + 'exception.class.name')}"
    if reason_of(letter) not in REASONS | OF_STAGES.get(stage, frozenset()):
        yield f"a letter for the reason {reason_of(letter)!r}"
    if stage != "ingest" and None in {header(letter, PREFIX + "partition"), header(letter, PREFIX + "offset")}:
        yield "a letter that does not say where it lay"


# --- the stages


class _Stages:
    """Controller and planner, each with its states; what one says to the other is heard, plans in the next round."""

    def __init__(self, account: Account, dice: random.Random) -> None:
        controller, planner = wiring.stages(Settings.read({}))
        self._account, self._dice = account, dice
        self._controller = Reducer(controller, State(controller), self)
        self._planner = Reducer(planner, State(planner), self)
        self._names = {TELEMETRY: controller.name, PATIENT: planner.name}
        self._plans: list[NewRecord] = []
        self._offsets = Counter[str]()

    def take(self, records: Sequence[NewRecord]) -> None:
        """Let the controller hear records, and the planner what follows."""
        facts = self._reduced(self._controller, [*self._plans, *records], PATIENT)
        self._plans = self._reduced(self._planner, facts, TELEMETRY)

    def _reduced(self, reducer: Reducer, records: Sequence[NewRecord], wanted: str) -> list[NewRecord]:
        found = []
        for record, outputs in reducer.take([self._placed(one) for one in records]):
            self._account.outputs += len(outputs)
            for output in outputs:
                if output.topic == DEAD_LETTER:
                    self._account.stage_letters[reason_of(output)] += 1
                    wrong = [*lacking(output, self._names[record.topic])]
                    if output.value != record.value or output.key != record.key:
                        wrong.append("a letter that is not the record")
                    self._account.wrong += [f"{what}: {record!r:.300}" for what in wrong]
                elif output.topic == wanted:
                    found.append(output)
        return found

    def _placed(self, one: NewRecord) -> Record:
        """Give a record its place in the log; now and then somebody else has written one there."""
        self._offsets[one.topic] += 1
        key, value, headers = one.key, one.value, one.headers
        if self._dice.random() < FOREIGN:
            damaged = mutant(self._dice, [Case("", value or b"")])
            keys = (
                key,
                b"",
                b"\xff\xfe",
                b"acme",
                b"acme/north/other",
                b"other/north/m1",
                b"\x00position",
                b"x" * 5_000,
            )
            headers = self._dice.choice(
                (headers, (), (*headers, ("ce_type", b"\xff")), (("ce_id", b"\xff\xfe"), *headers))
            )
            key, value = self._dice.choice(keys), self._dice.choice((damaged.payload, damaged.payload, None, b""))
        return Record(one.topic, 0, self._offsets[one.topic], key, value, one.timestamp_ms, headers)

    def stepped(self) -> None:
        """Nothing to note."""

    def put_aside(self, record: Record, reason: str) -> None:
        """Nothing to note: the letter is looked at itself."""

    def froze(self, record: Record, trace: str) -> None:
        """Note a defect of ours."""
        self._account.wrong.append(f"froze {record.key!r:.80} at {record.value!r:.300}: {trace[-2_000:]}")


# --- redrive


async def _redriven(account: Account, whole: Sequence[Case], aside: Sequence[NewRecord]) -> None:
    """Put letters into a log, half of them such as an older release would have left; try to put all back, twice."""
    older = [_of_an_older_release(case) for case in whole]
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.read({"SPINELOOP_LOG_URL": f"sqlite://{Path(folder)}", "SPINELOOP_PARTITIONS": "4"})
        async with wiring.open_log(settings, "fuzz") as log:
            await log.append([letter for pair in _zipped(older, aside) for letter in pair])
            places = (await letters(log)).by_place
            first = await redrive(log, places, wiring.wall_clock_ms, all_or_none=False)
            second = await redrive(log, places, wiring.wall_clock_ms, all_or_none=False)
            back = Counter[bytes]()
            for number in await log.bounds(TELEMETRY):
                async for records in log.read(TELEMETRY, number):
                    back.update(record.value or b"" for record in records)
    account.went_back, account.stayed = len(first.done), len(first.refused)
    if back != Counter(case.payload for case in whole):
        account.wrong.append(f"{sum(back.values())} letters went back, {len(whole)} could be understood")
    if second.done or len(second.refused) != len(places):
        account.wrong.append(f"{len(second.done)} letters went back twice")


def _of_an_older_release(case: Case) -> NewRecord:
    machine = _machine_in(case.topic).encode()
    heard = NewRecord(TELEMETRY, machine, case.payload, wiring.wall_clock_ms(), (("mqtt_topic", case.topic.encode()),))
    return dead_letter(heard, stage="ingest", reason="unknown_type", detail="an older release did not know it")


def _zipped(some: Sequence[Any], others: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Mix two lists: the longer one goes on alone."""
    for n in range(max(len(some), len(others))):
        yield (*some[n : n + 1], *others[n : n + 1])
