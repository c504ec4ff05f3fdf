"""The examples run as they stand: a machine against the whole loop, consumers on what the loop has written."""

import ast
import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from jsonschema import Draft202012Validator

from adaptors.kafka_log import open_kafka_log
from adaptors.kafka_topics import create_topics
from adaptors.sqlite_log import open_sqlite_log
from loadtest import native
from loadtest.oracle import everything, until
from loadtest.stack import spineloop
from spineloop import embedded, wiring
from spineloop.contract_of_log import IN_LOG, headers_schema
from spineloop.demo import running
from spineloop.embedded import PARTITIONS, Embedded, Embedding
from spineloop.exposition import Exposition
from spineloop.schemas import schema
from spineloop.settings import Settings
from streams.core import codec
from streams.core.codec import ce_type, type_name
from streams.core.commands import Action, Command
from streams.core.records import JSON_TYPE, NewRecord, Record, cloud_event, header
from streams.core.results import RepMeasured, SetSummarised
from streams.core.telemetry import CommandApplied, CommandRejected, Offline, Rep, Telemetry
from streams.core.topics import COMMAND, DEAD_LETTER, METRIC, TELEMETRY

EXAMPLES = Path(__file__).parents[2] / "examples"
MACHINE = "acme/north/row-1"


# A machine


@asynccontextmanager
async def loop_in(folder: Path) -> AsyncIterator[Embedded]:
    settings = Settings.read({"SPINELOOP_CHECKPOINT_S": "0.01", "SPINELOOP_HTTP_PORT": "0"})
    embedding = Embedding(data=folder, port=native.free_port())
    async with embedded.opened(settings, embedding, Exposition()) as loop, running(loop.roles):
        yield loop


async def switched_on(loop: Embedded, seconds: float) -> asyncio.subprocess.Process:
    host, port = loop.settings.mqtt_url.removeprefix("mqtt://").split(":")
    command = (sys.executable, str(EXAMPLES / "machine.py"), host, port, MACHINE, str(seconds))
    return await asyncio.create_subprocess_exec(*command)


async def heard(loop: Embedded) -> list[Telemetry]:
    records = await everything(loop.log, TELEMETRY)
    return [codec.decode_telemetry(MACHINE, record.value or b"") for record in records]  # type: ignore[misc]


async def measured(loop: Embedded) -> list[RepMeasured]:
    metrics = [codec.decode_metric(record.value or b"") for record in await everything(loop.log, METRIC)]
    return [one for one in metrics if isinstance(one, RepMeasured)]


def code_lines(path: Path) -> int:
    """Count lines of code: without imports, docstrings, comments and empty lines."""
    lines = set[int]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.stmt) and not isinstance(node, ast.Import | ast.ImportFrom) and not is_text:
            end = node.lineno if hasattr(node, "body") else node.end_lineno or node.lineno
            lines |= set(range(node.lineno, end + 1))
    return len(lines)


def test_the_machine_is_as_short_as_it_says() -> None:
    assert "forty-seven lines" in (EXAMPLES / "machine.py").read_text(encoding="utf-8")
    assert code_lines(EXAMPLES / "machine.py") <= 47


async def test_the_rep_of_the_example_machine_is_measured_and_accepted(tmp_path: Path) -> None:
    async with loop_in(tmp_path) as loop:
        machine = await switched_on(loop, seconds=1.0)
        assert await asyncio.wait_for(machine.wait(), 120.0) == 0

        async def is_measured() -> bool:
            return bool(await measured(loop))

        await until(is_measured)
        (rep,) = await measured(loop)
        said = await heard(loop)
        assert await loop.dead_letters() == 0
    assert (rep.valid, rep.reasons, rep.machine) == (True, (), MACHINE)
    assert rep.values["range_of_motion"] == pytest.approx(0.4, abs=1e-3)  # m, as the samples say
    assert rep.values["concentric_work_J"] == pytest.approx(300.0 * 0.4, rel=1e-2)
    kinds = [type_name(message) for message in said if type_name(message) != "heartbeat"]
    told = ["online", "session_started", "set_started", "rep", "set_ended", "session_ended", "offline"]
    assert kinds == told  # one goodbye: a second one would be the will
    assert [message.seq for message in said if hasattr(message, "seq")] == list(range(len(said) - 2))


def order(boot_id: str, sequence: int, action: Action) -> Command:
    return Command(
        command_id=f"{MACHINE}/{boot_id}/{sequence}/test",
        machine=MACHINE,
        boot_id=boot_id,
        sequence=sequence,
        action=action,
        rule="test",
        cause="test",
        evidence=(),
        policy="test",
        issued_ms=wiring.wall_clock_ms(),
        expires_ms=wiring.wall_clock_ms() + 60_000,
    )


