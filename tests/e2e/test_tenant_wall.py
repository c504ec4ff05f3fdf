"""The tenant wall on a real mosquitto with TLS: 10,000 hostile attempts, judged by whom they would have reached."""

import asyncio
import os
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random

import msgspec
import pytest

from adaptors import mqtt_client
from adaptors.mqtt_client import Will, connect
from adaptors.mqtt_connection import Connection, Refused
from ingest.bridge import Bridge, BridgeSettings
from loadtest import hostile, native, stack
from loadtest.hostile import MARK, Secret, Target
from loadtest.native import Walled
from spineloop import access, wiring
from spineloop.access import Kind
from spineloop.settings import Settings
from streams.core import codec
from streams.core.records import NewRecord
from streams.core.telemetry import FaultRaised, Heartbeat
from streams.core.topics import DEAD_LETTER, TELEMETRY
from tests.shell.counts import Counts

pytestmark = pytest.mark.broker

ROOT = Path(hostile.__file__).parents[1]
DEADLINE_S, LONG_ENOUGH_S = 120.0, 3.0
VICTIM, NEIGHBOUR, EVIL, GONE = "acme/north/m1", "umbra/east/m2", "umbra/east/evil", "umbra/east/gone"
OPERATOR = "acme/north"
THIEVES = [f"umbra/east/thief-{number}" for number in range(6)]
OBSERVER = "observer"
TARGET = Target(VICTIM, ("ingest-0", "downlink-0", "spineloop-ingest-0", "reflex-0"), OPERATOR)


class Wall:
    """A broker with the wall, and everybody's secrets."""

    def __init__(self) -> None:
        self.secrets: dict[str, Secret] = {}
        self.broker: Walled

    def enrol(self, folder: Path) -> None:
        register = access.Register()
        for name in (VICTIM, NEIGHBOUR, EVIL, GONE, OPERATOR, *THIEVES):
            register, secret = access.add(register, name, 1)
            self.secrets[name] = Secret(name, secret.encode())
        services: dict[str, Kind] = {"ingest-0": "ingest", "downlink-0": "downlink", "reflex-0": "reflex"}
        services[OBSERVER] = "ingest"
        for name, kind in services.items():
            register, secret = access.add(register, name, 1, service=kind)
            self.secrets[name] = Secret(name, secret.encode())
        access.write(folder, access.revoke(register, GONE, 2))
        # One who sees all, which no rule of ours grants anybody: nothing may get past the wall unseen.
        with (folder / access.ACL).open("a", encoding="ascii") as acl:
            acl.write(f"\nuser {OBSERVER}\ntopic read #\n")

    @property
    def tls(self) -> ssl.SSLContext:
        return mqtt_client.trusting(str(self.broker.authority))

    async def outside(self, name: str, **options: object) -> Connection:
        """Connect as a machine or an operator does."""
        secret = self.secrets[name]
        return await connect(
            self.broker.outside,
            client_id=name.replace("/", "."),
            username=name,
            password=secret.password,
            tls=self.tls,
            **options,  # type: ignore[arg-type]  # passed on as they are
        )

    async def inside(self, name: str, **options: object) -> Connection:
        """Connect as a role does."""
        return await connect(
            self.broker.inside,
            client_id=name,
            username=name,
            password=self.secrets[name].password,
            **options,  # type: ignore[arg-type]  # passed on as they are
        )


@pytest.fixture
async def wall() -> AsyncIterator[Wall]:
    one = Wall()
    async with native.walled_mosquitto(one.enrol) as one.broker:
        yield one


