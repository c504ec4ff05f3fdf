"""Any message of a type, made from the limits of its struct."""

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import reject
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from msgspec import inspect

from streams.core.codec import KINDS

MACHINE, TENANT = "acme/north/m1", "acme"
PRINTABLE = st.characters(min_codepoint=32, max_codepoint=126)


def any_message(name: str) -> SearchStrategy[Any]:
    """Make messages of a type that machine `MACHINE` may send, or that are said of it."""
    return _struct(inspect.type_info(KINDS[name]), name).filter(_is_told_right)  # type: ignore[arg-type]


def _struct(type_: inspect.StructType, name: str = "") -> SearchStrategy[Any]:
    fields: dict[str, SearchStrategy[Any]] = {}
    for field in type_.fields:
        made = _any(field.type)
        fields[field.name] = made if field.required else st.one_of(st.just(_default(field)), made)
    if "machine" in fields:
        fields["machine"] = st.just(MACHINE)
    if "patient" in fields and name:
        patients = st.from_regex(r"[a-z0-9_-]{0,9}", fullmatch=True).map(lambda rest: f"{TENANT}/p{rest}")
        fields["patient"] = patients if _is_needed(type_, "patient") else st.none() | patients
    if name == "rep":
        return _rep(type_, fields)
    return st.fixed_dictionaries(fields).map(lambda values: _made(type_.cls, values))


def _made(kind: type, values: dict[str, Any]) -> Any:
    """Build a message, unless its fields contradict each other."""
    try:
        return kind(**values)
    except ValueError:
        return reject()


def _rep(type_: inspect.StructType, fields: dict[str, SearchStrategy[Any]]) -> SearchStrategy[Any]:
    """Let the channels fit the number of samples, and the marks their order."""

    def of(samples: int) -> SearchStrategy[Any]:
        channel = st.binary(min_size=2 * samples, max_size=2 * samples)
        marks = st.tuples(*[st.integers(0, samples - 1)] * 4).map(lambda some: tuple(sorted(some)))
        velocity = st.booleans().flatmap(
            lambda told: (
                st.tuples(channel, st.floats(0.0, 1_000.0, exclude_min=True)) if told else st.just((None, None))
            )
        )
        fitting = {
            "samples": st.just(samples),
            "force": channel,
            "position": channel,
            "force_left": st.none() | channel,
            "force_right": st.none() | channel,
            "marks": st.none() | marks,
            "velocity": st.none(),
            "velocity_scale": st.none(),
        }
        bare = st.builds(type_.cls, **(fields | fitting))
        return st.builds(
            lambda rep, told: msgspec.structs.replace(rep, velocity=told[0], velocity_scale=told[1]), bare, velocity
        )

    return st.integers(2, 6).flatmap(of)


def _any(type_: Any) -> SearchStrategy[Any]:
    return _MADE[type(type_)](type_)


def _whole(type_: inspect.IntType) -> SearchStrategy[Any]:
    return st.integers(-(2**53) if type_.ge is None else type_.ge, 2**53 if type_.le is None else type_.le)


def _number(type_: inspect.FloatType) -> SearchStrategy[Any]:
    least, most = type_.gt if type_.ge is None else type_.ge, type_.le
    return st.floats(
        -1e12 if least is None else least, 1e12 if most is None else most, exclude_min=type_.gt is not None
    )


def _text(type_: inspect.StrType) -> SearchStrategy[Any]:
    if type_.pattern is None:
        return st.text(max_size=8)
    least, most = type_.min_length or 0, type_.max_length or 999
    made = st.from_regex(type_.pattern, fullmatch=type_.pattern.endswith("$"), alphabet=PRINTABLE)
    return made.filter(lambda text: least <= len(text) <= most)


_MADE: dict[type, Callable[[Any], SearchStrategy[Any]]] = {
    inspect.Metadata: lambda type_: _any(type_.type),
    inspect.IntType: _whole,
    inspect.FloatType: _number,
    inspect.StrType: _text,
    inspect.BytesType: lambda _: st.binary(max_size=9),
    inspect.LiteralType: lambda type_: st.sampled_from(type_.values),
    inspect.BoolType: lambda _: st.booleans(),
    inspect.NoneType: lambda _: st.none(),
    inspect.UnionType: lambda type_: st.one_of([_any(one) for one in type_.types]),
    inspect.StructType: _struct,
    inspect.TupleType: lambda type_: st.tuples(*[_any(one) for one in type_.item_types]),
    inspect.VarTupleType: lambda type_: st.lists(_any(type_.item_type), max_size=3).map(tuple),
    inspect.DictType: lambda type_: st.dictionaries(_any(type_.key_type), _any(type_.value_type), max_size=3),
}


def _default(field: inspect.Field) -> Any:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


def _is_needed(type_: inspect.StructType, name: str) -> bool:
    field = next(field for field in type_.fields if field.name == name)
    return not (isinstance(field.type, inspect.UnionType) and field.type.includes_none)


def _is_told_right(message: Any) -> bool:
    return len(msgspec.json.encode(message)) < 200_000