def sent(command: Command, attempt: str = "") -> NewRecord:
    now_ms = wiring.wall_clock_ms()
    headers = cloud_event(
        ce_id=command.command_id + attempt,
        ce_type=ce_type(command),
        source=MACHINE,
        time_ms=now_ms,
        content_type=b"application/msgpack",
    )
    return NewRecord(COMMAND, MACHINE.encode(), codec.encode(command), now_ms, headers)


async def test_the_example_machine_answers_each_command_alike_and_its_will_says_when_it_is_gone(tmp_path: Path) -> None:
    async with loop_in(tmp_path) as loop:
        machine = await switched_on(loop, seconds=600.0)

        async def answers(count: int) -> list[Any]:
            found = [one for one in await heard(loop) if isinstance(one, CommandApplied | CommandRejected)]
            return found if len(found) == count else []

        async def is_measured() -> bool:
            return bool(await measured(loop))

        async def has_answered_three() -> bool:
            return bool(await answers(3))

        async def is_gone() -> bool:
            return isinstance((await heard(loop))[-1], Offline)

        await until(is_measured)
        boot_id = next(one.boot_id for one in await heard(loop) if isinstance(one, Rep))
        lower, stop = order(boot_id, 0, "lower_load"), order(boot_id, 1, "stop")
        await loop.log.append([sent(lower)])
        await loop.log.append([sent(lower, "#1")])
        await loop.log.append([sent(stop)])
        await until(has_answered_three)
        found = {(type_name(one), one.command_id) for one in await answers(3)}
        machine.kill()
        await machine.wait()
        await until(is_gone)
    assert found == {("command_rejected", lower.command_id), ("command_applied", stop.command_id)}


# What the loop has written


