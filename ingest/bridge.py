"""Bridge: from the machines' broker into the log. A message is acknowledged when the log has it, and not before.

What is not acknowledged comes again, on the next connection and in order: a crash at any moment repeats, and never
loses. While the log is away nothing is acknowledged, so the broker keeps what comes, and the machines what it refuses.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

import msgspec
import structlog

from ingest.arrival import Message, to_dead_letter, to_record
from streams.core.dead_letters import InARow
from streams.core.errors import BrokenPromise, Busy, Malformed
from streams.core.meters import Meters
from streams.core.records import NewRecord
from streams.core.topics import UPWARD, MachineTopic, parse_mqtt

MAX_BATCH = 500
"""Messages that go into the log together: enough for one flush to pay, few enough to check in some 5 ms."""

MAX_KNOWN = 100_000
"""Machines of which a bridge remembers whether it serves them."""

LOG_PAUSE_S = 0.2
"""Pause between two tries of a batch that the log refused for now."""

FINISH_S = 4.0
"""Longest time for the batches in hand once we are told to stop; a process that ends has 10 s for everything."""

_log = structlog.get_logger()
M = TypeVar("M", bound=Message)


class Machines(Protocol[M]):
    """One connection to the machines' broker. When it is gone, every call raises Busy, and a new one is needed."""

    @property
    def held(self) -> int:
        """Messages received but not yet acknowledged."""

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe with QoS 1; on a resumed session, to what is new."""

    async def receive(self, limit: int) -> Sequence[M]:
        """Return what has come, at least one message and at most `limit`."""

    def ack(self, batch: Sequence[M]) -> None:
        """Acknowledge the first messages that were received and are not acknowledged yet, in order."""

    async def close(self) -> None:
        """Disconnect and keep the session."""


class Log(Protocol):
    """Where the records go."""

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Store records; when it returns, all are durable. Raises Busy when it can't for now."""


class BridgeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What one bridge listens to, and when it gives up.

    Parameters
    ----------
    filters : tuple of str
        Disjoint from those of every other bridge; see `site_filters`.
    dead_letters_in_a_row : int
        So many messages that could not be understood, with no good one between them, end the process.
    dead_letters_of_one : int
        How many of them one machine counts for, so that no machine can end it for everybody else.
    first_retry_s, longest_retry_s : float
        Pause in s after the first lost connection; each further one doubles it, up to the longest.
    """

    filters: tuple[str, ...] = ("spineloop/v1/+/+/+/+",)
    dead_letters_in_a_row: int = 1_000
    dead_letters_of_one: int = 100
    first_retry_s: float = 0.1
    longest_retry_s: float = 10.0


class _Checked(msgspec.Struct):
    """A batch on its way, and what is counted once it is done: messages by stream, dead letters by reason."""

    records: list[NewRecord] = []
    streams: Counter[str] = msgspec.field(default_factory=Counter)
    reasons: Counter[str] = msgspec.field(default_factory=Counter)


def serves(filters: Sequence[str], machine: str) -> bool:
    """Tell whether a machine, `tenant/site/machine`, is among those that filters are for.

    The broker keeps what a session once subscribed to, so a bridge that was given other sites still hears the old ones.

    Examples
    --------
    >>> serves((site_filter("acme", "north"),), "acme/north/m1"), serves((site_filter("acme"),), "umbra/north/m1")
    (True, False)
    """
    names = machine.split("/")
    for one in filters:
        wanted = one.split("/")[2:5]
        if all(want in {"+", name} for want, name in zip(wanted, names, strict=True)):
            return True
    return False


def site_filters(tenant: str = "+", site: str = "+") -> tuple[str, ...]:
    """Name everything that the machines of a site say, and not the commands that they are told.

    Commands expire in the broker. Where one of them waited for us, mosquitto lets a newer message overtake all that
    stand behind its window (docs/decisions/0015), and a decision depends on the order.

    Examples
    --------
    >>> site_filters("acme", "north")[0]
    'spineloop/v1/acme/north/+/rep'
    """
    return tuple(site_filter(tenant, site, stream) for stream in UPWARD)


def site_filter(tenant: str = "+", site: str = "+", stream: str = "+") -> str:
    """Name everything that the machines of a site say, or what they say on one stream.

    Examples
    --------
    >>> site_filter("acme"), site_filter("acme", "north", "event")
    ('spineloop/v1/acme/+/+/+', 'spineloop/v1/acme/north/+/event')
    """
    return f"spineloop/v1/{tenant}/{site}/+/{stream}"


class Bridge(Generic[M]):
    """Carries messages from one MQTT session into the log, for as long as it is let.

    Parameters
    ----------
    connect : callable
        Makes a new connection, always with the same client id and a session that outlives it; raises Busy.
    log : Log
        Where the records go.
    meters : Meters
        Where messages and dead letters are counted.
    now_ms : callable
        The wall clock, in ms since 1970.
    settings : BridgeSettings
        Filters and limits.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Machines[M]]],
        log: Log,
        meters: Meters,
        *,
        now_ms: Callable[[], int],
        settings: BridgeSettings,
    ) -> None:
        self._connect, self._log, self._meters, self._now_ms = connect, log, meters, now_ms
        self._settings = settings
        self._is_ready = False
        self._served: dict[str, bool] = {}
        self._letters = InARow(settings.dead_letters_in_a_row, settings.dead_letters_of_one)
        self._retry_s = settings.first_retry_s

    @property
    def ready(self) -> bool:
        """Whether it is connected and subscribed."""
        return self._is_ready

    async def run(self, stop: asyncio.Event) -> None:
        """Carry until `stop` is set, then finish the batches in hand, acknowledge them and disconnect.

        Raises
        ------
        ExceptionGroup
            Holding BrokenPromise: too many dead letters in a row, or the broker refuses us for good.
        """
        while not stop.is_set():
            try:
                await self._session(stop)
            except* Busy as busy:
                self._meters.count("spineloop_busy_total", component="mqtt")
                _log.warning("session interrupted", why=str(busy.exceptions[0]), retry_s=self._retry_s)
            else:
                continue
            await _pause(stop, self._retry_s)  # not above: to Python 3.11.3, `except*` makes a group of a cancellation
            self._retry_s = min(2.0 * self._retry_s, self._settings.longest_retry_s)

    async def _session(self, stop: asyncio.Event) -> None:
        """Use one connection from its first message to its last."""
        try:
            async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as tasks:
                stopping = tasks.create_task(_stopping(stop, limit))
                machines = await self._connect()
                subscribing = tasks.create_task(self._subscribe(machines))
                try:
                    await self._carry(machines, stop, stopping, tasks)
                finally:
                    self._is_ready = False
                    subscribing.cancel()
                    await machines.close()
        except TimeoutError:
            _log.warning("stopped before everything was stored; the rest comes again", limit_s=FINISH_S)

    async def _carry(
        self, machines: Machines[M], stop: asyncio.Event, stopping: asyncio.Task[None], tasks: asyncio.TaskGroup
    ) -> None:
        """Check one batch while the one before it is being stored; never store two, or they could change places.

        Measured with a log that takes 5 ms to answer: half as much again as one after the other.
        """
        storing: asyncio.Task[None] | None = None
        while batch := await _next(machines, stopping):
            checked = self._translate(batch)
            if storing is not None:
                await storing
            storing = tasks.create_task(self._store(machines, batch, checked, stop))
        if storing is not None:
            await storing

    async def _subscribe(self, machines: Machines[M]) -> None:
        """Subscribe beside the receiving: behind a full inbox the broker's answer could not come."""
        await machines.subscribe(self._settings.filters)
        self._is_ready = True
        _log.info("bridge is ready", filters=self._settings.filters)

    async def _store(self, machines: Machines[M], batch: Sequence[M], checked: _Checked, stop: asyncio.Event) -> None:
        """Make a batch durable, acknowledge it, count it; what fails before the ack leaves it to come again."""
        records = checked.records
        if records:
            await self._append(records, stop)
        try:
            machines.ack(batch)
        except Busy:
            if not stop.is_set():
                raise
            # A broker that was told to stop as well may keep nothing: the batch behind this one has to be stored, too.
        else:
            self._count(checked)
        self._retry_s = self._settings.first_retry_s
        self._meters.set("spineloop_ingest_window_messages", machines.held)
        if self._letters.are_too_many:  # checked last: a restart must get further
            raise BrokenPromise(f"ingest: {self._letters.total} dead letters in a row")

    def _count(self, done: _Checked) -> None:
        for stream, count in done.streams.items():
            self._meters.count("spineloop_ingest_messages_total", count, stream=stream)
        for reason, count in done.reasons.items():
            self._meters.count("spineloop_dead_letters_total", count, stage="ingest", reason=reason)

    def _translate(self, batch: Sequence[M]) -> _Checked:
        """Turn messages into records and dead letters, in the order of receipt."""
        now_ms = self._now_ms()
        checked = _Checked()
        for message in batch:
            try:
                topic = self._addressed(message.topic)
                if topic.stream != "command":  # on its way down, and in the log already; the filter can't leave it out
                    checked.records.append(to_record(topic, message, now_ms))
                    self._letters.good()
                checked.streams[topic.stream] += 1
            except Malformed as why:
                letter = to_dead_letter(message, why, now_ms)
                checked.records.append(letter)
                checked.reasons[why.reason] += 1
                self._letters.bad(letter.key, why.reason)
        return checked

    def _addressed(self, name: str) -> MachineTopic:
        """Take a topic apart, if it is of a machine that this bridge serves. Raises Malformed."""
        topic = parse_mqtt(name)
        if not self._serves(topic.machine):
            raise Malformed("not_served", f"{topic.machine} is not for {' '.join(self._settings.filters)}")
        return topic

    def _serves(self, machine: str) -> bool:
        """Remember the answer for as many machines as one bridge can carry."""
        known = self._served.get(machine)
        if known is None:
            if len(self._served) >= MAX_KNOWN:  # names can be made up without end
                self._served.clear()
            known = self._served[machine] = serves(self._settings.filters, machine)
        return known

    async def _append(self, records: Sequence[NewRecord], stop: asyncio.Event) -> None:
        """Try until the log takes them; once we are told to stop, not again."""
        while True:
            try:
                await self._log.append(records)
            except Busy as busy:
                if stop.is_set():
                    raise
                self._meters.count("spineloop_busy_total", component="log")
                _log.warning("log is busy", why=str(busy))
                await _pause(stop, LOG_PAUSE_S)
            else:
                return


async def _next(machines: Machines[M], stopping: asyncio.Task[None]) -> Sequence[M]:
    """Return the next batch, or nothing once we are told to stop."""
    receiving = asyncio.create_task(machines.receive(MAX_BATCH))
    try:
        await asyncio.wait({receiving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return () if stopping.done() else receiving.result()
    finally:
        if not receiving.cancel():  # what it may have received is not acknowledged, and comes again
            receiving.exception()  # seen: the connection may be lost while we stop


async def _stopping(stop: asyncio.Event, limit: asyncio.Timeout) -> None:
    """End when we are told to stop; from then on there is a limit."""
    await stop.wait()
    limit.reschedule(asyncio.get_running_loop().time() + FINISH_S)


async def _pause(stop: asyncio.Event, pause_s: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), pause_s)
