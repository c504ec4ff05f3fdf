"""Parquet: rows into one file, group by group, each column with its unit beside it.

Importing this module costs a third of a second, because pyarrow does: only who writes such a file imports it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

CHUNK_ROWS = 2_000
"""Rows held as Python objects: some 10 MB of reps."""

GROUP_ROWS = 20_000
"""Rows of one group, held as arrays until it is written: some 15 MB of reps."""

_TYPES: Mapping[str, pa.DataType] = {
    "text": pa.string(),
    "json": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "truth": pa.bool_(),
    "time": pa.timestamp("ms", tz="UTC"),
    "texts": pa.list_(pa.string()),
}
_json = msgspec.json.Encoder(order="deterministic").encode


class Column(Protocol):
    """One column: its name, how it is stored (a name in `_TYPES`), its unit and what it means, if any."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def unit(self) -> str: ...  # noqa: D102
    @property
    def meaning(self) -> str: ...  # noqa: D102


class ParquetFile:
    """A file that grows by rows. `unit` and `meaning` are metadata of each field; `units` of the file holds all units.

    Parameters
    ----------
    path : Path
        Where; what is there is replaced.
    columns : sequence of Column
        The columns, in order.
    """

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._schema = schema(columns)
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[Mapping[str, Any]] = []
        self._chunks: list[pa.RecordBatch] = []
        self.written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *what: object) -> None:
        if what[0] is None:
            self._write_group()
        self._writer.close()

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one row; a column that it does not name is null."""
        self._rows.append(row)
        self.written += 1
        if len(self._rows) >= CHUNK_ROWS:
            self._turn_into_arrays()
            if sum(chunk.num_rows for chunk in self._chunks) >= GROUP_ROWS:
                self._write_group()

    def _turn_into_arrays(self) -> None:
        arrays = [pa.array(_values(column, self._rows), _TYPES[column.kind]) for column in self._columns]
        self._chunks.append(pa.record_batch(arrays, schema=self._schema))
        self._rows = []

    def _write_group(self) -> None:
        self._turn_into_arrays()
        table = pa.Table.from_batches(self._chunks, schema=self._schema)
        if table.num_rows:
            self._writer.write_table(table, row_group_size=table.num_rows)
        self._chunks = []


def _values(column: Column, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return one column of rows."""
    name = column.name
    values = [row.get(name) for row in rows]
    if column.kind == "json":
        return [None if value is None else _json(value).decode() for value in values]
    return values


def schema(columns: Sequence[Column]) -> pa.Schema:
    """Return the schema of a file with these columns."""
    fields = []
    for column in columns:
        beside = {name: told for name, told in (("unit", column.unit), ("meaning", column.meaning)) if told}
        fields.append(pa.field(column.name, _TYPES[column.kind], metadata=beside or None))
    units = {column.name: column.unit for column in columns if column.unit}
    return pa.schema(fields, metadata={"units": _json(units)})
