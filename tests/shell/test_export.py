"""Export: results as Parquet that pandas, DuckDB and Polars read alike, each result once."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from adaptors import parquet_file
from adaptors.parquet_file import ParquetFile
from adaptors.sqlite_log import open_sqlite_log
from adaptors.sqlite_reading import open_sqlite_reading
from spineloop import exporting
from spineloop.embedded import PARTITIONS
from spineloop.exporting import Exported, export
from spineloop.rows import SHEETS, Column, What
from streams.core import codec
from streams.core.catalogue import METRICS
from streams.core.commands import Command
from streams.core.danger import early_stop
from streams.core.operators import OperatorAsked
from streams.core.records import REPLAYED, NewRecord, Record, header
from streams.core.results import CommandClosed, RepMeasured
from streams.core.topics import COMMAND, METRIC
from streams.reducer import REDRIVEN
from streams.stretch import At, Wanted
from tests.shell.spoken import Spineloop, in_thread
from tests.shell.week import as_it_was, everything

LEVELS = {"reps": "rep", "sets": "set", "sessions": "session", "patients": "patient"}


class Rows:
    """A file that remembers its rows."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    @property
    def written(self) -> int:
        return len(self.rows)

    def add(self, row: Any) -> None:
        self.rows.append(row)


async def exported(folder: Path, what: What, wanted: Wanted = Wanted()) -> list[Any]:  # noqa: B008 - frozen
    rows = Rows()
    async with open_sqlite_reading(folder / "log.db") as log:
        await export(log, wanted, {what: rows})
    return rows.rows


async def of_type(folder: Path, topic: str, ce_type: str) -> list[Record]:
    async with open_sqlite_reading(folder / "log.db") as log:
        return [record for record in await everything(log, topic) if header(record, "ce_type") == ce_type]


