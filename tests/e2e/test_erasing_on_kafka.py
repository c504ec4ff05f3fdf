"""Erasing a patient from the distributed way: real Kafka, real InfluxDB, searched to the last record afterwards."""

import asyncio
import os
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from adaptors.history import History
from adaptors.influx_history import InfluxAddress, InfluxHistory, open_influx_history
from adaptors.kafka_log import open_kafka_log
from loadtest import native, stack
from spineloop import wiring
from spineloop.settings import Settings
from streams.checkpoint import State
from streams.core.erasure import Erasure
from streams.core.outputs import to_records
from streams.core.planning import Planner
from streams.core.results import PatientScreened
from streams.core.topics import CONTROLLER_STATE, LOG_TOPICS, METRIC, PATIENT, PLANNER_STATE, TELEMETRY
from streams.engine import Engine, EngineSettings
from streams.forgetting import Forgetting
from streams.log import Log
from streams.replay import replay
from streams.stretch import Wanted
from tests.shell import week
from tests.shell.counts import Counts
from tests.shell.week import everything

pytestmark = pytest.mark.stack

MESSAGES = 600
BEFORE_MS = 3_600_000
PATIENCE_S = 120.0
"""How long one who looks on waits for an answer of Kafka or InfluxDB, in s."""


async def erase(settings: dict[str, str], patient: str, *words: str) -> "subprocess.CompletedProcess[str]":
    told = {name: value for name, value in os.environ.items() if not name.startswith("SPINELOOP_")}
    command = stack.spineloop("erase", "--patient", patient, "--yes", "--json", *words)
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False, env=told | settings, timeout=120
    )


@asynccontextmanager
async def opened_history(settings: Settings) -> AsyncIterator[InfluxHistory]:
    async with open_influx_history(InfluxAddress(url=settings.history_url, timeout_s=PATIENCE_S)) as history:
        await history.prepare()
        yield history


async def mentions(log: Log, patient: str) -> Counter[str]:
    forgetting = Forgetting(Erasure(patient, "acme/x"), week.stages())
    counts = Counter[str]()
    for topic in LOG_TOPICS:
        for record in await everything(log, topic):
            counts[topic] += forgetting.mentions(record) or patient.encode() in record.key
    return +counts


async def named(settings: Settings, patient: str) -> int:
    """Count the points of history that have the name in any text."""
    async with opened_history(settings) as sink:
        points = [
            point for name in ("rep", "set_summary", "session_summary", "patient") for point in await sink.select(name)
        ]
        return sum(any(patient in str(value) for value in point.fields.values()) for point in points)


async def known(log: Log) -> set[bytes]:
    _, planner = week.stages()
    keys = set[bytes]()
    for number in await log.bounds(planner.state_topic):
        async for batch in log.read(planner.state_topic, number):
            State(planner).join(batch)  # it can be read
            keys |= {record.key for record in batch}
    return keys


async def test_a_patient_is_erased_from_kafka_and_influxdb_and_nothing_that_can_be_read_has_the_name() -> None:
    async with (
        native.kafka() as kafka,
        native.influxdb() as influx,
    ):
        environment = {
            "SPINELOOP_LOG_URL": kafka.url,
            "SPINELOOP_HISTORY_URL": influx.url,
            "SPINELOOP_PARTITIONS": "4",
            "SPINELOOP_KAFKA_SESSION_TIMEOUT_S": "6",
        }
        settings = Settings.read(environment)
        await wiring.create_topics(settings)
        async with (
            open_kafka_log(kafka.address, client_id="test", timeout_s=PATIENCE_S, session_timeout_ms=60_000) as log,
            opened_history(settings) as sink,
        ):
            await week.tell(log, MESSAGES, wiring.wall_clock_ms() - BEFORE_MS)
            await History(sink, log, Counts()).store(await everything(log, METRIC))
            facts = Counter(record.key.decode() for record in await everything(log, PATIENT))
            (patient, _), (other, _) = facts.most_common(2)
            assert (await mentions(log, patient)).keys() >= {
                TELEMETRY,
                METRIC,
                PATIENT,
                CONTROLLER_STATE,
                PLANNER_STATE,
            }
            assert await named(settings, patient) > 0
            of_other = await named(settings, other)

            stop = asyncio.Event()
            engine = Engine(Planner(settings.policy(), settings.machine_catalogue()), log, Counts(), EngineSettings())
            running = asyncio.create_task(engine.run(stop))
            await week.until(lambda: is_ready(engine))
            refused = await erase(environment, patient)
            stop.set()
            await running
            assert refused.returncode == 1
            assert "plan would write from memory" in refused.stderr

            first = await erase(environment, patient)  # states and history now, records by retention
            assert first.returncode == 1
            left = await mentions(log, patient)
            assert left.keys() <= {TELEMETRY, METRIC, PATIENT, "spineloop.command.v1"}
            assert f"{left[TELEMETRY]} records of {TELEMETRY} still bear the name, until 20" in first.stderr
            assert patient.encode() not in await known(log)
            assert other.encode() in await known(log)
            assert (await named(settings, patient), await named(settings, other)) == (0, of_other)

            second = await erase(environment, patient, "--trim-log")
            assert (second.returncode, second.stderr) == (0, "")
            assert msgspec.json.decode(second.stdout)["remains"] == {}
            assert await mentions(log, patient) == Counter()
            assert other.encode() in await known(log)
            assert [row.topic for row in await wiring.describe_topics(settings) if row.differences] == []
            replayed = await replay(log, week.stages(), Wanted())  # of what is left, and it says that it is not all
            assert replayed.log.not_done is not None
            assert sum(replayed.missing.values()) > 0

            fact = PatientScreened(
                id="acme/north/m9/b1/1", machine="acme/north/m9", cause="x", at_ms=5, patient=patient,
                outcome="clear", by="dr",
            )  # fmt: skip
            await log.append(to_records(fact, wiring.wall_clock_ms()))
            unread = await erase(environment, patient, "--trim-log")
            assert unread.returncode == 1
            assert "of the patient there is more in spineloop.patient.v1/" in unread.stderr
            assert (await mentions(log, patient))[PATIENT] == 1

            async with admin_of(kafka) as admin:
                await admin.create_topics([NewTopic("spineloop-plan-faust-state-changelog", 4, 1)])
            on_faust = await erase(environment, patient, "--trim-log")
            assert on_faust.returncode == 1
            assert "spineloop-plan-faust-state-changelog: erasing does not reach" in on_faust.stderr


@asynccontextmanager
async def admin_of(kafka: native.Server) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def is_ready(engine: Engine) -> bool:
    return engine.ready
