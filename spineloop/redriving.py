"""Redriving: dead letters put back, after a mend, into the topic that they came from; each once.

Around the record itself two marks are written into the dead-letter topic: one before it, which says where the target
ended then, and one after it. A letter with the second mark is done. One with the first mark alone was begun by somebody
who died: whether the record is in the target is looked up there, from the end that was noted, by its header. So a crash
between any two writes neither loses the letter nor lets it go back twice.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Literal, get_args

import msgspec

from ingest import arrival
from spineloop import looking
from streams.core import codec
from streams.core.dead_letters import CUT, PREFIX, REDRIVE_MARK, reason_of
from streams.core.errors import Malformed
from streams.core.records import Header, NewRecord, Record, header
from streams.core.topics import COMMAND, DEAD_LETTER, METRIC, PATIENT, TELEMETRY, parse_mqtt
from streams.log import Log
from streams.reducer import REDRIVE, REDRIVEN
from streams.stretch import OutOfRange, Readable, closing, told

MARKED = "spineloop-redrive-of"
"""Header of a mark: which letter it is about."""

CHUNK_LETTERS = 100
"""Letters that go back together: 25 MB at most."""

MAX_DETAIL = 300
"""Characters of a detail that are kept for a list; `show` has all of it."""

IS_CUT = "it was too large, and only its beginning was kept; `show` says where it came from"
QUARANTINED = "quarantined"
INGEST = "ingest"


class Place(msgspec.Struct, frozen=True, order=True):
    """Where a letter lies in the dead-letter topic."""

    partition: int
    offset: int

    def __str__(self) -> str:
        """Write it as it is named on the command line."""
        return f"{self.partition}/{self.offset}"


def place(text: str) -> Place:
    """Read `PARTITION/OFFSET`. Raises ValueError.

    Examples
    --------
    >>> place("3/17")
    Place(partition=3, offset=17)
    """
    partition, slash, offset = text.partition("/")
    if not (slash and partition.isascii() and partition.isdigit() and offset.isascii() and offset.isdigit()):
        raise ValueError(f"expected PARTITION/OFFSET such as 3/17, got {text!r}")
    return Place(int(partition), int(offset))


Back = Literal["no", "begun", "done"]
"""Whether a letter was put back, or whether somebody has begun to."""

_BACK: Sequence[Back] = get_args(Back)


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter in short.

    One that `is_cut` was too large: the log has its beginning.
    """

    place: Place
    at_ms: int
    key: str
    stage: str
    reason: str
    detail: str
    topic: str
    bytes: int
    is_cut: bool = False
    redriven: Back = "no"


def letter_of(record: Record, redriven: Back = "no") -> Letter:
    """Tell a dead letter in short."""
    detail = (header(record, PREFIX + "exception.message") or "").partition(": ")[2]
    return Letter(
        place=Place(record.partition, record.offset),
        at_ms=record.timestamp_ms,
        key=record.key.decode(errors="replace"),
        stage=header(record, PREFIX + "stage") or "unknown",
        reason=reason_of(record),
        detail=detail[:MAX_DETAIL],
        topic=header(record, arrival.MQTT_TOPIC) or header(record, PREFIX + "topic") or "unknown",
        bytes=len(record.value or b""),
        is_cut=header(record, CUT) is not None,
        redriven=redriven,
    )


class Begun(msgspec.Struct, frozen=True):
    """What a mark says that is written before a letter goes back: where to, and where that ended then."""

    topic: str
    ends: dict[int, int]


class Mark(msgspec.Struct, frozen=True):
    """A mark: which letter it is about, whether that went back or was begun, and of one that was begun where to."""

    of: Place
    says: Literal["begun", "done"]
    begun: Begun | None = None


def mark_of(record: Record) -> Mark | None:
    """Read a mark, or None: a record with such a header of somebody else is a letter like any other."""
    says = header(record, REDRIVE_MARK)
    if says is None or any(name.startswith(PREFIX) for name, _ in record.headers):
        return None
    try:
        of = place(header(record, MARKED) or "")
        if says == "begun":
            return Mark(of, "begun", msgspec.json.decode(record.value or b"", type=Begun))
    except ValueError:
        return None
    return Mark(of, "done") if says == "done" else None


