"""The reflex on a real mosquitto, with no log anywhere: danger in, STOP out, and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
import pytest_asyncio

from adaptors.downlink import Order, Sender, Unsent
from adaptors.mqtt_connection import Connection
from ingest.reflex import Reflex
from loadtest.machine import Machine as Simulated
from loadtest.native import Server, mosquitto
from loadtest.truth import Ledger
from spineloop import watchdog, wiring
from spineloop.settings import Settings
from streams.core import codec
from streams.core.commands import Command
from streams.core.errors import Busy
from streams.core.telemetry import ButtonPressed, CommandApplied, FaultRaised, Heartbeat, SymptomReported
from streams.core.topics import mqtt_topic
from tests.core.story import MACHINE, Machine
from tests.loadtest.test_machine import a_machine, words
from tests.shell.counts import Counts

pytestmark = pytest.mark.broker

DEADLINE_S = 120.0
TRACE = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def broker() -> AsyncIterator[Server]:
    async with mosquitto() as server:
        yield server


class Said(NamedTuple):
    """A message."""

    topic: str
    payload: bytes
    user_properties: Sequence[tuple[str, str]] = ()
    retain: bool = False


class Pressed:
    """A connection on which one message comes."""

    held = 0

    def __init__(self, said: Said) -> None:
        self._left = [said]
        self.acked = asyncio.Event()

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Hear the one message, whatever is asked for."""

    async def receive(self, limit: int) -> Sequence[Said]:  # noqa: ARG002 - as of a connection
        if not self._left:
            await asyncio.Event().wait()
        return [self._left.pop()]

    def ack(self, batch: Sequence[Said]) -> None:  # noqa: ARG002
        self.acked.set()

    async def close(self) -> None:
        """Have nothing open."""


class Loop:
    """A reflex, and one connection that speaks for all machines."""

    def __init__(self, machines: Connection, meters: Counts) -> None:
        self.machines, self.meters = machines, meters
        self.heard: list[tuple[str, Command]] = []
        self.traces: list[str | None] = []

    async def say(self, *messages: object, machine: str = MACHINE, payload: bytes = b"") -> None:
        for message in messages:
            told = payload or codec.encode(message)  # type: ignore[arg-type]
            await self.machines.publish(mqtt_topic(machine, "event"), told, user_properties=[TRACE])

    async def hear(self) -> Command:
        async with asyncio.timeout(DEADLINE_S):
            (message,) = await self.machines.receive(1)
        self.machines.ack([message])
        self.traces.append(dict(message.user_properties).get("traceparent"))
        command = codec.decode_command(message.payload)
        self.heard.append((message.topic, command))
        return command

    async def counted(self, stops: int) -> None:
        """Wait until so many are counted: a machine may hear STOP before the reflex hears that the broker has it."""
        async with asyncio.timeout(DEADLINE_S):
            while self.meters.totals["spineloop_reflex_stops_total"] < stops:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def reflex_on(broker: Server, **chosen: str) -> AsyncIterator[Loop]:
    """Run a reflex until the block ends; there is no log to be had."""
    told = {"SPINELOOP_MQTT_URL": broker.url, "SPINELOOP_LOG_URL": "kafka://127.0.0.1:1"}
    settings = Settings.read(told | {f"SPINELOOP_{name.upper()}": value for name, value in chosen.items()})
    meters, stop = Counts(), asyncio.Event()
    role = wiring.reflex(settings, meters)
    async with await wiring.connect(settings, "all-machines")() as machines, asyncio.TaskGroup() as tasks:
        await machines.subscribe(["spineloop/v1/+/+/+/command"])
        running = tasks.create_task(role.run(stop))
        async with asyncio.timeout(DEADLINE_S):
            while not role.is_ready() and not running.done():
                await asyncio.sleep(0.01)
        try:
            yield Loop(machines, meters)
        finally:
            stop.set()


