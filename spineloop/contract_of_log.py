"""The log side of docs/asyncapi.yaml: topics, keys, headers, and what each topic holds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, get_args, get_type_hints

from adaptors import kafka_topics
from ingest.arrival import MQTT_TOPIC, TRACEPARENT
from spineloop.schemas import summary
from spineloop.settings import Settings
from streams.checkpoint import POSITION_KEY
from streams.core import codec
from streams.core.codec import KINDS
from streams.core.dead_letters import CUT, CUT_BYTES, PREFIX, dead_letter
from streams.core.records import JSON_TYPE, MSGPACK_TYPE, SPEC_VERSION, Record, cloud_event
from streams.core.topics import (
    COMMAND,
    CONTROLLER_STATE,
    DEAD_LETTER,
    LOG_TOPICS,
    METRIC,
    PATIENT,
    PLANNER_STATE,
    TELEMETRY,
)

Node = dict[str, Any]


def tags(*kinds: Any) -> tuple[str, ...]:  # noqa: ANN401 - a struct, or a union of them
    """Return the names of types of messages.

    Examples
    --------
    >>> from streams.core.telemetry import Presence
    >>> tags(Presence)
    ('online', 'offline')
    """
    return tuple(str(one.__struct_config__.tag) for kind in kinds for one in get_args(kind) or (kind,))


READERS: Final[Mapping[str, Callable[..., object]]] = {
    TELEMETRY: codec.decode_telemetry,
    METRIC: codec.decode_metric,
    COMMAND: codec.decode_command,
    PATIENT: codec.decode_patient_fact,
}
"""Who reads the topics of the log that hold messages."""

IN_LOG: Final[Mapping[str, tuple[str, ...]]] = {
    topic: tags(get_type_hints(reader)["return"]) for topic, reader in READERS.items()
}
"""What each of these topics holds: what its reader may find."""

STATES: Final = (CONTROLLER_STATE, PLANNER_STATE)
REPLICATION: Final = 3

_MACHINE_KEY: Final[Node] = {"type": "string", "description": "UTF-8 `tenant/site/machine`."}
_KEYS: Final[Mapping[str, Node]] = {
    "machine": _MACHINE_KEY,
    "patient": {"type": "string", "description": "UTF-8 `tenant/pseudonym`."},
    "as received": {
        "type": "string",
        "description": "The key of the record that was put aside; of a message with a topic of nobody's, that topic.",
    },
}


def messages() -> Node:
    """Return every message of the log by its name in the document."""
    return {
        **{f"{topic}.{name}": _record(topic, name) for topic, names in IN_LOG.items() for name in names},
        **{f"{topic}.state": _state(topic) for topic in STATES},
        f"{DEAD_LETTER}.letter": _letter(),
    }


def traits() -> Node:
    """Return what the messages of a topic have in common."""
    return {topic: _trait(topic) for topic in IN_LOG}


def server() -> Node:
    """Return the Kafka server."""
    return {
        "host": "{host}:9092",
        "protocol": "kafka",
        "description": "The log. Topics are made by `spineloop topics create`, with equally many partitions each.",
        "variables": {"host": {"default": "localhost"}},
    }


def ref(*path: str) -> Node:
    """Refer to a place in the document."""
    return {"$ref": "#/" + "/".join(path)}


def told(name: str, content_type: bytes) -> Node:
    """Return what a message is, wherever it is said."""
    return {
        "name": name,
        "title": KINDS[name].__name__,
        "summary": summary(name),
        "contentType": content_type.decode(),
        "payload": {"$ref": f"./schemas/{name}.json"},
    }


def channel(topic: str) -> Node:
    """Return a topic, and how it is kept."""
    row = LOG_TOPICS[topic]
    kept = kafka_topics.settings(row, REPLICATION)
    numbers = ("retention.ms", "max.message.bytes")
    if topic in IN_LOG:
        names: Sequence[str] = [f"{topic}.{name}" for name in IN_LOG[topic]]
    else:
        names = [f"{topic}.letter" if topic == DEAD_LETTER else f"{topic}.state"]
    return {
        "address": topic,
        "summary": f"{row.purpose[0].upper()}{row.purpose[1:]}. Keyed by {row.key}.".replace("by as", "as"),
        "servers": [ref("servers", "log")],
        "messages": {name.removeprefix(f"{topic}."): ref("components", "messages", name) for name in names},
        "bindings": {
            "kafka": {
                "topic": topic,
                "partitions": Settings().partitions,
                "replicas": REPLICATION,
                "topicConfiguration": {
                    "cleanup.policy": [kept["cleanup.policy"]],
                    **{name: int(kept[name]) for name in numbers if name in kept},
                },
                "bindingVersion": "0.5.0",
            }
        },
    }


def operation(topic: str) -> Node:
    """Return what spineloop does with a topic: it writes it."""
    return {"action": "send", "channel": ref("channels", topic), "summary": LOG_TOPICS[topic].purpose}


def _record(topic: str, name: str) -> Node:
    return {
        **told(name, MSGPACK_TYPE),
        "headers": {"type": "object", "properties": {"ce_type": {"const": f"spineloop.{name}.v1"}}},
        "traits": [ref("components", "messageTraits", topic)],
    }


_HEADERS: Final[Mapping[str, Node]] = {
    "ce_specversion": {"const": SPEC_VERSION.decode()},
    "ce_id": {
        "type": "string",
        "description": "A function of what caused the record: a repetition has the same id and the same bytes.",
    },
    "ce_type": {"type": "string", "pattern": "^spineloop\\.[a-z_]+\\.v1$"},
    "ce_source": {"type": "string", "pattern": "^/", "description": "The key, with a slash before it."},
    "ce_time": {"type": "string", "format": "date-time", "description": "Ingest time of the cause, RFC 3339 in UTC."},
    "content-type": {"enum": [MSGPACK_TYPE.decode(), JSON_TYPE.decode()]},
    TRACEPARENT: {"type": "string", "description": "W3C trace context, if the cause had one."},
}
"""CloudEvents 1.0, binary mode of the Kafka binding, and what travels beside it."""


def headers_schema() -> Node:
    """Return the JSON Schema of the headers of a record that holds a message."""
    always = [name for name, _ in cloud_event(ce_id="", ce_type="", source="", time_ms=0, content_type=b"")]
    return {"type": "object", "required": always, "properties": dict(_HEADERS)}


def _trait(topic: str) -> Node:
    as_sent = "The value is what the machine sent, unchanged: `content-type` says JSON or MessagePack."
    return {
        "headers": headers_schema(),
        **({"description": as_sent} if topic == TELEMETRY else {}),
        "bindings": {"kafka": _key(LOG_TOPICS[topic].key)},
    }


def _key(of: str) -> Node:
    return {"key": dict(_KEYS[of]), "bindingVersion": "0.5.0"}


def _state(topic: str) -> Node:
    first = POSITION_KEY.decode()
    return {
        "name": "state",
        "title": "State",
        "summary": "The state of one key and the position up to which it is true. Not a contract: it changes freely.",
        "description": f"The key {first!r} holds the position of the whole checkpoint.",
        "contentType": MSGPACK_TYPE.decode(),
        "payload": {},
        "bindings": {"kafka": _key(LOG_TOPICS[topic].key)},
    }


_WHY: Final[Mapping[str, str]] = {
    "topic": "The topic where it stood, or would have.",
    "connector.name": "Always spineloop.",
    "stage": "Who could not understand it: ingest, control, plan, history, downlink.",
    "exception.class.name": "`Malformed` if the sender is wrong, `Defect` if spineloop is.",
    "exception.message": "The reason as one word, a colon, and a sentence for a person.",
    "partition": "Where it stood, if it did.",
    "offset": "Where it stood, if it did.",
    "exception.stacktrace": "The end of the trace, if the fault is ours.",
}


def letter_headers_schema() -> Node:
    """Return the JSON Schema of the headers of a dead letter."""
    plain = dead_letter(Record("t", 0, 0, b"", b"", 0), stage="", reason="", detail="", trace="")
    always = [name for name, _ in plain.headers if name.removeprefix(PREFIX) not in {"partition", "offset"}]
    properties: Node = {PREFIX + name: {"type": "string", "description": told} for name, told in _WHY.items()}
    properties[CUT] = {
        "type": "string",
        "description": "Of one that was too large for the log: its bytes in all. Of its key and value the first "
        f"{CUT_BYTES} are here, and its headers if they fit.",
    }
    properties[MQTT_TOPIC] = {"type": "string", "description": "The MQTT topic on which it came, of one from ingest."}
    return {"type": "object", "required": always, "properties": properties}


def _letter() -> Node:
    return {
        "name": "letter",
        "title": "Dead letter",
        "summary": "What could not be understood: value and headers as they came, or cut, and why in headers.",
        "contentType": "application/octet-stream",
        "headers": letter_headers_schema(),
        "payload": {},
        "bindings": {"kafka": _key("as received")},
    }