class Ear:
    """Keeps what a connection receives."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.heard = connection, list[tuple[str, bytes]]()

    async def listen(self) -> None:
        while True:
            batch = await self.connection.receive(1_000)
            self.heard += [(message.topic, bytes(message.payload or b"")) for message in batch]
            self.connection.ack(batch)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def ear(connection: Connection, *filters: str) -> AsyncIterator[Ear]:
    one = Ear(connection)
    async with connection:
        listening = asyncio.create_task(one.listen())
        await connection.subscribe(filters)
        try:
            yield one
        finally:
            listening.cancel()
            await asyncio.wait({listening})


class Kept:
    """A log that keeps what it is given, in memory."""

    def __init__(self) -> None:
        self.records = list[NewRecord]()

    async def append(self, records: Sequence[NewRecord]) -> None:
        self.records += records

    def keys(self, topic: str) -> Counter[str]:
        return Counter(record.key.decode() for record in self.records if record.topic == topic)


def beat(seq: int) -> bytes:
    return codec.encode(Heartbeat(boot_id="honest", seq=seq, t_us=1))


@asynccontextmanager
async def carried(wall: Wall, log: Kept) -> AsyncIterator[None]:
    """Run a bridge for all tenants into a log."""
    connecting = partial(wall.inside, "ingest-0", session_expiry_s=60)
    bridge = Bridge(connecting, log, Counts(), now_ms=lambda: 1_700_000_000_000, settings=BridgeSettings())
    stop = asyncio.Event()
    running = asyncio.create_task(bridge.run(stop))
    try:
        await until(lambda: bridge.ready)
        yield
    finally:
        stop.set()
        await asyncio.wait_for(running, DEADLINE_S)


async def test_ten_thousand_hostile_attempts_come_to_nothing(wall: Wall) -> None:
    visits = list(hostile.campaign(Random(6), wall.secrets[EVIL], wall.secrets[GONE], TARGET))
    assert sum(visit.attempts for visit in visits) >= 10_000
    tls, log, command_topic = wall.tls, Kept(), f"spineloop/v1/{VICTIM}/command"
    let_in, stolen = Counter[str](), list[tuple[str, bytes]]()
    async with AsyncExitStack() as open_ones:
        await open_ones.enter_async_context(carried(wall, log))
        victim = await open_ones.enter_async_context(ear(await wall.outside(VICTIM), command_topic))
        neighbour = await open_ones.enter_async_context(ear(await wall.outside(NEIGHBOUR), "#", "spineloop/v1/#"))
        operator = await open_ones.enter_async_context(ear(await wall.outside(OPERATOR), "#", "spineloop/v1/#"))
        observer = await open_ones.enter_async_context(ear(await wall.inside(OBSERVER), "#"))
        downlink = await open_ones.enter_async_context(await wall.inside("downlink-0"))
        held = await hostile.slow(wall.broker.outside, 500)
        thieves = [await hostile.dial(wall.broker.outside, tls) for _ in THIEVES]
        for name, thief in zip(THIEVES, thieves, strict=True):
            assert await thief.enter(hostile.introduced(wall.secrets[name]))
            await thief.exchange(hostile.listening(hostile.filters(wall.secrets[name], TARGET)))

        for number, visit in enumerate(visits):  # one after the other: a credential is one connection at a time
            if number % 30 == 0:
                await downlink.publish(command_topic, b"honest %d" % number)
                await victim.connection.publish(f"spineloop/v1/{VICTIM}/event", beat(number))
            seen = await hostile.pay(wall.broker.outside, tls, visit)
            let_in[visit.kind] += seen.was_let_in
            stolen += seen.received

        await downlink.publish(command_topic, b"last")
        await victim.connection.publish(f"spineloop/v1/{VICTIM}/event", beat(len(visits)))
        honest = [b"honest %d" % number for number in range(0, len(visits), 30)] + [b"last"]
        beats = [beat(number) for number in range(0, len(visits), 30)] + [beat(len(visits))]
        await until(lambda: len(victim.heard) >= len(honest))
        await until(lambda: log.keys(TELEMETRY).total() >= len(beats))
        await until(lambda: operator.heard.count((f"spineloop/v1/{VICTIM}/event", beats[-1])) > 0)
        await until(lambda: observer.heard.count((command_topic, b"last")) > 0)
        for thief in thieves:
            await thief.exchange([])
            stolen += thief.seen.received
            thief.vanish()
        late = await open_ones.enter_async_context(
            ear(await wall.inside(OBSERVER), "#")
        )  # what is retained, if anything
        await (await wall.outside(NEIGHBOUR)).close()  # in spite of the slow ones, who are there to the end
        await downlink.publish(command_topic, b"after")
        await until(lambda: (command_topic, b"after") in late.heard)
        for writer in held:
            writer.transport.abort()

    assert (let_in["credential"], let_in["revoked"]) == (0, 0)
    assert stolen == []
    assert victim.connection.lost == "closed by us"
    assert [payload for _, payload in victim.heard][: len(honest)] == honest
    assert neighbour.heard == []
    assert {topic.rsplit("/", 1)[0] for topic, _ in operator.heard} == {f"spineloop/v1/{VICTIM}"}
    everything = observer.heard + late.heard + operator.heard
    assert not [heard for heard in everything if MARK in heard[1]]
    assert {topic for topic, _ in observer.heard + late.heard} == {
        command_topic, f"spineloop/v1/{VICTIM}/event", f"spineloop/v1/{EVIL}/event"
    }  # fmt: skip
    assert [record.value for record in log.records if record.topic == TELEMETRY] == beats
    assert log.keys(TELEMETRY).keys() == {VICTIM}
    assert log.keys(DEAD_LETTER) == {EVIL: sum(visit.attempts for visit in visits if visit.kind == "lie")}


async def test_behind_the_wall_the_reflex_stops_the_machine_that_is_in_danger_and_no_other(wall: Wall) -> None:
    settings = Settings(
        mqtt_url=wall.broker.inside,
        mqtt_username="reflex-0",
        mqtt_password=(wall.secrets["reflex-0"].password or b"").decode(),
        http_port=0,
    )
    role, stop = wiring.reflex(settings, Counts()), asyncio.Event()
    running = asyncio.create_task(role.run(stop))
    await until(lambda: role.is_ready() or running.done())
    fault = codec.encode(FaultRaised(boot_id="b", seq=1, t_us=1, fault="cable"))
    lie = codec.encode(FaultRaised(boot_id="b", seq=2, t_us=1, fault="cable", machine=VICTIM))
    async with (
        ear(await wall.outside(VICTIM), f"spineloop/v1/{VICTIM}/command") as victim,
        ear(await wall.outside(EVIL), f"spineloop/v1/{EVIL}/command") as evil,
    ):
        await evil.connection.publish(f"spineloop/v1/{EVIL}/event", lie)
        with pytest.raises(Refused):
            await evil.connection.publish(f"spineloop/v1/{VICTIM}/event", fault)
        await evil.connection.publish(f"spineloop/v1/{EVIL}/event", fault)
        await until(lambda: len(evil.heard) > 0)
        assert (victim.heard, [codec.decode_command(one).cause for _, one in evil.heard]) == ([], [f"{EVIL}/b/1"])
        await victim.connection.publish(f"spineloop/v1/{VICTIM}/event", fault)
        await until(lambda: len(victim.heard) > 0)
        assert [codec.decode_command(one).machine for _, one in victim.heard] == [VICTIM]
    stop.set()
    await asyncio.wait_for(running, DEADLINE_S)


async def test_who_is_revoked_is_cut_without_its_will_and_not_let_in_again_until_it_is_added(
    wall: Wall, tmp_path: Path
) -> None:
    spineloop = partial(called, wall.broker.access, tmp_path / "mosquitto.pid")
    (tmp_path / "mosquitto.pid").write_text(f"{wall.broker.process.pid}\n", encoding="ascii")
    presence = f"spineloop/v1/{NEIGHBOUR}/presence"
    async with (
        ear(await wall.inside("ingest-0"), "spineloop/v1/+/+/+/+") as bridge,
        ear(await wall.outside(VICTIM), f"spineloop/v1/{VICTIM}/command") as stays,
        await wall.outside(NEIGHBOUR, will=Will(presence, b"offline"), session_expiry_s=600) as revoked,
    ):
        await revoked.publish(presence, b"online", retain=True)
        await until(lambda: (presence, b"online") in bridge.heard)
        assert await spineloop("revoke", NEIGHBOUR) == ""
        await until(lambda: revoked.lost is not None)
        with pytest.raises(Refused):
            await wall.outside(NEIGHBOUR)
        told = await spineloop("add", NEIGHBOUR, "--json")
        wall.secrets[NEIGHBOUR] = Secret(NEIGHBOUR, msgspec.json.decode(told)["secret"].encode())
        async with await wall.outside(NEIGHBOUR) as again:
            await again.publish(presence, b"again")
        await until(lambda: (presence, b"again") in bridge.heard)
        # mosquitto tells no will of whom it cuts: the machine falls silent, as page and alerts say.
        assert [payload for topic, payload in bridge.heard if topic == presence] == [b"online", b"again"]
        assert stays.connection.lost is None


async def test_the_example_machine_gets_through_the_wall_with_its_credential_and_not_with_anothers(wall: Wall) -> None:
    log = Kept()
    async with carried(wall, log):
        assert (
            await example(wall, NEIGHBOUR, wall.secrets[VICTIM], LONG_ENOUGH_S) != 0
        )  # never let in: it waits in vain
        assert log.records == []
        assert await example(wall, NEIGHBOUR, wall.secrets[NEIGHBOUR], DEADLINE_S) == 0
        await until(lambda: log.keys(TELEMETRY)[NEIGHBOUR] >= 7)
    assert log.keys(TELEMETRY).keys() == {NEIGHBOUR}
    assert log.keys(DEAD_LETTER) == {}


async def example(wall: Wall, machine: str, secret: Secret, limit_s: float) -> int | None:
    """Run the example machine through TLS until it ends, or for so long; return its status."""
    _, host, port = mqtt_client.address(wall.broker.outside)
    told = {"MQTT_PASSWORD": (secret.password or b"").decode(), "MQTT_CA_FILE": str(wall.broker.authority)}
    one = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "examples" / "machine.py"), host, str(port), machine, "0.5", env=os.environ | told
    )
    try:
        return await asyncio.wait_for(one.wait(), limit_s)
    except TimeoutError:
        one.kill()
        return await one.wait()


async def called(folder: Path, pid_file: Path, verb: str, *words: str) -> str:
    """Call `spineloop machines` as an operator does, and return what it printed as JSON, if anything."""
    command = [*stack.spineloop("machines", verb, *words), "--folder", str(folder), "--pid-file", str(pid_file)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout if "--json" in words else ""
