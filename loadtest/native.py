"""The native servers: real mosquitto, Kafka and InfluxDB processes on free loopback ports, data in a temporary folder.

They are configured by the files of `deploy/` (see `shipped.py`) and live as long as their block:

    async with mosquitto() as broker, kafka() as log, influxdb() as history:
        ...
        await log.process.kill()
        await log.process.restart()  # the same port, the same data
"""

import asyncio
import json
import os
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtest import probes, shipped
from loadtest.child import Child, DidNotStart, NotInstalled, Program, installed, running
from loadtest.probes import LOOPBACK

KLIB = Path(__file__).parents[1] / ".cache" / "kafka-4.3.1" / "libs"
"""Where scripts/setup-native puts Kafka's jars."""

SCRIPTS = Path(__file__).parents[1] / "scripts"

PORTS = range(20_000, 32_000)
"""Below the ports the kernel gives to clients: one that retries a killed server on such a port can be given that very
port and connect to itself, and then the restarted server finds it taken."""

JVM = (
    "-Xms128m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
    f"-Dlog4j2.configurationFile={shipped.DEPLOY / 'kafka' / 'log4j2.properties'}",
)
"""A broker of 250 MB under load that has formatted its data and listens within five seconds, and logs as shipped."""

CLUSTER_ID = "c3BpbmVsb29wLXRlc3RzIQ"
"""Any 16 bytes in base64 that do not begin with a dash: these are `spineloop-tests!`."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers: where to reach it, as our settings spell it, where its files are, and its process."""

    url: str
    host: str
    port: int
    folder: Path
    process: Child

    @property
    def address(self) -> str:
        """Host and port, as Kafka's clients want it."""
        return f"{self.host}:{self.port}"


@asynccontextmanager
async def mosquitto() -> AsyncIterator[Server]:
    """Run an MQTT broker."""
    executable = installed("mosquitto", package="mosquitto")
    with temporary_folder() as folder:
        port = free_port()
        configuration = written(folder / "mosquitto.conf", mosquitto_conf(port, folder))
        hand_over(folder, "mosquitto")
        program = Program(
            name="mosquitto",
            command=(executable, "-c", str(configuration)),
            log=folder / "server.log",
            answers=lambda: probes.speaks_mqtt(port),
            account="mosquitto",
        )
        async with running(program) as process:
            yield Server(f"mqtt://{LOOPBACK}:{port}", LOOPBACK, port, folder, process)


@dataclass(frozen=True, slots=True)
class Walled:
    """A mosquitto with the tenant wall: `outside` for machines, with TLS, `inside` for our roles."""

    outside: str
    inside: str
    access: Path
    authority: Path
    process: Child


@asynccontextmanager
async def walled_mosquitto(register: Callable[[Path], None]) -> AsyncIterator[Walled]:
    """Run an MQTT broker that lets in whom it knows; `register` writes the files that say who that is, into a folder.

    It reads as the account that it runs as, so the folder is that account's, and so is what is written there later.
    """
    executable = installed("mosquitto", package="mosquitto")
    with temporary_folder() as folder:
        access, keys = folder / "access", folder / "certificates"
        access.mkdir(mode=0o750)
        hand_over(folder, "mosquitto")  # before anything is written there: it takes the folder's owner
        register(access)
        await certificates(keys)
        inside, outside = free_port(), free_port()  # as late as can be: others look for ports, too
        configuration = written(folder / "mosquitto.conf", wall_conf(inside, outside, folder))
        hand_over(folder, "mosquitto")
        hand_over(keys, "mosquitto")
        program = Program(
            name="mosquitto",
            command=(executable, "-c", str(configuration)),
            log=folder / "server.log",
            answers=lambda: probes.listens(outside),
            account="mosquitto",
        )
        async with running(program) as process:
            yield Walled(
                f"mqtts://{LOOPBACK}:{outside}", f"mqtt://{LOOPBACK}:{inside}", access, keys / "ca.crt", process
            )


async def certificates(folder: Path, *names: str) -> None:
    """Make an authority and a server's certificate for loopback, as an operator does."""
    command = [str(SCRIPTS / "certificates"), str(folder), LOOPBACK, "localhost", *names]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=60.0)
    if done.returncode:
        raise DidNotStart(f"certificates: {done.stderr}")


@asynccontextmanager
async def kafka(
    *, klib: Path = KLIB, session_timeout_ms: int | None = None, advertised_port: int | None = None
) -> AsyncIterator[Server]:
    """Run a Kafka broker that is its own controller.

    Parameters
    ----------
    klib : Path
        Folder with Kafka's jars.
    session_timeout_ms : int, optional
        How long after a kill the restarted broker is kept out. As shipped it answers after about 14 s; with 2000,
        after about 5 s.
    advertised_port : int, optional
        Where clients are told to come, if that is not where it listens: the port of a proxy.
    """
    java = installed("java", package="openjdk-17-jre-headless")
    classpath = jars(klib)
    with temporary_folder() as folder:
        port, controller_port = free_port(), free_port()
        properties = kafka_properties(port, controller_port, folder, session_timeout_ms, advertised_port)
        configuration = written(folder / "server.properties", properties)
        await format_storage((java, *JVM, "-cp", classpath), configuration)
        program = Program(
            name="kafka",
            command=(java, *JVM, "-cp", classpath, "kafka.Kafka", str(configuration)),
            log=folder / "server.log",
            answers=lambda: probes.speaks_kafka(port),
            start_limit_s=180.0,  # after a kill it reads again what it had not closed: gigabytes after an hour
        )
        async with running(program) as process:
            yield Server(f"kafka://{LOOPBACK}:{port}", LOOPBACK, port, folder, process)