async def test_a_stop_button_is_answered_with_stop_and_its_trace_while_there_is_no_log(broker: Server) -> None:
    pressed = Machine().say(ButtonPressed, button="stop")
    async with reflex_on(broker) as loop:
        await loop.say(pressed)
        stop = await loop.hear()
        await loop.counted(1)
    assert (stop.action, stop.cause) == ("stop", codec.message_id(MACHINE, pressed))
    assert [topic for topic, _ in loop.heard] == [mqtt_topic(MACHINE, "command")]
    assert loop.traces == [TRACE[1]]
    assert loop.meters.totals["spineloop_reflex_stops_total"] == 1


async def test_what_is_said_again_is_answered_once_and_what_is_harmless_or_nonsense_not_at_all(broker: Server) -> None:
    machine = Machine()
    first, last = machine.say(FaultRaised, fault="cable"), machine.say(FaultRaised, fault="belt")
    async with reflex_on(broker) as loop:
        await loop.say(first, first, machine.say(Heartbeat), machine.say(SymptomReported, symptom="none", felt="now"))
        await loop.say(payload=b"\x00nonsense")
        await loop.say(first, last)
        assert [(await loop.hear()).cause for _ in range(2)] == [
            codec.message_id(MACHINE, one) for one in (first, last)
        ]


async def test_it_hears_only_the_site_that_it_is_for(broker: Server) -> None:
    pressed = Machine().say(ButtonPressed, button="stop")
    async with reflex_on(broker, ingest_tenant="acme", ingest_site="south") as loop:
        await loop.say(pressed)
        await loop.say(pressed, machine="acme/south/row-1")
        assert (await loop.hear()).machine == "acme/south/row-1"


@pytest.mark.parametrize(
    "payload",
    [
        b'{"type":"fault_raised","boot_id":"b1","seq":7,"t_us":9,"fault":"E42 overtravel"}',
        b'{"type":"button_pressed","boot_id":"b1","seq":7,"t_us":9.5,"button":"emergency_stop"}',
        b'{"type":"symptom_reported","schema_version":2,"boot_id":"b1","seq":7,"t_us":9,"symptom":"numbness"}',
        b'{"type":"screened","boot_id":"b1","seq":7,"t_us":9,"outcome":"red_flag","by":""}',
    ],
)
async def test_danger_that_is_badly_told_is_danger_all_the_same(broker: Server, payload: bytes) -> None:
    async with reflex_on(broker) as loop:
        await loop.say(None, payload=b'{"type":"button_pressed","boot_id":"b1","seq":6,"t_us":"?","button":"pause"}')
        await loop.say(None, payload=payload)
        stop = await loop.hear()
    assert (stop.machine, stop.action, stop.cause) == (MACHINE, "stop", f"{MACHINE}/b1/7")


async def test_a_stop_that_the_broker_did_not_confirm_is_sent_until_it_does() -> None:
    told: list[Busy | None] = [Busy("reset"), Busy("reset"), None]
    sent: list[list[str]] = []

    async def send(stops: Sequence[tuple[Command, str | None]]) -> int:
        sent.append([stop.command_id for stop, _ in stops])
        if busy := told.pop(0):
            raise busy
        return len(stops)

    pressed = Said(mqtt_topic(MACHINE, "event"), codec.encode(Machine().say(ButtonPressed, button="stop")))
    machines, stop = Pressed(pressed), asyncio.Event()

    async def connect() -> Pressed:
        return machines

    reflex = Reflex(connect, send, Counts(), now_ms=lambda: 5, heard="#", policy="p")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(reflex.run(stop))
        async with asyncio.timeout(DEADLINE_S):
            await machines.acked.wait()
        stop.set()
    assert sent == [[f"{MACHINE}/b1/0/emergency_stop"]] * 3


async def test_a_stop_that_the_broker_refuses_is_not_counted_as_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(_: Sender, orders: Sequence[Order]) -> Sequence[Unsent]:
        return [Unsent(order, "not authorized") for order in orders]

    pressed = Said(mqtt_topic(MACHINE, "event"), codec.encode(Machine().say(ButtonPressed, button="stop")))
    machines, stop, meters = Pressed(pressed), asyncio.Event(), Counts()

    async def connect() -> Pressed:
        return machines

    monkeypatch.setattr(Sender, "send", refused)
    monkeypatch.setattr(wiring, "connect", lambda *_, **__: connect)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(wiring.reflex(Settings.read({}), meters).run(stop))
        async with asyncio.timeout(DEADLINE_S):
            await machines.acked.wait()
        stop.set()
    assert meters.totals["spineloop_reflex_stops_total"] == 0


