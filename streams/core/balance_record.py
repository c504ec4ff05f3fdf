"""Balance record: the tests of a patient's pairs, session by session. A test is complete when both halves are there.

The halves of a pair are two exercises (back and front), or the two sides of one. Machines with a load cell on each side
tell both at once. Nothing is compared across settings, intents or corrections of the force (science.md 5).
"""

from typing import Literal

import msgspec
from msgspec.structs import replace

from streams.core import balance, muscles
from streams.core.diary import DAY_MS
from streams.core.muscles import Catalogue, Pair
from streams.core.results import SessionSummarised

MAX_TESTS = 6
"""Tests of a pair that are kept: the most that `si_sessions` and `ef_sessions` can ask for."""

MAX_RECORDS = 12
"""Pairs of one patient that are followed; the one that was tested longest ago is forgotten."""

HALF_MS = 14 * DAY_MS
"""How long one half waits for the other, in ms [default]; later both would not be of one time."""

MAX_BEFORE = 6
"""Sessions of a half before its last one that are remembered: three a week, for two weeks."""

DECIMALS = 6

Cells = Literal["each", "both"]
"""Whether the sides were tested one after the other, or together with a load cell on each."""

Key = tuple[str, str, bool | None]
"""Settings, intent, and whether the force was corrected."""


Values = tuple[float | None, ...]
"""What a session says of a half: one value, or one a bin."""


class Half(msgspec.Struct, frozen=True, array_like=True):
    """One side or exercise since the last complete test: when, how and with what values last, and before."""

    at_ms: int
    key: Key
    values: Values
    before: tuple[tuple[int, Values], ...] = ()


class PairTest(msgspec.Struct, frozen=True, array_like=True):
    """A complete test: symmetry index in percent or ratio, and the strength of both halves where it is one number."""

    value: float
    a: float | None = None
    b: float | None = None


class PairRecord(msgspec.Struct, frozen=True, array_like=True):
    """The tests of one pair, the last at the end; `keys` are those of the halves that they were made of."""

    pair: str
    cells: Cells
    keys: tuple[Key, Key] | None = None
    tests: tuple[PairTest, ...] = ()
    a: Half | None = None
    b: Half | None = None

    @property
    def values(self) -> tuple[float, ...]:
        """Symmetry index in percent, or ratio, of each test."""
        return tuple(test.value for test in self.tests)


Records = tuple[PairRecord, ...]


def find(records: Records, pair: str, cells: Cells) -> PairRecord | None:
    """Return the record of a pair."""
    return next((one for one in records if (one.pair, one.cells) == (pair, cells)), None)


def with_session(records: Records, machines: Catalogue, session: SessionSummarised, now_ms: int) -> Records:
    """Let a session count for every pair that its exercise belongs to."""
    for pair in muscles.pairs_of(machines, session.exercise):
        cells: Cells = "both" if pair.metric == "si" and session.side == "both" else "each"
        record = find(records, pair.id, cells) or PairRecord(pair.id, cells)
        news = _with_both_sides(record, session) if cells == "both" else _with_half(record, pair, session, now_ms)
        if news is not None:
            others = tuple(one for one in records if (one.pair, one.cells) != (pair.id, cells))
            records = (*others, news)[-MAX_RECORDS:]
    return records


def _with_both_sides(record: PairRecord, session: SessionSummarised) -> PairRecord | None:
    value = session.values.get("symmetry_index_pct")
    return None if value is None else _with_test(record, PairTest(value), (key_of(session), key_of(session)))


def _with_half(record: PairRecord, pair: Pair, session: SessionSummarised, now_ms: int) -> PairRecord | None:
    values = _values(pair, session)
    if values is None:
        return None
    is_a = session.side == "right" if pair.metric == "si" else session.exercise == pair.a
    half, other = (record.a, record.b) if is_a else (record.b, record.a)
    half = _later(half, Half(now_ms, key_of(session), values))
    if other is not None and now_ms - other.at_ms > HALF_MS:
        other = None
    record = replace(record, a=half if is_a else other, b=other if is_a else half)
    return _completed(record, pair, now_ms - HALF_MS)


def _values(pair: Pair, session: SessionSummarised) -> Values | None:
    """Return what a session says of a pair: its best force, or its torque by angle if that is corrected."""
    if pair.metric == "si":
        force = session.values.get("best_peak_force")
        return None if force is None else (force,)
    if pair.metric == "ef" and session.side == "both" and session.corrected:
        return session.torque_by_bin  # without gravity, or there would be too much flexion and too little extension
    return None


def _later(old: Half | None, new: Half) -> Half:
    """Remember the sessions before, as long as they can be compared."""
    if old is None or old.key != new.key or len(old.values) != len(new.values):
        return new
    before = [one for one in (*old.before, (old.at_ms, old.values)) if one[0] >= new.at_ms - HALF_MS]
    return replace(new, before=tuple(before[-MAX_BEFORE:]))


def _best(half: Half, since_ms: int) -> Values:
    """Return the best of each value: what is older was of another time, however often the half was tested since."""
    values = half.values
    for at_ms, earlier in half.before:
        if at_ms >= since_ms:
            values = tuple(_larger(*both) for both in zip(values, earlier, strict=True))
    return values


def _larger(one: float | None, other: float | None) -> float | None:
    return max((value for value in (one, other) if value is not None), default=None)


def _completed(record: PairRecord, pair: Pair, since_ms: int) -> PairRecord:
    """Make a test of two halves; what can't be compared waits for the next session."""
    a, b = record.a, record.b
    if a is None or b is None or (pair.metric == "si" and a.key != b.key):
        return record
    best_a, best_b = _best(a, since_ms), _best(b, since_ms)
    if pair.metric == "si":
        value = balance.symmetry_index(left=best_b[0], right=best_a[0])
        test = None if value is None else PairTest(round(value, DECIMALS), best_a[0], best_b[0])
    else:
        value = balance.extension_flexion_ratio(best_a, best_b)
        test = None if value is None else PairTest(round(value, DECIMALS))
    return record if test is None else _with_test(replace(record, a=None, b=None), test, (a.key, b.key))


def _with_test(record: PairRecord, test: PairTest, keys: tuple[Key, Key]) -> PairRecord:
    """Add a test; what was tested with other settings before is no longer looked at."""
    before = record.tests if record.keys == keys else ()
    return replace(record, keys=keys, tests=(*before, test)[-MAX_TESTS:])


def key_of(session: SessionSummarised) -> Key:
    """Return what must be the same for two sessions to be compared."""
    return (session.settings, session.intent, session.corrected)
