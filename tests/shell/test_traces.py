"""What a log may say of an exception of ours: everything but its values."""

import re
from collections.abc import Mapping

from streams.traces import MAX_PLACES, Trace

KNOWN: Mapping[str, str] = {}


def failed(patient: str, *, depth: int = 0) -> str:
    if depth:
        return failed(patient, depth=depth - 1)
    try:
        return KNOWN[patient]
    except KeyError as error:
        raise ValueError(f"nobody is {patient}") from error


def caught(patient: str, *, depth: int = 0) -> Trace:
    try:
        failed(patient, depth=depth)
    except ValueError as error:
        return Trace.of(error)
    raise AssertionError("it went well")


def test_of_an_exception_and_of_what_led_to_it_type_and_places_are_told_and_no_value() -> None:
    trace = caught("acme/p1")
    assert "KeyError: 'acme/p1'" in trace
    assert trace.strip().endswith("ValueError: nobody is acme/p1")
    at = r"\S+/test_traces\.py:\d+"
    assert re.fullmatch(rf"ValueError at {at} caught, {at} failed, after KeyError at {at} failed", trace.places)


def test_of_a_long_way_only_the_end_is_told() -> None:
    (first, _) = caught("acme/p1", depth=2 * MAX_PLACES).places.split(", after ")
    assert first.count(" failed") == MAX_PLACES


def test_exceptions_that_led_to_each_other_are_told_once() -> None:
    one, other = KeyError("acme/p1"), ValueError("acme/p1")
    one.__context__, other.__context__ = other, one
    assert Trace.of(one).places == "KeyError, after ValueError"
