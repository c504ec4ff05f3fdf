"""Our MQTT client keeps its promises on a real mosquitto and on iotcore; where iotcore differs, a test says how."""

import asyncio
import contextlib
import os
import signal
import ssl
import sys
from asyncio.subprocess import DEVNULL, PIPE, create_subprocess_exec
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Literal

import pytest
import pytest_asyncio
from mqtt5 import ConnectPacket, PublishPacket

from adaptors.embedded_broker import embedded_broker
from adaptors.mqtt_client import Will, address, connect
from adaptors.mqtt_connection import MAX_IN_FLIGHT, Connection
from adaptors.mqtt_inbox import Heard
from adaptors.mqtt_link import BROKER_MAX_PACKET_BYTES, MAX_PACKET_BYTES, ConnectionLost
from loadtest import shipped
from loadtest.native import free_port, mosquitto
from streams.core.errors import BrokenPromise
from streams.core.limits import MAX_MESSAGE_BYTES
from tests.shell.raw_machine import QOS_1, say_all, sized

pytestmark = pytest.mark.broker

DEADLINE_S = 120.0
HOUR_S = 3_600
ONE_READ_BYTES = 262_144  # what asyncio reads at a time: it may have come before reading pauses
IOTCORE_WINDOW = 100  # max_inflight_count in deploy/iotcore/rumqttd.toml

names = (f"t{number}" for number in count())


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mosquitto_url() -> AsyncIterator[str]:
    async with mosquitto() as server:
        yield server.url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def iotcore_url() -> AsyncIterator[str]:
    async with embedded_broker(free_port()) as url:
        yield url


@pytest.fixture(params=["mosquitto", "iotcore"])
def kind(request: pytest.FixtureRequest) -> Literal["mosquitto", "iotcore"]:
    return request.param  # type: ignore[no-any-return]  # pytest knows no type for it


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{kind}_url"))


@pytest.fixture
def name() -> str:
    """Name of the test's own client ids and topics: the brokers outlive it."""
    return next(names)


Client = Callable[..., Awaitable[Connection]]


@pytest.fixture
async def client(url: str, name: str) -> AsyncIterator[Client]:
    """Make connections that are gone after the test; `clinic` is the one with a session and a window of 50."""
    made: list[Connection] = []

    async def one(role: str, **options: object) -> Connection:
        if role == "clinic":
            options = {"session_expiry_s": HOUR_S, "receive_maximum": 50} | options
        made.append(await connect(url, client_id=f"{name}-{role}", **options))  # type: ignore[arg-type]
        return made[-1]

    yield one
    for connection in made:
        await connection.close()


async def received(connection: Connection, number: int, *, ack: bool = True) -> list[Heard]:
    messages: list[Heard] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(messages) < number:
            batch = await connection.receive(number - len(messages))
            messages += batch
            if ack:
                connection.ack(batch)
    return messages


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


async def publish_all(connection: Connection, topic: str, numbers: Sequence[int]) -> None:
    await asyncio.gather(*(connection.publish(topic, str(number).encode()) for number in numbers))


def numbers(messages: Sequence[Heard]) -> list[int]:
    return [int(message.payload) for message in messages]


async def settled(connection: Connection) -> int:
    """Wait until no further message comes, and return how many are held."""
    held = -1
    async with asyncio.timeout(DEADLINE_S):
        while held != connection.held:
            held = connection.held
            await asyncio.sleep(0.2)
    return held


async def test_a_message_arrives_with_everything_that_was_sent_with_it(client: Client, name: str) -> None:
    clinic, machine = await client("clinic"), await client("machine")
    await clinic.subscribe([f"{name}/command"])
    is_heard = await machine.publish(
        f"{name}/command",
        b"\x00\xff payload",
        expiry_s=30,
        response_topic=f"{name}/ack",
        correlation_data=b"\x01id",
        content_type="application/json",
        user_properties=[("traceparent", "00-0-0-00"), ("traceparent", "twice")],
    )
    (message,) = await received(clinic, 1)
    assert is_heard
    assert (message.topic, message.payload, message.retain) == (f"{name}/command", b"\x00\xff payload", False)
    assert (message.response_topic, message.correlation_data) == (f"{name}/ack", b"\x01id")
    assert (message.content_type, message.message_expiry_interval) == ("application/json", 30)
    assert message.user_properties == [("traceparent", "00-0-0-00"), ("traceparent", "twice")]
    assert clinic.held == 0


