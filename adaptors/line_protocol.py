"""Line protocol: one point as the text that InfluxDB takes, or the reason why it would not.

Built by hand, because every client library is several times slower. What a server refuses only now and then (a field
whose type changed, a time beyond the retention) is for the server to say; what no server takes, or 2.x reserves, or
1.x takes and gives back changed, is refused here.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from math import isfinite
from typing import Any

import msgspec

from adaptors.points import MAX_SERIES_REMEMBERED, FieldValue, Point, Tags
from streams.core.errors import Malformed

MAX_TEXT_BYTES = 65_535
"""Longest string field in bytes, UTF-8; also the longest series: measurement, tags and one field key together."""

MAX_FIELD_NAMES_REMEMBERED = 4_096
"""Field names kept ready; metrics are a closed list of some hundred names."""

_MAX_INT = 2**63 - 1
_MIN_NS, _MAX_NS = -(2**63) + 2, 2**63 - 2
"""Times in ns that the storage of 1.x and 2.x can hold."""


def line(point: Point) -> str:
    r"""Write a point as one line, without its line end.

    Raises
    ------
    Malformed
        With the reason: `no_fields`, `bad_name`, `reserved_name`, `empty_tag`, `name_twice`, `not_finite`,
        `out_of_range`, `too_long` or `not_utf8`.

    Examples
    --------
    >>> line(Point("rep", (("machine", "m 1"),), {"load_N": 300.0, "seq": 7, "valid": True, "session": 's"1'}, 5))
    'rep,machine=m\\ 1 load_N=300.0,seq=7i,valid=true,session="s\\"1" 5'
    """
    head, tag_keys = _series(point.measurement, point.tags)
    fields = point.fields
    if not fields:
        raise Malformed("no_fields", "a point needs at least one field")
    if not fields.keys().isdisjoint(tag_keys):
        raise Malformed("name_twice", "a name is a tag or a field, not both")
    if not _MIN_NS <= point.t_ns <= _MAX_NS:
        raise Malformed("out_of_range", f"time {point.t_ns} ns does not fit into 64 bits")
    numbers = iter(_numbers(fields))
    pairs = [
        _name(name) + (next(numbers) if type(value) is float else _TEXT[type(value)](name, value))
        for name, value in fields.items()
    ]
    return f"{head} {','.join(pairs)} {point.t_ns}"


def _numbers(fields: Mapping[str, FieldValue]) -> list[str]:
    """Write the floats among the values, all at once: nearly every field is one, and this is four times faster."""
    text = _encode([value for value in fields.values() if type(value) is float])
    if b"null" in text:  # what JSON makes of a number that is not finite
        name = next(name for name, value in fields.items() if type(value) is float and not isfinite(value))
        raise Malformed("not_finite", f"field {name} is {fields[name]}")
    return text[1:-1].decode().split(",")


def _integer(name: str, value: int) -> str:
    if not -_MAX_INT - 1 <= value <= _MAX_INT:
        raise Malformed("out_of_range", f"field {name}: {value} does not fit into 64 bits")
    return f"{value}i"


def _boolean(_: str, value: bool) -> str:
    return "true" if value else "false"


def _string(name: str, value: str) -> str:
    if _bytes(value, name) > MAX_TEXT_BYTES:
        raise Malformed("too_long", f"field {name} has more than {MAX_TEXT_BYTES} bytes")
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


_encode = msgspec.json.Encoder().encode
_TEXT: Mapping[type, Callable[[str, Any], str]] = {int: _integer, bool: _boolean, str: _string}


@lru_cache(maxsize=MAX_SERIES_REMEMBERED)
def _series(measurement: str, tags: Tags) -> tuple[str, frozenset[str]]:
    keys = [key for key, _ in tags]
    for name in (measurement, *keys):
        _check_key(name)
    for key, value in tags:
        if not value:
            raise Malformed("empty_tag", f"tag {key} is empty")
        _check_text(value, f"tag {key}")
    if len(set(keys)) != len(keys):
        raise Malformed("name_twice", f"tags {', '.join(keys)}")
    text = _escape(measurement, ", ") + "".join(f",{_escape(key)}={_escape(value)}" for key, value in sorted(tags))
    if len(text.encode()) > MAX_TEXT_BYTES // 2:  # leaves room for a field's key, which the storage appends
        raise Malformed("too_long", f"measurement and tags have more than {MAX_TEXT_BYTES // 2} bytes")
    return text, frozenset(keys)


@lru_cache(maxsize=MAX_FIELD_NAMES_REMEMBERED)
def _name(name: str) -> str:
    _check_key(name)
    if len(name.encode()) > MAX_TEXT_BYTES // 4:
        raise Malformed("too_long", f"a field's name has more than {MAX_TEXT_BYTES // 4} bytes")
    return _escape(name) + "="


def _check_key(name: str) -> None:
    if not name:
        raise Malformed("bad_name", "an empty name")
    if name.startswith("_") or name == "time":
        raise Malformed("reserved_name", f"{name[:100]!r} is reserved")
    if name.startswith("#"):
        raise Malformed("bad_name", f"{name[:100]!r} would be taken for a comment")
    _check_text(name, "name")


def _check_text(text: str, what: str) -> None:
    if not text.isprintable():
        raise Malformed("bad_name", f"{what} {text[:100]!r} has a line end or a control character")
    if "\\" in text:
        raise Malformed("bad_name", f"{what} {text[:100]!r} has a backslash, which nothing escapes outside of a string")
    _bytes(text, what)


def _bytes(text: str, what: str) -> int:
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise Malformed("not_utf8", f"{what}: {error.reason}") from error


def _escape(text: str, special: str = ",= ") -> str:
    for character in special:
        text = text.replace(character, f"\\{character}")
    return text
