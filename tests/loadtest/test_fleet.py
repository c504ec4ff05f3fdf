"""Fleets on real brokers: nothing that is said is lost, every command is answered, and every run ends."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count

import pytest
import pytest_asyncio

from adaptors.embedded_broker import embedded_broker
from adaptors.mqtt_client import Will, connect
from adaptors.mqtt_connection import Connection
from adaptors.mqtt_inbox import Heard
from loadtest import fleet as fleets
from loadtest.disturbance import Rates
from loadtest.fleet import Fleet, FleetSettings
from loadtest.live_machine import Barrier
from loadtest.native import free_port, mosquitto
from loadtest.outbox import MAX_WAITING, Outbox
from loadtest.tempo import Tempo
from loadtest.timings import MAX_SENT, Timings
from streams.core import codec
from streams.core.commands import Action, Command
from streams.core.errors import Busy
from streams.core.telemetry import Ack, Heartbeat, Offline, Online, Presence, Rep, Telemetry
from streams.core.topics import mqtt_topic, parse_mqtt

DEADLINE_S = 120.0
NOW_MS = 1_700_000_000_000

tenants = (f"tenant{number}" for number in count())


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mosquitto_url() -> AsyncIterator[str]:
    async with mosquitto() as server:
        yield server.url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def iotcore_url() -> AsyncIterator[str]:
    async with embedded_broker(free_port()) as url:
        yield url


@pytest.fixture(params=["mosquitto", "iotcore"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


class Clinic:
    """A tenant of its own: a fleet, and an ear that hears all that it says and may answer with a command."""

    def __init__(self, url: str) -> None:
        self.url, self.tenant = url, next(tenants)
        self.heard: defaultdict[str, list[Telemetry]] = defaultdict(list)
        self.bytes: defaultdict[str, list[bytes]] = defaultdict(list)
        self.connections = Counter[str]()
        self.answer_with: Action | None = None
        self.settings = FleetSettings(tenant=self.tenant, machines=3, speed=200.0, max_reps=20, max_s=DEADLINE_S)

    async def connect(self, machine: str, will_topic: str, will: bytes) -> Connection:
        self.connections[machine] += 1
        told = Will(will_topic, will)
        return await connect(
            self.url,
            client_id=machine.replace("/", "."),
            session_expiry_s=3_600,
            receive_maximum=20,
            will=told,
        )

    def fleet(self, *, barrier: Barrier | None = None, **settings: object) -> Fleet[Heard]:
        chosen = {name: getattr(self.settings, name) for name in self.settings.__struct_fields__} | settings
        return Fleet(FleetSettings(**chosen), self.connect, now_ms=lambda: NOW_MS, barrier=barrier)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Hear the machines until the block ends."""
        subscribed = asyncio.Event()
        hearing = asyncio.create_task(self._hear(subscribed))
        await asyncio.wait_for(subscribed.wait(), DEADLINE_S)
        try:
            yield
        finally:
            hearing.cancel()
            await asyncio.wait({hearing})

    async def _hear(self, subscribed: asyncio.Event) -> None:
        while True:
            try:
                async with await connect(
                    self.url, client_id=f"{self.tenant}-ear", session_expiry_s=3_600, receive_maximum=2_000
                ) as ear:
                    await ear.subscribe([f"spineloop/v1/{self.tenant}/+/+/+"])
                    subscribed.set()
                    while True:
                        batch = await ear.receive(100)
                        answers = [answer for message in batch if (answer := self._note(message))]
                        ear.ack(batch)  # before we publish: with its window full, iotcore answers nothing
                        for answer in answers:
                            await ear.publish(mqtt_topic(answer.machine, "command"), codec.encode(answer, "json"))
            except Busy:
                await asyncio.sleep(0.02)

    def _note(self, message: Heard) -> Command | None:
        topic = parse_mqtt(message.topic)
        if topic.stream == "command":
            return None
        said = codec.decode_up(topic, message.payload)
        self.heard[topic.machine].append(said)
        self.bytes[topic.machine].append(message.payload)
        if self.answer_with is not None and isinstance(said, Rep):
            return a_command(topic.machine, said, self.answer_with)
        return None

    def ids(self) -> Counter[str]:
        """Count the messages with a place in their boot by id."""
        return Counter(
            codec.message_id(machine, said)
            for machine, words in self.heard.items()
            for said in words
            if not isinstance(said, Presence)
        )

    async def until_heard(self, fleet: Fleet[Heard]) -> None:
        await until(lambda: set(fleet.ledger.published) <= set(self.ids()))


