"""Dead letters: records that could not be understood, kept unchanged, with Kafka Connect's headers that say why.

With these a record that is as large as Kafka takes it, or unpacks to more, would be too large for the log, and whoever
can't put it aside would end at it again and again. Of such a one the beginning is kept, and where the whole stands.
"""

from collections import Counter

from streams.core.limits import MAX_MESSAGE_BYTES
from streams.core.records import Header, NewRecord, Record, header
from streams.core.topics import DEAD_LETTER, RECORD_BYTES

PREFIX = "__connect.errors."
REDRIVE_MARK = "spineloop-redrive-mark"
"""Header of a mark that a letter was put back, `begun` or `done`. It is no letter, and lies behind it under its key."""

CUT = "spineloop-cut"
"""Header of a letter of which only the beginning was kept: how many bytes key, value and headers had together."""

CUT_BYTES = MAX_MESSAGE_BYTES
"""How much is kept then of the key and of the value, in bytes: no message of ours is longer."""

FRAME_BYTES = 128
HEADER_FRAME_BYTES = 10
"""What a record batch of one record has beside its key, its value and its headers, and beside each header, at most."""

MAX_TRACE_BYTES = 8_192
"""Longest stack trace that is kept, in bytes: the end of it names the defect."""


def dead_letter(record: Record | NewRecord, *, stage: str, reason: str, detail: str, trace: str = "") -> NewRecord:
    """Put a record aside with its reason.

    Parameters
    ----------
    record : Record or NewRecord
        What could not be understood; key, value, headers and timestamp are kept. If that is too large for the log, of
        key and value the first `CUT_BYTES`, and no header where these are too large as well.
    stage : str
        Who could not: `ingest`, `control`, `plan`, `history`, `downlink`.
    reason, detail : str
        One word of the field, and a sentence for a person.
    trace : str
        The stack trace, if the fault is ours.

    Examples
    --------
    >>> letter = dead_letter(NewRecord("t", b"k", b"?", 5), stage="ingest", reason="bad_topic", detail="no such topic")
    >>> letter.topic, letter.value, header(letter, "__connect.errors.exception.message")
    ('spineloop.dead-letter.v1', b'?', 'bad_topic: no such topic')
    """
    told: list[Header] = [
        (PREFIX + "topic", record.topic.encode()),
        (PREFIX + "connector.name", b"spineloop"),
        (PREFIX + "stage", stage.encode()),
        (PREFIX + "exception.class.name", b"Defect" if trace else b"Malformed"),
        (PREFIX + "exception.message", f"{reason}: {detail}".encode(errors="backslashreplace")[:2_048]),
    ]
    if isinstance(record, Record):
        told.append((PREFIX + "partition", str(record.partition).encode()))
        told.append((PREFIX + "offset", str(record.offset).encode()))
    if trace:
        told.append((PREFIX + "exception.stacktrace", trace.encode(errors="backslashreplace")[-MAX_TRACE_BYTES:]))
    kept = [item for item in record.headers if not item[0].startswith(PREFIX) and item[0] != CUT]
    letter = NewRecord(DEAD_LETTER, record.key, record.value, record.timestamp_ms, (*kept, *told))
    if _fits(letter):
        return letter
    told.append((CUT, str(_bytes(record)).encode()))
    value = None if record.value is None else record.value[:CUT_BYTES]
    cut = NewRecord(DEAD_LETTER, record.key[:CUT_BYTES], value, record.timestamp_ms, (*kept, *told))
    return cut if _fits(cut) else NewRecord(cut.topic, cut.key, cut.value, cut.timestamp_ms, tuple(told))


def _fits(letter: NewRecord) -> bool:
    return _bytes(letter) + FRAME_BYTES + HEADER_FRAME_BYTES * len(letter.headers) <= RECORD_BYTES


def _bytes(record: Record | NewRecord) -> int:
    headers = sum(len(name.encode()) + len(value or b"") for name, value in record.headers)  # Kafka's may have no value
    return len(record.key) + len(record.value or b"") + headers


def reason_of(letter: Record | NewRecord) -> str:
    """Return the reason of a dead letter, one word."""
    return (header(letter, PREFIX + "exception.message") or "unknown").split(":", 1)[0]


class InARow:
    """Counts dead letters with nothing good between them: too many mean that we are wrong, not they.

    Of one key only so many count, or else one machine alone could end the work for all; and a key that is frozen
    already says nothing new.

    Parameters
    ----------
    limit : int
        So many are not yet too many.
    of_one : int
        So many count of one key.

    Examples
    --------
    >>> letters = InARow(limit=3, of_one=2)
    >>> for key in (b"a", b"a", b"a", b"b"):
    ...     letters.bad(key, "bad_value")
    >>> letters.are_too_many, letters.total
    (False, 4)
    >>> letters.bad(b"c", "quarantined"), letters.bad(b"c", "bad_value")
    (None, None)
    >>> letters.are_too_many
    True
    """

    def __init__(self, limit: int, of_one: int = 100) -> None:
        self._limit, self._of_one = limit, of_one
        self._by_key = Counter[bytes]()
        self._counted = 0

    @property
    def total(self) -> int:
        """How many there were since the last good one."""
        return self._by_key.total()

    @property
    def are_too_many(self) -> bool:
        """Whether what counts of them is beyond the limit."""
        return self._counted > self._limit

    def good(self) -> None:
        """Hear that something was understood."""
        if self._by_key:
            self._by_key.clear()
            self._counted = 0

    def bad(self, key: bytes, reason: str) -> None:
        """Hear of a dead letter."""
        if reason == "quarantined":
            return
        self._by_key[key] += 1
        self._counted += self._by_key[key] <= self._of_one