class Marks:
    """What the marks say of each letter: a byte for each place, so of a million letters a megabyte.

    Parameters
    ----------
    bounds : mapping of int to (int, int)
        Where each partition of the dead letters begins and ends.
    """

    def __init__(self, bounds: Mapping[int, tuple[int, int]]) -> None:
        self._bounds = bounds
        self._said = {number: bytearray(end - first) for number, (first, end) in bounds.items()}

    def note(self, mark: Mark) -> None:
        """Take note of a mark; one of a letter that retention took first says nothing."""
        at = self._at(mark.of)
        if at is not None:
            said = self._said[mark.of.partition]
            said[at] = max(said[at], _BACK.index(mark.says))

    def of(self, letter: Place) -> Back:
        """Tell whether a letter was put back."""
        at = self._at(letter)
        return "no" if at is None else _BACK[self._said[letter.partition][at]]

    def _at(self, letter: Place) -> int | None:
        first, end = self._bounds.get(letter.partition, (0, 0))
        return letter.offset - first if first <= letter.offset < end else None


async def marks(log: Readable, advance: looking.Advance = looking.unseen) -> Marks:
    """Read the marks, which may lie before their letters: one whose key was erased lies elsewhere."""
    found = Marks(await log.bounds(DEAD_LETTER))
    async with closing(looking.through(log, [DEAD_LETTER], advance)) as batches:
        async for records in batches:
            for record in records:
                if (mark := mark_of(record)) is not None:
                    found.note(mark)
    return found


async def one_by_one(log: Readable, said: Marks, advance: looking.Advance = looking.unseen) -> AsyncIterator[Letter]:
    """Read the letters in short, as they lie, and keep none of them."""
    async with closing(looking.through(log, [DEAD_LETTER], advance)) as batches:
        async for records in batches:
            for record in records:
                if mark_of(record) is None:
                    yield letter_of(record, said.of(_place_of(record)))


class Letters(msgspec.Struct):
    """All dead letters in short, by place, and what was begun of them."""

    by_place: dict[Place, Letter]
    begun: dict[Place, Begun]


async def letters(log: Readable, advance: looking.Advance = looking.unseen) -> Letters:
    """Read the dead-letter topic, to put some back: letters, and the marks that say which of them went back."""
    found, marks = Letters({}, {}), list[Mark]()
    async with closing(looking.through(log, [DEAD_LETTER], advance)) as batches:
        async for records in batches:
            for record in records:
                if (mark := mark_of(record)) is not None:
                    marks.append(mark)
                    continue
                letter = letter_of(record)
                found.by_place[letter.place] = letter
    for mark in marks:  # after all letters: one whose key was erased lies elsewhere than its marks
        _take(found, mark)
    return found


def _take(found: Letters, mark: Mark) -> None:
    if mark.of not in found.by_place:
        return  # retention took the letter first
    if mark.begun is not None:
        found.begun[mark.of] = mark.begun
    if found.by_place[mark.of].redriven != "done":
        found.by_place[mark.of] = msgspec.structs.replace(found.by_place[mark.of], redriven=mark.says)


async def whole(log: Readable, at: Place) -> Record:
    """Read one dead letter. Raises OutOfRange if none lies there."""
    async for record in _wholes(log, [at]):
        return record
    raise OutOfRange(f"no dead letter at {at}: {told(await log.bounds(DEAD_LETTER))}")


async def _wholes(log: Readable, places: Collection[Place]) -> AsyncIterator[Record]:
    """Read dead letters in the order in which they lie; what is none is left out."""
    bounds = await log.bounds(DEAD_LETTER)
    for number in sorted({one.partition for one in places} & bounds.keys()):
        offsets = {one.offset for one in places if one.partition == number}
        start, stop = max(min(offsets), bounds[number][0]), min(max(offsets) + 1, bounds[number][1])
        if start < stop:
            async with closing(log.read(DEAD_LETTER, number, start, stop)) as batches:
                async for records in batches:
                    for record in records:
                        if record.offset in offsets and mark_of(record) is None:
                            yield record


