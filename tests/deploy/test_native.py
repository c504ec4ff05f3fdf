"""The native servers: real ones start, answer, keep their data over a crash, and are gone afterwards."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import iotcore
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from loadtest import native, probes, shipped
from loadtest.child import DidNotStart, NotInstalled, Program, installed, running
from loadtest.native import Server, free_port, influxdb, kafka, mosquitto

pytestmark = pytest.mark.broker

ROOT = Path(native.__file__).parents[1]
WRITTEN = b"written-before-the-kill"
LIMIT_S = 120.0

START_AND_WAIT = """
import asyncio, sys
from loadtest import native

async def main():
    async with getattr(native, sys.argv[1])() as server:
        print(server.process.pid, server.folder, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


@dataclass(frozen=True)
class Witness:
    """One server, how something durable is written to it, and how that is read back."""

    start: Callable[[], AbstractAsyncContextManager[Server]]
    write: Callable[[Server], Awaitable[None]]
    read: Callable[[Server], Awaitable[bytes]]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(")")[2].split()[0] == "Z"  # ended, and not yet collected by who inherited it


async def mqtt_connection(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")  # 3.1.1, clean session, no client id
    assert await mqtt_packet(reader) == (0x20, b"\x00\x00")
    return reader, writer


async def mqtt_packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    kind, last = await reader.readexactly(2)
    length, shift = last & 127, 7
    while last & 128:
        (last,) = await reader.readexactly(1)
        length, shift = length | (last & 127) << shift, shift + 7
    return kind, await reader.readexactly(length)


async def is_acknowledged(server: Server, payload: bytes) -> bool:
    reader, writer = await mqtt_connection(server)
    body = b"\x00\x01t\x00\x01" + payload  # topic "t", packet id 1
    length = bytes([len(body) % 128 | 128, len(body) // 128 % 128 | 128, len(body) // 16_384])  # always three bytes
    writer.write(b"\x33" + length + body)  # QoS 1, retained
    try:
        return await mqtt_packet(reader) == (0x40, b"\x00\x01")
    except (ConnectionResetError, asyncio.IncompleteReadError):
        return False
    finally:
        writer.close()


async def write_retained_message(server: Server) -> None:
    assert await is_acknowledged(server, WRITTEN)
    os.kill(server.process.pid, signal.SIGUSR1)  # mosquitto saves now, instead of within 30 s
    saved = server.folder / "mosquitto.db"
    await until(lambda: saved.exists() and WRITTEN in saved.read_bytes())


async def read_retained_message(server: Server) -> bytes:
    reader, writer = await mqtt_connection(server)
    writer.write(b"\x82\x06\x00\x01\x00\x01t\x00" + b"\xc0\x00")  # SUBSCRIBE to "t", then PINGREQ
    payload = b""
    while (packet := await mqtt_packet(reader))[0] != 0xD0:  # what is retained comes before PINGRESP
        if packet[0] == 0x31:
            payload = packet[1].removeprefix(b"\x00\x01t")
    writer.close()
    return payload


async def write_record(server: Server) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=server.address)
    await admin.start()
    await admin.create_topics([NewTopic("t", num_partitions=1, replication_factor=1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=server.address, acks="all", enable_idempotence=True) as producer:
        await producer.send_and_wait("t", WRITTEN)


async def read_record(server: Server) -> bytes:
    async with AIOKafkaConsumer("t", bootstrap_servers=server.address, auto_offset_reset="earliest") as consumer:
        record = await consumer.getone()
        return bytes(record.value)


async def write_point(server: Server) -> None:
    address = f"http://{server.address}"
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{address}/query", params={"q": "CREATE DATABASE telemetry"}) as created:
            # The 200 is sent before the statement runs; the body comes when it is done.
            assert json.loads(await created.read()) == {"results": [{"statement_id": 0}]}
        line = f'rep text="{WRITTEN.decode()}" 1000'
        async with session.post(f"{address}/write", params={"db": "telemetry", "precision": "ms"}, data=line) as wrote:
            assert wrote.status == 204


async def read_point(server: Server) -> bytes:
    question = {"db": "telemetry", "q": "SELECT text FROM rep"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{server.address}/query", params=question) as answer,
    ):
        found = json.loads(await answer.read())
    return str(found["results"][0]["series"][0]["values"][0][1]).encode()


WITNESSES = {
    "mosquitto": Witness(mosquitto, write_retained_message, read_retained_message),
    "kafka": Witness(lambda: kafka(session_timeout_ms=2_000), write_record, read_record),
    "influxdb": Witness(influxdb, write_point, read_point),
}


@pytest.mark.parametrize("name", WITNESSES)
async def test_a_server_keeps_its_data_over_a_kill_and_is_gone_at_the_end(name: str) -> None:
    witness = WITNESSES[name]
    async with witness.start() as server:
        await witness.write(server)
        killed = server.process.pid
        await server.process.kill()
        assert is_gone(killed)
        await server.process.restart()
        async with asyncio.timeout(LIMIT_S):
            assert await witness.read(server) == WRITTEN
    assert is_gone(server.process.pid)
    assert not server.folder.exists()


@pytest.mark.parametrize("name", ["mosquitto", "influxdb"])
async def test_a_server_dies_with_the_process_that_started_it(name: str) -> None:
    starter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", START_AND_WAIT, name, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert starter.stdout is not None
    pid, folder = (await starter.stdout.readline()).split()
    assert not is_gone(int(pid))
    starter.kill()
    await starter.wait()
    await until(lambda: is_gone(int(pid)))
    shutil.rmtree(folder.decode())  # nobody was left to do it


@pytest.mark.parametrize(("size", "is_kept"), [(262_144, True), (265_000, True), (300_000, False)])
async def test_mosquitto_acknowledges_a_large_message_exactly_if_it_keeps_it(size: int, *, is_kept: bool) -> None:
    async with mosquitto() as broker:
        assert await is_acknowledged(broker, bytes(size)) is is_kept
        assert len(await read_retained_message(broker)) == is_kept * size


def test_no_port_is_found_twice_though_nobody_listens_yet() -> None:
    ports = [free_port() for _ in range(1_000)]
    assert len(set(ports)) == len(ports)


async def test_the_embedded_broker_takes_the_shipped_file_and_speaks_mqtt_5(tmp_path: Path) -> None:
    port = free_port()
    text = shipped.configuration("iotcore/rumqttd.toml", {"v5.1.listen": f'"127.0.0.1:{port}"'})
    with iotcore.Broker(config_path=str(native.written(tmp_path / "rumqttd.toml", text))):
        async with asyncio.timeout(LIMIT_S):
            while not await probes.speaks_mqtt(port):
                await asyncio.sleep(0.02)


async def test_a_program_that_ends_at_once_shows_the_end_of_its_log(tmp_path: Path) -> None:
    broken = Program("broken", ("sh", "-c", "echo no such directory; exit 3"), tmp_path / "log", unanswered)
    with pytest.raises(DidNotStart, match=r"(?s)broken: ended with status 3.*no such directory"):
        async with running(broken):
            pytest.fail("it must not count as started")


async def test_a_program_that_never_answers_is_given_up_and_gone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    silent = Program("silent", ("sh", "-c", "echo $$; exec sleep 600"), log, unanswered, start_limit_s=5.0)
    with pytest.raises(DidNotStart, match=r"silent: no answer within 5 s"):
        async with running(silent):
            pytest.fail("it must not count as started")
    assert is_gone(int(log.read_text(encoding="ascii")))


async def test_a_program_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    async def is_deaf() -> bool:
        return (tmp_path / "log").read_text(encoding="ascii") == "deaf\n"

    command = ("sh", "-c", "trap '' TERM; echo deaf; exec sleep 600")
    async with running(Program("deaf", command, tmp_path / "log", is_deaf, stop_limit_s=0.2)) as child:
        assert child.is_running
    assert is_gone(child.pid)


async def test_a_missing_component_is_named_with_what_installs_it(tmp_path: Path) -> None:
    with pytest.raises(NotInstalled, match=r"Kafka's jars are not in .*: run scripts/setup-native"):
        async with kafka(klib=tmp_path):
            pytest.fail("there is no Kafka")
    with pytest.raises(NotInstalled, match="no-server is not installed: run scripts/setup-native, or"):
        installed("no-server", package="a-package")


async def unanswered() -> bool:
    return False
