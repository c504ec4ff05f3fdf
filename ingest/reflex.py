"""Reflex: danger at a machine is answered with STOP as soon as it is heard, past the log and whatever waits there.

It decides nothing: `streams.core.danger` says which events stop a machine by themselves. The same events go the long
way as well, and the controller's STOP, under the same id, finds the machine stopped (docs/decisions/0012). So nothing
here has to be kept, repeated or put aside: what is missed is stopped a little later.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar, cast

import structlog

from ingest.arrival import Message, trace_of
from ingest.bridge import Machines
from streams.core import codec
from streams.core.commands import Command
from streams.core.danger import badly_told, stop_for
from streams.core.errors import Busy, Malformed
from streams.core.meters import Meters
from streams.core.telemetry import Event
from streams.core.topics import parse_mqtt

MAX_BATCH = 100
RETRY_S = 0.5
"""Pause after a lost connection, in s."""

SEND_AGAIN_S = 0.1
"""Pause in s before a STOP is sent again that the broker has not confirmed."""

_log = structlog.get_logger()


class Heard(Message, Protocol):
    """A message, and whether the broker had kept it for whoever comes."""

    @property
    def retain(self) -> bool:
        """Whether it was published before we subscribed, and not now."""


M = TypeVar("M", bound=Heard)

Send = Callable[[Sequence[tuple[Command, str | None]]], Awaitable[int]]
"""Sends commands, each with its `traceparent` if it has one, each id once; raises Busy while the broker is away.

Returns how many the broker did not refuse for good. One that it did becomes a dead letter when it comes the long way.
"""


class Reflex(Generic[M]):
    """Hears the events of machines on a connection of its own, and stops those that are in danger.

    Parameters
    ----------
    connect : callable
        Makes a connection to listen on, with a session that ends with it; raises Busy.
    send : callable
        Sends on another one: behind a full inbox the answer to a publish could not come.
    meters : Meters
        Where STOPs are counted.
    now_ms : callable
        The wall clock, in ms since 1970.
    heard : str
        The filter of what is heard.
    policy : str
        Digest of the policy in force.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Machines[M]]],
        send: Send,
        meters: Meters,
        *,
        now_ms: Callable[[], int],
        heard: str,
        policy: str,
    ) -> None:
        self._connect, self._send, self._meters, self._now_ms = connect, send, meters, now_ms
        self._heard, self._policy = heard, policy
        self._is_ready = False

    @property
    def ready(self) -> bool:
        """Whether it is connected and subscribed."""
        return self._is_ready

    async def run(self, stop: asyncio.Event) -> None:
        """Listen until `stop` is set; a broker that is away is asked again.

        Raises
        ------
        Refused
            The broker does not let us in, or not do this.
        """
        listening, stopping = asyncio.create_task(self._keep_listening()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({listening, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                listening.result()
        finally:
            for task in (listening, stopping):
                task.cancel()
            await asyncio.gather(listening, stopping, return_exceptions=True)

    async def _keep_listening(self) -> None:
        while True:
            try:
                await self._listen()
            except Busy as busy:
                self._meters.count("spineloop_busy_total", component="reflex")
                _log.warning("reflex is interrupted", why=str(busy), retry_s=RETRY_S)
                await asyncio.sleep(RETRY_S)

    async def _listen(self) -> None:
        machines = await self._connect()
        try:
            await machines.subscribe((self._heard,))
            self._is_ready = True
            _log.info("reflex is ready", filter=self._heard)
            while True:
                batch = await machines.receive(MAX_BATCH)
                stops = [(stop, trace_of(message)) for message in batch if (stop := self._stop_for(message))]
                if stops:
                    await self._stop(stops)
                machines.ack(batch)
        finally:
            self._is_ready = False
            await machines.close()

    async def _stop(self, stops: Sequence[tuple[Command, str | None]]) -> None:
        """Send until the broker has them all: our session ends with its connection, so nothing comes a second time."""
        while True:
            try:
                sent = await self._send(stops)
            except Busy as busy:
                self._meters.count("spineloop_busy_total", component="reflex")
                _log.warning("STOP is sent again", why=str(busy), retry_s=SEND_AGAIN_S)
                await asyncio.sleep(SEND_AGAIN_S)
            else:
                self._meters.count("spineloop_reflex_stops_total", sent)
                return

    def _stop_for(self, message: Heard) -> Command | None:
        """Read an event; what can't be understood is put aside by the bridge, and may be danger all the same."""
        if message.retain:
            # only presence is to be retained. An event that is, by mistake, was answered when it was said; the broker
            # hands it to each new session of ours, and a machine that was released would be stopped at each restart
            return None
        try:
            topic = parse_mqtt(message.topic)
        except Malformed:
            return None
        try:
            event = cast("Event", codec.decode_up(topic, message.payload))  # of what the filter lets through
        except Malformed as malformed:
            if malformed.reason == "foreign_machine":
                return None  # it speaks of another one
            return badly_told(topic.machine, message.payload, self._now_ms(), self._policy)
        return stop_for(topic.machine, codec.message_id(topic.machine, event), event, self._now_ms(), self._policy)
