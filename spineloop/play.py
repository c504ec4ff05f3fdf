"""Play: a recording spoken as a machine speaks, in scaled time, on real MQTT. What it is commanded, it refuses."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from heapq import merge
from typing import Generic

import msgspec
from msgspec.structs import replace

from loadtest.link import Connect, Link, M
from loadtest.live_machine import MAX_COMMANDS, stream_of
from spineloop.retold import Said, Teller
from streams.core import codec
from streams.core.codec import CONTENT_TYPE
from streams.core.errors import BrokenPromise, Busy, Malformed
from streams.core.telemetry import Capabilities, CommandRejected, Heartbeat, Offline, Online, Presence, Rep, Telemetry
from streams.core.topics import mqtt_topic

HEARTBEAT_US = 5_000_000
"""Period of heartbeats on the device clock, in us."""

RETRY_S = 0.2
"""Pause after a refusal, in s."""

PATIENCE_S = 60.0
"""Longest time in s without a connection, once there was one."""

REFUSAL = "recording"
"""Why a recording obeys no command."""


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """What was said and heard."""

    messages: int
    reps: int
    refused: int


class Player(Generic[M]):
    """One recording on one connection, which is made again when it is lost.

    Parameters
    ----------
    teller : Teller
        Who speaks.
    capabilities : Capabilities
        What it says of itself.
    connect : Connect
        Makes its connections.
    speed : float
        Seconds of the recording in a second.
    """

    def __init__(self, teller: Teller, capabilities: Capabilities, connect: Connect[M], speed: float) -> None:
        self._teller, self._connect, self._speed = teller, connect, speed
        self._online = Online(boot_id=teller.boot_id, capabilities=capabilities)
        self._loop = asyncio.get_running_loop()
        self._began_s = 0.0
        self._seq = self._reps = self._refused = 0
        self._link: Link[M] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._commands: asyncio.Queue[str] = asyncio.Queue()

    async def run(self, said: Sequence[Said], told: Callable[[Rep], None]) -> Played:
        """Say everything, each at its moment; `told` is called with each rep that the broker has.

        Raises
        ------
        Busy
            The broker is away at the beginning, or for longer than `PATIENCE_S` later.
        """
        self._link = await self._connected()
        self._began_s = self._loop.time()
        try:
            for message in _with_heartbeats(said):
                await self._answer_until(message.t_us)
                await self._say(replace(message, seq=self._seq))
                if isinstance(message, Rep):
                    self._reps += 1
                    told(message)
            await self._publish(Offline(boot_id=self._teller.boot_id))
        finally:
            await self._hang_up()
        return Played(messages=self._seq, reps=self._reps, refused=self._refused)

    async def _answer_until(self, t_us: int) -> None:
        """Refuse commands as they come, until the device clock shows this time."""
        due_s = self._began_s + t_us * 1e-6 / self._speed
        while True:
            self._check_listener()
            try:
                async with asyncio.timeout_at(due_s):
                    command_id = await self._commands.get()
            except TimeoutError:
                return
            now_us = round(1e6 * self._speed * (self._loop.time() - self._began_s))
            refusal = CommandRejected(
                boot_id=self._teller.boot_id,
                seq=self._seq,
                t_us=max(0, min(now_us, t_us)),
                command_id=command_id,
                reason=REFUSAL,
            )
            await self._say(refusal)
            self._refused += 1

    def _check_listener(self) -> None:
        if self._listening is not None and self._listening.done():
            self._listening.result()  # a defect of ours ends the play

    async def _say(self, message: Telemetry) -> None:
        """Say one message until the broker has it."""
        gives_up_s = self._loop.time() + PATIENCE_S
        while True:
            try:
                if self._link is None or self._link.lost is not None:
                    self._link = await self._connected()
                await self._publish(message)
            except Busy:
                if self._loop.time() > gives_up_s:
                    raise
                await asyncio.sleep(RETRY_S)
            else:
                self._seq += 1
                return

    async def _connected(self) -> Link[M]:
        """Return a connection on which the machine is online and listens."""
        will = codec.encode(Offline(boot_id=self._teller.boot_id))
        link = await self._connect(self._teller.machine, mqtt_topic(self._teller.machine, "presence"), will)
        try:
            await link.subscribe([mqtt_topic(self._teller.machine, "command")])
            await self._publish(self._online, link)
        except BaseException:
            link.abort()
            raise
        self._listening = asyncio.create_task(self._listen(link))
        return link

    async def _publish(self, message: Telemetry, link: Link[M] | None = None) -> None:
        link = link or self._link
        if link is None:
            raise BrokenPromise("a machine speaks before it is connected")
        await link.publish(
            mqtt_topic(self._teller.machine, stream_of(message)),
            codec.encode(message),
            retain=isinstance(message, Presence),
            content_type=CONTENT_TYPE["msgpack"].decode(),
        )

    async def _listen(self, link: Link[M]) -> None:
        with suppress(Busy):
            while True:
                batch = await link.receive(MAX_COMMANDS)
                for message in batch:
                    self._commands.put_nowait(self._command_id(message.payload))
                link.ack(batch)

    def _command_id(self, payload: bytes) -> str:
        try:
            return codec.decode_command(payload).command_id
        except Malformed as error:
            raise BrokenPromise(f"{self._teller.machine} got what is not a command: {error}") from error

    async def _hang_up(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
        if self._link is not None:
            with suppress(Busy):
                await self._link.close()


def _with_heartbeats(said: Sequence[Said]) -> list[Said]:
    """Add heartbeats, as often as machines send them."""
    last_us = said[-1].t_us if said else 0
    beats: list[Said] = [
        Heartbeat(boot_id=said[0].boot_id, seq=0, t_us=t_us) for t_us in range(HEARTBEAT_US, last_us, HEARTBEAT_US)
    ]
    return list(merge(said, beats, key=_moment))


def _moment(message: Said) -> int:
    return message.t_us
