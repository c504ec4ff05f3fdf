"""Contracts: docs/asyncapi.yaml and docs/schemas/, written from the structs, the topics and what puts them there.

`python -m spineloop.contracts` writes them (scripts/contracts), in the development environment; a test compares them
with what stands in docs/.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from adaptors.mqtt_link import BROKER_MAX_PACKET_BYTES
from spineloop import contract_of_log as in_log
from spineloop.contract_of_log import Node, ref, tags, told
from spineloop.pages import DOCS
from spineloop.schemas import FOR_ALL, schema
from spineloop.specimens import SPECIMENS
from spineloop.wiring import MQTT_SESSION_S
from streams.core import codec
from streams.core.codec import KINDS
from streams.core.limits import MAX_MESSAGE_BYTES, NAME_PATTERN
from streams.core.policy import Policy
from streams.core.records import JSON_TYPE
from streams.core.telemetry import Ack, Event, Presence
from streams.core.topics import LOG_TOPICS, Stream, mqtt_topic

PAGE: Final = DOCS / "asyncapi.yaml"
SCHEMAS: Final = DOCS / "schemas"

STREAMS: Final[Mapping[Stream, tuple[str, ...]]] = {
    "rep": ("rep",),
    "event": tags(Event),
    "ack": tags(Ack),
    "presence": tags(Presence),
    "command": ("command",),
}
"""What is said on each stream of a machine."""

SAID: Final[Mapping[Stream, str]] = {
    "rep": "One repetition with its samples, 0.5 s after it ended.",
    "event": "What happens at the machine, at once. Reps, events and acknowledgements share one sequence of a boot.",
    "ack": "How a command ended at the machine: exactly one acknowledgement for each.",
    "presence": "Whether the machine is there: retained, and `offline` is also the last will. Outside the sequence.",
    "command": "One adjustment. MQTT carries its expiry, the topic of its acknowledgement as response topic, and its "
    "id as correlation data; the payload repeats id and expiry.",
}

_CREDENTIAL: Final = "User name `tenant/site/machine`; password what `spineloop machines add` printed."

_INFO: Final = f"""\
Machines speak MQTT 5 with QoS 1 both ways, in JSON or MessagePack of one schema, at most {MAX_MESSAGE_BYTES} bytes a \
message. Consumers read Kafka. The operations here are those of spineloop: a machine sends what spineloop receives.

{FOR_ALL}

Everything is delivered at least once. A repetition has the same `boot_id` and `seq` on MQTT, and the same `ce_id` and \
bytes in Kafka; a command that is sent again keeps its `command_id`, and its `ce_id` has `#` and the attempt behind it.

docs/for-device-makers.md says what a machine has to do, and how versions change."""


def document() -> Node:
    """Return the AsyncAPI 3.0 document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "spineloop",
            "version": "1.0.0",
            "description": _INFO,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": JSON_TYPE.decode(),
        "servers": {"machines": _broker(), "clinic": _wall(), "log": in_log.server()},
        "channels": {
            **{stream: _stream(stream) for stream in STREAMS},
            **{topic: in_log.channel(topic) for topic in LOG_TOPICS},
        },
        "operations": {
            **{_operation(stream): _of_machine(stream) for stream in STREAMS},
            **{f"write.{topic}": in_log.operation(topic) for topic in LOG_TOPICS},
        },
        "components": {
            "messages": {
                **{name: _message(name) for names in STREAMS.values() for name in names},
                **in_log.messages(),
            },
            "messageTraits": in_log.traits(),
            "securitySchemes": {"secret": {"type": "userPassword", "description": _CREDENTIAL}},
            "parameters": {
                name: {"description": f"{means} Matches `{NAME_PATTERN}`."}
                for name, means in (("tenant", "Whose it is."), ("site", "Where it stands."), ("machine", "Its name."))
            },
        },
    }


