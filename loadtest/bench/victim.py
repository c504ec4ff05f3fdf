"""Victim: a machine whose stop button is pressed all the time, while others may do what they like.

What it says in a phase that has a name counts under that name; what it says between phases has to come through as well.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Generic

from loadtest.link import Connection, M
from streams.core import codec
from streams.core.danger import RULE
from streams.core.telemetry import ButtonPressed, Heartbeat
from streams.core.topics import mqtt_topic

PERIOD_S = 0.100_37
"""Between two heartbeats, in s, and between two presses, which come in the middle; no multiple of the ms of a stamp."""


class Victim(Generic[M]):
    """Says that it is there, presses stop, and hears how soon it is stopped.

    Parameters
    ----------
    machine : str
        Its key.
    connection : Connection
        Its own.

    Attributes
    ----------
    phase : str or None
        Under which name what it says now counts, if it does.
    """

    def __init__(self, machine: str, connection: Connection[M]) -> None:
        self.phase: str | None = None
        self._machine, self._connection = machine, connection
        self._pressed_s: dict[str, float] = {}
        self._stopped_s: dict[str, float] = {}
        self._pressed_in: dict[str, list[str]] = {}
        self._beats_in: dict[str, set[int]] = {}
        self.beats = 0

    async def say(self, stop: asyncio.Event, after_s: float) -> None:
        """Say everything in time, beginning a little later, until told to stop; wait until the broker has it."""
        start_s, sending = time.monotonic() + after_s, set[asyncio.Task[bool]]()
        topic, number = mqtt_topic(self._machine, "event"), 0
        while not stop.is_set():
            await asyncio.sleep(max(0.0, start_s + number * PERIOD_S / 2 - time.monotonic()))
            publishing = self._connection.publish(topic, codec.encode(self._event(number)))
            sending.add(asyncio.create_task(publishing))
            number += 1
        await asyncio.gather(*sending)

    def _event(self, number: int) -> Heartbeat | ButtonPressed:
        about: dict[str, Any] = {"boot_id": "bench", "seq": number, "t_us": time.time_ns() // 1_000}
        if number % 2 == 0:
            self.beats += 1
            if self.phase is not None:
                self._beats_in.setdefault(self.phase, set()).add(number)
            return Heartbeat(**about)
        event = ButtonPressed(**about, button="stop")
        cause = codec.message_id(self._machine, event)
        self._pressed_s[cause] = time.monotonic()
        if self.phase is not None:
            self._pressed_in.setdefault(self.phase, []).append(cause)
        return event

    async def listen(self) -> None:
        """Hear commands, for ever."""
        await self._connection.subscribe([mqtt_topic(self._machine, "command")])
        while True:
            batch = await self._connection.receive(100)
            now_s = time.monotonic()
            for heard in batch:
                cause = codec.decode_command(heard.payload).command_id.removesuffix(f"/{RULE}")
                self._stopped_s.setdefault(cause, now_s)
            self._connection.ack(batch)

    @property
    def unanswered(self) -> int:
        """How many presses have no STOP."""
        return len(self._pressed_s.keys() - self._stopped_s.keys())

    def stops_ms(self, phase: str) -> Sequence[float]:
        """Return how long each STOP of a phase took, from before its button was told, as far as they came."""
        answered = [cause for cause in self._pressed_in[phase] if cause in self._stopped_s]
        return [1_000 * (self._stopped_s[cause] - self._pressed_s[cause]) for cause in answered]

    def beats_ms(self, phase: str, heard: Sequence[tuple[str, int, Heartbeat]]) -> Sequence[float]:
        """Return how long each heartbeat of a phase took to the bridge's stamp, of those that were `heard`."""
        ours = [(stamp, beat) for machine, stamp, beat in heard if machine == self._machine]
        return [stamp - beat.t_us / 1_000 for stamp, beat in ours if beat.seq in self._beats_in[phase]]
