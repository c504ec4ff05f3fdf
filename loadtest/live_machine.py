"""Live machine: a simulated machine on the network, in real time. What it says, it keeps until the broker has it."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import Generic

from loadtest.disturbance import Delivery, Disturbance
from loadtest.link import Connect, Link, M
from loadtest.machine import Machine
from loadtest.outbox import MAX_WAITING, Outbox
from loadtest.tempo import Tempo
from loadtest.timings import Timings
from streams.core import codec
from streams.core.codec import CONTENT_TYPE, Encoding, message_id, type_name
from streams.core.commands import Command
from streams.core.errors import BrokenPromise, Busy, Malformed
from streams.core.telemetry import Ack, Offline, Online, Presence, Rep, Telemetry
from streams.core.topics import Stream, mqtt_topic

MAX_COMMANDS = 100
"""Commands that a machine takes at a time; one session brings a few dozen."""

FIRST_RETRY_S, LONGEST_RETRY_S = 0.05, 5.0
"""Pause in s after the first refusal, and the longest after doubling it; half of it by the dice."""

Barrier = Callable[[str], Awaitable[None]]
"""Awaited with the id of each message that the broker has, before the machine goes on."""


class LiveMachine(Generic[M]):
    """One machine, its troubles, and its connection.

    Parameters
    ----------
    machine, disturbance : Machine, Disturbance
        What it does, and what happens to it.
    connect : Connect
        Makes its connections.
    tempo : Tempo
        How fast its time passes.
    timings : Timings
        Where times are noted.
    now_ms : callable
        Its idea of the log's time, in ms since 1970. Beside it the machine has a watch that nobody sets.
    seed : int
        For the dice of its retries.
    encoding : str
        How it writes.
    begins_s : float
        When it is switched on, in s of simulated time.
    max_waiting : int
        Messages that wait in it before it waits.
    barrier : Barrier, optional
        For runs in lockstep.
    """

    def __init__(
        self,
        machine: Machine,
        disturbance: Disturbance,
        connect: Connect[M],
        tempo: Tempo,
        timings: Timings,
        *,
        now_ms: Callable[[], int],
        seed: int,
        encoding: Encoding = "msgpack",
        begins_s: float = 0.0,
        max_waiting: int = MAX_WAITING,
        barrier: Barrier | None = None,
    ) -> None:
        self._machine, self._disturbance, self._connect = machine, disturbance, connect
        self._tempo, self._timings, self._now_ms = tempo, timings, now_ms
        self._encoding, self._begins_s, self._barrier = encoding, begins_s, barrier
        self._dice = random.Random(f"{seed}/{machine.key}")
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(max_waiting)
        self._online: Online | None = None
        self._link: Link[M] | None = None
        self._alarm: asyncio.Future[None] | None = None
        self._said_s = 0.0
        self._is_finishing = False
        self._saying_again: set[str] = set()
        self._in_reach = asyncio.Event()
        self._in_reach.set()

    @property
    def unsaid(self) -> int:
        """Messages that the broker does not have yet."""
        return len(self._outbox)

    def finish(self) -> None:
        """Ask the machine to end its session, to say at once what it has to say, and to go."""
        self._is_finishing = True
        self._machine.finish()
        self._outbox.hurry()
        if self._alarm is not None:
            _ring(self._alarm)

    async def run(self) -> None:
        """Live until the machine has said its last word and the broker has it."""
        try:
            async with asyncio.TaskGroup() as tasks:
                speaking = tasks.create_task(self._speak(tasks))
                await self._live()
                await speaking
                await self._hang_up()
        finally:
            await self._hang_up()

    async def _live(self) -> None:
        """Let the machine live from moment to moment, and hand on what it says."""
        at_s = self._loop.time() + self._begins_s / self._tempo.speed
        await self._sleep_until(at_s)
        while not self._machine.done:
            step = self._disturbance.step(self._now_ms(), self._watch_ms())
            self._put_in_reach(is_offline=self._disturbance.is_offline and not self._is_finishing)
            self._put(step.deliveries, at_s)
            at_s += self._tempo.wait_s(step.delay_s)
            if self._outbox.is_full:  # the machine's time stands still: it has nothing to make up for afterwards
                await self._outbox.room()
                at_s = max(at_s, self._loop.time())
            if self._barrier is not None:
                await self._outbox.empty()
            await self._sleep_until(at_s)
        self._outbox.end()

    def _put(self, deliveries: Sequence[Delivery], at_s: float) -> None:
        """Hand on what is said now; when the machine is behind its time, not before what it said earlier."""
        self._said_s = max(self._said_s, at_s)
        for delivery in deliveries:
            self._outbox.put(delivery.message, self._said_s + delivery.delay_s / self._tempo.speed)

    async def _sleep_until(self, at_s: float) -> None:
        if self._is_finishing or at_s <= self._loop.time():
            await asyncio.sleep(0)  # let the others live too
            return
        self._alarm = self._loop.create_future()
        timer = self._loop.call_at(at_s, _ring, self._alarm)
        try:
            await self._alarm
        finally:
            timer.cancel()

    def _watch_ms(self) -> int:
        return round(1_000.0 * self._loop.time())

    def _put_in_reach(self, *, is_offline: bool) -> None:
        if not is_offline:
            self._in_reach.set()
            return
        self._in_reach.clear()
        if self._link is not None:
            self._link.abort()

    async def _speak(self, tasks: asyncio.TaskGroup) -> None:
        """Say one message after the other; the next one when the broker has the one before it."""
        while (message := await self._outbox.next()) is not None:
            await self._patiently(message, tasks)
            self._timings.confirmed[type_name(message)] += 1
            if self._barrier is not None:
                await self._barrier(message_id(self._machine.key, message))

    async def _patiently(self, message: Telemetry, tasks: asyncio.TaskGroup) -> None:
        for attempt in count():
            try:
                await self._say(message, tasks)
            except Busy:
                self._timings.refused += 1
                pause_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(attempt, 30))
                await asyncio.sleep(pause_s * (0.5 + 0.5 * self._dice.random()))
            else:
                return

    async def _say(self, message: Telemetry, tasks: asyncio.TaskGroup) -> None:
        if isinstance(message, Online) and message is not self._online:
            self._online = message
            if self._link is not None:
                self._link.abort()  # the power was gone, and the new boot needs a will of its own
        link = await self._connected(tasks)
        if message is not self._online:  # that one is said first on every connection
            await self._publish(link, message)

    async def _connected(self, tasks: asyncio.TaskGroup) -> Link[M]:
        """Return a connection on which the machine is online and listens."""
        await self._in_reach.wait()
        if self._link is not None and self._link.lost is None:
            return self._link
        if self._online is None:
            raise BrokenPromise("a machine must come online before it says anything else")
        will = codec.encode(Offline(boot_id=self._online.boot_id), self._encoding)
        link = await self._connect(self._machine.key, mqtt_topic(self._machine.key, "presence"), will)
        try:
            await link.subscribe([mqtt_topic(self._machine.key, "command")])
            await self._publish(link, self._online)
        except BaseException:
            link.abort()
            raise
        tasks.create_task(self._obey(link, tasks))
        self._link = link
        return link

    async def _publish(self, link: Link[M], message: Telemetry) -> None:
        self._timings.send(message_id(self._machine.key, message), self._loop.time())
        await link.publish(
            mqtt_topic(self._machine.key, stream_of(message)),
            codec.encode(message, self._encoding),
            retain=isinstance(message, Presence),
            content_type=CONTENT_TYPE[self._encoding].decode(),
        )

    async def _obey(self, link: Link[M], tasks: asyncio.TaskGroup) -> None:
        """Answer commands as they come, as long as the connection lasts; what is not acknowledged comes again."""
        with suppress(Busy):
            while True:
                batch = await link.receive(MAX_COMMANDS)
                if self._machine.done:  # its last word is said or on its way: an answer would come after it, or never
                    return
                for message in batch:
                    self._heed(message.payload, tasks)
                link.ack(batch)

    def _heed(self, payload: bytes, tasks: asyncio.TaskGroup) -> None:
        try:
            command = codec.decode_command(payload)
        except Malformed as error:
            raise BrokenPromise(f"{self._machine.key} got what is not a command: {error}") from error
        self._timings.receive(command, self._loop.time())
        if command.action != "resend":
            self._answer(command)
        elif command.command_id not in self._saying_again:
            self._saying_again.add(command.command_id)
            tasks.create_task(self._say_again(command))

    def _answer(self, command: Command) -> None:
        for ack in self._machine.receive(command, self._now_ms(), self._watch_ms()):
            self._put(self._disturbance.disturb(ack), self._loop.time())

    async def _say_again(self, command: Command) -> None:
        """Say again what a command asks for, and then answer: one message at a time, each when nothing new waits."""
        for message in self._machine.recalled(command, self._now_ms(), self._watch_ms()):
            if not await self._outbox.idle() or self._machine.done:
                return
            delivery = self._disturbance.again(message)
            self._outbox.put(delivery.message, self._loop.time() + delivery.delay_s / self._tempo.speed)
        if await self._outbox.idle() and not self._machine.done:
            self._saying_again.discard(command.command_id)
            self._answer(command)

    async def _hang_up(self) -> None:
        if self._link is not None:
            await self._link.close()


def stream_of(message: Telemetry) -> Stream:
    """Name the stream on which a machine says this.

    Examples
    --------
    >>> stream_of(Offline(boot_id="b1"))
    'presence'
    """
    if isinstance(message, Rep):
        return "rep"
    if isinstance(message, Presence):
        return "presence"
    return "ack" if isinstance(message, Ack) else "event"


def _ring(alarm: asyncio.Future[None]) -> None:
    if not alarm.done():
        alarm.set_result(None)
