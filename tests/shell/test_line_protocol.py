"""Line protocol: what is escaped, and what is refused before InfluxDB sees it.

That InfluxDB takes every other line, and gives back the same values, is proved in tests/contract/test_history.py.
"""

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptors.line_protocol import MAX_TEXT_BYTES, line
from adaptors.points import FieldValue, Point, Tags
from streams.core.errors import Malformed


def point(
    measurement: str = "rep",
    tags: Tags = (("machine", "m1"),),
    fields: Mapping[str, FieldValue] | None = None,
    t_ns: int = 5,
) -> Point:
    return Point(measurement, tags, {"load_N": 300.0} if fields is None else dict(fields), t_ns)


# The forms are those of InfluxData's line protocol reference: escapes of each place, and one literal for each type.
GOLDEN = [
    (point("we,at her"), r"we\,at\ her,machine=m1 load_N=300.0 5"),
    (point("we=ather"), r"we=ather,machine=m1 load_N=300.0 5"),
    (point(tags=(("a=b", "c,d e"),)), r"rep,a\=b=c\,d\ e load_N=300.0 5"),
    (point(tags=()), "rep load_N=300.0 5"),
    (point(tags=(("b", "2"), ("a", "1"))), "rep,a=1,b=2 load_N=300.0 5"),
    (point(fields={"a b,c=d": 1.0}), r"rep,machine=m1 a\ b\,c\=d=1.0 5"),
    (point(fields={"f": -0.0}), "rep,machine=m1 f=-0.0 5"),
    (point(fields={"f": 1e22}), "rep,machine=m1 f=1e22 5"),
    (point(fields={"f": 7}), "rep,machine=m1 f=7i 5"),
    (point(fields={"f": True, "g": False}), "rep,machine=m1 f=true,g=false 5"),
    (point(fields={"f": 'a "b" \\c, d=e'}), r'rep,machine=m1 f="a \"b\" \\c, d=e" 5'),
    (point(fields={"f": ""}), 'rep,machine=m1 f="" 5'),
    (point(t_ns=-1), "rep,machine=m1 load_N=300.0 -1"),
]

REFUSED = [
    ("not_finite", point(fields={"f": math.nan})),
    ("not_finite", point(fields={"f": math.inf})),
    ("not_finite", point(fields={"ok": 1.0, "f": -math.inf})),
    ("out_of_range", point(fields={"f": 2**63})),
    ("out_of_range", point(fields={"f": -(2**63) - 1})),
    ("out_of_range", point(t_ns=2**63)),
    ("no_fields", point(fields={})),
    ("empty_tag", point(tags=(("machine", ""),))),
    ("bad_name", point(tags=(("machine", "m1\\"),))),
    ("bad_name", point(tags=(("machine", "m\\,1"),))),
    ("bad_name", point(tags=(("machine\\", "m1"),))),
    ("bad_name", point("rep\\")),
    ("bad_name", point(fields={"f\\": 1.0})),
    ("bad_name", point(tags=(("machine", "m\n1"),))),
    ("bad_name", point("")),
    ("bad_name", point("#rep")),
    ("bad_name", point(tags=(("machine", "m\ud800"),))),
    ("bad_name", point(fields={"": 1.0})),
    ("reserved_name", point("_rep")),
    ("reserved_name", point(tags=(("_machine", "m1"),))),
    ("reserved_name", point(fields={"_f": 1.0})),
    ("reserved_name", point(tags=(("time", "m1"),))),
    ("reserved_name", point(fields={"time": 1.0})),
    ("name_twice", point(tags=(("a", "1"), ("a", "2")))),
    ("name_twice", point(fields={"machine": 1.0})),
    ("too_long", point(fields={"f": "x" * (MAX_TEXT_BYTES + 1)})),
    ("too_long", point(fields={"f": "é" * (MAX_TEXT_BYTES // 2 + 1)})),
    ("too_long", point(fields={"x" * MAX_TEXT_BYTES: 1.0})),
    ("too_long", point(tags=(("machine", "x" * MAX_TEXT_BYTES),))),
    ("not_utf8", point(fields={"f": "\ud800"})),
]


@pytest.mark.parametrize(("given_point", "text"), GOLDEN, ids=[text for _, text in GOLDEN])
def test_each_place_has_its_own_escapes_and_each_type_its_own_form(given_point: Point, text: str) -> None:
    assert line(given_point) == text


@pytest.mark.parametrize(("reason", "bad"), REFUSED, ids=[f"{reason}-{n}" for n, (reason, _) in enumerate(REFUSED)])
def test_what_influxdb_refuses_or_reserves_is_malformed_with_its_reason(reason: str, bad: Point) -> None:
    with pytest.raises(Malformed) as caught:
        line(bad)
    assert caught.value.reason == reason


def test_the_longest_text_and_the_largest_numbers_are_taken() -> None:
    fields: dict[str, FieldValue] = {
        "s": "x" * MAX_TEXT_BYTES,
        "i": 2**63 - 1,
        "j": -(2**63),
        "f": 1.7976931348623157e308,
        "g": 5e-324,
    }
    assert line(point(fields=fields)).endswith("i=9223372036854775807i,j=-9223372036854775808i,"
                                               "f=1.7976931348623157e308,g=5e-324 5")  # fmt: skip


@given(
    measurement=st.text(max_size=8),
    tags=st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=4).map(tuple),
    fields=st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.floats() | st.integers() | st.booleans()),
    t_ns=st.integers(),
)
def test_any_point_is_one_line_or_malformed(
    measurement: str, tags: Tags, fields: dict[str, FieldValue], t_ns: int
) -> None:
    try:
        text = line(Point(measurement, tags, fields, t_ns))
    except Malformed:
        return
    assert "\n" not in text or any(isinstance(value, str) and "\n" in value for value in fields.values())
    assert text.encode().decode() == text