def _broker() -> Node:
    offline = codec.encode(SPECIMENS["offline"], "json").decode()
    return {
        "host": "{host}:1883",
        "protocol": "mqtt",
        "protocolVersion": "5.0",
        "description": "A broker on loopback that asks nobody who he is: the one that `spineloop serve` brings along, "
        "which speaks MQTT 5 only, or a mosquitto to try things.",
        "variables": {"host": {"default": "localhost"}},
        "bindings": {
            "mqtt": {
                "cleanSession": False,
                "sessionExpiryInterval": MQTT_SESSION_S,
                "maximumPacketSize": BROKER_MAX_PACKET_BYTES,
                "lastWill": {"topic": _address("presence"), "qos": 1, "retain": True, "message": offline},
                "bindingVersion": "0.2.0",
            }
        },
    }


def _wall() -> Node:
    wall = {**_broker(), "host": "{host}:8883", "protocol": "secure-mqtt"}
    wall["description"] = "A clinic's broker: TLS with the clinic's `ca.crt`. The user name is the client id as well."
    return {**wall, "security": [ref("components", "securitySchemes", "secret")]}


def _address(stream: Stream) -> str:
    return mqtt_topic("{tenant}/{site}/{machine}", stream)


def _stream(stream: Stream) -> Node:
    return {
        "address": _address(stream),
        "summary": SAID[stream],
        "servers": [ref("servers", "machines"), ref("servers", "clinic")],
        "parameters": {name: ref("components", "parameters", name) for name in ("tenant", "site", "machine")},
        "messages": {name: ref("components", "messages", name) for name in STREAMS[stream]},
    }


def _operation(stream: Stream) -> str:
    return f"send.{stream}" if stream == "command" else f"hear.{stream}"


def _of_machine(stream: Stream) -> Node:
    binding: Node = {"qos": 1, "retain": stream == "presence", "bindingVersion": "0.2.0"}
    operation: Node = {
        "action": "send" if stream == "command" else "receive",
        "channel": ref("channels", stream),
        "summary": SAID[stream],
        "bindings": {"mqtt": binding},
    }
    if stream == "command":
        binding["messageExpiryInterval"] = _expiry()
        answers = [ref("channels", "ack", "messages", name) for name in STREAMS["ack"]]
        operation["reply"] = {"channel": ref("channels", "ack"), "messages": answers}
    return operation


def _expiry() -> Node:
    policy = Policy()
    means = (
        f"Seconds left until `expires_ms`: from {policy.command_ttl_s:g} s for an adjustment, {policy.plan_ttl_s:g} s "
        f"for a prescription and {60 * policy.resend_ttl_min:g} s for `resend`, unless the policy says otherwise. STOP "
        "has none."
    )
    return {"type": "integer", "minimum": 1, "description": means}


def _message(name: str) -> Node:
    message = told(name, JSON_TYPE)
    if name == "command":
        message["bindings"] = {
            "mqtt": {
                "payloadFormatIndicator": 0,
                "correlationData": {"type": "string", "description": "The `command_id`."},
                "contentType": JSON_TYPE.decode(),
                "responseTopic": _address("ack"),
                "bindingVersion": "0.2.0",
            }
        }
    return message


_HEAD: Final = "# Written by scripts/contracts from the structs and topics of streams/core/: edit there.\n"


def files() -> dict[Path, str]:
    """Return every file of the contract and its text."""
    page = yaml.safe_dump(_apart(document()), sort_keys=False, allow_unicode=True, width=120)
    return {PAGE: _HEAD + page} | {
        SCHEMAS / f"{name}.json": json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n" for name in KINDS
    }


def _apart(node: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Copy a document part by part, so that YAML has no anchors."""
    if isinstance(node, dict):
        return {key: _apart(value) for key, value in node.items()}
    return [_apart(one) for one in node] if isinstance(node, list) else node


def main() -> None:
    """Write the files, and remove the schemas of messages that are gone."""
    SCHEMAS.mkdir(exist_ok=True)
    wanted = files()
    for stale in set(SCHEMAS.glob("*.json")) - set(wanted):
        stale.unlink()
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