def a_command(machine: str, cause: Rep, action: Action) -> Command:
    name = codec.message_id(machine, cause)
    return Command(
        command_id=f"{name}/{action}",
        machine=machine,
        boot_id=cause.boot_id,
        sequence=cause.seq,
        action=action,
        rule="test",
        cause=name,
        evidence=(),
        cue="slower" if action == "cue" else None,
        policy="p",
        issued_ms=NOW_MS,
        expires_ms=NOW_MS + 30_000,
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


def seqs(words: Sequence[Telemetry]) -> list[int]:
    return [said.seq for said in words if not isinstance(said, Presence)]


def boots(words: Sequence[Telemetry]) -> set[str]:
    return {said.boot_id for said in words if isinstance(said, Online)}


@pytest.mark.broker
async def test_all_that_a_fleet_says_is_heard_once_and_in_order_and_then_it_is_offline(url: str) -> None:
    clinic = Clinic(url)
    fleet = clinic.fleet()
    async with clinic.listening():
        await fleet.run()
        await clinic.until_heard(fleet)
        await until(lambda: all(isinstance(words[-1], Offline) for words in clinic.heard.values()))
    assert clinic.ids() == dict.fromkeys(fleet.ledger.published, 1)
    assert len(clinic.heard) == 3
    for words in clinic.heard.values():
        assert isinstance(words[0], Online)
        assert seqs(words) == list(range(len(words) - 2))
    assert fleet.timings.reps == fleet.ledger.reps_published >= 20
    assert fleet.unsaid == 0


@pytest.mark.broker
async def test_the_same_seed_says_the_same_words(mosquitto_url: str) -> None:
    said = []
    for _ in range(2):
        clinic = Clinic(mosquitto_url)
        clinic.tenant = "same"
        fleet = clinic.fleet(tenant="same", machines=2, max_reps=40)
        async with clinic.listening():
            await fleet.run()
            await clinic.until_heard(fleet)
        said.append(clinic.bytes)
    for machine in said[0].keys() | said[1].keys():
        first, second = ([one for one in run[machine] if b"offline" not in one] for run in said)
        both = min(len(first), len(second)) - 10  # the ends differ: they depend on when it was told to finish
        assert both > 10
        assert first[:both] == second[:both]


@pytest.mark.broker
async def test_every_command_is_answered_once_and_its_latency_is_known(url: str) -> None:
    clinic = Clinic(url)
    clinic.answer_with = "cue"
    fleet = clinic.fleet()
    async with clinic.listening():
        await fleet.run()
        await clinic.until_heard(fleet)
    answered = Counter(said.command_id for words in clinic.heard.values() for said in words if isinstance(said, Ack))
    assert answered
    assert set(answered.values()) == {1}
    assert {name for _, name in fleet.ledger.received} == set(answered)
    assert fleet.ledger.duplicate_effects == 0
    assert len(fleet.timings.latencies_ms["cue"]) == len(answered)
    median_ms, longest_ms = fleet.timings.percentile_ms(0.5), fleet.timings.percentile_ms(1.0)
    assert median_ms is not None
    assert longest_ms is not None
    assert 0.0 < median_ms <= longest_ms


@pytest.mark.broker
async def test_a_broker_that_restarts_costs_a_fleet_no_message() -> None:
    async with mosquitto() as server:
        clinic = Clinic(server.url)
        fleet = clinic.fleet(machines=5, max_reps=None)
        async with clinic.listening():
            running = asyncio.create_task(fleet.run())
            await until(lambda: fleet.timings.reps >= 10)
            await server.process.stop()  # a kill would cost what the broker has confirmed and not delivered
            await until(lambda: fleet.timings.refused >= 5)
            await server.process.restart()
            await until(lambda: fleet.timings.reps >= 60)
            fleet.finish()
            await asyncio.wait_for(running, DEADLINE_S)
            await clinic.until_heard(fleet)
        assert fleet.unsaid == 0
        assert set(clinic.ids()) == set(fleet.ledger.published)
        assert min(clinic.connections.values()) >= 2


@pytest.mark.broker
async def test_troubles_leave_the_holes_and_copies_that_the_ledger_tells_of(mosquitto_url: str) -> None:
    clinic = Clinic(mosquitto_url)
    rates = Rates(duplicate=0.1, reorder=0.1, late=0.0, lost=0.05, reboot=0.01, offline=0.02, offline_s=(20.0, 60.0))
    fleet = clinic.fleet(machines=4, max_reps=60, rates=rates)
    async with clinic.listening():
        await fleet.run()
        await clinic.until_heard(fleet)
        await until(  # a boot may have had nothing to say but that it is online
            lambda: all(
                len(boots(words)) > fleet.ledger.reboots[machine] and isinstance(words[-1], Offline)
                for machine, words in clinic.heard.items()
            )
        )
    ids = clinic.ids()
    assert set(ids) == set(fleet.ledger.published)
    assert fleet.ledger.duplicated <= {name for name, copies in ids.items() if copies > 1}
    assert fleet.ledger.withheld.keys().isdisjoint(ids)
    assert fleet.ledger.reboots.total() > 0
    for machine, words in clinic.heard.items():
        assert len(boots(words)) == fleet.ledger.reboots[machine] + 1
        assert {said.boot_id for said in words if isinstance(said, Offline)} <= boots(words)
        assert clinic.connections[machine] >= len(boots(words))


@pytest.mark.broker
async def test_a_machine_in_lockstep_goes_on_only_when_the_barrier_opens(mosquitto_url: str) -> None:
    clinic = Clinic(mosquitto_url)
    passed: list[str] = []
    opened = asyncio.Event()

    async def barrier(name: str) -> None:
        passed.append(name)
        await opened.wait()

    fleet = clinic.fleet(barrier=barrier, machines=1, speed=1e6, max_reps=5)
    running = asyncio.create_task(fleet.run())
    await until(lambda: len(passed) == 1)
    await asyncio.sleep(0.1)
    assert len(passed) == 1
    opened.set()
    await asyncio.wait_for(running, DEADLINE_S)
    ordered = [name for name in passed if not name.endswith(("/online", "/offline"))]
    assert ordered == list(fleet.ledger.published)


@pytest.mark.broker
async def test_a_fleet_ends_early_when_it_is_asked_to_with_every_session_closed(mosquitto_url: str) -> None:
    clinic = Clinic(mosquitto_url)
    fleet = clinic.fleet(max_reps=None)
    async with clinic.listening():
        running = asyncio.create_task(fleet.run())
        await until(lambda: fleet.timings.reps >= 3)
        fleet.finish()
        await asyncio.wait_for(running, DEADLINE_S)
        await clinic.until_heard(fleet)
    counts = fleet.timings.confirmed
    assert counts["session_ended"] >= counts["session_started"] > 0
    assert counts["set_ended"] == counts["set_started"] > 0
    assert counts["offline"] == 3


@pytest.mark.broker
async def test_parts_of_a_fleet_share_its_machines_out(mosquitto_url: str) -> None:
    clinic = Clinic(mosquitto_url)
    parts = [clinic.fleet(machines=5, part=part, parts=2, max_reps=4) for part in range(2)]
    await asyncio.gather(*(part.run() for part in parts))
    assert sorted(clinic.connections.values()) == [1] * 5


async def test_a_broker_that_stays_away_does_not_hold_a_run_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleets, "FINISH_S", 0.2)
    fleet = Clinic("mqtt://127.0.0.1:1").fleet(max_s=0.1)
    with pytest.raises(TimeoutError):
        await fleet.run()
    assert fleet.unsaid > 0
    assert fleet.timings.reps == 0