async def test_a_message_of_the_largest_size_passes_and_a_larger_one_never_leaves(client: Client, name: str) -> None:
    clinic, machine = await client("clinic"), await client("machine")
    await clinic.subscribe([f"{name}/rep"])
    largest = bytes(MAX_MESSAGE_BYTES - 100)  # iotcore counts topic and properties too
    await machine.publish(f"{name}/rep", largest)
    assert [message.payload for message in await received(clinic, 1)] == [largest]
    with pytest.raises(BrokenPromise, match="at most 262144"):
        await machine.publish(f"{name}/rep", bytes(MAX_MESSAGE_BYTES + 1))


async def test_whatever_mosquitto_confirms_it_can_pass_on_to_us_however_large(mosquitto_url: str, name: str) -> None:
    window = 2  # what is confirmed and never comes takes its places for good: then nothing comes any more
    largest = BROKER_MAX_PACKET_BYTES - 1  # mosquitto counts one byte beside what follows the fixed header
    sizes = [*(size for size in range(largest - 3, largest + 1) for _ in range(window)), 100, 200, 300]
    async with await connect(mosquitto_url, client_id=f"{name}-clinic", receive_maximum=window) as clinic:
        await clinic.subscribe([f"{name}/m"])
        packets = [sized(f"{name}/m", number, size) for number, size in enumerate(sizes, 1)]
        await say_all(mosquitto_url, f"{name}-machine", packets)
        came = await received(clinic, len(sizes))
    again = [PublishPacket(f"{name}/m", one.payload, qos=QOS_1, packet_id=1).write() for one in came]
    assert [len(one) for one in again] == [len(one) for one in packets]


async def test_all_streams_of_a_machine_come_in_the_order_they_were_sent_in(client: Client, name: str) -> None:
    clinic, machine = await client("clinic"), await client("machine")
    await clinic.subscribe([f"{name}/+/+"])
    await clinic.close()  # a backlog is where a broker is tempted to sort by filter or topic
    streams = ("rep", "event", "ack", "presence")
    sent = [(f"{name}/m/{streams[number % 4]}", number) for number in range(400)]
    for topic, number in sent:
        await machine.publish(topic, str(number).encode())
    messages = await received(await client("clinic"), 400)
    assert [(message.topic, int(message.payload)) for message in messages] == sent


async def came_by_two_filters(url: str, name: str) -> list[int]:
    """Let a machine say 400 numbers on two streams in turn, while the clinic is away, and return them as they come."""
    async with await connect(url, client_id=f"{name}-clinic", session_expiry_s=HOUR_S) as clinic:
        await clinic.subscribe([f"{name}/+/rep", f"{name}/+/event"])
    async with await connect(url, client_id=f"{name}-machine") as machine:
        for number in range(400):
            await machine.publish(f"{name}/m/{('rep', 'event')[number % 2]}", str(number).encode())
    async with await connect(url, client_id=f"{name}-clinic", session_expiry_s=HOUR_S) as clinic:
        return numbers(await received(clinic, 400))


async def test_iotcore_keeps_no_order_between_two_filters(iotcore_url: str, name: str) -> None:
    came = await came_by_two_filters(iotcore_url, name)
    assert sorted(came) == list(range(400)) != came  # hence one filter a site there: SPINELOOP_BROKER


async def test_mosquitto_keeps_the_order_between_filters(mosquitto_url: str, name: str) -> None:
    assert await came_by_two_filters(mosquitto_url, name) == list(range(400))


async def test_where_messages_expired_mosquitto_lets_new_ones_overtake_those_behind_the_window(
    mosquitto_url: str, name: str
) -> None:
    window, expired = 10, 3
    client_id = f"{name}-clinic"
    async with await connect(mosquitto_url, client_id=client_id, session_expiry_s=HOUR_S) as clinic:
        await clinic.subscribe([f"{name}/m"])
    async with await connect(mosquitto_url, client_id=f"{name}-machine") as machine:
        for number in range(30):
            await machine.publish(f"{name}/m", str(number).encode(), expiry_s=1 if number < expired else None)
        await asyncio.sleep(2.5)  # the broker counts whole seconds
        async with await connect(
            mosquitto_url, client_id=client_id, session_expiry_s=HOUR_S, receive_maximum=window
        ) as clinic:
            first = await received(clinic, window - expired, ack=False)
            await machine.publish(f"{name}/m", b"30")
            (then,) = await received(clinic, 1, ack=False)
    assert numbers(first) == list(range(expired, window))
    assert int(then.payload) == 30  # and 10 still waits: hence a bridge does not ask for commands


