"""Replay: the same stretch gives the same digest, the log is compared with what it says, and nothing is touched."""

import hashlib
import signal
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from adaptors.sqlite_log import SqliteLog, open_sqlite_log
from adaptors.sqlite_reading import SqliteReading, open_sqlite_reading
from loadtest.stack import spineloop as command_line
from spineloop.embedded import PARTITIONS
from streams.core import codec
from streams.core.danger import early_stop
from streams.core.operators import OperatorAsked
from streams.core.records import NewRecord, Record, header
from streams.core.telemetry import Heartbeat
from streams.core.topics import COMMAND, CONTROLLER_STATE, METRIC, PATIENT, TELEMETRY
from streams.replay import Replayed, replay
from streams.stretch import LATE_MS, At, OutOfRange, Wanted
from tests.shell import week
from tests.shell.spoken import Spineloop, in_thread
from tests.shell.week import as_it_was, everything, trimmed

MIDDLE_MS = week.START_MS + 400_000


@asynccontextmanager
async def reading(folder: Path) -> AsyncIterator[SqliteReading]:
    async with open_sqlite_reading(folder / "log.db") as log:
        yield log


@asynccontextmanager
async def writing(folder: Path) -> AsyncIterator[SqliteLog]:
    async with open_sqlite_log(folder / "log.db", PARTITIONS) as log:
        yield log


async def replayed(folder: Path, wanted: Wanted = Wanted(), slice_records: int = 500) -> Replayed:  # noqa: B008 - frozen
    async with reading(folder) as log:
        return await replay(log, week.stages(), wanted, slice_records=slice_records)


