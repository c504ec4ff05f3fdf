"""Wiring: the one place where clients are built and rooms are joined."""

import asyncio
import os
import random
import secrets
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from errno import EDQUOT, ENOSPC
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Protocol, TypeVar

import msgspec
import structlog
from msgspec.structs import replace

from adaptors import history as histories
from adaptors import kafka_erasure, kafka_topics, mqtt_client, sqlite_erasure
from adaptors.delivery import Delivery, Pace
from adaptors.downlink import Downlink, Order, Sender
from adaptors.history import History
from adaptors.influx_history import InfluxAddress, InfluxHistory, open_influx_history
from adaptors.kafka_log import open_kafka_log
from adaptors.kafka_topics import TopicRow
from adaptors.meter_history import MeterHistory
from adaptors.mqtt_connection import Connection
from adaptors.points import Point
from adaptors.sqlite_history import SqliteHistory, open_sqlite_history
from adaptors.sqlite_log import open_sqlite_log
from adaptors.sqlite_reading import open_sqlite_reading
from adaptors.sqlite_writer import Tidying
from dashboards.live.server import NoPort, Page, PageSettings
from ingest.arrival import Message
from ingest.bridge import Bridge, BridgeSettings, Machines, site_filter, site_filters
from ingest.bridge import Log as BridgeLog
from ingest.reflex import Reflex
from spineloop.exposition import Exposition, unheard
from spineloop.settings import (
    PREFIX,
    Settings,
    WrongSetting,
    check_authority,
    kafka_servers,
    scheme_of,
    sqlite_folder,
)
from spineloop.watchdog import Needs, Watched
from streams.core.commands import Command
from streams.core.controller import Controller
from streams.core.meters import Meters
from streams.core.planning import Planner
from streams.core.policy import Policy, digest
from streams.core.records import Record
from streams.core.topics import COMMAND, LOG_TOPICS, TELEMETRY
from streams.engine import Engine, EngineSettings
from streams.log import Log
from streams.stretch import Readable
from streams.traces import places

MQTT_SESSION_S = 7 * 86_400
"""How long the broker keeps what the bridge has not taken, in s: longer than any outage that we want to survive."""

_log = structlog.get_logger()
M = TypeVar("M", bound=Message)

LOG, HISTORY = "log.db", "history.db"
"""The files of a `sqlite://` folder."""

_NO_ROOM = {ENOSPC, EDQUOT}

DOWNLINK = "downlink"

KEEP_ALIVE_S = 30
STOP_KEEP_ALIVE_S = 5
"""How long an MQTT connection may be silent, in s: one over which STOP goes is found dead sooner."""

HEARTBEAT_MS = 1_000
"""How often a worker tells its group that it lives, in ms. The answer tells it that partitions are shared out anew, so
this is most of their silence then; the default of 3 s alone would be longer than that may last."""

SHORT_TIDYING_S = 5.0
"""How often a log that keeps little is rid of what it need not keep, in s."""

HISTORY_PATIENCE_MS = 250
"""History waits a second for a batch to grow anyway, and a fetch for each single record costs it and Kafka dearly."""

DOWNLINK_PACE = Pace(max_records=500, linger_s=0.0, longest_retry_s=1.0)
"""A command waits for nothing; five hundred in flight are well below what the broker grants."""


class Role(msgspec.Struct, frozen=True):
    """One of the things that a process can be: its name, what it does until told to stop, whether it is ready."""

    name: str
    run: Callable[[asyncio.Event], Coroutine[Any, Any, None]]
    is_ready: Callable[[], bool]


class Kept(histories.Sink, Protocol):
    """A history that tells whether it is there."""

    async def ping(self) -> None:
        """Return if it is there. Raises Busy."""