async def appended(folder: Path, records: Sequence[NewRecord]) -> None:
    async with open_sqlite_log(folder / "log.db", PARTITIONS) as log:
        await log.append(records)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(data: Path, tmp_path: Path, spineloop: Spineloop) -> Path:
    said = spineloop("export", "--data", data, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    return tmp_path / "out"


def in_sql(query: str) -> duckdb.DuckDBPyRelation:
    found = duckdb.sql(query)
    assert found is not None
    return found


@pytest.mark.parametrize("what", SHEETS)
def test_pandas_duckdb_and_polars_read_the_same(files: Path, what: What) -> None:
    file = files / f"{what}.parquet"
    in_pandas, in_polars = pd.read_parquet(file), pl.read_parquet(file)
    in_duckdb = in_sql(f"SELECT * FROM '{file}'").pl()  # noqa: S608 - our own file
    assert in_pandas.shape == in_polars.shape == in_duckdb.shape
    assert in_polars.height > 0
    names = [column.name for column in SHEETS[what].columns]
    assert list(in_pandas.columns) == in_polars.columns == in_duckdb.columns == names
    numbers = [column.name for column in SHEETS[what].columns if column.kind in {"number", "integer", "text", "json"}]
    assert in_polars.select(numbers).equals(in_duckdb.select(numbers))
    for name in numbers:
        column = in_pandas[name]
        assert [None if pd.isna(one) else one for one in column] == in_polars[name].to_list()


@pytest.mark.parametrize(("what", "level"), LEVELS.items())
def test_every_metric_of_the_catalogue_is_a_column_with_its_unit(files: Path, what: What, level: str) -> None:
    schema = pq.read_schema(files / f"{what}.parquet")
    expected = {row.name: row.unit for row in METRICS if row.level == level}
    assert {name: schema.field(name).metadata[b"unit"].decode() for name in expected} == expected
    units = json.loads(schema.metadata[b"units"])
    assert expected.items() <= units.items()
    assert "undefined" in schema.names


async def test_each_rep_has_the_numbers_of_its_record_and_says_why_others_are_undefined(
    data: Path, files: Path
) -> None:
    said = [codec.decode_metric(one.value or b"") for one in await of_type(data, METRIC, "spineloop.rep_measured.v1")]
    rows = {row["id"]: row for row in pl.read_parquet(files / "reps.parquet").to_dicts()}
    names = [row.name for row in METRICS if row.level == "rep"]
    assert len(rows) == len(said) > 50
    for rep in said:
        assert isinstance(rep, RepMeasured)
        row = rows[rep.id]
        assert {name: row[name] for name in names if row[name] is not None} == dict(rep.values)
        assert json.loads(row["undefined"]) == dict(rep.undefined)
        assert set(names) == dict(rep.values).keys() | dict(rep.undefined).keys()
        assert (row["load_N"], row["valid"], row["reasons"]) == (rep.load_N, rep.valid, list(rep.reasons))
        assert round(row["at"].timestamp() * 1_000) == rep.at_ms
        assert row["uncatalogued"] is None


def test_units_can_be_asked_of_the_file_in_sql(files: Path) -> None:
    query = f"SELECT decode(value) FROM parquet_kv_metadata('{files}/reps.parquet') WHERE decode(key) = 'units'"  # noqa: S608
    ((units,),) = in_sql(query).fetchall()
    assert json.loads(units)["mean_velocity"] == "m/s|rad/s"


def test_no_metric_has_the_name_of_a_field() -> None:
    for sheet in SHEETS.values():
        names = [column.name for column in sheet.columns]
        assert len(names) == len(set(names))


@given(
    rows=st.lists(st.fixed_dictionaries({"n": st.none() | st.integers(-5, 5), "t": st.none() | st.text(max_size=3)})),
    chunk=st.integers(1, 5),
    group=st.integers(1, 9),
)
def test_however_it_is_cut_into_groups_every_row_is_there_in_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], chunk: int, group: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "f.parquet"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parquet_file, "CHUNK_ROWS", chunk)
        patched.setattr(parquet_file, "GROUP_ROWS", group)
        with ParquetFile(path, [Column("n", "integer", "s"), Column("t", "text")]) as file:
            for row in rows:
                file.add(row)
    told = pq.ParquetFile(path)
    assert told.read().to_pylist() == rows
    sizes = [told.metadata.row_group(number).num_rows for number in range(told.num_row_groups)]
    assert max(sizes, default=0) <= max(group + chunk - 1, chunk)


# --- what is in them --------------------------------------------------------------------------------------------------


async def test_what_was_written_twice_after_a_crash_is_one_row(data: Path) -> None:
    before = await exported(data, "reps")
    reps = await of_type(data, METRIC, "spineloop.rep_measured.v1")
    await appended(data, [as_it_was(record) for record in reps[-40:]])
    assert await exported(data, "reps") == before


async def test_of_what_a_replay_wrote_again_the_last_one_counts(data: Path) -> None:
    before = await exported(data, "reps")
    reps = await of_type(data, METRIC, "spineloop.rep_measured.v1")
    for side in ("left", "right"):
        again = [_of_side(record, side) for record in reps[:7]]
        await appended(data, again)
    after = {row["id"]: row for row in await exported(data, "reps")}
    assert len(after) == len(before)
    changed = {header(record, "ce_id") for record in reps[:7]}
    assert {row["id"]: row["side"] for row in before if row["id"] not in changed} == {
        name: row["side"] for name, row in after.items() if name not in changed
    }
    assert {after[name]["side"] for name in changed if name} == {"right"}
    in_time = Wanted(until=At(time_ms=reps[6].timestamp_ms + 1))
    assert {row["side"] for row in await exported(data, "reps", in_time) if row["id"] in changed} == {"right"}


def _of_side(record: Record, side: str) -> NewRecord:
    rep = codec.decode_metric(record.value or b"")
    value = codec.encode(replace(rep, side=side))
    return replace(as_it_was(record), value=value, headers=(*record.headers, (REPLAYED, b"1")))


