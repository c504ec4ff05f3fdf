"""Rows: each kind of result as a flat row, one column a field and one a metric of the catalogue, with its unit."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

import msgspec
from msgspec import inspect

from streams.core import codec
from streams.core.catalogue import METRICS, Level
from streams.core.commands import Command
from streams.core.records import Record, header
from streams.core.results import Notice, PatientAssessed, RepMeasured, SessionSummarised, SetSummarised
from streams.core.topics import COMMAND, METRIC

What = Literal["reps", "sets", "sessions", "commands", "notices", "patients"]
Kind = Literal["text", "integer", "number", "truth", "time", "texts", "json"]

_SUFFIXES: Mapping[str, str] = {"_N": "N|N m", "_s": "s", "_pct": "%"}
_LEFT_OUT = frozenset({"values", "undefined", "schema_version"})


class Column(msgspec.Struct, frozen=True):
    """One column and how it is stored. Of two units, the machine's position unit chooses: m and N, or rad and N m."""

    name: str
    kind: Kind
    unit: str = ""
    meaning: str = ""


class Sheet(msgspec.Struct, frozen=True):
    """One kind of result as a table: the topic and the type of its records, its columns, those of metrics apart."""

    what: What
    topic: str
    of: type[msgspec.Struct]
    fields: tuple[Column, ...]
    metrics: tuple[Column, ...] = ()

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns. `undefined` says for each metric that is None why; `uncatalogued` holds an older release's."""
        return self.fields if not self.metrics else (*self.fields, *self.metrics, *_BESIDE_METRICS)

    @property
    def ce_type(self) -> str:
        """The CloudEvents type of its records."""
        return f"spineloop.{self.of.__struct_config__.tag}.v1"

    def row(self, record: Record) -> dict[str, Any]:
        """Read one record as a row, by name of column; what a row does not have is None. Raises Malformed."""
        payload = record.value or b""
        if self.of is Command:
            command = codec.decode_command(payload)
            ce_id = header(record, "ce_id") or command.command_id
            return _plain(command) | {"ce_id": ce_id, "attempt": _attempt(ce_id)}
        message = codec.decode_metric(payload)
        row = _plain(message)
        if self.metrics:
            values: Mapping[str, float] = getattr(message, "values")  # noqa: B009 - those that have metrics have it
            known = _names(self.metrics)
            row |= {name: value for name, value in values.items() if name in known}
            row["undefined"] = getattr(message, "undefined")  # noqa: B009
            row["uncatalogued"] = {name: value for name, value in values.items() if name not in known} or None
        return row


def _attempt(ce_id: str) -> int:
    """Return which repetition of a command a record is; the first is 0, and so is a STOP that was early."""
    mark = ce_id.partition("#")[2]
    return int(mark) if mark.isdecimal() else 0


@cache  # a few tables, and a row asks it once
def _names(columns: tuple[Column, ...]) -> frozenset[str]:
    return frozenset(column.name for column in columns)


def _plain(message: msgspec.Struct) -> dict[str, Any]:
    names = [name for name in message.__struct_fields__ if name not in _LEFT_OUT]
    return {name.removesuffix("_ms"): getattr(message, name) for name in names}


def _fields(of: type[msgspec.Struct]) -> tuple[Column, ...]:
    info = inspect.type_info(of)
    assert isinstance(info, inspect.StructType)  # noqa: S101 - of a struct
    return tuple(_field(one) for one in info.fields if one.name not in _LEFT_OUT)


def _field(field: inspect.Field) -> Column:
    if field.name.endswith("_ms"):
        return Column(field.name.removesuffix("_ms"), "time")
    unit = next((unit for suffix, unit in _SUFFIXES.items() if field.name.endswith(suffix)), "")
    return Column(field.name, _kind(field.type), unit)


_KINDS: Sequence[tuple[type[inspect.Type], Kind]] = (
    (inspect.StrType, "text"),
    (inspect.LiteralType, "text"),
    (inspect.IntType, "integer"),
    (inspect.FloatType, "number"),
    (inspect.BoolType, "truth"),
)


def _kind(told: inspect.Type) -> Kind:
    """Choose how a field is stored; what is nested goes as JSON."""
    if isinstance(told, inspect.Metadata):
        return _kind(told.type)
    if isinstance(told, inspect.UnionType):
        kinds = {_kind(one) for one in told.types if not isinstance(one, inspect.NoneType)}
        return kinds.pop() if len(kinds) == 1 else "json"
    if isinstance(told, inspect.VarTupleType) and _kind(told.item_type) == "text":
        return "texts"
    return next((kind for of, kind in _KINDS if isinstance(told, of)), "json")


def _metrics(level: Level) -> tuple[Column, ...]:
    return tuple(Column(row.name, "number", row.unit, row.formula) for row in METRICS if row.level == level)


_BESIDE_METRICS = (Column("undefined", "json"), Column("uncatalogued", "json"))
_OF_COMMANDS = (
    Column("ce_id", "text"),
    Column("attempt", "integer"),
    *_fields(Command),
    Column("outcome", "text"),
    Column("outcome_reason", "text"),
    Column("closed", "time"),
)

SHEETS: Mapping[What, Sheet] = {
    "reps": Sheet("reps", METRIC, RepMeasured, _fields(RepMeasured), _metrics("rep")),
    "sets": Sheet("sets", METRIC, SetSummarised, _fields(SetSummarised), _metrics("set")),
    "sessions": Sheet("sessions", METRIC, SessionSummarised, _fields(SessionSummarised), _metrics("session")),
    "commands": Sheet("commands", COMMAND, Command, _OF_COMMANDS),
    "notices": Sheet("notices", METRIC, Notice, _fields(Notice)),
    "patients": Sheet("patients", METRIC, PatientAssessed, _fields(PatientAssessed), _metrics("patient")),
}
"""Every table that can be exported."""