class Sink(Kept, Protocol):
    """A history that can also be asked, for the report of a demo."""

    async def count(self, measurement: str) -> int:
        """Count the points of a measurement."""

    async def reps_since(self, t_ns: int) -> int:
        """Count the reps from a time on, in ns since 1970."""

    async def select(self, measurement: str) -> Sequence[Point]:
        """Return the points of a measurement."""

    async def rewrite(self, part: str, change: Callable[[str], str]) -> int:
        """Change every text that has this part in it, and count the points. Raises BrokenPromise if any are left."""


def wall_clock_ms() -> int:
    """Return the time in ms since 1970; the ingest time of a message is the only clock that reducers see."""
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def open_log(settings: Settings, role: str) -> AsyncIterator[Log]:
    """Open the log that the settings name."""
    if is_sqlite(settings):
        async with open_sqlite_log(_folder(settings.log_url, "LOG_URL") / LOG, settings.partitions) as log:
            yield log
    else:
        name = f"spineloop-{role}"
        async with open_kafka_log(
            kafka_servers(settings.log_url),
            client_id=name,
            session_timeout_ms=round(1_000 * settings.kafka_session_timeout_s),
            heartbeat_ms=HEARTBEAT_MS,
            instance=f"{name}-{settings.instance}" if settings.instance else None,
            patience_ms=HISTORY_PATIENCE_MS if role == "history" else 0,
        ) as log:
            yield log


@asynccontextmanager
async def open_short_log(folder: Path, kept_ms: int, now_ms: Callable[[], int]) -> AsyncIterator[Log]:
    """Open an embedded log that forgets everything so long after it was said, by the caller's clock."""
    topics = {name: replace(topic, retention_ms=kept_ms) for name, topic in LOG_TOPICS.items()}
    async with open_sqlite_log(
        folder / LOG, 4, topics=topics, tidying=Tidying(every_s=SHORT_TIDYING_S), now_ms=now_ms
    ) as log:
        yield log


@asynccontextmanager
async def open_for_reading(settings: Settings, role: str) -> AsyncIterator[Readable]:
    """Open the log that the settings name, to look at it: nothing is made or changed. Raises ValueError and Busy."""
    if is_sqlite(settings):
        async with open_sqlite_reading(sqlite_folder(settings.log_url) / LOG) as reading:
            yield reading
    else:
        async with open_log(settings, role) as log:
            yield log


@asynccontextmanager
async def open_history(settings: Settings) -> AsyncIterator[Sink]:
    """Open the history that the settings name, and make sure that its database is there."""
    async with _history(settings) as sink:
        if isinstance(sink, InfluxHistory):
            await sink.prepare()
        yield sink


@asynccontextmanager
async def meter_history(role: str, settings: Settings, exposition: Exposition) -> AsyncIterator[MeterHistory]:
    """Build what writes a process's meters into history; a history that is away is no reason not to start."""
    who = (("instance", settings.instance or "0"), ("role", role))
    async with _history(settings) as sink:
        yield MeterHistory(sink, exposition.readings, who, exposition, now_ns=time.time_ns)


@asynccontextmanager
async def _history(settings: Settings) -> AsyncIterator[InfluxHistory | SqliteHistory]:
    if scheme_of(settings.history_url) == "sqlite":
        async with open_sqlite_history(_folder(settings.history_url, "HISTORY_URL") / HISTORY) as sink:
            yield sink
    else:
        address = InfluxAddress(
            url=settings.history_url,
            database=settings.history_database,
            retention=settings.history_retention,
            user=settings.history_user,
            password=settings.history_password,
        )
        async with open_influx_history(address) as influx:
            yield influx


def _folder(url: str, name: str) -> Path:
    folder = sqlite_folder(url)
    make_folder(folder, f"{PREFIX}{name}")
    return folder


