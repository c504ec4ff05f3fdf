"""Erasing a patient from an embedded clinic: nothing of the name is left in any file, and all else is as it was."""

import asyncio
import re
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from adaptors.history import History
from adaptors.points import Point
from adaptors.sqlite_history import open_sqlite_history
from adaptors.sqlite_log import open_sqlite_log
from adaptors.sqlite_reading import open_sqlite_reading
from spineloop.embedded import PARTITIONS
from streams.checkpoint import Kept, position_entry, written_with
from streams.core import codec
from streams.core.dead_letters import dead_letter
from streams.core.erasure import Erasure
from streams.core.errors import Busy, Malformed
from streams.core.outputs import to_records
from streams.core.records import NewRecord, Record
from streams.core.results import PatientScreened
from streams.core.telemetry import Heartbeat
from streams.core.topics import COMMAND, DEAD_LETTER, LOG_TOPICS, METRIC, PATIENT, PLANNER_STATE, TELEMETRY
from streams.forgetting import Forgetting
from streams.replay import Replayed, replay
from streams.stretch import Wanted
from tests.shell import week
from tests.shell.counts import Counts
from tests.shell.spoken import Spineloop
from tests.shell.week import everything


@pytest.fixture
def spineloop(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Spineloop:
    return Spineloop(monkeypatch, capsys)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a clinic's log, with its history and a dead letter about somebody, once."""
    folder = week.told(tmp_path_factory.mktemp("erasing") / "week")
    asyncio.run(with_history(folder))
    return folder


async def with_history(folder: Path) -> None:
    async with (
        open_sqlite_log(folder / "log.db", PARTITIONS) as log,
        open_sqlite_history(folder / "history.db") as sink,
    ):
        history = History(sink, log, Counts())
        for topic in (METRIC, COMMAND):
            await history.store(await everything(log, topic))
        said = b'{"type":"telepathy","patient":"%s"' % (await patients(folder)).most_common(1)[0][0].encode()
        record = NewRecord(TELEMETRY, b"acme/north/m1", said, week.START_MS, ())
        await log.append([dead_letter(record, stage="ingest", reason="not_a_message", detail="")])


@pytest.fixture
def folder(told: Path, tmp_path: Path) -> Path:
    return week.copied(told, tmp_path / "clinic")


async def patients(folder: Path) -> Counter[str]:
    async with open_sqlite_reading(folder / "log.db") as log:
        return Counter(record.key.decode() for record in await everything(log, PATIENT))


async def records(folder: Path) -> dict[str, list[Record]]:
    async with open_sqlite_reading(folder / "log.db") as log:
        return {topic: await everything(log, topic) for topic in LOG_TOPICS}


async def replayed(folder: Path) -> Replayed:
    async with open_sqlite_reading(folder / "log.db") as log:
        return await replay(log, week.stages(), Wanted())


def record_of(fact: PatientScreened) -> Record:
    (made,) = to_records(fact, week.START_MS + 10_000_000)
    return Record(made.topic, 0, 0, made.key, made.value, made.timestamp_ms, made.headers)


def files_that_name(folder: Path, patient: str) -> list[str]:
    name = re.compile(rb"(?<![a-z0-9_-])" + re.escape(patient.encode()) + rb"(?![a-z0-9_-])")
    return [path.name for path in folder.iterdir() if name.search(path.read_bytes())]


def test_no_file_has_the_name_any_more_and_replay_finds_what_was_decided(spineloop: Spineloop, folder: Path) -> None:
    (patient, _), (other, _) = asyncio.run(patients(folder)).most_common(2)
    assert {"history.db", "log.db"} <= set(files_that_name(folder, patient))
    before, was = asyncio.run(records(folder)), asyncio.run(replayed(folder))
    said = spineloop("erase", "--patient", patient, "--data", folder, "--yes", "--json")
    assert (said.code, said.err) == (0, "")
    assert said.told["remains"] == {}
    assert said.told["history"] > 0
    assert said.told["log"].keys() >= {TELEMETRY, METRIC, PATIENT, PLANNER_STATE, DEAD_LETTER}
    assert files_that_name(folder, patient) == []
    assert len(files_that_name(folder, other)) >= 2
    after, now = asyncio.run(records(folder)), asyncio.run(replayed(folder))
    assert (was.log.differing, now.log.differing, now.log.not_done) == ((), (), None)
    assert (now.records, now.outputs) == (was.records, was.outputs)
    forgetting = Forgetting(Erasure(patient, "acme/x"), week.stages())
    for topic in LOG_TOPICS:
        innocent = [record for record in before[topic] if not forgetting.mentions(record)]
        assert [record for record in innocent if record not in after[topic]] == []


def test_a_patient_who_comes_again_under_the_name_is_a_new_one(spineloop: Spineloop, folder: Path) -> None:
    patient = asyncio.run(patients(folder)).most_common(1)[0][0]
    assert spineloop("erase", "--patient", patient, "--data", folder, "--yes").code == 0

    fact = PatientScreened(
        id="acme/north/m9/b1/1", machine="acme/north/m9", cause="x", at_ms=5, patient=patient, outcome="clear", by="dr"
    )

    async def comes_again() -> bytes:
        async with open_sqlite_log(folder / "log.db", PARTITIONS) as log:
            await log.append(to_records(fact, week.START_MS + 10_000_000))
            await week.tell(log, 0)  # let both stages hear of it
            states = await everything(log, PLANNER_STATE)
            return next(record.value or b"" for record in states if record.key == patient.encode())

    kept = msgspec.msgpack.decode(asyncio.run(comes_again()), type=Kept)
    _, planner = week.stages()
    (item,) = planner.prepare([record_of(fact)])
    assert not isinstance(item, Malformed)
    expected, _ = planner.step(planner.start(b""), item, week.START_MS + 10_000_000)
    assert planner.restore(kept.state or b"") == expected


def test_while_anybody_has_the_log_open_nothing_is_changed(spineloop: Spineloop, folder: Path) -> None:
    patient = asyncio.run(patients(folder)).most_common(1)[0][0]

    async def meanwhile() -> str:
        async with open_sqlite_log(folder / "log.db", PARTITIONS):
            said = await asyncio.to_thread(spineloop, "erase", "--patient", patient, "--data", folder, "--yes")
            return f"{said.code} {said.err}"

    said = asyncio.run(meanwhile())
    assert said.startswith("1 spineloop: log file: database is locked")
    assert len(files_that_name(folder, patient)) >= 2


def test_while_history_is_away_nothing_is_changed(spineloop: Spineloop, folder: Path) -> None:
    patient = asyncio.run(patients(folder)).most_common(1)[0][0]
    there = {"SPINELOOP_LOG_URL": f"sqlite://{folder}", "SPINELOOP_HISTORY_URL": "http://127.0.0.1:1"}
    said = spineloop("erase", "--patient", patient, "--yes", **there)
    assert said.code == 1
    assert "InfluxDB at http://127.0.0.1:1 can't be reached" in said.err
    assert "log.db" in files_that_name(folder, patient)


async def test_while_somebody_reads_history_what_was_erased_is_in_its_files_and_erasing_says_so(tmp_path: Path) -> None:
    point = Point("rep", (("machine", "m1"),), {"patient": "acme/p-1"}, 1)
    path = tmp_path / "history.db"
    async with open_sqlite_history(path, lock_wait_s=0.01) as history:
        await history.write([point])
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM point").fetchone()
            with pytest.raises(Busy, match="somebody reads it"):
                await history.rewrite("acme/p-1", lambda text: text.replace("p-1", "e"))
            assert files_that_name(tmp_path, "acme/p-1") != []
        await history.rewrite("acme/p-1", lambda text: text.replace("p-1", "e"))
        assert files_that_name(tmp_path, "acme/p-1") == []


@pytest.mark.parametrize("patient", ["acme", "acme/", "acme/p/1", "acme/p-1\n", "*/p-1"])
def test_what_is_no_pseudonym_is_refused(spineloop: Spineloop, folder: Path, patient: str) -> None:
    said = spineloop("erase", "--patient", patient, "--data", folder, "--yes")
    assert said.code == 2
    assert said.err.startswith("spineloop: --patient: expected tenant/patient")


def test_a_name_that_is_nowhere_changes_nothing(spineloop: Spineloop, folder: Path) -> None:
    before = asyncio.run(records(folder))
    said = spineloop("erase", "--patient", "acme/nobody", "--data", folder, "--yes", "--json")
    assert (said.code, said.told) == (0, {"log": {}, "innocent": 0, "history": 0, "remains": {}})
    assert asyncio.run(records(folder)) == before
    said = spineloop("erase", "--patient", "acme/nobody", "--data", folder, "--yes")
    assert (said.code, said.out.splitlines()[-1]) == (0, "nothing bore the name acme/nobody: nothing was changed")


def test_a_patient_with_the_name_of_a_site_is_not_mixed_up_with_it(spineloop: Spineloop, folder: Path) -> None:
    machine = asyncio.run(records(folder))[TELEMETRY][0].key.decode()
    said = spineloop("erase", "--patient", machine.rpartition("/")[0], "--data", folder, "--yes")
    assert said.code == 1
    assert "is also in the name of the machine acme/" in said.err


def test_a_patient_with_the_name_of_another_tenants_machine_at_its_site_is_not_mixed_up_with_it(
    spineloop: Spineloop, folder: Path
) -> None:
    patient = asyncio.run(patients(folder)).most_common(1)[0][0]
    machine = f"umbra/{patient}"  # a site of theirs is called as this tenant, and a machine there as this patient

    async def is_heard() -> None:
        async with open_sqlite_log(folder / "log.db", PARTITIONS) as log:
            said = codec.encode(Heartbeat(boot_id="b1", seq=7, t_us=5))
            await log.append([NewRecord(TELEMETRY, machine.encode(), said, week.START_MS, ())])

    asyncio.run(is_heard())
    said = spineloop("erase", "--patient", patient, "--data", folder, "--yes")
    assert machine.encode() in {record.key for record in asyncio.run(records(folder))[TELEMETRY]}
    assert said.code == 1
    assert f"{patient} is also in the name of the machine {machine}" in said.err
    assert len(files_that_name(folder, patient)) >= 2


@pytest.mark.parametrize(
    ("said", "slash"),
    [
        (b'{"type":"screened","patient":"%s","patient":"acme/other","outcome":"clear"}', b"/"),
        (b"\x83\xa4type\xa8screened\xa7patient\xaa%s\xa7patient\xaaacme/other", b"/"),
        (b'{"type":"screened","patient":"%s","outcome":"cle', rb"\/"),
    ],
    ids=["told twice in JSON", "told twice in MessagePack", "with an escape in half a message"],
)
def test_a_name_that_no_decoder_shows_is_replaced_as_well(
    spineloop: Spineloop, folder: Path, said: bytes, slash: bytes
) -> None:
    patient = asyncio.run(patients(folder)).most_common(1)[0][0]
    name = patient.encode().replace(b"/", slash)

    async def is_heard() -> None:
        async with open_sqlite_log(folder / "log.db", PARTITIONS) as log:
            record = NewRecord(TELEMETRY, b"acme/north/m1", said % name, week.START_MS, ())
            await log.append([dead_letter(record, stage="ingest", reason="not_a_message", detail="")])

    asyncio.run(is_heard())
    assert spineloop("erase", "--patient", patient, "--data", folder, "--yes").code == 0
    assert files_that_name(folder, patient) == []
    assert name not in b"".join(record.value or b"" for record in asyncio.run(records(folder))[DEAD_LETTER])


def test_with_how_many_partitions_states_were_written_is_not_forgotten_with_the_name() -> None:
    controller, _ = stages = week.stages()
    records = [
        Record(controller.state_topic, 0, n, *position_entry(position, partitions=partitions), week.START_MS)
        for n, (position, partitions) in enumerate([(3, 0), (9, 4), (5, 4)])
    ]
    *_, (key, value) = Forgetting(Erasure("acme/p1", "acme/erased-0"), stages).states(records)
    anew = Record(controller.state_topic, 0, 3, key, value, week.START_MS)
    assert (msgspec.msgpack.decode(value, type=Kept).position, written_with(anew)) == (9, 4)


def test_why_a_key_froze_names_nobody_even_if_it_had_no_state_yet() -> None:
    controller, _ = stages = week.stages()
    kept = Kept(7, None, "KeyError: 'acme/p1'")
    record = Record(controller.state_topic, 0, 3, b"acme/north/m1", msgspec.msgpack.encode(kept), week.START_MS)
    forgetting = Forgetting(Erasure("acme/p1", "acme/erased-0"), stages)
    assert forgetting.mentions(record)
    clean = forgetting.record(record)
    assert clean is not None
    assert msgspec.msgpack.decode(clean.value or b"", type=Kept) == Kept(7, None, "KeyError: 'acme/erased-0'")
    assert not forgetting.mentions(clean)