class _Message(msgspec.Struct, frozen=True):
    """A message as the bridge heard it."""

    topic: str
    payload: bytes
    user_properties: Sequence[tuple[str, str]] = ()


def put_back(letter: Record, *, lifts: bool = False) -> NewRecord:
    """Make of a letter the record that goes back, with its own time; `lifts` says that it ends its key's quarantine.

    Raises
    ------
    Malformed
        It still can't be understood, with the reason.
    """
    record = _as_heard(letter) if header(letter, PREFIX + "stage") == INGEST else _as_it_was(letter)
    place_of = f"{letter.partition}/{letter.offset}".encode()
    marks: tuple[Header, ...] = ((REDRIVEN, place_of), *(((REDRIVE, place_of),) if lifts else ()))
    return msgspec.structs.replace(record, headers=(*record.headers, *marks))


def _as_heard(letter: Record) -> NewRecord:
    topic, trace = header(letter, arrival.MQTT_TOPIC) or "", header(letter, arrival.TRACEPARENT)
    properties = () if trace is None else ((arrival.TRACEPARENT, trace),)
    return arrival.to_record(parse_mqtt(topic), _Message(topic, letter.value or b"", properties), letter.timestamp_ms)


def _as_it_was(letter: Record) -> NewRecord:
    topic = header(letter, PREFIX + "topic") or "unknown"
    reads = _READS.get(topic)
    if reads is None:
        raise Malformed("bad_topic", f"no way back to {topic}")
    reads(letter.key, letter.value or b"")
    kept = tuple(one for one in letter.headers if not one[0].startswith(PREFIX) and one[0] not in {REDRIVE, REDRIVEN})
    return NewRecord(topic, letter.key, letter.value, letter.timestamp_ms, kept)


def _read_telemetry(key: bytes, value: bytes) -> object:
    try:
        return codec.decode_telemetry(key.decode(), value)
    except UnicodeDecodeError as error:
        raise Malformed("bad_key", str(error)) from error


_READS: Mapping[str, Callable[[bytes, bytes], object]] = {
    TELEMETRY: _read_telemetry,
    PATIENT: lambda _, value: codec.decode_patient_fact(value),
    METRIC: lambda _, value: codec.decode_metric(value),
    COMMAND: lambda _, value: codec.decode_command(value),
}
"""How a record of each topic is read, which is what a letter has to pass before it goes back."""


class Redriven(msgspec.Struct, frozen=True):
    """Which letters are back, now or since somebody who died before noting it, and why others are not."""

    done: tuple[Place, ...]
    refused: Mapping[Place, str]


async def redrive(
    log: Log,
    wanted: Collection[Place],
    now_ms: Callable[[], int],
    *,
    all_or_none: bool,
    advance: looking.Advance = looking.unseen,
) -> Redriven:
    """Put letters back, each once, in the order in which they lie.

    Parameters
    ----------
    log : Log
        Where they lie and go.
    wanted : collection of Place
        Which ones.
    now_ms : callable
        The wall clock, in ms since 1970, for the marks; a record that goes back keeps its own time.
    all_or_none : bool
        Whether a letter that is refused keeps all others from going back, too.
    advance : callable
        Told how many have gone back, of how many.

    Raises
    ------
    streams.stretch.OutOfRange
        There is no such letter.
    """
    found, wanted = await letters(log), frozenset(wanted)
    for one in sorted(wanted):
        if one not in found.by_place:
            await whole(log, one)
    arrived = await _arrived(log, {one: found.begun[one] for one in wanted if _is_begun(found, one)})
    if arrived:
        await log.append([_mark(record, "done", now_ms()) async for record in _wholes(log, arrived)])
    left = [one for one in sorted(wanted) if one not in arrived]
    stays = _first_that_stays(found, wanted)
    refused = {one: why for one in left if (why := _why_not(found.by_place[one], stays)) is not None}
    async for record in _wholes(log, [one for one in left if one not in refused]):
        try:
            put_back(record)
        except Malformed as malformed:
            refused[_place_of(record)] = f"it still can't be understood: {malformed}"
    if refused and all_or_none:
        return Redriven(tuple(sorted(arrived)), dict(sorted(refused.items())))
    going = [one for one in left if one not in refused]
    lifted: set[bytes] = set()
    for start in range(0, len(going), CHUNK_LETTERS):
        records = [record async for record in _wholes(log, going[start : start + CHUNK_LETTERS])]
        await _put_back(log, records, lifted, now_ms)
        advance(start + len(records), len(going))
    return Redriven(tuple(sorted([*going, *arrived])), dict(sorted(refused.items())))