def make_folder(folder: Path, setting: str) -> None:
    """Make a folder for log and history if it is missing. Raises WrongSetting, also if they could not be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WrongSetting(f"{setting}: {error}") from error
    check_folder(folder, setting)


def check_folder(folder: Path, setting: str) -> None:
    """Refuse a folder where log and history could not be written, for SQLite does not say which. Raises WrongSetting.

    That the disk is full is no wrong setting, and who writes may wait for room.
    """
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise WrongSetting(f"{setting}: can't write to {folder}: {error.strerror}") from error
    for file in (folder / LOG, folder / HISTORY):  # not opened: to close one again would take SQLite's locks away
        if file.exists() and not (file.is_file() and os.access(file, os.W_OK)):
            raise WrongSetting(f"{setting}: can't write to {file}")


def connect(
    settings: Settings, client_id: str, session_expiry_s: int = 0, keep_alive_s: int = KEEP_ALIVE_S
) -> Callable[[], Awaitable[Connection]]:
    """Return what makes a connection to the machines' broker, each time with the same session."""
    return partial(
        mqtt_client.connect,
        settings.mqtt_url,
        client_id=client_id,
        username=settings.mqtt_username,
        password=_mqtt_password(settings),
        session_expiry_s=session_expiry_s,
        keep_alive_s=keep_alive_s,
        tls=_tls(settings),
    )


def _mqtt_password(settings: Settings) -> bytes | None:
    return None if settings.mqtt_password is None else settings.mqtt_password.encode()


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """Trust the clinic's own authority and no other. Raises WrongSetting."""
    check_authority(settings)
    return _trusting(settings)


def _trusting(settings: Settings) -> ssl.SSLContext | None:
    if not settings.mqtt_ca_file:
        return None
    try:
        return mqtt_client.trusting(settings.mqtt_ca_file)
    except (OSError, ValueError) as error:
        raise WrongSetting(f"SPINELOOP_MQTT_CA_FILE: {settings.mqtt_ca_file}: {error}") from error


def check_files(settings: Settings) -> None:
    """Read every file that the settings name, as the roles will. Raises WrongSetting."""
    settings.policy()
    settings.machine_catalogue()
    _trusting(settings)  # with which broker, a command may still decide


def machine_connect(settings: Settings) -> Callable[[str, str, bytes], Awaitable[Connection]]:
    """Return what connects a simulated machine: its key is its client id, and its session outlives the connection."""
    password, tls = _mqtt_password(settings), _tls(settings)

    def one(machine: str, will_topic: str, will: bytes) -> Awaitable[Connection]:
        return mqtt_client.connect(
            settings.mqtt_url,
            client_id=machine.replace("/", "."),  # no name has a dot, so no two machines get one id
            username=settings.mqtt_username,
            password=password,
            session_expiry_s=MQTT_SESSION_S,
            will=mqtt_client.Will(will_topic, will),
            tls=tls,
        )

    return one


def bridge(
    connect: Callable[[], Awaitable[Machines[M]]],
    log: BridgeLog,
    meters: Meters,
    *,
    now_ms: Callable[[], int],
    dead_letters_in_a_row: int,
) -> Bridge[M]:
    """Build a bridge alone, on whatever speaks like a connection and keeps like a log."""
    settings = BridgeSettings(dead_letters_in_a_row=dead_letters_in_a_row)
    return Bridge(connect, log, meters, now_ms=now_ms, settings=settings)


def filters(settings: Settings) -> tuple[str, ...]:
    """Name what a bridge asks its broker for: each stream of its machines, or all where only that keeps the order.

    Examples
    --------
    >>> len(filters(Settings(ingest_tenant="acme"))), filters(Settings(ingest_tenant="acme", broker="iotcore"))
    (4, ('spineloop/v1/acme/+/+/+',))
    """
    machines = settings.ingest_tenant, settings.ingest_site
    return site_filters(*machines) if settings.broker == "mosquitto" else (site_filter(*machines),)


def ingest(settings: Settings, log: Log, meters: Meters) -> Role:
    """Carry what machines say into the log."""
    bridge = Bridge(
        connect(settings, settings.ingest_client_id, session_expiry_s=MQTT_SESSION_S),
        log,
        meters,
        now_ms=wall_clock_ms,
        settings=BridgeSettings(filters=filters(settings)),
    )
    needs = Needs(partial(log.bounds, TELEMETRY))
    return Role("ingest", beside(bridge.run, needs.keep_asking), lambda: bridge.ready and needs.answer)