class Slow(Pressed):
    """A connection whose broker takes its time to hang up."""

    lost: str | None = None

    async def close(self) -> None:
        self.lost = "closed by us"
        await asyncio.sleep(0.1)


async def test_while_it_says_goodbye_nobody_connects_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    made, stop = list[Slow](), asyncio.Event()

    async def connect() -> Slow:
        made.append(Slow(Said("", b"")))
        return made[-1]

    monkeypatch.setattr(watchdog, "LOOK_S", 0.01)
    monkeypatch.setattr(wiring, "connect", lambda *_, **__: connect)
    role = wiring.reflex(Settings.read({}), Counts())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(role.run(stop))
        async with asyncio.timeout(DEADLINE_S):
            while not role.is_ready():
                await asyncio.sleep(0.01)
        stop.set()
    assert [one.lost for one in made] == ["closed by us"] * 2  # that which listens, and that which says


async def test_an_event_that_was_published_retained_is_answered_when_it_is_said_and_not_at_every_start_again() -> None:
    machine = Machine()
    kept, later = machine.say(ButtonPressed, button="stop"), machine.say(FaultRaised, fault="belt")
    async with mosquitto() as broker:
        async with reflex_on(broker) as loop:
            await loop.machines.publish(mqtt_topic(MACHINE, "event"), codec.encode(kept), retain=True)
            assert (await loop.hear()).cause == codec.message_id(MACHINE, kept)
        async with reflex_on(broker) as again:
            await again.say(later)
            assert (await again.hear()).cause == codec.message_id(MACHINE, later)


async def test_a_broker_that_was_away_is_asked_again() -> None:
    async with mosquitto() as broker, reflex_on(broker) as loop:
        await broker.process.kill()
        await broker.process.start()
        settings = Settings.read({"SPINELOOP_MQTT_URL": broker.url})
        async with await wiring.connect(settings, "all-machines")() as machines:
            again = Loop(machines, loop.meters)
            await machines.subscribe(["spineloop/v1/+/+/+/command"])
            machine = Machine()
            async with asyncio.timeout(DEADLINE_S):
                while not again.heard:  # until it is there again, nobody answers
                    await again.say(machine.say(ButtonPressed, button="stop"))
                    try:
                        async with asyncio.timeout(0.2):
                            await again.hear()
                    except TimeoutError:
                        continue
    assert loop.meters.totals["spineloop_busy_total"] > 0


async def test_one_that_is_cancelled_leaves_no_task_and_no_connection_behind(broker: Server) -> None:
    role = wiring.reflex(Settings.read({"SPINELOOP_MQTT_URL": broker.url}), Counts())
    before = asyncio.all_tasks()
    running = asyncio.create_task(role.run(asyncio.Event()))
    async with asyncio.timeout(DEADLINE_S):
        while not role.is_ready():
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait({running})
    assert (asyncio.all_tasks() - before, role.is_ready()) == (set(), False)


def test_the_controllers_stop_finds_the_machine_stopped_and_after_the_release_it_does_not_stop_it_again() -> None:
    ledger = Ledger()
    machine: Simulated = a_machine(ledger=ledger)
    for word in words(machine):
        if word.__class__.__name__ == "SetStarted":
            break
    early = Command(
        command_id="c/emergency_stop",
        machine=machine.key,
        boot_id=machine.programme.boot_id,
        sequence=8,
        action="stop",
        rule="emergency_stop",
        cause="c",
        evidence=(),
        policy="p",
        issued_ms=0,
        expires_ms=30_000,
    )
    (first,) = machine.receive(early, 1_000)
    assert machine.programme.locked
    while machine.programme.locked:  # until a clinician has come
        machine.step()
    (second,) = machine.receive(early, 400_000)  # the log was 400 s behind
    assert isinstance(first, CommandApplied)
    assert isinstance(second, CommandApplied)
    assert second.command_id == first.command_id
    assert (machine.programme.locked, ledger.effects[machine.key, early.command_id]) == (False, 1)
