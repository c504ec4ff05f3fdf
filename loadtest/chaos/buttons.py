"""Buttons: somebody presses stop again and again, each time at another machine; how long until its command is there?"""

import asyncio
import time
from collections.abc import Sequence
from typing import Generic

import msgspec

from loadtest.bench.end_to_end import percentile
from loadtest.link import Connection, M
from streams.core import codec
from streams.core.telemetry import ButtonPressed
from streams.core.topics import mqtt_topic, parse_mqtt

EVERY_S = 0.25

SITE = "stops/site-1"


class Presses(msgspec.Struct, frozen=True):
    """How many were pressed in a phase, how many had their command by the end, and after how many ms."""

    pressed: int
    answered: int
    p50_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None


class Buttons(Generic[M]):
    """Machines that do nothing but stop.

    Attributes
    ----------
    phase : str
        Under which name what is pressed now is put down.
    is_resting : bool
        Whether nothing is pressed for now.
    """

    def __init__(self, connection: Connection[M]) -> None:
        self.phase, self.is_resting = "before", False
        self._connection = connection
        self._pressed: dict[str, tuple[str, float]] = {}
        self._after_ms: dict[str, float] = {}

    async def press(self) -> None:
        """Press for ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            if self.is_resting:
                continue
            number = len(self._pressed)
            machine = f"{SITE}/m{number:05d}"
            self._pressed[machine] = self.phase, time.monotonic()
            button = ButtonPressed(boot_id="b", seq=0, t_us=number, button="stop")
            await self._connection.publish(mqtt_topic(machine, "event"), codec.encode(button))

    async def listen(self) -> None:
        """Hear the commands."""
        await self._connection.subscribe([mqtt_topic("stops/+/+", "command")])
        while True:
            batch = await self._connection.receive(100)
            now_s = time.monotonic()
            for message in batch:
                machine = parse_mqtt(message.topic).machine
                self._after_ms.setdefault(machine, 1_000 * (now_s - self._pressed[machine][1]))
            self._connection.ack(batch)

    @property
    def unanswered(self) -> int:
        """How many have no command yet."""
        return len(self._pressed) - len(self._after_ms)

    def told(self) -> dict[str, Presses]:
        """Return what came of it, by phase."""
        phases: dict[str, list[str]] = {}
        for machine, (phase, _) in self._pressed.items():
            phases.setdefault(phase, []).append(machine)
        return {phase: self._told(machines) for phase, machines in phases.items()}

    def _told(self, machines: Sequence[str]) -> Presses:
        found = sorted(self._after_ms[machine] for machine in machines if machine in self._after_ms)
        if not found:
            return Presses(len(machines), 0)
        p50, p99, most = (round(percentile(found, share), 1) for share in (0.5, 0.99, 1.0))
        return Presses(len(machines), len(found), p50, p99, most)