def stages(settings: Settings, chosen: Policy | None = None) -> tuple[Controller, Planner]:
    """Return controller and planner as their roles run them, or under another policy."""
    told = chosen or settings.policy()
    return Controller(told), Planner(told, settings.machine_catalogue())


def control(settings: Settings, log: Log, meters: Meters) -> Role:
    """Turn telemetry into metrics and commands."""
    engine = Engine(Controller(settings.policy()), log, meters, _pace(settings))
    return Role("control", engine.run, lambda: engine.ready)


def plan(settings: Settings, log: Log, meters: Meters) -> Role:
    """Turn what is known of patients into prescriptions."""
    engine = Engine(Planner(settings.policy(), settings.machine_catalogue()), log, meters, _pace(settings))
    return Role("plan", engine.run, lambda: engine.ready)


def _pace(settings: Settings) -> EngineSettings:
    return EngineSettings(checkpoint_s=settings.checkpoint_s, stall_s=settings.stall_s)


def history(settings: Settings, log: Log, sink: Kept, meters: Meters) -> Role:
    """Keep metrics and commands."""
    pace, dice = histories.PACE, random.random

    def watched(topic: str, group: str) -> Watched:
        kept = History(sink, log, meters)
        delivery = Delivery(log, topic, group, kept.store, pace=pace, dice=dice, meters=meters, check=kept.check)
        return Watched(delivery, settings.stall_s, meters, sink.ping)

    deliveries = [watched(topic, group) for topic, group in histories.GROUPS.items()]

    async def run(stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            for delivery in deliveries:
                tasks.create_task(delivery.run(stop))

    return Role("history", run, lambda: all(delivery.ready for delivery in deliveries))


def downlink(settings: Settings, log: Log, meters: Meters) -> Role:
    """Send commands to machines."""
    sender = Sender(
        connect(settings, settings.downlink_client_id, keep_alive_s=STOP_KEEP_ALIVE_S), meters, now_ms=wall_clock_ms
    )
    effect = Downlink(sender, log, meters).deliver
    delivery = Delivery(log, COMMAND, DOWNLINK, effect, pace=DOWNLINK_PACE, dice=random.random, meters=meters)
    watched = Watched(delivery, settings.stall_s, meters, sender.connected)

    async def run(stop: asyncio.Event) -> None:
        try:
            await watched.run(stop)
        finally:
            await sender.close()

    return Role("downlink", run, lambda: watched.ready)


def reflex(settings: Settings, meters: Meters) -> Role:
    """Stop machines that are in danger at once; it needs the broker, and no log."""
    says = connect(settings, f"{settings.reflex_client_id}-says", keep_alive_s=STOP_KEEP_ALIVE_S)
    sender = Sender(says, meters, now_ms=wall_clock_ms)

    async def send(stops: Sequence[tuple[Command, str | None]]) -> int:
        unsent = await sender.send([Order(stop, stop.command_id, trace) for stop, trace in stops])
        return len(stops) - len(unsent)

    listening = Reflex(
        connect(settings, settings.reflex_client_id, keep_alive_s=STOP_KEEP_ALIVE_S),
        send,
        meters,
        now_ms=wall_clock_ms,
        heard=site_filter(settings.ingest_tenant, settings.ingest_site, "event"),
        policy=digest(settings.policy()),
    )

    needs = Needs(sender.connected)  # from the start: who is in danger does not wait for a handshake
    listen = beside(listening.run, needs.keep_asking)

    async def run(stop: asyncio.Event) -> None:
        try:
            await listen(stop)
        finally:
            await sender.close()  # when nobody asks any more, who would connect anew

    return Role("reflex", run, lambda: listening.ready and needs.answer)


def page(settings: Settings, log: Log, others: Sequence[Role] = ()) -> Page:
    """Build the operator page; `others` are the roles beside it in this process."""
    return Page(
        log,
        PageSettings(
            host=settings.page_host,
            port=settings.page_port,
            token=settings.page_token,
            group=f"spineloop-page-{secrets.token_hex(4)}",
        ),
        settings.policy(),
        now_ms=wall_clock_ms,
        places=places,
        roles=lambda: {role.name: role.is_ready() for role in others},
    )


def page_role(shown: Page) -> Role:
    """Make a role of the operator page."""

    async def run(stop: asyncio.Event) -> None:
        try:
            await shown.run(stop)
        except NoPort as error:
            raise unheard("PAGE", error) from error

    return Role("page", run, lambda: shown.is_ready)


Run = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


def beside(run: Run, other: Callable[[], Coroutine[Any, Any, None]]) -> Run:
    """Do something else as long as a role runs; that it ends is no reason to stop."""

    async def both(stop: asyncio.Event) -> None:
        beside = asyncio.create_task(other())
        try:
            await run(stop)
        finally:
            beside.cancel()
            await asyncio.gather(beside, return_exceptions=True)

    return both


WITH_LOG: Mapping[str, Callable[[Settings, Log, Meters], Role]] = {
    "ingest": ingest,
    "control": control,
    "plan": plan,
    "downlink": downlink,
}
ROLES: Sequence[str] = ("ingest", "control", "plan", "history", "downlink", "reflex")


def all_roles(settings: Settings, log: Log, sink: Sink, meters: Meters) -> list[Role]:
    """Build every role on one log, as the embedded way needs it."""
    with_log = [build(settings, log, meters) for build in WITH_LOG.values()]
    return [*with_log, history(settings, log, sink, meters), reflex(settings, meters)]


def is_sqlite(settings: Settings) -> bool:
    """Tell whether the log is a file."""
    return scheme_of(settings.log_url) == "sqlite"


async def rewrite_log(settings: Settings, change: Callable[[Record], Record | None]) -> Counter[str]:
    """Change records of a SQLite log where they stand. Raises ValueError and Busy."""
    return await asyncio.to_thread(sqlite_erasure.rewrite, sqlite_folder(settings.log_url) / LOG, change)


async def who_is_at_work(settings: Settings) -> list[str]:
    """Name the stages that have members in Kafka. Raises Busy."""
    return await kafka_erasure.members(_kafka(settings), [stage.name for stage in stages(settings)])


async def states_of_faust(settings: Settings) -> list[str]:
    """Name the topics in Kafka that hold states of workers on Faust. Raises Busy."""
    return await kafka_erasure.states_of_faust(_kafka(settings))


async def delivered(settings: Settings) -> Mapping[tuple[str, int], int]:
    """Return up to where history and downlink have got in Kafka, the slower one counts. Raises Busy."""
    return await kafka_erasure.committed(_kafka(settings), [*histories.GROUPS.values(), DOWNLINK])


async def delete_before(settings: Settings, offsets: Mapping[tuple[str, int], int]) -> None:
    """Take the beginning of partitions away in Kafka. Raises Busy."""
    await kafka_erasure.delete_before(_kafka(settings), offsets)


async def create_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing in Kafka; return their names. Raises ValueError, Busy, BrokenPromise."""
    return await kafka_topics.create_topics(_kafka(settings), settings.partitions, settings.replication)


async def describe_topics(settings: Settings) -> list[TopicRow]:
    """Tell of every topic what is there. Raises ValueError, Busy, BrokenPromise."""
    return await kafka_topics.describe_topics(_kafka(settings))


def _kafka(settings: Settings) -> str:
    if scheme_of(settings.log_url) != "kafka":
        raise ValueError(f"SPINELOOP_LOG_URL is {settings.log_url!r}: only Kafka has topics to create")
    return kafka_servers(settings.log_url)
