"""Downlink: takes commands from the log to their machines. Each `ce_id` once, STOP first, nothing after its expiry."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from adaptors.mqtt_connection import Connection
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

_RANK = {"stop": 0, "resend": 2}

TRACEPARENT = "traceparent"

_log = structlog.get_logger()


class Log(Protocol):
    """Where dead letters go."""

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Store records; when it returns, all are durable. Raises Busy when it can't for now."""


class Downlink:
    """Sends the records of the command topic, over one connection that is made again when it is lost.

    Parameters
    ----------
    connect : callable
        Makes a connection to the machines' broker; raises Busy.
    log : Log
        Where records go that are not commands.
    meters : Meters
        Where commands are counted and timed: `issued_ms` is the log time of what caused them.
    now_ms : callable
        The wall clock, in ms since 1970: the one that the log's records are stamped with.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[Connection]], log: Log, meters: Meters, *, now_ms: Callable[[], int]
    ) -> None:
        self._connect, self._log, self._meters, self._now_ms = connect, log, meters, now_ms
        self._connection: Connection | None = None
        self._seen: dict[str, None] = {}

    async def deliver(self, records: Sequence[Record]) -> None:
        """Send commands and return when the broker has them all; whatever is raised, delivering them again is safe.

        Machines don't wait for each other. The commands of one machine go in order, except that STOP overtakes.

        Raises
        ------
        Busy
            The broker or the log is away.
        Refused
            The broker does not let us publish to a machine.
        """
        orders = await self._read(records)
        if not orders:
            return
        connection = await self._connected()
        turns = [self._send_in_turn(connection, turn) for turn in _by_machine(orders)]
        failures = [failure for failure in await asyncio.gather(*turns, return_exceptions=True) if failure is not None]
        if failures:
            raise min(failures, key=lambda failure: isinstance(failure, Busy))  # what does not pass comes first

    async def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            await self._connection.close()

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.lost is not None:
            self._connection = await self._connect()
        return self._connection

    async def _read(self, records: Sequence[Record]) -> Sequence[tuple[Record, Command]]:
        """Decode the records; what is not a command goes to the dead letters before anything is sent."""
        orders, letters = list[tuple[Record, Command]](), list[NewRecord]()
        for record in records:
            try:
                orders.append((record, codec.decode_command(record.value or b"")))
            except Malformed as why:
                letters.append(dead_letter(record, stage="downlink", reason=why.reason, detail=why.detail))
                self._meters.count("spineloop_dead_letters_total", stage="downlink", reason=why.reason)
        if letters:
            await self._log.append(letters)
        return orders

    async def _send_in_turn(self, connection: Connection, turn: Sequence[tuple[Record, Command]]) -> None:
        for record, command in turn:
            await self._send(connection, record, command)

    async def _send(self, connection: Connection, record: Record, command: Command) -> None:
        ce_id = header(record, "ce_id") or command.command_id
        is_stop, now_ms = command.action == "stop", self._now_ms()
        if ce_id in self._seen:
            return
        if now_ms >= command.expires_ms and not is_stop:
            self._meters.count("spineloop_commands_expired_total")
            _log.info("command expired before it was sent", command=command.command_id)
            return
        trace = header(record, TRACEPARENT)
        is_heard = await connection.publish(
            mqtt_topic(command.machine, "command"),
            codec.encode(command, "json"),  # a device may be simple
            expiry_s=None if is_stop else max(1, (command.expires_ms - now_ms) // 1_000),
            response_topic=mqtt_topic(command.machine, "ack"),
            correlation_data=command.command_id.encode(),
            content_type=JSON_TYPE.decode(),
            user_properties=[] if trace is None else [(TRACEPARENT, trace)],
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
            del self._seen[next(iter(self._seen))]


def _by_machine(orders: Sequence[tuple[Record, Command]]) -> Sequence[Sequence[tuple[Record, Command]]]:
    """Sort by machine: STOP first among its commands, requests for messages last, who is to stop before others."""
    turns: dict[str, list[tuple[Record, Command]]] = {}
    for order in sorted(orders, key=lambda order: _RANK.get(order[1].action, 1)):
        turns.setdefault(order[1].machine, []).append(order)
    return list(turns.values())