async def test_a_letter_that_went_back_to_the_metrics_is_no_second_row(data: Path) -> None:
    before = await exported(data, "notices")
    notices = await of_type(data, METRIC, "spineloop.notice.v1")
    again = [replace(as_it_was(record), headers=(*record.headers, (REDRIVEN, b"0/1"))) for record in notices]
    await appended(data, again)
    assert await exported(data, "notices") == before


@pytest.mark.parametrize("what", SHEETS)
async def test_times_cut_the_rows_and_both_sides_make_up_the_whole(data: Path, what: What) -> None:
    whole = await exported(data, what)
    time = "issued" if what == "commands" else "at"
    middle_ms = sorted(row[time] for row in whole)[len(whole) // 2]
    before = await exported(data, what, Wanted(until=At(time_ms=middle_ms)))
    after = await exported(data, what, Wanted(since=At(time_ms=middle_ms)))
    name = "ce_id" if what == "commands" else "id"
    assert {row[name] for row in before} | {row[name] for row in after} == {row[name] for row in whole}
    assert len(before) + len(after) == len(whole)
    if what != "commands":  # whose issue a clock of the policy may precede
        assert all(row[time] < middle_ms for row in before)
        assert all(row[time] >= middle_ms for row in after)


async def test_a_command_says_how_it_ended_even_if_that_is_after_the_range(data: Path) -> None:
    closed = {
        one.command_id: one
        for record in await of_type(data, METRIC, "spineloop.command_closed.v1")
        if isinstance(one := codec.decode_metric(record.value or b""), CommandClosed)
    }
    rows = await exported(data, "commands")
    assert len(rows) == len({row["ce_id"] for row in rows}) == len(await of_type(data, COMMAND, "spineloop.command.v1"))
    known = [row for row in rows if row["command_id"] in closed]
    assert len(known) > 10
    for row in known:
        end = closed[row["command_id"]]
        assert (row["outcome"], row["outcome_reason"], row["closed"]) == (end.outcome, end.reason, end.at_ms)
    assert all("outcome" not in row for row in rows if row["command_id"] not in closed)
    first = min(rows, key=lambda row: row["issued"])
    (alone,) = [
        row
        for row in await exported(data, "commands", Wanted(until=At(time_ms=first["issued"] + 1)))
        if row["ce_id"] == first["ce_id"]
    ]
    assert alone == first
    assert "outcome" in alone


async def test_a_command_that_was_repeated_is_a_row_for_each_attempt(data: Path) -> None:
    rows = await exported(data, "commands")
    assert {row["attempt"] for row in rows if "#" not in row["ce_id"]} == {0}
    assert {row["attempt"] for row in rows if row["ce_id"].endswith("#2")} == {2}


async def test_a_stop_that_did_not_wait_for_the_controller_is_no_row_beside_the_controllers(data: Path) -> None:
    before = await exported(data, "commands")
    asked = OperatorAsked(machine="acme/north/m1", id="0" * 32, by="Kim", reason="unwell", action="stop")
    await appended(data, early_stop(asked, max(row["issued"] for row in before), "p"))
    assert await exported(data, "commands") == before


async def test_rows_wait_for_an_outcome_no_longer_than_they_may(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "OUTCOME_MS", 1)
    most = 0
    release = exporting._Ended.release  # noqa: SLF001 - what it holds

    def watched(self: Any, before_ms: float) -> None:
        nonlocal most
        release(self, before_ms)
        most = max(most, len(self._waiting))

    monkeypatch.setattr(exporting._Ended, "release", watched)  # noqa: SLF001
    rows = await exported(data, "commands")
    assert most < 10
    assert len(rows) == len(await of_type(data, COMMAND, "spineloop.command.v1"))


async def test_records_that_can_t_be_read_are_counted_and_the_others_are_written(data: Path) -> None:
    before = await exported(data, "reps")
    (some, *_) = await of_type(data, METRIC, "spineloop.rep_measured.v1")
    await appended(data, [replace(as_it_was(some), value=b"{}", headers=(("ce_type", some.headers[2][1]),))])
    rows = Rows()
    async with open_sqlite_reading(data / "log.db") as log:
        found = await export(log, Wanted(), {"reps": rows})
    assert found == Exported({"reps": len(before)}, {"unknown_type": 1})


async def test_a_metric_of_another_release_is_kept_though_it_has_no_column(data: Path) -> None:
    (some, *_) = await of_type(data, METRIC, "spineloop.rep_measured.v1")
    rep = codec.decode_metric(some.value or b"")
    assert isinstance(rep, RepMeasured)
    new = replace(rep, id="x/y", values=dict(rep.values) | {"grace_pct": 4.5})
    headers = tuple((name, b"x/y" if name == "ce_id" else value) for name, value in some.headers)
    await appended(data, [replace(as_it_was(some), value=codec.encode(new), headers=headers)])
    (row,) = [row for row in await exported(data, "reps") if row["id"] == "x/y"]
    assert row["uncatalogued"] == {"grace_pct": 4.5}


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--what", "everything", "--out", "OUT"), "--what: expected one of reps, sets, sessions, commands, notices"),
        (("--what", "reps", "--what", "sets", "--out", "OUT/f.parquet"), "--out: OUT/f.parquet is one file, for one"),
        (("--what", "reps", "--out", "/nowhere/f.parquet"), "--out: no folder to write to: /nowhere"),
        (("--out", "OUT", "--from", "17"), "--from: expected a time such as 2026-11-23T18:00, got '17'"),
        (("--out", "OUT", "--from", "2026-11-02", "--to", "2026-11-01"), "--to: the stretch ends at 2026-11-01T00:00"),
    ],
)
def test_a_wrong_question_is_one_clear_line(
    data: Path, spineloop: Spineloop, tmp_path: Path, words: Sequence[str], told: str
) -> None:
    said = spineloop("export", "--data", data, *(word.replace("OUT", str(tmp_path)) for word in words))
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert said.err.startswith(f"spineloop: {told.replace('OUT', str(tmp_path))}")


