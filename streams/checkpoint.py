"""Checkpoint: the state of one partition's keys, which of them changed, and how both are written and read back.

Each key is stored with the position up to which its state is true, and each checkpoint with the position up to which
all keys are. A state at a position is a function of the log alone (E4), so two records of one key are never in
conflict: the one with the higher position is simply newer. Reading back is therefore a join, and a late checkpoint of a
replaced worker can't set anything back, whatever part of the keys it holds (docs/decisions/0003).

The topic keeps every write for a while, so reading back must not begin at its beginning. Each position is stored with
the offset from which every key is found again, and keys that nobody changes are written again now and then, so that
this is never far from the end.
"""

from collections.abc import Iterable, Sequence
from itertools import islice, takewhile
from typing import Any

import msgspec

from streams.core.errors import BrokenPromise
from streams.core.records import NewRecord, Record
from streams.core.stage import MAX_STATE_BYTES, Stage
from streams.core.topics import STATE_MAX_BATCH_BYTES

POSITION_KEY = b"\x00position"
"""Key of the position record; no machine and no patient can have it."""

ENTRY_OVERHEAD_BYTES = 64
"""Most that a record batch adds to an entry's key and value, in bytes: lengths, offsets and timestamps as varints."""


REWRITE_TIMES, REWRITE_RECORDS = 2, 1_000
"""So many times the number of keys, and so many records, may be read back; beyond that the stalest keys are written
again. A third of all that is written at most: who changes every key all the time writes none again."""

ALONE_WRITES = 1_000
"""Writes in a row with nobody else's between them after which a partition is taken to have one worker again: minutes,
and a replaced one that has woken up learns of it within seconds."""

AWAKE_KEYS = 2_000
"""Keys of a partition whose states stay decoded after a checkpoint. Decoded, the state of a machine in a session takes
10.7 kB, as bytes 5.1: so those that were silent longest are kept as bytes, and decoded in 30 us when they speak."""

GROWS_BYTES, GROWS_TIMES = 4_096, 2
"""A state grows with one record by at most so many bytes, and so many times the record's own. To write it takes as long
as a heartbeat's step, so its size is asked only when by this rule it could be beyond its bound: with every third rep or
so. How much it may have grown is stored with it, so that a restart in between changes nothing (E4)."""

Entries = list[tuple[bytes, bytes]]


class TooLarge(Exception):
    """A state would be larger than it may ever be: a defect of ours, which freezes its key (E7)."""


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """The state of one key as stored: true up to, not including, `position`; `quarantine` says why it is frozen.

    The state has `at_most` so many bytes. In the entry of the position itself, `since` is the offset from which every
    key is found in the state topic, `last_ms` the timestamp of the last record before `position`, and `partitions` how
    many the topics had, for another number puts most keys elsewhere; 0 is not told, as before this was kept.
    """

    position: int
    state: bytes | None
    quarantine: str | None = None
    since: int = 0
    at_most: int = 0
    last_ms: int | None = None
    partitions: int = 0


class _Live:
    """One key in memory; its state is decoded when it is needed, so that a restore is quick and sleepers are small."""

    __slots__ = ("at_most", "position", "quarantine", "saved", "state")

    def __init__(self, kept: Kept) -> None:
        self.position = kept.position
        self.quarantine = kept.quarantine
        self.saved: bytes | None = kept.state
        self.at_most = kept.at_most or len(kept.state or b"")
        self.state: Any = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Kept).decode


def position_entry(
    position: int, since: int = 0, last_ms: int | None = None, partitions: int = 0
) -> tuple[bytes, bytes]:
    r"""Build the entry that says up to where a checkpoint covers every key, and since where they are found.

    Examples
    --------
    >>> position_entry(7)[0]
    b'\x00position'
    """
    return POSITION_KEY, _encode(Kept(position, None, since=since, last_ms=last_ms, partitions=partitions))


def found_since(last: Record) -> int:
    """Return the offset from which every key is found, as the last record of a state partition tells; 0 if it doesn't.

    It doesn't when a checkpoint of several batches was cut off, or an erasure was the last who wrote.
    """
    return _position(last).since


