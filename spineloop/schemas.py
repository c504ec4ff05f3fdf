"""Schemas: JSON Schema 2020-12 of every message, one file each, made from the structs that the decoder enforces.

They use nothing that draft-07 reads otherwise, so that AsyncAPI tools, which know only that one, read them as they are.
It merely can't see what stands at which place of a baseline's or a model's arrays.
"""

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from spineloop.specimens import SPECIMENS
from streams.core.codec import KINDS

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

BASE64: Final = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
"""What the decoder takes for base64: the plain alphabet, padded, without line breaks."""

RELATED: Final[Mapping[str, Sequence[Mapping[str, Any]]]] = {
    "rep": [
        {
            "required": ["velocity", "velocity_scale"],
            "properties": {"velocity": {"type": "string"}, "velocity_scale": {"type": "number"}},
        },
        {"properties": {"velocity": {"type": "null"}, "velocity_scale": {"type": "null"}}},
    ],
    "operator_asked": [
        {"required": ["alarm"], "properties": {"action": {"const": "acknowledge"}, "alarm": {"type": "string"}}},
        {"properties": {"action": {"const": "stop"}, "alarm": {"type": "null"}}},
    ],
}
"""What holds between two fields, by type, as what may be: the decoder checks it after the fields."""

BEYOND: Final[Mapping[str, str]] = {
    "rep": "Beyond this schema: each channel holds exactly `2 * samples` bytes, and `marks` are in order and below "
    "`samples`; else the reason is `bad_samples`.",
}
"""What a schema can't say, by type."""

FOR_ALL: Final = (
    "Whole numbers are written without a decimal point: JSON Schema takes 1.0 for an integer, the decoder does not. "
    "In MessagePack the same names and values; samples are binary instead of base64. Unknown fields are ignored."
)


def schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of one type of message.

    Examples
    --------
    >>> heartbeat = schema("heartbeat")
    >>> heartbeat["$id"], heartbeat["required"], heartbeat["properties"]["queued"]["minimum"]
    ('urn:spineloop:heartbeat:v1', ['type', 'boot_id', 'seq', 't_us'], 0)
    """
    kind = KINDS[name]
    parts = _plain(msgspec.json.schema(kind)["$defs"])
    whole = parts.pop(kind.__name__)
    told = [whole.pop("description"), BEYOND.get(name, ""), FOR_ALL]
    return {
        "$schema": DIALECT,
        "$id": f"urn:spineloop:{name}:v1",
        "title": whole.pop("title"),
        "description": "\n\n".join(filter(None, told)),
        **whole,
        **({"anyOf": list(RELATED[name])} if name in RELATED else {}),
        **({"$defs": parts} if parts else {}),
        "examples": [json.loads(msgspec.json.encode(SPECIMENS[name]))] if name in SPECIMENS else [],
    }


def summary(name: str) -> str:
    """Return the first sentence that a struct says of itself.

    Examples
    --------
    >>> summary("released")
    'A clinician unlocked the machine after a STOP.'
    """
    return " ".join((inspect.getdoc(KINDS[name]) or "").partition("\n\n")[0].split())


def _plain(node: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Write a part of a schema so that both dialects read it alike, and say of base64 what it may be."""
    if isinstance(node, dict):
        node = {key: _plain(value) for key, value in node.items()}
        if "$ref" in node:
            return {"$ref": node["$ref"]}  # in draft-07 what stands beside a reference is not read
        if isinstance(node.get("description"), str):
            node["description"] = inspect.cleandoc(node["description"]).partition("\n\nExamples\n---")[0]
        if node.get("contentEncoding") == "base64":
            node["pattern"] = BASE64
        if node.get("items") is False:
            node["items"] = _same(node.pop("prefixItems"))
        return node
    return [_plain(one) for one in node] if isinstance(node, list | tuple) else node


def _same(items: list[Any]) -> Any:  # noqa: ANN401 - a schema
    """Return what every place of a tuple may hold; a tuple of several types would need words that draft-07 lacks."""
    if any(one != items[0] for one in items):
        raise NotImplementedError(f"a tuple of different types: {items}")
    return items[0]