def test_what_was_written_is_told_to_programs(data: Path, spineloop: Spineloop, tmp_path: Path) -> None:
    said = spineloop("export", "--data", data, "--out", tmp_path, "--what", "reps", "--what", "sets", "--json")
    assert said.code == 0
    files = {what: tmp_path / f"{what}.parquet" for what in ("reps", "sets")}
    rows = {what: pl.read_parquet(file).height for what, file in files.items()}
    assert said.told == {"rows": rows, "files": {what: str(file) for what, file in files.items()}, "unread": {}}


def test_where_there_is_no_log_no_folder_is_made(spineloop: Spineloop, tmp_path: Path) -> None:
    said = spineloop("export", "--data", tmp_path / "none", "--out", tmp_path / "out")
    assert (said.code, said.err) == (2, f"spineloop: --data: no log in {tmp_path / 'none'}\n")
    assert not (tmp_path / "out").exists()


async def test_one_file_of_one_kind_and_nothing_of_the_log_is_touched(
    data: Path, spineloop: Spineloop, tmp_path: Path
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in data.iterdir()}  # noqa: ASYNC240 - a test
    file = tmp_path / "reps.parquet"
    said = await in_thread(spineloop, "export", "--data", data, "--what", "reps", "--out", file)
    assert said.out == f"{pq.read_metadata(file).num_rows:,} reps: {file}\n"
    assert {path.name: path.stat().st_mtime_ns for path in data.iterdir()} == before  # noqa: ASYNC240


def test_the_commands_of_a_command_are_those_of_the_struct() -> None:
    told = {column.name for column in SHEETS["commands"].columns}
    assert {name.removesuffix("_ms") for name in Command.__struct_fields__} - {"schema_version"} <= told
