"""Downlink: takes commands from the log to their machines. Each `ce_id` once, STOP first, nothing after its expiry."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec
import structlog

from adaptors.mqtt_connection import Connection, Refused
from streams.core import codec
from streams.core.commands import Command
from streams.core.dead_letters import dead_letter
from streams.core.errors import Busy, Malformed
from streams.core.meters import Meters
from streams.core.records import JSON_TYPE, NewRecord, Record, header
from streams.core.topics import mqtt_topic

MAX_SEEN = 10_000
"""Ids of commands that were sent and are remembered: minutes of a large fleet, and a delivery repeats a batch at most.
What is forgotten is sent again, and the machine knows it by its command id."""

MAX_STOP_AGE_MS = 3_600_000
"""Age of a record in ms beyond which even a STOP is left out. It never expires (S2), but one that nobody answered has
been written again and again since (S12), so an old record is history that is read again: say, because Kafka has
forgotten our place. Sent, it would lock a machine for a cause of long ago."""

STAGE = "downlink"
"""Its name in dead letters and meters."""

_RANK = {"stop": 0, "resend": 2}

TRACEPARENT = "traceparent"

_log = structlog.get_logger()


class Log(Protocol):
    """Where dead letters go."""

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Store records; when it returns, all are durable. Raises Busy when it can't for now."""


class Order(msgspec.Struct, frozen=True):
    """A command to send: it, the id under which it is sent once, `traceparent` and log time in ms if it has them."""

    command: Command
    ce_id: str
    trace: str | None = None
    since_ms: int | None = None


class Unsent(msgspec.Struct, frozen=True):
    """A command that the broker refuses for good, and why: our access rights to that machine, or its size."""

    order: Order
    why: str