async def test_what_was_not_acknowledged_comes_again_in_order_and_complete(client: Client, name: str) -> None:
    clinic, machine = await client("clinic"), await client("machine")
    await clinic.subscribe([f"{name}/rep"])
    await publish_all(machine, f"{name}/rep", range(300))
    first = await received(clinic, 40)  # acknowledged
    await received(clinic, 20, ack=False)
    await clinic.close()
    again = await client("clinic")
    assert again.session_present
    assert numbers(first) == list(range(40))
    assert numbers(await received(again, 260)) == list(range(40, 300))


async def test_mosquitto_marks_what_comes_again_and_iotcore_does_not(client: Client, name: str, kind: str) -> None:
    clinic, machine = await client("clinic"), await client("machine")
    await clinic.subscribe([f"{name}/rep"])
    await machine.publish(f"{name}/rep", b"1")
    await received(clinic, 1, ack=False)
    clinic.abort()
    (again,) = await received(await client("clinic"), 1)
    assert again.duplicate == (kind == "mosquitto")  # hence nobody looks at DUP


async def test_what_was_acknowledged_just_before_the_goodbye_does_not_come_again(client: Client, name: str) -> None:
    clinic, machine = await client("clinic", receive_maximum=2_000), await client("machine")
    await clinic.subscribe([f"{name}/rep"])
    for _ in range(3):
        await publish_all(machine, f"{name}/rep", range(1_000))
        await received(clinic, 1_000)
        await clinic.close()
        clinic = await client("clinic", receive_maximum=2_000)
        assert clinic.session_present
        assert await settled(clinic) == 0


async def test_an_ack_on_the_old_connection_is_refused_and_does_not_touch_the_new_one(
    client: Client, name: str
) -> None:
    old, machine = await client("clinic"), await client("machine")
    await old.subscribe([f"{name}/rep"])
    await machine.publish(f"{name}/rep", b"1")
    late = await received(old, 1, ack=False)
    old.abort()
    new = await client("clinic")
    await machine.publish(f"{name}/rep", b"2")
    again = await received(new, 2, ack=False)
    assert late[0].packet_id in [message.packet_id for message in again]  # the id names somebody else's message now
    with pytest.raises(ConnectionLost):
        old.ack(late)
    with pytest.raises(BrokenPromise):
        new.ack(late)
    new.abort()
    assert numbers(await received(await client("clinic"), 2)) == [1, 2]


async def test_a_late_command_is_dropped_by_the_broker_while_the_machine_is_away(client: Client, name: str) -> None:
    machine, downlink = await client("clinic"), await client("downlink")
    await machine.subscribe([f"{name}/command"])
    await machine.close()
    await downlink.publish(f"{name}/command", b"too late", expiry_s=1)
    await downlink.publish(f"{name}/command", b"in time", expiry_s=HOUR_S)
    await downlink.publish(f"{name}/command", b"stop")
    await asyncio.sleep(2.5)  # the broker's clock can't be moved by hand
    messages = await received(await client("clinic"), 2)
    assert [message.payload for message in messages] == [b"in time", b"stop"]
    assert messages[0].message_expiry_interval in range(HOUR_S - 60, HOUR_S)  # what is left of it


async def test_presence_is_told_to_whoever_comes_later(client: Client, name: str) -> None:
    machine = await client("machine")
    await machine.publish(f"{name}/presence", b"online", retain=True)
    clinic = await client("clinic")
    await clinic.subscribe([f"{name}/presence"])
    (message,) = await received(clinic, 1)
    assert (message.payload, message.retain) == (b"online", True)