async def test_an_outbox_gives_out_in_order_of_time_and_at_one_time_in_order_of_entry() -> None:
    outbox, now_s = Outbox(), asyncio.get_running_loop().time()
    late, *soon = (Heartbeat(boot_id="b1", seq=seq, t_us=seq) for seq in range(4))
    outbox.put(late, now_s + 0.05)
    for beat in soon:
        outbox.put(beat, now_s)
    assert [await outbox.next() for _ in range(3)] == soon
    assert len(outbox) == 2  # the last one may not have been said yet
    assert await asyncio.wait_for(outbox.next(), DEADLINE_S) == late
    outbox.end()
    assert await outbox.next() is None
    assert len(outbox) == 0


async def test_an_outbox_in_a_hurry_waits_for_no_moment() -> None:
    outbox = Outbox()
    beat = Heartbeat(boot_id="b1", seq=0, t_us=0)
    outbox.put(beat, asyncio.get_running_loop().time() + 3_600.0)
    taking = asyncio.create_task(outbox.next())
    await asyncio.sleep(0)
    outbox.hurry()
    assert await asyncio.wait_for(taking, DEADLINE_S) == beat


async def test_a_full_outbox_makes_its_machine_wait_and_an_empty_one_says_so() -> None:
    outbox = Outbox()
    for seq in range(MAX_WAITING):
        outbox.put(Heartbeat(boot_id="b1", seq=seq, t_us=seq), 0.0)
    waiting = asyncio.create_task(outbox.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    await outbox.next()
    await asyncio.wait_for(waiting, DEADLINE_S)
    for _ in range(MAX_WAITING - 1):
        await outbox.next()
    emptied = asyncio.create_task(outbox.empty())
    await asyncio.sleep(0)
    assert not emptied.done()
    taking = asyncio.create_task(outbox.next())
    await asyncio.wait_for(emptied, DEADLINE_S)
    taking.cancel()


async def test_an_outbox_is_full_when_its_own_number_waits() -> None:
    outbox = Outbox(max_waiting=2)
    for seq in range(2):
        assert not outbox.is_full
        outbox.put(Heartbeat(boot_id="b1", seq=seq, t_us=seq), 0.0)
    assert outbox.is_full
    await outbox.next()
    assert not outbox.is_full


def brought(tempo: Tempo, before_s: float, before: float) -> float:
    """Let 200 machines live 100 s in steps of 50 ms; they bring half of what is typical. Return all reps."""
    reps, elapsed_s = before, before_s
    while elapsed_s < before_s + 100.0:
        tempo.adjust(elapsed_s, int(reps))
        lived_s = 0.05 * tempo.speed
        for _ in range(200):
            tempo.wait_s(lived_s)
        reps += 0.04 * 200 * lived_s
        elapsed_s += 0.05
    return reps


def test_a_tempo_brings_the_reps_that_it_was_asked_for_and_then_others() -> None:
    tempo = Tempo(1.0, reps_per_s=300.0, machines=200)
    many = brought(tempo, 0.0, 0.0)
    assert many == pytest.approx(30_000.0, rel=0.02)
    tempo.change(20.0, 100.0, int(many))
    assert brought(tempo, 100.0, many) - many == pytest.approx(2_000.0, rel=0.05)


def test_a_fixed_tempo_stays_as_it_is() -> None:
    tempo = Tempo(4.0, reps_per_s=None, machines=10)
    tempo.adjust(100.0, 0)
    assert tempo.wait_s(8.0) == 2.0


def test_only_the_first_sending_and_the_first_command_are_measured() -> None:
    timings = Timings()
    command = Command(
        command_id="c",
        machine="a/b/c",
        boot_id="b1",
        sequence=1,
        action="stop",
        rule="r",
        cause="a/b/c/b1/1",
        evidence=(),
        policy="p",
        issued_ms=0,
        expires_ms=1,
    )
    timings.send("a/b/c/b1/1", 10.0)
    timings.send("a/b/c/b1/1", 11.0)
    for _ in range(2):
        timings.receive(command, 12.0)
    assert timings.latencies_ms == {"stop": [2_000.0]}
    for number in range(MAX_SENT + 1):
        timings.send(str(number), 0.0)
    timings.receive(command, 13.0)
    assert timings.percentile_ms(0.99, "stop") == 2_000.0