def written_with(last: Record) -> int:
    """Return how many partitions the topics had when the last record of a state partition was written; 0 if untold."""
    return _position(last).partitions


def _position(last: Record) -> Kept:
    return _decode(last.value) if last.key == POSITION_KEY and last.value is not None else Kept(0, None)


class State:
    """All keys of one partition."""

    def __init__(self, stage: Stage[Any, Any]) -> None:
        self._stage = stage
        self._keys: dict[bytes, _Live] = {}
        self._dirty: dict[bytes, None] = {}
        self._written: dict[bytes, int] = {}  # offset of each key's last record, the stalest first
        self._awake: dict[bytes, None] = {}
        self._foreign: int | None = None
        self._alone = 0
        self._moved = False
        self.position = 0
        self.last_ms: int | None = None
        self.partitions = 0
        self.reached_ms = 0
        self.end = 0

    def __len__(self) -> int:
        """Count the keys."""
        return len(self._keys)

    def join(self, records: Iterable[Record]) -> None:
        """Read stored entries; of two entries of a key the one with the higher position counts."""
        for record in records:
            if record.value is None:
                continue
            kept = _decode(record.value)
            if record.key == POSITION_KEY:
                if kept.position >= self.position:
                    self.position, self.last_ms, self.partitions = kept.position, kept.last_ms, kept.partitions
            elif record.key not in self._keys or self._keys[record.key].position <= kept.position:
                self._keys[record.key] = _Live(kept)
                self._note(record.key, record.offset)
            else:  # an older one after a newer one: compaction would keep the wrong one
                self.touch([record.key])

    def is_new(self, record: Record) -> bool:
        """Tell whether the key's state does not yet cover this record."""
        live = self._keys.get(record.key)
        return live is None or record.offset >= live.position

    def is_quarantined(self, key: bytes) -> bool:
        """Tell whether a key is frozen."""
        live = self._keys.get(key)
        return live is not None and live.quarantine is not None

    def step(self, record: Record, item: Any) -> Sequence[NewRecord]:  # noqa: ANN401 - the stage's own item
        """Let the stage reduce one item. If it raises, also because the state is too large, the state is as it was."""
        live = self._keys.get(record.key)
        if live is None:
            live = _Live(Kept(record.offset, None))
        if live.state is None:
            live.state = self._stage.start(record.key) if live.saved is None else self._stage.restore(live.saved)
        state, outputs = self._stage.step(live.state, item, record.timestamp_ms)
        live.at_most = self._at_most(live.at_most, record, state)
        live.state, live.saved = state, None
        self._awake.pop(record.key, None)
        self._awake[record.key] = None  # last, as the one that spoke last
        self._changed(record, live)
        return outputs

    def _at_most(self, before: int, record: Record, state: Any) -> int:  # noqa: ANN401 - the stage's own state
        """Bound the size of a state after a record, in bytes; ask for it only if it could be too large."""
        at_most = before + GROWS_BYTES + GROWS_TIMES * len(record.value or b"")
        if at_most > MAX_STATE_BYTES:
            at_most = len(self._stage.save(state))
        if at_most > MAX_STATE_BYTES:
            raise TooLarge(f"its state would have {at_most} bytes, at most {MAX_STATE_BYTES}")
        return at_most

    def quarantine(self, record: Record, why: str) -> None:
        """Freeze a key as it was before this record."""
        live = self._keys.get(record.key) or _Live(Kept(record.offset, None))
        live.quarantine = why
        self._changed(record, live)

    def release(self, key: bytes) -> None:
        """Lift a quarantine."""
        self._keys[key].quarantine = None

    def passed(self, record: Record) -> None:
        """Take note that a key's state is the same after a record as before it.

        It is true up to behind this one, and says so: what a replaced worker has of before must not count as much.
        """
        if (live := self._keys.get(record.key)) is not None:
            self._changed(record, live)

    def reach(self, position: int, last_ms: int | None = None) -> None:
        """Take note that every record before `position` has been dealt with, and of the timestamp of the last one."""
        self.position, self.last_ms = position, last_ms
        self._moved = True

    def touch(self, keys: Iterable[bytes]) -> None:
        """Have these keys written again, as they are."""
        for key in keys:
            if key in self._keys:
                self._dirty[key] = None
                self._moved = True

    def met(self, offset: int, keys: Iterable[bytes]) -> None:
        """Take note that somebody else wrote these keys, from this offset on; ours are to be written again (E3).

        Which of the two owns the partition nobody knows here. So from now on we say of no offset behind this one that
        every key is found from there: or else a replaced worker's last word would hide what its successor has written.
        """
        self._foreign = offset if self._foreign is None else min(offset, self._foreign)
        self._alone = 0
        self.touch(keys)

    def lost(self, offset: int) -> None:
        """Take note that the topic has lost all that it had from this offset on; it is to be written again."""
        self.touch([key for key, written in self._written.items() if written >= offset])

    def _changed(self, record: Record, live: _Live) -> None:
        live.position = record.offset + 1
        self._keys[record.key] = live
        self.reached_ms = max(self.reached_ms, record.timestamp_ms)
        self._dirty[record.key] = None

    @property
    def is_dirty(self) -> bool:
        """Tell whether a checkpoint would say anything new."""
        return self._moved

    @property
    def dirty_keys(self) -> int:
        """Count the keys that changed since the last snapshot."""
        return len(self._dirty)

    def snapshot(self) -> list[Entries]:
        """Return the entries of all keys that changed, the position last, and take them as written.

        One list, which is one record batch (E2). Only if that would not fit are there several: keys first, then the
        position, so that a crash between them leaves keys ahead of the position, which reading back understands.
        """
        self._dirty |= dict.fromkeys(self._stale())
        batches: list[Entries] = [[]]
        room = STATE_MAX_BATCH_BYTES
        position = position_entry(self.position, self._since(), self.last_ms, self.partitions)
        for entry in [*(self._entry(key, self._keys[key]) for key in self._dirty), position]:
            size = len(entry[0]) + len(entry[1]) + ENTRY_OVERHEAD_BYTES
            if size > room:
                batches.append([])
                room = STATE_MAX_BATCH_BYTES
            batches[-1].append(entry)
            room -= size
        self._dirty = {}
        self._moved = False
        self._lull()
        return batches

    def wrote(self, base: int, entries: Entries) -> None:
        """Take note that these entries are in the state topic, the first of them at offset `base`."""
        for offset, (key, _) in enumerate(entries, start=base):
            if key != POSITION_KEY:
                self._note(key, offset)
        self.end = base + len(entries)
        self._alone += 1
        if self._alone > ALONE_WRITES:
            self._foreign = None

    def _note(self, key: bytes, offset: int) -> None:
        self._written.pop(key, None)  # to the end of the row
        self._written[key] = offset

    def _since(self) -> int:
        """Return an offset that no key's last record is before, once all that changed is written."""
        found = next((offset for key, offset in self._written.items() if key not in self._dirty), self.end)
        return found if self._foreign is None else min(found, self._foreign)

    def _stale(self) -> list[bytes]:
        """Name the keys whose last records are furthest back, if there is too much behind them; a few at a time."""
        allowed = REWRITE_TIMES * len(self._keys) + REWRITE_RECORDS
        far = takewhile(lambda one: self.end - one[1] > allowed, self._written.items())
        return list(islice((key for key, _ in far if key not in self._dirty), 8 + len(self._dirty) // 2))

    def _lull(self) -> None:
        """Keep as bytes what was silent longest."""
        for key in list(islice(self._awake, max(0, len(self._awake) - AWAKE_KEYS))):
            del self._awake[key]
            live = self._keys[key]
            live.state, live.saved = None, self._stage.save(live.state)

    def _entry(self, key: bytes, live: _Live) -> tuple[bytes, bytes]:
        saved = live.saved if live.state is None else self._stage.save(live.state)
        if saved is not None and len(saved) > 2 * MAX_STATE_BYTES:  # it grows faster than `GROWS_BYTES` says
            raise BrokenPromise(f"a state has {len(saved)} bytes, at most {MAX_STATE_BYTES}")
        return key, _encode(Kept(live.position, saved, live.quarantine, at_most=live.at_most))