async def test_a_killed_machine_is_reported_offline_by_its_will(client: Client, name: str, url: str) -> None:
    clinic = await client("clinic")
    await clinic.subscribe([f"{name}/presence"])
    code = f"""
import asyncio
from adaptors.mqtt_client import Will, address, connect

async def main():
    machine = await connect({url!r}, client_id="{name}-machine", will=Will("{name}/presence", b"offline"))
    await machine.publish("{name}/presence", b"online", retain=True)
    await asyncio.sleep(60.0)

asyncio.run(main())
"""
    process = await create_subprocess_exec(sys.executable, "-c", code)
    assert [message.payload for message in await received(clinic, 1)] == [b"online"]
    process.kill()
    await process.wait()
    (message,) = await received(clinic, 1)
    assert message.payload == b"offline"
    newcomer = await client("newcomer")
    await newcomer.subscribe([f"{name}/presence"])
    (message,) = await received(newcomer, 1)
    assert (message.payload, message.retain) == (b"offline", True)


async def test_who_says_goodbye_leaves_no_will(client: Client, name: str) -> None:
    clinic = await client("clinic")
    await clinic.subscribe([f"{name}/+"])
    machine = await client("machine", will=Will(f"{name}/presence", b"offline"))
    await machine.close()
    await (await client("other")).publish(f"{name}/rep", b"1")
    assert numbers(await received(clinic, 1)) == [1]


async def test_a_flood_that_nobody_acknowledges_stays_with_the_broker(client: Client, name: str) -> None:
    clinic, machine = await client("clinic", receive_maximum=500), await client("machine")
    await clinic.subscribe([f"{name}/rep"])
    for start in range(0, 20_000, 1_000):
        payloads = [str(number).zfill(1_000).encode() for number in range(start, start + 1_000)]
        await asyncio.gather(*(machine.publish(f"{name}/rep", payload) for payload in payloads))
    first = await received(clinic, 1, ack=False)
    assert await settled(clinic) <= 500
    clinic.ack(first)
    taken = list(first)
    for _ in range(60):  # one ack at a time: mosquitto answers each with a further window
        batch = await clinic.receive(1)
        clinic.ack(batch)
        taken += batch
    assert await settled(clinic) <= 2 * 500 + ONE_READ_BYTES // 1_000
    taken += await received(clinic, 20_000 - len(taken))
    assert numbers(taken) == list(range(20_000))
    assert clinic.held == 0


async def test_the_window_is_ours_on_mosquitto_and_the_brokers_on_iotcore(client: Client, name: str, kind: str) -> None:
    clinic, machine = await client("clinic", receive_maximum=10), await client("machine")
    await clinic.subscribe([f"{name}/rep"])
    await publish_all(machine, f"{name}/rep", range(300))
    if kind == "mosquitto":
        await until(lambda: clinic.held == 10)
        assert await settled(clinic) == 10
    else:
        await until(lambda: clinic.held > 10)
        assert await settled(clinic) <= IOTCORE_WINDOW
    assert numbers(await received(clinic, 300)) == list(range(300))


async def test_a_resumed_session_can_listen_to_more_and_hears_nothing_twice(client: Client, name: str) -> None:
    clinic, machine = await client("clinic"), await client("machine")
    await machine.publish(f"{name}/a/presence", b"0", retain=True)
    await clinic.subscribe([f"{name}/a/+"])
    await received(clinic, 1)
    await clinic.close()
    await publish_all(machine, f"{name}/a/rep", range(1, 100))
    clinic = await client("clinic")
    await clinic.subscribe([f"{name}/a/+", f"{name}/b/+"])
    await machine.publish(f"{name}/b/rep", b"100")
    assert numbers(await received(clinic, 100)) == list(range(1, 101))
    assert await settled(clinic) == 0


async def test_a_second_connection_with_the_same_id_ends_the_first(client: Client) -> None:
    first = await client("clinic")
    second = await client("clinic")
    with pytest.raises(ConnectionLost):
        await asyncio.wait_for(first.receive(1), DEADLINE_S)
    assert (first.lost is not None, second.lost) == (True, None)


async def test_a_connection_that_is_idle_stays_alive(client: Client, name: str) -> None:
    clinic = await client("clinic", keep_alive_s=4)
    await clinic.subscribe([f"{name}/rep"])
    await asyncio.sleep(8.0)  # the broker hangs up after one and a half periods of silence
    await (await client("machine")).publish(f"{name}/rep", b"1")
    assert numbers(await received(clinic, 1)) == [1]


async def test_a_machine_that_nobody_listens_to_is_told_so_by_mosquitto(client: Client, name: str, kind: str) -> None:
    machine = await client("machine")
    assert await machine.publish(f"{name}/nobody", b"1") == (kind == "iotcore")


