"""Digest: a name for everything that stages said, the same whatever the order in which their machines were heard.

Outputs are added up instead of chained, because their order across machines is chance; each is told apart by its id.
"""

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Iterable

import msgspec

from streams.core.records import NewRecord, Record, header

MAX_TWICE = 50_000
"""Ids of one topic and partition that are remembered to see what was written twice: at least as many as a worker can
write between two checkpoints, which is how far back a restart repeats itself (E5)."""

_BITS = 128
_encode = msgspec.msgpack.Encoder().encode


class Digest:
    """Adds outputs up: `sums` by topic and key, `counts` by topic."""

    def __init__(self, *others: "Digest") -> None:
        self.sums: dict[tuple[str, bytes], int] = {}
        self.counts: Counter[str] = Counter()
        for other in others:
            self.counts += other.counts
            for place, total in other.sums.items():
                self._add(place, total)

    def add(self, output: Record | NewRecord) -> None:
        """Add one output."""
        self.counts[output.topic] += 1
        self._add((output.topic, output.key), _number(output))

    def _add(self, place: tuple[str, bytes], number: int) -> None:
        self.sums[place] = (self.sums.get(place, 0) + number) % (1 << _BITS)

    @property
    def text(self) -> str:
        """The digest, 64 hexadecimal digits.

        Examples
        --------
        >>> digest = Digest()
        >>> digest.add(NewRecord("t", b"k", b"v", 0))
        >>> digest.text[:8], Digest().text[:8]
        ('912ab67f', 'e3b0c442')
        """
        lines = sorted(f"{topic} {key.hex()} {total:032x}" for (topic, key), total in self.sums.items())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def differing(self, other: "Digest") -> list[tuple[str, str]]:
        """Return topic and key of what is not the same in another."""
        places = {place for place in self.sums | other.sums if self.sums.get(place) != other.sums.get(place)}
        return sorted((topic, key.decode(errors="replace")) for topic, key in places)


def _number(output: Record | NewRecord) -> int:
    said = _encode((output.topic, output.key, output.value, output.timestamp_ms, output.headers))
    return int.from_bytes(hashlib.blake2b(said, digest_size=_BITS // 8).digest(), "big")


class Recent:
    """The ids seen last, by which what is written twice after a crash is known."""

    def __init__(self, most: int = MAX_TWICE) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._most = most

    def is_new(self, record: Record) -> bool:
        """Tell whether a record's id was not seen lately, and remember it; a record without an id is always new."""
        name = header(record, "ce_id")
        if name is None:
            return True
        if name in self._ids:
            return False
        self._ids[name] = None
        if len(self._ids) > self._most:
            self._ids.popitem(last=False)
        return True


def has_any(record: Record, names: Iterable[str]) -> bool:
    """Tell whether a record has one of these headers."""
    return any(name in names for name, _ in record.headers)