@asynccontextmanager
async def influxdb(disk: Path | None = None) -> AsyncIterator[Server]:
    """Run an InfluxDB 1.x.

    Parameters
    ----------
    disk : Path, optional
        Where its data goes, if not into a temporary folder: a small disk, say.
    """
    executable = installed("influxd", package="influxdb")
    with temporary_folder() as folder:
        port, backup_port = free_port(), free_port()
        configuration = written(folder / "influxdb.conf", influxdb_conf(port, backup_port, disk or folder))
        program = Program(
            name="influxdb",
            command=(executable, "-config", str(configuration)),
            log=folder / "server.log",
            answers=lambda: probes.speaks_influx(port),
        )
        async with running(program) as process:
            yield Server(f"http://{LOOPBACK}:{port}", LOOPBACK, port, folder, process)


def mosquitto_conf(port: int, folder: Path) -> str:
    """Give the shipped mosquitto.conf our address and data directory."""
    values = {"listener": f"{port} {LOOPBACK}", "persistence_location": f"{folder}/"}
    return shipped.configuration("mosquitto/mosquitto.conf", values)


def wall_conf(inside: int, outside: int, folder: Path) -> str:
    """Give the shipped wall.conf our addresses and folders."""
    values = {
        "listener 1883": f"{inside} {LOOPBACK}",
        "listener 8883": f"{outside} {LOOPBACK}",
        "persistence_location": f"{folder}/",
        "password_file": f"{folder}/access/passwords",
        "acl_file": f"{folder}/access/acl",
        "certfile": f"{folder}/certificates/server.crt",
        "keyfile": f"{folder}/certificates/server.key",
    }
    return shipped.configuration("mosquitto/wall.conf", values)


def kafka_properties(
    port: int,
    controller_port: int,
    folder: Path,
    session_timeout_ms: int | None = None,
    advertised_port: int | None = None,
) -> str:
    """Give the shipped server.properties our addresses and data directory, and if asked another session timeout."""
    controller = f"CONTROLLER://{LOOPBACK}:{controller_port}"
    values = {
        "listeners": f"INSIDE://{LOOPBACK}:{port},{controller}",
        "advertised.listeners": f"INSIDE://{LOOPBACK}:{advertised_port or port},{controller}",
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "log.dirs": str(folder / "data"),
    }
    if session_timeout_ms is not None:
        values["broker.session.timeout.ms"] = str(session_timeout_ms)
        values["broker.heartbeat.interval.ms"] = str(session_timeout_ms // 4)
    return shipped.configuration("kafka/server.properties", values)


def influxdb_conf(port: int, backup_port: int, folder: Path) -> str:
    """Give the shipped influxdb.conf our addresses and data directories."""
    values = {
        "bind-address": f"{LOOPBACK}:{backup_port}",
        "http.bind-address": f"{LOOPBACK}:{port}",
        "meta.dir": str(folder / "meta"),
        "data.dir": str(folder / "data"),
        "data.wal-dir": str(folder / "wal"),
    }
    quoted = {key: json.dumps(value) for key, value in values.items()}
    return shipped.configuration("influxdb/influxdb.conf", quoted)


async def format_storage(jvm: tuple[str, ...], configuration: Path) -> None:
    """Prepare Kafka's data directory, as the container does at its first start."""
    command = [*jvm, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(configuration)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=60.0)
    if done.returncode:
        raise DidNotStart(f"kafka: the data directory was not formatted:\n{done.stdout}{done.stderr}")


def jars(klib: Path) -> str:
    """Return Kafka's class path, or say that its jars are missing."""
    if not any(klib.glob("kafka_*.jar")):
        raise NotInstalled(f"Kafka's jars are not in {klib}: run scripts/setup-native")
    return f"{klib}/*"


_given_out: set[int] = set()


def free_port() -> int:
    """Find a loopback port nobody listens on, and that was not found here before: who asked may listen only later."""
    if len(_given_out) > len(PORTS) // 2:
        _given_out.clear()
    for port in random.SystemRandom().sample(PORTS, k=100):
        if port in _given_out:
            continue
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        _given_out.add(port)
        return port
    raise OSError(f"100 ports of {PORTS} are all taken")


def hand_over(folder: Path, account: str) -> None:
    """Give a folder and what is in it to the account a server runs as, which only root can and needs to."""
    if os.geteuid() == 0:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, account, account)


def written(path: Path, text: str) -> Path:
    """Write a text and return where it is."""
    path.write_text(text, encoding="utf-8")
    return path


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that is gone after the block."""
    with tempfile.TemporaryDirectory(prefix="spineloop-") as name:
        yield Path(name)
