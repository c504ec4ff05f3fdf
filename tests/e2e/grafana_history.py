"""A history as Grafana finds it: filled by the roles as processes, from a fleet, a patient's weeks and a bad moment."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from msgspec.structs import replace

from adaptors.kafka_log import open_kafka_log
from adaptors.meter_history import MeterHistory
from loadtest import stack
from loadtest.disturbance import Rates
from loadtest.fleet import Fleet, FleetSettings
from loadtest.stack import Stack
from spineloop import wiring
from spineloop.exposition import Exposition
from streams.core import codec
from streams.core.diary import DAY_MS
from streams.core.outputs import to_records
from streams.core.telemetry import Heartbeat, SymptomReported, Telemetry
from streams.core.topics import mqtt_topic
from tests.core import story
from tests.core.patients import GOOD, Patient, a_patient

BY_HAND = "by-hand"
"""Instance of what is written by hand."""

LIMIT_S = 180.0
"""Longest wait for what must come, in s."""

BINS = 14
"""Torque bins of a session, each of 10 degrees."""


@dataclass(frozen=True)
class Filled:
    """Where the history is, and from when to when something happened, in ms since 1970."""

    url: str
    since_ms: int
    until_ms: int

    async def ask(self, influxql: str) -> list[dict[str, Any]]:
        """Return the series of one query; fail with what InfluxDB says against it."""
        form = {"q": influxql, "db": "telemetry", "epoch": "ms"}
        async with aiohttp.ClientSession() as session, session.post(f"{self.url}/query", data=form) as answer:
            told = await answer.json(content_type=None)
        assert "error" not in told, (influxql, told)
        (result,) = told["results"]
        assert "error" not in result, (influxql, result)
        series: list[dict[str, Any]] = result.get("series", [])
        return series


@asynccontextmanager
async def filled() -> AsyncIterator[Filled]:
    """Run the whole pipeline for a while, then keep only its history."""
    async with stack.servers() as servers:
        since_ms = wiring.wall_clock_ms()
        async with stack.roles(servers, meters_s="1"):
            await weeks_of_a_patient(servers)
            await a_fleet(servers)
            await a_bad_moment(servers)
            found = Filled(servers.history.url, since_ms, wiring.wall_clock_ms())
            await everything_written(found)
        await write_rare_meters(servers)
        yield Filled(servers.history.url, since_ms, wiring.wall_clock_ms())


async def weeks_of_a_patient(servers: Stack) -> None:
    """Tell the planner of sessions on two machines, two days apart, as the controller would have."""
    patient = a_patient()
    patient.edit(story.PRESCRIPTION, exercise="abdominal_flexion", load_cap_N=600.0)
    for session in range(5):
        patient.day += 2
        trained(patient, "lumbar_extension", 500.0 + 20.0 * session, 220.0)
        trained(patient, "abdominal_flexion", 300.0, 110.0)
    ended_ms = wiring.wall_clock_ms()
    last_ms = patient.facts[-1][1]
    async with open_kafka_log(servers.log.address, client_id="weeks", timeout_s=LIMIT_S) as log:
        for number, (fact, told_ms) in enumerate(patient.facts):
            at_ms = ended_ms - (last_ms - told_ms) - DAY_MS + number
            await log.append(to_records(replace(fact, at_ms=at_ms), at_ms))


def trained(patient: Patient, exercise: str, force_N: float, torque: float) -> None:
    """Train one session that tells strength, symmetry and torque over the range."""
    patient.train(
        exercise=exercise,
        intent="max",
        corrected=True,
        torque_by_bin=(torque,) * BINS,
        values=GOOD | {"best_peak_force": force_N, "symmetry_index_pct": 6.0},
        undefined={},
        rules_fired={"velocity_loss": 1},
    )


async def a_fleet(servers: Stack) -> None:
    """Let simulated patients train on five machines on a bad network; in between history is away."""
    settings = FleetSettings(machines=5, seed=4, run="grafana", speed=30.0, max_s=40.0, finish_s=LIMIT_S, rates=Rates())
    fleet = Fleet(settings, wiring.machine_connect(servers.settings()), now_ms=wiring.wall_clock_ms)
    running = asyncio.create_task(fleet.run())
    await until(lambda: _truth(fleet.timings.reps >= 20))
    await servers.history.process.kill()
    diary = servers.folder / "history-0.log"
    await until(lambda: _truth("refused for now" in diary.read_text(encoding="utf-8")))  # by history, not by its meters
    await servers.history.process.start()
    await running


async def a_bad_moment(servers: Stack) -> None:
    """Tell of a red flag and answer nothing more; then say something that nobody understands."""
    machine = story.Machine("bad-moment")
    said = [*machine.begin(), *(machine.rep(n, v_mps=v) for n, v in enumerate((0.5, 0.5, 0.49, 0.47), start=1))]
    said.append(machine.rep(5, position=b"\0" * len(machine.rep(6).position)))  # the sensor does not move
    said.append(machine.say(SymptomReported, session="s1", symptom="red_flag"))
    connect = wiring.machine_connect(servers.settings())
    link = await connect(story.MACHINE, mqtt_topic(story.MACHINE, "presence"), b"{}")
    try:
        for message in said:
            await publish(link, message)
        found = Filled(servers.history.url, 0, 0)
        async with asyncio.timeout(LIMIT_S):  # heartbeats, until nobody can overlook that the command has no answer
            await publish(link, machine.say(Heartbeat))
            while not await found.ask('SELECT * FROM "raw"."notice" WHERE "name" = \'unacknowledged\''):
                await asyncio.sleep(0.5)
                await publish(link, machine.say(Heartbeat))
        await link.publish(mqtt_topic(story.MACHINE, "event"), b"what nobody understands")
    finally:
        await link.close()


async def publish(link: Any, message: Telemetry) -> None:
    stream = {"Online": "presence", "Rep": "rep"}.get(type(message).__name__, "event")
    await link.publish(mqtt_topic(story.MACHINE, stream), codec.encode(message))  # type: ignore[arg-type]


async def everything_written(found: Filled) -> None:
    """Wait for what comes last in history: dead letter, invalid rep, weeks of the patient, a refusal of its own."""
    last = [
        'SELECT "increase" FROM "raw"."meter" WHERE "name" = \'spineloop_dead_letters_total\'',
        'SELECT "increase" FROM "raw"."meter" WHERE "component" =~ /^history-/',
        'SELECT "load_N" FROM "raw"."rep" WHERE "valid" = false',
        'SELECT "extension_flexion_ratio" FROM "raw"."patient" WHERE "patient" = \'acme/p1\'',
    ]
    for influxql in last:
        await until(lambda influxql=influxql: _found(found, influxql))  # type: ignore[misc]


async def write_rare_meters(servers: Stack) -> None:
    """Write what can't be provoked from outside without a defect of ours."""
    exposition = Exposition()
    exposition.count("spineloop_commands_expired_total")
    exposition.count("spineloop_quarantined_total", stage="control")
    now_ns = 1_000_000 * wiring.wall_clock_ms()
    async with wiring.open_history(servers.settings()) as sink:
        who = (("instance", BY_HAND), ("role", "control"))
        await MeterHistory(sink, exposition.readings, who, exposition, now_ns=lambda: now_ns).write()


async def until(is_so: Callable[[], Awaitable[bool]], limit_s: float = LIMIT_S) -> None:
    async with asyncio.timeout(limit_s):
        while not await is_so():
            await asyncio.sleep(0.1)


async def _truth(value: bool) -> bool:
    return value


async def _found(found: Filled, influxql: str) -> bool:
    return bool(await found.ask(influxql))
