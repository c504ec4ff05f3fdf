"""Mutants: what becomes of a good message when its structure, its bytes, its topic or its headers are damaged."""

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

Payload = Any
"""A message as plain values."""


class Case(NamedTuple):
    """One message as the broker delivers it, and whether it was left as it was."""

    topic: str
    payload: bytes
    user_properties: tuple[tuple[str, str], ...] = ()
    is_whole: bool = False


ODD: Sequence[Any] = (
    None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63, -(2**63), 0.0, -0.0, 1e-308, 1e308, -1e308, 0.1, "", " ",
    "0", "null", "a" * 65, "x" * 5_000, "acme/p1", "ACME/north/m1", "acme/../m1", "a/b/c", "\x00", "\u202e",
    "\U0001f600", "stop", "command", "rep", [], [[]], [None] * 3, [0] * 300, {}, {"type": "rep"},
    b"", b"\x00", b"\xff" * 7,
)  # fmt: skip
"""Values that no field expects, or only some do."""

FOREIGN = ("other/north/m1", "other/p1")
"""A machine and a patient of somebody else."""

NAMES = ("machine", "patient", "schema_version", "type", "extra", "", "boot_id", "seq")
BYTES = (b"[" * 20_000, b"\x91" * 20_000, b'{"a":' * 5_000, b"\xc1", b"\xff\xfe", b"{}")

TOPICS: Sequence[str] = (
    "", "/", "spineloop/v1", "spineloop/v1/{machine}", "spineloop/v1/{machine}/", "spineloop/v1/{machine}/command",
    "spineloop/v1/{machine}/nothing", "spineloop/v2/{machine}/rep", "spineloop/v1/{machine}/rep/more",
    "spineloop/v1/ACME/north/m1/rep", "spineloop/v1/acme/north/+/rep", "spineloop/v1/acme/north/m1\n/rep",
    "spineloop/v1/other/north/m1/rep", "factory/press/4", "$SYS/broker/uptime", "spineloop/v1//north/m1/rep",
    "spineloop/v1/{machine}/rep\x00", "spineloop/v1/" + "a" * 64 + "/north/m1/rep", "\u00fc/" * 50, "x" * 60_000,
)  # fmt: skip

PROPERTIES: Sequence[tuple[tuple[str, str], ...]] = (
    (("traceparent", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"),),
    (("traceparent", "00-" + "0" * 5_000),),
    (("traceparent", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01\r\nx: y"),),
    (("", ""), ("ce_type", "spineloop.command.v1"), ("__connect.errors.stage", "control")),
    tuple((f"n{n}", "v" * 100) for n in range(50)),
)


def mutant(dice: random.Random, good: Sequence[Case]) -> Case:
    """Damage one of the good messages in one to three ways."""
    case = dice.choice(good)._replace(is_whole=False)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        case = dice.choices(WAYS, WEIGHTS)[0](dice, case, good)
    return case


def _structure(dice: random.Random, case: Case, good: Sequence[Case]) -> Case:
    """Change one value somewhere, leave one out, add one, or write one under another name."""
    told = _plain(case.payload)
    if not isinstance(told, dict) or not told:
        return _bytes(dice, case, good)
    _damage(dice, told, good)
    return case._replace(payload=_written(dice, told, case.payload))


def _damage(dice: random.Random, told: dict[Any, Any], good: Sequence[Case]) -> None:
    name = dice.choice(list(told))
    match dice.randrange(8):
        case 0:
            del told[name]
        case 1:
            told[dice.choice(NAMES)] = dice.choice((_odd(dice), *FOREIGN))
        case 2:
            value = told.pop(name)
            told[dice.choice([*told, "extra"])] = value
        case 3:
            other = _plain(dice.choice(good).payload)
            if isinstance(other, dict) and other:
                told |= dict([dice.choice(list(other.items()))])
        case 4 if isinstance(told[name], dict) and told[name]:
            _damage(dice, told[name], good)
        case 5 if isinstance(told[name], int | float) and not isinstance(told[name], bool):
            told[name] = told[name] * dice.choice((-1, 0, 1.5, 2, 10**6, -(10**9))) + dice.choice((0, 1, -1, 0.5))
        case 6 if isinstance(told[name], bytes | str) and told[name]:
            half = len(told[name]) // 2
            told[name] = dice.choice((told[name][:half], told[name] + told[name][:1], told[name][::-1], told[name] * 2))
        case _:
            told[name] = _odd(dice)


def _odd(dice: random.Random) -> Any:  # noqa: ANN401 - that is the point
    return dice.choice(ODD)


def _plain(payload: bytes) -> Any:  # noqa: ANN401 - whatever was written
    for decode in (msgspec.json.decode, msgspec.msgpack.decode):
        try:
            return decode(payload)
        except (ValueError, RecursionError):
            continue
    return None


def _written(dice: random.Random, told: Payload, before: bytes) -> bytes:
    """Write it as it came, now and then in the other encoding."""
    writers = (msgspec.json.encode, msgspec.msgpack.encode)
    as_before = writers if before[:1] == b"{" else writers[::-1]
    try:
        return as_before[dice.random() < OTHER_ENCODING](told)
    except (OverflowError, TypeError, ValueError):
        return before[: len(before) // 2]  # no encoding can hold it


def _bytes(dice: random.Random, case: Case, good: Sequence[Case]) -> Case:
    """Flip bits, cut, insert, repeat, or join two messages, as a bad cable or a bad buffer does."""
    told = bytearray(case.payload)
    at = dice.randrange(len(told) + 1)
    match dice.randrange(7):
        case 0:
            for _ in range(dice.choice((1, 1, 2, 16))):
                if told:
                    told[dice.randrange(len(told))] ^= 1 << dice.randrange(8)
        case 1:
            del told[at:]
        case 2:
            told[at:at] = dice.randbytes(dice.choice((1, 2, 8, 200)))
        case 3:
            told = bytearray(dice.randbytes(dice.choice((0, 1, 16, 600))))
        case 4:
            other = dice.choice(good).payload
            told[at:] = other[dice.randrange(len(other) + 1) :]
        case 5:
            told = bytearray(
                dice.choice((b"[" * 20_000, b"\x91" * 20_000, b'{"a":' * 5_000, b"\xc1", b"\xff\xfe", b"{}"))
            )
        case _:
            told *= dice.choice((2, 3))
    return case._replace(payload=bytes(told))


def _large(dice: random.Random, case: Case, _: Sequence[Case]) -> Case:
    return case._replace(payload=case.payload + b" " * (256 * 1024 - len(case.payload) + dice.choice((0, 1, 5_000))))


def _topic(dice: random.Random, case: Case, good: Sequence[Case]) -> Case:
    """Say it on another topic: of another stream, of another machine, or of none."""
    machine = "/".join(case.topic.split("/")[2:5])
    other = dice.choice(good).topic
    stream = f"spineloop/v1/{machine}/{dice.choice(('rep', 'event', 'ack', 'presence', 'command'))}"
    return case._replace(topic=dice.choice((other, stream, dice.choice(TOPICS).replace("{machine}", machine))))


def _headers(dice: random.Random, case: Case, _: Sequence[Case]) -> Case:
    return case._replace(user_properties=dice.choice(PROPERTIES))


OTHER_ENCODING = 0.2

WAYS: Sequence[Callable[[random.Random, Case, Sequence[Case]], Case]] = (_structure, _bytes, _topic, _headers, _large)
WEIGHTS = (60, 22, 12, 5, 1)