@dataclass(frozen=True)
class Written:
    """A folder with an embedded log, and its records by topic."""

    folder: Path
    records: dict[str, list[Record]]

    def sets(self) -> list[SetSummarised]:
        metrics = [codec.decode_metric(record.value or b"") for record in self.records[METRIC]]
        return [one for one in metrics if isinstance(one, SetSummarised)]

    def reps(self) -> list[RepMeasured]:
        metrics = [codec.decode_metric(record.value or b"") for record in self.records[METRIC]]
        return [one for one in metrics if isinstance(one, RepMeasured)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Let a fleet train for some seconds."""
    folder = tmp_path_factory.mktemp("data")
    demo = spineloop("demo", "--seconds", "20", "--machines", "12", "--data", str(folder))
    done = await asyncio.to_thread(subprocess.run, demo, capture_output=True, text=True, check=False, timeout=240.0)
    assert done.returncode == 0, done.stdout + done.stderr
    async with open_sqlite_log(folder / "log.db", PARTITIONS) as log:
        return Written(folder, {topic: await everything(log, topic) for topic in (*IN_LOG, DEAD_LETTER)})


def readable(record: Record) -> Any:
    """Write a record's message as JSON, whatever it is written in."""
    readers = {METRIC: codec.decode_metric, COMMAND: codec.decode_command}
    value = record.value or b""
    if record.topic == TELEMETRY:
        message: Any = codec.decode_telemetry(record.key.decode(), value)
    else:
        message = readers.get(record.topic, codec.decode_patient_fact)(value)
    return json.loads(codec.encode(message, "json"))


def test_everything_that_a_fleet_and_its_loop_say_is_allowed_by_the_published_schemas(written: Written) -> None:
    validators = {name: Draft202012Validator(schema(name)) for names in IN_LOG.values() for name in names}
    of_headers = Draft202012Validator(headers_schema())
    seen = Counter[str]()
    for topic in IN_LOG:
        for record in written.records[topic]:
            message = readable(record)
            assert [error.message for error in validators[message["type"]].iter_errors(message)] == []
            of_headers.validate({name: value.decode() for name, value in record.headers})
            assert header(record, "ce_type") == f"spineloop.{message['type']}.v1"
            assert message["type"] in IN_LOG[topic]
            seen[message["type"]] += 1
    assert seen.keys() >= {"rep", "online", "heartbeat", "set_ended", "command_applied", "command", "rep_measured"}
    assert seen.keys() >= {"set_summarised", "command_closed", "plan_requested", "plan_made"}
    assert seen["rep"] > 50


def loaded(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_pandas_gets_every_rep_and_every_defined_metric(written: Written) -> None:
    frame = await loaded("metrics_to_pandas").reps(written.folder)
    reps = {rep.id: rep for rep in written.reps()}
    assert len(frame) == len(reps) > 50
    for rep_id, row in frame.iterrows():
        rep = reps[rep_id]
        defined = {name for name in frame.columns if name in rep.values or name in rep.undefined}
        assert {name: row[name] for name in defined if row[name] == row[name]} == dict(rep.values)  # no NaN
        assert (row["set"], row["load_N"], row["valid"]) == (rep.set_number, rep.load_N, rep.valid)


def test_the_pandas_example_prints_the_velocity_loss_of_every_set(written: Written) -> None:
    command = (sys.executable, str(EXAMPLES / "metrics_to_pandas.py"), str(written.folder))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120.0)
    assert done.returncode == 0, done.stderr
    sessions = {rep.session for rep in written.reps() if rep.valid}
    assert "mean_velocity" in done.stdout
    assert all(session in done.stdout for session in sessions)


def lines_of(summaries: Sequence[SetSummarised]) -> list[str]:
    """Say what the consumers should print, each set once."""
    by_id = {one.id: one for one in summaries}
    lines = []
    for one in by_id.values():
        loss = one.values.get("velocity_loss_pct")
        shown = f"undefined: {one.undefined['velocity_loss_pct']}" if loss is None else f"{loss:.1f} %"
        lines.append(f"{one.machine} {one.session} set {one.set_number}: velocity loss {shown}")
    return sorted(lines)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kafka(written: Written) -> AsyncIterator[str]:
    """Put the metrics into a real Kafka: the first set in JSON, and the last one twice."""
    old = [record for record in written.records[METRIC] if header(record, "ce_type") == "spineloop.set_summarised.v1"]
    first = codec.decode_metric(old[0].value or b"")
    in_json = [(name, JSON_TYPE if name == "content-type" else value) for name, value in old[0].headers]
    new = [
        NewRecord(METRIC, record.key, record.value, record.timestamp_ms, record.headers)
        for record in (*(one for one in written.records[METRIC] if one is not old[0]), old[-1])
    ]
    new.insert(0, NewRecord(METRIC, old[0].key, codec.encode(first, "json"), old[0].timestamp_ms, tuple(in_json)))
    async with native.kafka() as server:
        await create_topics(server.address, PARTITIONS, 1)
        async with open_kafka_log(server.address, client_id="examples") as log:
            await log.append(new)
        yield server.address


@pytest.mark.broker
async def test_the_aiokafka_example_prints_every_set_once_from_both_encodings(kafka: str, written: Written) -> None:
    wanted = lines_of(written.sets())
    command = (sys.executable, str(EXAMPLES / "consume_metrics_aiokafka.py"), kafka, str(len(wanted)))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(process.communicate(), 120.0)
    assert process.returncode == 0
    assert sorted(out.decode().splitlines()) == wanted
    assert any("%" in line for line in wanted)
    assert any("undefined" in line for line in wanted)


def left_in(folder: Path) -> list[Path]:
    """Return what somebody left where it was started."""
    return list(folder.iterdir())


@pytest.mark.broker
async def test_the_faust_example_prints_every_set_once_and_ends_when_it_is_told_to(
    kafka: str, written: Written, tmp_path: Path
) -> None:
    wanted = lines_of(written.sets())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLES / "consume_metrics_faust.py"), "worker", "--without-web"),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"KAFKA": kafka},
        cwd=tmp_path,
    )
    assert process.stdout is not None
    said = list[str]()
    try:
        async with asyncio.timeout(240.0):
            while len(said) < len(wanted):
                line = await process.stdout.readline()
                assert line, "it ended by itself"
                if b": velocity loss " in line:
                    said.append(line.decode().strip())
            process.send_signal(signal.SIGTERM)
            rest, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0
    assert sorted(said) == wanted
    assert b"velocity loss" not in rest
    assert left_in(tmp_path) == []


def test_an_example_says_what_it_is_for_and_how_it_is_started() -> None:
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert len(scripts) == 4
    for path in scripts:
        assert f"python examples/{path.name}" in (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")


def test_values_of_both_encodings_are_read_alike() -> None:
    summary = {"type": "set_summarised", "values": {"velocity_loss_pct": 14.2}}
    for value, content_type in (
        (msgspec.msgpack.encode(summary), b"application/msgpack"),
        (json.dumps(summary).encode(), JSON_TYPE),
    ):
        assert loaded("consume_metrics_aiokafka").decoded(value, {"content-type": content_type}) == summary
