"""Records: what goes into the log and what comes out of it, with CloudEvents headers in binary mode."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec

Header = tuple[str, bytes]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SPEC_VERSION = b"1.0"
JSON_TYPE = b"application/json"
MSGPACK_TYPE = b"application/msgpack"

REPLAYED = "spineloop-replayed"
"""Header of a metric that a replay wrote again: what the stages said at the time stands before it in the log."""


class NewRecord(msgspec.Struct, frozen=True):
    """A record on its way into the log; the log chooses its partition by key, then its offset.

    Parameters
    ----------
    topic : str
        Name of a topic in `streams.core.topics.LOG_TOPICS`.
    key : bytes
        UTF-8 machine or patient key.
    value : bytes or None
        Encoded message; None deletes the key from a compacted topic.
    timestamp_ms : int
        Ingest time in ms since 1970, of the message itself or of the one that caused it.
    headers : tuple of (str, bytes)
        CloudEvents attributes and whatever else travels beside the value.
    """

    topic: str
    key: bytes
    value: bytes | None
    timestamp_ms: int
    headers: tuple[Header, ...] = ()


class Record(msgspec.Struct, frozen=True):
    """A record read back from the log: a `NewRecord` and its place."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    timestamp_ms: int
    headers: tuple[Header, ...] = ()


def header(record: Record | NewRecord, name: str) -> str | None:
    """Return the first header of that name as text, or None.

    Examples
    --------
    >>> header(NewRecord("t", b"k", b"", 0, (("ce_id", b"a/1"),)), "ce_id")
    'a/1'
    """
    return next((value.decode(errors="replace") for key, value in record.headers if key == name), None)


def rfc3339(time_ms: int) -> str:
    """Write a time in ms since 1970 as RFC 3339 in UTC, which CloudEvents wants.

    Examples
    --------
    >>> rfc3339(1_700_000_000_123)
    '2023-11-14T22:13:20.123Z'
    """
    seconds, ms = divmod(time_ms, 1_000)
    return f"{_to_the_second(seconds)}.{ms:03d}Z"


@lru_cache(maxsize=256)  # 4 us, and what is written together is of a few seconds
def _to_the_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()


def cloud_event(
    *, ce_id: str, ce_type: str, source: str, time_ms: int, content_type: bytes, extra: Iterable[Header] = ()
) -> tuple[Header, ...]:
    """Build the headers of one CloudEvent (specification 1.0, Kafka binding, binary mode).

    Parameters
    ----------
    ce_id : str
        Unique within `source`; a function of what caused the record, so that a repeat can be seen.
    ce_type : str
        For example `spineloop.rep.v1`.
    source : str
        Machine or patient key; written as a URI reference with a leading slash.
    time_ms : int
        Ingest time in ms since 1970.
    content_type : bytes
        `JSON_TYPE` or `MSGPACK_TYPE`.
    extra : iterable of (str, bytes)
        Headers that follow, such as `traceparent`.

    Examples
    --------
    >>> cloud_event(ce_id="m/b/1", ce_type="spineloop.rep.v1", source="m", time_ms=0, content_type=JSON_TYPE)[1]
    ('ce_id', b'm/b/1')
    """
    return (
        ("ce_specversion", SPEC_VERSION),
        ("ce_id", ce_id.encode()),
        ("ce_type", ce_type.encode()),
        ("ce_source", f"/{source}".encode()),
        ("ce_time", rfc3339(time_ms).encode()),
        ("content-type", content_type),
        *extra,
    )