async def test_a_broker_that_dies_is_noticed_by_all_who_wait() -> None:
    async with mosquitto() as server:
        one = await connect(server.url, client_id="one")
        os.kill(server.process.pid, signal.SIGSTOP)  # it does not answer any more
        waiting = asyncio.gather(
            one.receive(1), *(one.publish("t", b"1") for _ in range(2 * MAX_IN_FLIGHT)), return_exceptions=True
        )
        await asyncio.sleep(0)
        await server.process.kill()
        results = await asyncio.wait_for(waiting, DEADLINE_S)
        assert {type(result) for result in results} == {ConnectionLost}
        with pytest.raises(ConnectionLost):
            await connect(server.url, client_id="two")


async def test_an_embedded_broker_ends_with_its_block_and_with_its_parent() -> None:
    port = free_port()
    async with embedded_broker(port) as url:
        with pytest.raises(BrokenPromise, match="in use"):
            await contextlib.AsyncExitStack().enter_async_context(embedded_broker(port))
        await (await connect(url, client_id="one")).close()
    with pytest.raises(ConnectionLost):
        await connect(url, client_id="one")
    code = f"""
import asyncio
from adaptors.embedded_broker import embedded_broker

async def main():
    async with embedded_broker({port}) as url:
        print(url, flush=True)
        await asyncio.sleep(60.0)

asyncio.run(main())
"""
    parent = await create_subprocess_exec(sys.executable, "-c", code, stdout=PIPE)
    assert parent.stdout is not None
    assert (await parent.stdout.readline()).decode().strip() == url
    await (await connect(url, client_id="one")).close()
    parent.kill()
    await parent.wait()

    async def is_gone() -> bool:
        try:
            await (await connect(url, client_id="one")).close()
        except ConnectionLost:
            return True
        return False

    async with asyncio.timeout(DEADLINE_S):
        while not await is_gone():
            await asyncio.sleep(0.01)


async def test_iotcore_lets_nobody_in_any_more_after_refusing_a_client_twice() -> None:
    async with embedded_broker(free_port()) as url:
        _, host, port = address(url)
        for _ in range(2):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(ConnectPacket("acme/north/m1", keep_alive=30).write())  # connect would not let this id out
            assert await asyncio.wait_for(reader.read(), DEADLINE_S) == b""
            writer.close()
        with pytest.raises(ConnectionLost):
            await connect(url, client_id="innocent")


async def test_a_connection_through_tls_trusts_whom_it_is_told_to(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    request = ["-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate), "-days", "1"]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = await create_subprocess_exec("openssl", "req", "-x509", *request, *name, stderr=DEVNULL)
    assert await made.wait() == 0
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    async with mosquitto() as plain, through_tls(plain.port, server) as port:
        trusting = ssl.create_default_context(cafile=certificate)
        async with await connect(f"mqtts://localhost:{port}", client_id="one", tls=trusting) as one:
            await one.subscribe(["t"])
            payload = bytes(200_000)
            await one.publish("t", payload)
            assert [message.payload for message in await received(one, 1)] == [payload]
        with pytest.raises(ConnectionLost, match="certificate"):
            await connect(f"mqtts://localhost:{port}", client_id="two")


@contextlib.asynccontextmanager
async def through_tls(port: int, server: ssl.SSLContext) -> AsyncIterator[int]:
    """Put TLS in front of a plain port."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, behind_writer), copy(behind_reader, writer))

    front = await asyncio.start_server(serve, "localhost", 0, ssl=server)
    async with front:
        yield front.sockets[0].getsockname()[1]


def test_the_largest_packet_is_the_same_in_the_brokers_configuration_and_here() -> None:
    for name in ("mosquitto/mosquitto.conf", "mosquitto/wall.conf"):
        assert f"max_packet_size {BROKER_MAX_PACKET_BYTES}\n" in shipped.configuration(name, {})
    assert MAX_PACKET_BYTES >= BROKER_MAX_PACKET_BYTES + 1_000
    assert f"max_payload_size = {MAX_MESSAGE_BYTES}\n" in shipped.configuration("iotcore/rumqttd.toml", {})
    assert f"max_inflight_count = {IOTCORE_WINDOW}\n" in shipped.configuration("iotcore/rumqttd.toml", {})