def contents(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file of a folder, by content and by time of its last change."""
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in folder.iterdir()
    }


# --- the digest -------------------------------------------------------------------------------------------------------


async def test_what_is_recomputed_is_what_the_log_says_byte_for_byte(data: Path) -> None:
    found = await replayed(data)
    assert (found.log.differing, found.log.not_done) == ((), None)
    assert min(found.outputs[topic] for topic in (METRIC, COMMAND, PATIENT, TELEMETRY)) > 5


@pytest.mark.parametrize("slice_records", [1, 7, 10_000])
async def test_the_digest_is_the_same_in_slices_of_any_size(data: Path, slice_records: int) -> None:
    assert (await replayed(data, slice_records=slice_records)).digest == (await replayed(data)).digest


@pytest.mark.parametrize(
    "wanted", [Wanted(), Wanted(since=At(time_ms=MIDDLE_MS), until=At(time_ms=MIDDLE_MS + 300_000))]
)
async def test_the_digest_is_the_same_however_the_partitions_are_cut(
    data: Path, tmp_path: Path, wanted: Wanted
) -> None:
    async with reading(data) as log:
        by_time = sorted(
            [record for topic in (TELEMETRY, PATIENT) for record in await everything(log, topic)],
            key=lambda record: record.timestamp_ms,
        )
    async with open_sqlite_log(tmp_path / "log.db", 7) as other:
        for record in by_time:  # one by one: a key's order stays, that between keys is another
            await other.append([NewRecord(record.topic, record.key, record.value, record.timestamp_ms, record.headers)])
    assert (await replayed(tmp_path, wanted)).digest == (await replayed(data, wanted)).digest


async def test_stretches_that_meet_add_up_to_the_whole(data: Path) -> None:
    whole = await replayed(data)
    before = await replayed(data, Wanted(until=At(time_ms=MIDDLE_MS)))
    after = await replayed(data, Wanted(since=At(time_ms=MIDDLE_MS)))
    assert len({whole.digest, before.digest, after.digest}) == 3
    assert before.counted + after.counted == whole.counted
    assert {topic: before.outputs.get(topic, 0) + after.outputs.get(topic, 0) for topic in whole.outputs} == dict(
        whole.outputs
    )
    assert before.log.differing == after.log.differing == ()
    assert before.log.not_done is None


async def test_offsets_that_meet_add_up_to_the_whole_plans_included(data: Path) -> None:
    whole = await replayed(data)
    before = await replayed(data, Wanted(until=At(offset=150)))
    after = await replayed(data, Wanted(since=At(offset=150)))
    assert {topic: before.outputs.get(topic, 0) + after.outputs.get(topic, 0) for topic in whole.outputs} == dict(
        whole.outputs
    )
    assert before.outputs[TELEMETRY] > 0  # plans, which no offset of the patient topic led to
    assert "choose times" in (before.log.not_done or "")
    assert (await replayed(data, Wanted(since=At(offset=0)))).digest == whole.digest


async def test_machines_of_one_tenant_add_up_to_all(data: Path) -> None:
    whole = await replayed(data)
    async with reading(data) as log:
        machines = sorted({record.key.decode() for record in await everything(log, TELEMETRY)})
    parts = [await replayed(data, Wanted(machines=(machine,))) for machine in machines]
    assert [part.log.differing for part in parts] == [()] * len(machines)
    assert all(part.log.not_done is None for part in parts)
    summed = {topic: sum(part.outputs.get(topic, 0) for part in parts) for topic in whole.outputs}
    assert summed == dict(whole.outputs)
    assert (await replayed(data, Wanted(tenant="acme"))).digest == whole.digest


# --- what the log says ------------------------------------------------------------------------------------------------


async def changed(folder: Path, topic: str, change: Callable[[Record], NewRecord | None]) -> None:
    """Write a topic anew, with changed records."""
    async with writing(folder) as log:
        records = await everything(log, topic)
    with closing(sqlite3.connect(folder / "log.db", isolation_level=None)) as file:
        of_topic = "(SELECT id FROM partition WHERE topic = ?)"
        file.execute(f"DELETE FROM batch WHERE partition_id IN {of_topic}", (topic,))  # noqa: S608 - our own words
        file.execute(f"UPDATE partition SET next_offset = 0 WHERE id IN {of_topic}", (topic,))  # noqa: S608
    async with writing(folder) as log:
        await log.append([new for record in records if (new := change(record)) is not None])


async def test_one_byte_that_is_otherwise_in_the_log_is_found_and_named(data: Path) -> None:
    async with reading(data) as log:
        wrong = (await everything(log, METRIC))[17]

    def change(record: Record) -> NewRecord:
        value = (record.value or b"")[:-1] + b"?"
        return replace(as_it_was(record), value=value) if record == wrong else as_it_was(record)

    await changed(data, METRIC, change)
    assert (await replayed(data)).log.differing == ((METRIC, wrong.key.decode()),)


async def test_a_command_that_is_missing_in_the_log_is_found(data: Path) -> None:
    async with reading(data) as log:
        gone = (await everything(log, COMMAND))[3]
    await changed(data, COMMAND, lambda record: None if record == gone else as_it_was(record))
    assert (await replayed(data)).log.differing == ((COMMAND, gone.key.decode()),)


async def test_a_stop_that_did_not_wait_for_the_controller_is_none_of_its_outputs(data: Path) -> None:
    before = await replayed(data)
    async with reading(data) as log:
        machine = (await everything(log, COMMAND))[0].key.decode()
    asked = OperatorAsked(machine=machine, id="7" * 32, by="Kim", reason="patient unwell", action="stop")
    async with writing(data) as log:
        await log.append(early_stop(asked, week.START_MS, "p"))
        assert len(await everything(log, COMMAND)) == before.outputs[COMMAND] + 1
    after = await replayed(data)
    assert (after.log.differing, after.digest) == ((), before.digest)


async def test_what_was_written_twice_after_a_crash_counts_once(data: Path) -> None:
    async with writing(data) as log:
        await log.append([as_it_was(record) for record in (await everything(log, METRIC))[-200:]])
    assert (await replayed(data)).log.differing == ()


async def test_a_log_whose_engine_is_behind_is_compared_as_far_as_it_came(data: Path) -> None:
    async with writing(data) as log:
        last_ms = max(record.timestamp_ms for record in await everything(log, TELEMETRY))
        waiting = next(record for record in await everything(log, TELEMETRY) if header(record, "ce_type") == REP)
        await log.append([replace(as_it_was(waiting), timestamp_ms=last_ms + 5_000)])
    found = await replayed(data)
    assert (found.log.differing, found.log.not_done) == ((), None)


REP = "spineloop.rep.v1"


class Growing:
    """A log to which somebody writes while it is read."""

    def __init__(self, log: SqliteLog, later: Sequence[NewRecord], when: str) -> None:
        self._log, self._later, self._when = log, list(later), when
        self.offset_at = log.offset_at

    async def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        await self._grow(f"bounds of {topic}")
        return await self._log.bounds(topic)

    async def read(
        self, topic: str, partition: int, start: int | None = None, stop: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        await self._grow(topic)
        async for records in self._log.read(topic, partition, start, stop):
            yield records

    async def _grow(self, now: str) -> None:
        if now == self._when:
            later, self._later = self._later, []
            await self._log.append(later)


@pytest.mark.parametrize("when", [CONTROLLER_STATE, f"bounds of {METRIC}", TELEMETRY, PATIENT, COMMAND])
async def test_a_log_that_grows_meanwhile_is_compared_without_what_came(data: Path, tmp_path: Path, when: str) -> None:
    longer = tmp_path / "longer"
    longer.mkdir()
    async with writing(longer) as log:
        await week.tell(log, week.MESSAGES + 200)
        more = [one for topic in (TELEMETRY, METRIC, COMMAND, PATIENT) for one in await everything(log, topic)]
    async with writing(data) as log:
        known = {one.timestamp_ms for topic in (TELEMETRY,) for one in await everything(log, topic)}
        later = [as_it_was(one) for one in more if one.timestamp_ms > max(known)]
        assert {METRIC, TELEMETRY} <= {one.topic for one in later}
        found = await replay(Growing(log, later, when), week.stages(), Wanted())
    assert (found.log.differing, found.log.not_done) == ((), None)
    assert found.digest == (await replayed(data, Wanted(until=At(time_ms=max(known) + 1)))).digest


async def test_a_log_that_no_engine_has_seen_is_not_called_different(tmp_path: Path) -> None:
    async with writing(tmp_path) as log:
        for chapter in week.chapters(300):
            await log.append(chapter)
    assert "yet" in ((await replayed(tmp_path)).log.not_done or "")


def test_another_policy_than_the_one_at_work_is_named(data: Path, spineloop: Spineloop, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("vl_stop_pct = 15")
    said = spineloop("replay", "--data", data, SPINELOOP_POLICY_FILE=str(tmp_path / "other.toml"))
    assert said.code == 1
    assert "the log says otherwise at" in said.out
    assert "decided by other policies" in said.out


# --- nothing is touched -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("--json",), ("--from", "10"), ("--policy", "POLICY", "--html", "HTML")])
def test_a_replay_leaves_the_folder_as_it_was(
    data: Path, spineloop: Spineloop, tmp_path: Path, words: Sequence[str]
) -> None:
    (tmp_path / "tried.toml").write_text("vl_stop_pct = 25")
    places = {"POLICY": str(tmp_path / "tried.toml"), "HTML": str(tmp_path / "report.html")}
    before = contents(data)
    said = spineloop("replay", "--data", data, *(places.get(word, word) for word in words))
    assert said.code == 0, said.err
    assert contents(data) == before


def test_a_replay_of_the_log_of_the_settings_makes_no_folder(spineloop: Spineloop, tmp_path: Path) -> None:
    said = spineloop("replay", SPINELOOP_LOG_URL=f"sqlite://{tmp_path}/nowhere")
    assert (said.code, said.err) == (2, f"spineloop: no log at {tmp_path}/nowhere/log.db\n")
    assert not (tmp_path / "nowhere").exists()


async def test_published_are_the_metrics_and_nothing_else_and_the_log_still_says_the_same(
    data: Path, spineloop: Spineloop
) -> None:
    async with reading(data) as log:
        before = {topic: await everything(log, topic) for topic in (METRIC, COMMAND, PATIENT, TELEMETRY)}
    digest = (await replayed(data)).digest
    said = await in_thread(spineloop, "replay", "--data", data, "--publish", "--json")
    assert (said.code, said.told["digest"]) == (0, digest), said.err
    async with reading(data) as log:
        after = {topic: await everything(log, topic) for topic in before}
    assert [len(after[topic]) - len(before[topic]) for topic in before] == [said.told["outputs"][METRIC], 0, 0, 0]
    again = [record for record in after[METRIC] if header(record, "spineloop-replayed") is not None]
    assert {(r.key, r.value, r.timestamp_ms) for r in again} == {
        (r.key, r.value, r.timestamp_ms) for r in before[METRIC]
    }
    found = await replayed(data)
    assert (found.digest, found.log.differing) == (digest, ())


@pytest.mark.parametrize("topic", [TELEMETRY, PATIENT])
async def test_nothing_is_published_from_a_log_whose_beginning_is_gone(
    data: Path, spineloop: Spineloop, topic: str
) -> None:
    first = trimmed(data, topic, 1, 1)
    assert first > 0
    async with reading(data) as log:
        before = await log.bounds(METRIC)
    said = await in_thread(spineloop, "replay", "--data", data, "--publish")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"spineloop: nothing is published: {topic} has lost its beginning to retention ")
    assert f"(partition 1 begins at {first})" in said.err
    assert said.err.count("\n") == 1
    async with reading(data) as log:
        assert await log.bounds(METRIC) == before


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--from", "yesterday"), "--from: expected an offset or a time such as 2026-11-23T18:00, got 'yesterday'"),
        (("--from", "9", "--to", "3"), "--to: the stretch ends at offset 3, before it begins at offset 9"),
        (
            ("--from", "2026-11-02", "--to", "2026-11-01"),
            "--to: the stretch ends at 2026-11-01T00:00:00.000Z, before it begins at 2026-11-02T00:00:00.000Z",
        ),
        (("--from", "99999999"), "offset 99999999 is beyond the end of spineloop.telemetry.v1: partition 0 has 0 to"),
        (("--to", "99999999"), "offset 99999999 is beyond the end of spineloop.telemetry.v1: partition 0 has 0 to"),
        (("--from", "2031-01-01"), "no record of spineloop.telemetry.v1 lies in that stretch: partition 0 has 0 to"),
        (("--to", "2001-01-01"), "no record of spineloop.telemetry.v1 lies in that stretch"),
        (("--machine", "acme/site-1/nobody"), "the log has no machine acme/site-1/nobody; it has acme/site-1/"),
        (("--tenant", "other"), "the log has no tenant other; it has acme"),
        (("--tenant", "other", "--machine", "acme/s/m"), "machine acme/s/m is not of tenant other"),
        (("--policy", "POLICY"), "--policy: POLICY: vl_stop_pct: Expected `float` <= 30.0"),
        (("--policy", "/nowhere.toml"), "--policy: [Errno 2] No such file or directory: '/nowhere.toml'"),
        (("--policy", "POLICY", "--publish"), "--publish writes what the clinic's own policy says"),
        (("--html", "report.html"), "--html shows two policies side by side; it needs --policy"),
        (("--policy", "POLICY", "--html", "/nowhere/r.html"), "--html: no folder to write to: /nowhere"),
    ],
)
def test_a_wrong_question_is_one_clear_line(
    data: Path, spineloop: Spineloop, tmp_path: Path, words: Sequence[str], told: str
) -> None:
    policy = tmp_path / "broken.toml"
    policy.write_text("vl_stop_pct = 99")
    before = contents(data)
    said = spineloop("replay", "--data", data, *(word.replace("POLICY", str(policy)) for word in words))
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"spineloop: {told.replace('POLICY', str(policy))}")
    assert said.err.count("\n") == 1
    assert contents(data) == before


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("speed = 1", "Object contains unknown field `speed`"),
        ("vl_stop_pct = 'x'", "vl_stop_pct: Expected `float`, got `str`"),
        ("vl_stop_pct = ", "Invalid value"),
        ("gap_days = [3, 2, 1]", "gap_days must rise, got (3, 2, 1)"),
    ],
)
def test_a_broken_policy_file_is_one_line_that_names_what_is_wrong(
    data: Path, spineloop: Spineloop, tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "broken.toml").write_text(text)
    said = spineloop("replay", "--data", data, "--policy", tmp_path / "broken.toml")
    assert said.code == 2
    assert told in said.err
    assert said.err.count("\n") == 1


def test_a_folder_without_a_log_is_one_clear_line(spineloop: Spineloop, tmp_path: Path) -> None:
    said = spineloop("replay", "--data", tmp_path)
    assert (said.code, said.err) == (2, f"spineloop: --data: no log in {tmp_path}\n")
    (tmp_path / "log.db").write_bytes(b"SQLite format 3\0 it is not")
    assert spineloop("replay", "--data", tmp_path).err.startswith(f"spineloop: {tmp_path}/log.db is no log: ")


async def test_a_stretch_that_retention_has_removed_is_refused_and_the_rest_says_what_is_gone(data: Path) -> None:
    first = trimmed(data, TELEMETRY, 1, 5)
    assert first > 0
    begin = week.START_MS
    with pytest.raises(OutOfRange, match=f"was removed by retention: partition 1 begins at offset {first}"):
        await replayed(data, Wanted(since=At(offset=0)))
    with pytest.raises(OutOfRange, match=f"was removed by retention: partition 1 begins at offset {first}, 20"):
        await replayed(data, Wanted(since=At(time_ms=begin)))
    found = await replayed(data)
    assert dict(found.missing) == {1: first}
    assert "retention" in (found.log.not_done or "")
    assert (await replayed(data, Wanted(since=At(time_ms=MIDDLE_MS)))).counted > 0


async def test_records_of_another_schema_version_are_dead_letters_and_told(data: Path, spineloop: Spineloop) -> None:
    async with writing(data) as log:
        (machine, *_) = {record.key for record in await everything(log, TELEMETRY)}
        older = codec.encode(Heartbeat(boot_id="b0", seq=1, t_us=5), "json").replace(b"{", b'{"schema_version":0,', 1)
        await log.append([NewRecord(TELEMETRY, machine, older, MIDDLE_MS) for _ in range(3)])
    said = await in_thread(spineloop, "replay", "--data", data, "--json")
    assert said.told["letters"] == {"unknown_version": 3}
    assert "dead letters: 3 unknown_version" in (await in_thread(spineloop, "replay", "--data", data)).out


async def test_a_plan_that_came_late_belongs_to_the_time_of_its_request(tmp_path: Path) -> None:
    async with writing(tmp_path) as log:
        heartbeat = [NewRecord(TELEMETRY, b"a/b/m1", b"?", time_ms) for time_ms in (5_000, 9_000, 4_000, 5_000)]
        await log.append(heartbeat)
    assert (await replayed(tmp_path, Wanted(until=At(time_ms=6_000)))).counted == 3
    assert (await replayed(tmp_path, Wanted(since=At(time_ms=5_000), until=At(time_ms=6_000)))).counted == 2
    assert LATE_MS > 4_000


# --- interrupted, and bounded -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("replay", "--json"), ("export", "--out", "OUT")])
def test_ctrl_c_ends_with_130_and_one_line_and_leaves_nothing_half_done(
    data: Path, tmp_path: Path, words: Sequence[str]
) -> None:
    out = tmp_path / "out"
    before = contents(data)
    slow = "import time, streams.merging as m, streams.reducer as r\n" + _SLOW
    command = [sys.executable, "-c", slow, *(word.replace("OUT", str(out)) for word in words), "--data", str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert running.stderr.readline() == "at work\n"
        running.send_signal(signal.SIGINT)
        said, err = running.communicate(timeout=60)
    assert (running.returncode, said, err.count("\n")) == (130, "", 1), err
    assert err.startswith(f"spineloop: {words[0]}: interrupted; ")
    assert contents(data) == before
    assert not out.exists() or not list(out.iterdir())


_SLOW = """
import sys
from adaptors import sqlite_reading
from spineloop import cli

read = sqlite_reading.sqlite_file.read
count = 0

def slowly(*arguments):
    global count
    count += 1
    if count == 3:
        print("at work", file=sys.stderr, flush=True)
    time.sleep(0.3)
    return read(*arguments)

sqlite_reading.sqlite_file.read = slowly
cli.main()
"""


async def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    peaks = []
    for copies in (1, 8):
        folder = tmp_path / str(copies)
        folder.mkdir()
        async with writing(folder) as log:
            for copy in range(copies):
                await log.append([again(record, copy) for chapter in week.chapters(600) for record in chapter])
        await replayed(folder)
        tracemalloc.start()
        await replayed(folder)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def again(record: NewRecord, copy: int) -> NewRecord:
    """Let a machine say the same once more, in a boot of its own."""
    message = codec.decode_telemetry(record.key.decode(), record.value or b"")
    told = replace(message, boot_id=f"boot-{copy}")
    return replace(record, value=codec.encode(told), timestamp_ms=record.timestamp_ms + copy * 100_000_000)


def test_the_command_explains_itself() -> None:
    done = subprocess.run([*command_line("replay", "--help")], capture_output=True, text=True, check=False)
    assert (done.returncode, "Without --publish nothing is touched" in done.stdout) == (0, True)


times = st.integers(week.START_MS - 10_000, week.START_MS + 1_500_000)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=times)
async def test_wherever_it_is_cut_both_sides_make_up_the_whole(data: Path, cut: int) -> None:
    found: list[Mapping[str, int]] = []
    for wanted in (Wanted(until=At(time_ms=cut)), Wanted(since=At(time_ms=cut)), Wanted()):
        try:
            part = await replayed(data, wanted)
            assert part.log.differing == ()
            found.append(part.outputs)
        except OutOfRange:
            found.append({})
    before, after, whole = found
    assert {topic: before.get(topic, 0) + after.get(topic, 0) for topic in whole} == dict(whole)


def test_the_policy_that_decided_is_told(data: Path, spineloop: Spineloop) -> None:
    told = spineloop("replay", "--data", data, "--json").told
    assert told["log"]["policies"] == {told["policy"]: told["outputs"][COMMAND]}