def _place_of(record: Record) -> Place:
    return Place(record.partition, record.offset)


def _is_begun(found: Letters, one: Place) -> bool:
    return found.by_place[one].redriven == "begun" and one in found.begun


async def _put_back(log: Log, letters: Sequence[Record], lifted: set[bytes], now_ms: Callable[[], int]) -> None:
    """Write the marks, the records and the marks again. Of a frozen key, the first record lifts the quarantine."""
    back = list[NewRecord]()
    for record in letters:
        lifts = reason_of(record) == QUARANTINED and record.key not in lifted
        lifted.update({record.key} if lifts else ())
        back.append(put_back(record, lifts=lifts))
    ends = {
        topic: {number: end for number, (_, end) in (await log.bounds(topic)).items()}
        for topic in {record.topic for record in back}
    }
    begun = [Begun(record.topic, ends[record.topic]) for record in back]
    await log.append([_mark(one, "begun", now_ms(), what) for one, what in zip(letters, begun, strict=True)])
    await log.append(back)
    await log.append([_mark(one, "done", now_ms()) for one in letters])


def _mark(letter: Record, mark: Literal["begun", "done"], now_ms: int, begun: Begun | None = None) -> NewRecord:
    headers = ((REDRIVE_MARK, mark.encode()), (MARKED, f"{letter.partition}/{letter.offset}".encode()))
    return NewRecord(DEAD_LETTER, letter.key, None if begun is None else msgspec.json.encode(begun), now_ms, headers)


async def _arrived(log: Readable, begun: Mapping[Place, Begun]) -> set[Place]:
    """Look up which letters are in their target although nobody has noted it."""
    starts: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for one in begun.values():
        for number, end in one.ends.items():
            starts[one.topic][number] = min(end, starts[one.topic].get(number, end))
    there = set[str | None]()
    for topic, from_offsets in starts.items():
        for number, start in from_offsets.items():
            async with closing(log.read(topic, number, start)) as batches:
                async for records in batches:
                    there.update(header(record, REDRIVEN) for record in records)
    return {one for one in begun if str(one) in there}


def _first_that_stays(found: Letters, wanted: Collection[Place]) -> Mapping[tuple[str, str], Place]:
    """Look up for each frozen key and stage the first letter that could go back, did not, and is not to."""
    first = dict[tuple[str, str], Place]()
    for one, letter in found.by_place.items():
        if letter.reason == QUARANTINED and letter.redriven != "done" and not letter.is_cut and one not in wanted:
            whose = (letter.key, letter.stage)
            first[whose] = min(one, first.get(whose, one))
    return first


def _why_not(letter: Letter, stays: Mapping[tuple[str, str], Place]) -> str | None:
    """Say why a letter must not go back, if so: it did, was cut, or its key is frozen by an earlier one that stays."""
    if letter.redriven == "done":
        return "it went back already"
    if letter.is_cut:
        return IS_CUT
    first = stays.get((letter.key, letter.stage))
    if letter.reason != QUARANTINED or first is None or first > letter.place:
        return None
    return f"{first} of the same key has to go back before it"
