"""Bytes to messages and back, JSON and MessagePack. Decoding raises Malformed and nothing else."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, get_args

import msgspec

from streams.core.commands import Command
from streams.core.errors import Malformed
from streams.core.limits import MAX_MESSAGE_BYTES
from streams.core.operators import OperatorAsked
from streams.core.plans import Answer
from streams.core.records import JSON_TYPE, MSGPACK_TYPE
from streams.core.results import Metric, PatientFact
from streams.core.telemetry import Ack, Event, Presence, Rep, Telemetry
from streams.core.topics import MachineTopic, Stream, tenant_of

Encoding = Literal["json", "msgpack"]
CONTENT_TYPE: Mapping[Encoding, bytes] = {"json": JSON_TYPE, "msgpack": MSGPACK_TYPE}


class _Other(msgspec.Struct, frozen=True, tag_field="type", tag=""):
    """Stands beside a single kind of message, because only in a union is a missing `type` noticed."""


class Codec:
    """Both encodings of one union of messages.

    The encodings tell themselves apart: a JSON object starts with `{` or white space, a MessagePack map never does.

    Parameters
    ----------
    kinds : type
        The union of tagged structs that may be met.
    """

    def __init__(self, kinds: Any) -> None:  # noqa: ANN401 - typing has no name for "a union of types" before 3.14
        """Build both decoders once: they are the costly part."""
        self._json: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kinds | _Other)
        self._msgpack: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(kinds | _Other)

    def decode(self, payload: bytes) -> Any:  # noqa: ANN401 - narrowed by the typed functions below
        """Read one message, or raise Malformed with the field that is wrong."""
        if len(payload) > MAX_MESSAGE_BYTES:
            raise Malformed("too_large", f"{len(payload)} bytes, at most {MAX_MESSAGE_BYTES}")
        try:
            message = self._json.decode(payload) if is_json(payload) else self._msgpack.decode(payload)
        except msgspec.ValidationError as error:
            raise Malformed(_reason(str(error)), str(error)) from error
        except (ValueError, RecursionError) as error:  # bad UTF-8 is a ValueError, but not a msgspec.DecodeError
            raise Malformed("not_a_message", str(error)) from error
        if isinstance(message, _Other):
            raise Malformed("unknown_type", "the type is empty")
        return message


_UP: Mapping[Stream, Codec] = {
    "rep": Codec(Rep),
    "event": Codec(Event),
    "ack": Codec(Ack),
    "presence": Codec(Presence),
}
_TELEMETRY = Codec(Telemetry | Answer | OperatorAsked)
_COMMAND = Codec(Command)
_METRIC = Codec(Metric)
_PATIENT = Codec(PatientFact)
_ENCODE_MSGPACK = msgspec.msgpack.Encoder().encode
_ENCODE_JSON = msgspec.json.Encoder().encode

KINDS: Mapping[str, type] = {
    kind.__struct_config__.tag: kind
    for union in (Telemetry, Command | Metric, PatientFact | Answer | OperatorAsked)
    for kind in get_args(union)
}
"""Every message by the name of its type, as it stands in `type` and in `ce_type`."""


def is_json(payload: bytes) -> bool:
    r"""Tell JSON from MessagePack by the first byte.

    Examples
    --------
    >>> is_json(b'{"type":"heartbeat"}'), is_json(b"\\x84")
    (True, False)
    """
    return payload[:1] in {b"{", b" ", b"\n", b"\r", b"\t"}


def _reason(message: str) -> str:
    if "type`" in message or "$.type" in message:
        return "unknown_type"
    return "unknown_version" if "schema_version" in message else "bad_value"


def decode_up(topic: MachineTopic, payload: bytes) -> Telemetry:
    """Read what a machine said on a topic, and check that it speaks for itself and for its own tenant.

    Raises
    ------
    Malformed
        With the reason: `too_large`, `not_a_message`, `unknown_type`, `unknown_version`, `bad_value`, `bad_samples`,
        `wrong_stream`, `foreign_machine` or `foreign_patient`.
    """
    codec = _UP.get(topic.stream)
    if codec is None:
        raise Malformed("wrong_stream", f"a machine does not publish on {topic.stream}")
    message: Telemetry = codec.decode(payload)
    check_sender(topic.machine, message)
    return message


def decode_telemetry(machine: str, payload: bytes) -> Telemetry | Answer | OperatorAsked:
    """Read a record of the telemetry topic; raises Malformed as `decode_up` does, whatever the bytes are."""
    message: Telemetry | Answer | OperatorAsked = _TELEMETRY.decode(payload)
    check_sender(machine, message)
    return message


def check_sender(machine: str, message: Telemetry | Answer | OperatorAsked) -> None:
    """Raise Malformed if the message names another machine, another tenant's patient, or samples that don't fit."""
    if message.machine is not None and message.machine != machine:
        raise Malformed("foreign_machine", f"{message.machine} on the topic of {machine}")
    patient: str | None = getattr(message, "patient", None)
    if patient is not None and tenant_of(patient) != tenant_of(machine):
        raise Malformed("foreign_patient", f"a patient of tenant {tenant_of(patient)} on {machine}")
    if isinstance(message, Rep):
        _check_samples(message)


def _check_samples(rep: Rep) -> None:
    for name in ("force", "position", "force_left", "force_right", "velocity"):
        channel: bytes | None = getattr(rep, name)
        if channel is not None and len(channel) != 2 * rep.samples:
            raise Malformed("bad_samples", f"{name} has {len(channel)} bytes, {rep.samples} samples need twice that")
    if (rep.velocity is None) != (rep.velocity_scale is None):
        raise Malformed("bad_samples", "velocity needs its velocity_scale, and the other way round")
    if rep.marks is not None and not (list(rep.marks) == sorted(rep.marks) and rep.marks[-1] < rep.samples):
        raise Malformed("bad_samples", f"marks {rep.marks} are not in order within {rep.samples} samples")


def decode_command(payload: bytes) -> Command:
    """Read a command. Raises Malformed."""
    command: Command = _COMMAND.decode(payload)
    return command


def decode_metric(payload: bytes) -> Metric:
    """Read a record of the metric topic. Raises Malformed."""
    metric: Metric = _METRIC.decode(payload)
    return metric


def decode_patient_fact(payload: bytes) -> PatientFact:
    """Read a record of the patient topic. Raises Malformed."""
    fact: PatientFact = _PATIENT.decode(payload)
    return fact


def encode(message: msgspec.Struct, encoding: Encoding = "msgpack") -> bytes:
    """Write a message.

    Examples
    --------
    >>> from streams.core.telemetry import Heartbeat
    >>> encode(Heartbeat(boot_id="b1", seq=7, t_us=5), "json")
    b'{"type":"heartbeat","boot_id":"b1","seq":7,"t_us":5}'
    """
    return _ENCODE_JSON(message) if encoding == "json" else _ENCODE_MSGPACK(message)


@cache  # msgspec builds the answer anew each time
def _tag(kind: type[msgspec.Struct]) -> str:
    return str(kind.__struct_config__.tag)


def type_name(message: msgspec.Struct) -> str:
    """Return the `type` of a message.

    Examples
    --------
    >>> from streams.core.telemetry import Heartbeat
    >>> type_name(Heartbeat(boot_id="b1", seq=7, t_us=5))
    'heartbeat'
    """
    return _tag(type(message))


def ce_type(message: msgspec.Struct) -> str:
    """Return the CloudEvents type of a message, for example `spineloop.rep.v1`."""
    return f"spineloop.{type_name(message)}.v1"


def message_id(machine: str, message: Telemetry) -> str:
    """Name a message by where it comes from, so that its repetition carries the same name.

    Examples
    --------
    >>> from streams.core.telemetry import Heartbeat
    >>> message_id("acme/north/m1", Heartbeat(boot_id="b1", seq=7, t_us=5))
    'acme/north/m1/b1/7'
    """
    seq = getattr(message, "seq", None)
    return f"{machine}/{message.boot_id}/{type_name(message) if seq is None else seq}"