class Sender:
    """Sends commands to machines over one connection, which is made again when it is lost.

    Parameters
    ----------
    connect : callable
        Makes a connection to the machines' broker; raises Busy.
    meters : Meters
        Where commands are counted and timed: `issued_ms` is the log time of what caused them.
    now_ms : callable
        The wall clock, in ms since 1970: the one that the log's records are stamped with.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[Connection]], meters: Meters, *, now_ms: Callable[[], int]
    ) -> None:
        self._connect, self._meters, self._now_ms = connect, meters, now_ms
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._seen = OrderedDict[str, None]()  # a dict walks over all that it has lost at its front

    async def send(self, orders: Sequence[Order]) -> Sequence[Unsent]:
        """Send commands and return when the broker has all but those that are returned, which it refuses for good.

        Machines don't wait for each other. The commands of one machine go in order, except that STOP overtakes.
        Whatever is raised, sending them again is safe.

        Raises
        ------
        Busy
            The broker is away, or does not take one of them for now.
        Refused
            The broker does not let us in.
        """
        if not orders:
            return []
        connection = await self.connected()
        turns = [self._send_in_turn(connection, turn) for turn in _by_machine(orders)]
        done = await asyncio.gather(*turns, return_exceptions=True)
        failures = [one for one in done if isinstance(one, BaseException)]
        if failures:
            raise min(failures, key=lambda failure: isinstance(failure, Busy))  # what does not pass comes first
        return [unsent for one in done if not isinstance(one, BaseException) for unsent in one]

    async def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            await self._connection.close()

    async def connected(self) -> Connection:
        """Return the connection, made anew if there is none. Raises Busy and Refused."""
        async with self._connecting:  # two with one client id would throw each other out
            if self._connection is None or self._connection.lost is not None:
                self._connection = await self._connect()
            return self._connection

    async def _send_in_turn(self, connection: Connection, turn: Sequence[Order]) -> Sequence[Unsent]:
        """Send the commands of one machine; one that is refused must end neither the others nor the process."""
        unsent = list[Unsent]()
        for order in turn:
            try:
                await self._send(connection, order)
            except Refused as refused:
                _log.error("the broker refuses a command", command=order.command.command_id, why=str(refused))
                unsent.append(Unsent(order, str(refused)))
        return unsent

    async def _send(self, connection: Connection, order: Order) -> None:
        command, ce_id = order.command, order.ce_id
        is_stop, now_ms = command.action == "stop", self._now_ms()
        if ce_id in self._seen:
            return
        if _is_too_old(order, now_ms):
            self._meters.count("spineloop_commands_expired_total")
            _log.info("command expired before it was sent", command=command.command_id, action=command.action)
            return
        is_heard = await connection.publish(
            mqtt_topic(command.machine, "command"),
            codec.encode(command, "json"),  # a device may be simple
            expiry_s=None if is_stop else max(1, (command.expires_ms - now_ms) // 1_000),
            response_topic=mqtt_topic(command.machine, "ack"),
            correlation_data=command.command_id.encode(),
            content_type=JSON_TYPE.decode(),
            user_properties=[] if order.trace is None else [(TRACEPARENT, order.trace)],
        )
        self._remember(ce_id)
        self._meters.count("spineloop_commands_sent_total")
        if ce_id == command.command_id:  # a repetition (S12) is late because the first try was
            self._meters.observe("spineloop_rep_to_command_seconds", (self._now_ms() - command.issued_ms) * 1e-3)
        if not is_heard:
            _log.warning("the machine does not listen", command=command.command_id)

    def _remember(self, ce_id: str) -> None:
        self._seen[ce_id] = None
        if len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)


class Downlink:
    """Sends the records of the command topic; what is no command, or refused, goes to the dead letters."""

    def __init__(self, sender: Sender, log: Log, meters: Meters) -> None:
        self._sender, self._log, self._meters = sender, log, meters
        self._aside: set[tuple[int, int]] = set()

    async def deliver(self, records: Sequence[Record]) -> None:
        """Send commands and return when the broker has them all; whatever is raised, delivering them again is safe.

        Raises what `Sender.send` does, and Busy when the log is away.
        """
        orders = await self._read(records)
        unsent = await self._sender.send([order for _, order in orders])
        await self._put_aside(
            [
                (record, Malformed("refused", one.why))
                for record, order in orders
                for one in unsent
                if one.order is order
            ]
        )
        self._aside.clear()

    async def _read(self, records: Sequence[Record]) -> Sequence[tuple[Record, Order]]:
        """Decode the records; what is not a command goes to the dead letters before anything is sent.

        It goes there once, however often the broker has us deliver the same records.
        """
        orders, refused = list[tuple[Record, Order]](), list[tuple[Record, Malformed]]()
        for record in records:
            try:
                command = codec.decode_command(record.value or b"")
                ce_id = header(record, "ce_id") or command.command_id
                orders.append((record, Order(command, ce_id, header(record, TRACEPARENT), record.timestamp_ms)))
            except Malformed as why:
                if (record.partition, record.offset) not in self._aside:
                    refused.append((record, why))
        await self._put_aside(refused)
        return orders

    async def _put_aside(self, refused: Sequence[tuple[Record, Malformed]]) -> None:
        if refused:
            await self._log.append([_letter(record, said) for record, said in refused])
        for record, said in refused:
            self._aside.add((record.partition, record.offset))
            self._meters.count("spineloop_dead_letters_total", stage=STAGE, reason=said.reason)


def _letter(record: Record, said: Malformed) -> NewRecord:
    return dead_letter(record, stage=STAGE, reason=said.reason, detail=said.detail)


def _is_too_old(order: Order, now_ms: int) -> bool:
    if order.command.action == "stop":
        return order.since_ms is not None and now_ms - order.since_ms > MAX_STOP_AGE_MS
    return now_ms >= order.command.expires_ms


def _by_machine(orders: Sequence[Order]) -> Sequence[Sequence[Order]]:
    """Sort by machine: STOP first among its commands, requests for messages last, who is to stop before others."""
    turns: dict[str, list[Order]] = {}
    for order in sorted(orders, key=lambda order: _RANK.get(order.command.action, 1)):
        turns.setdefault(order.command.machine, []).append(order)
    return list(turns.values())
