"""Lockstep: simulated machines on a real broker, one message at a time, each only when the loop has settled.

The fleet of loadtest runs its machines side by side, as clinics do; then it is chance who comes first when one patient
trains on two machines. Here simulated time alone decides, so that two runs of a seed say the same.
"""

import heapq
from typing import Any

from loadtest.live_machine import stream_of
from loadtest.machine import Machine
from loadtest.roster import assemble
from loadtest.truth import Ledger
from loadtest.visit import Habits
from spineloop import wiring
from spineloop.settings import Settings
from streams.core import codec
from streams.core.telemetry import Ack, Offline, Presence, Telemetry
from streams.core.topics import mqtt_topic
from streams.log import Log
from tests.e2e.settling import Settling


async def run_in_lockstep(log: Log, settings: Settings, *, seed: int, machines: int, messages: int) -> Ledger:
    """Let machines say so many messages in the order of simulated time, then end their sessions as they should end."""
    ledger = Ledger()
    fleet = assemble(seed, machines, ledger, habits=Habits(run="lockstep"))
    settling = Settling(log)
    voices = [Voice(machine, settings, settling) for machine in fleet]
    due = [(0.0, number) for number in range(len(voices))]
    said = 0
    while due:
        at_s, number = heapq.heappop(due)
        machine, voice = fleet[number], voices[number]
        step = machine.step()
        if step.message is not None:
            await voice.say(step.message)
            said += 1
            if said == messages:
                for one in fleet:
                    one.finish()
        if machine.done:
            await voice.close()
        else:
            heapq.heappush(due, (at_s + step.delay_s, number))
    return ledger


class Voice:
    """One machine on the network."""

    def __init__(self, machine: Machine, settings: Settings, settling: Settling) -> None:
        self._machine, self._settings, self._settling = machine, settings, settling
        self._link: Any = None

    async def say(self, message: Telemetry | Ack) -> None:
        """Publish a message, wait until all that it leads to has happened, and answer the commands that came."""
        if self._link is None:
            await self._connect(message.boot_id)
        topic = mqtt_topic(self._machine.key, stream_of(message))
        await self._link.publish(
            topic, codec.encode(message), retain=isinstance(message, Presence), content_type="application/msgpack"
        )
        expected = await self._settling.commands_after(codec.message_id(self._machine.key, message), self._machine.key)
        while expected:
            batch = await self._link.receive(1)
            self._link.ack(batch)
            command = codec.decode_command(batch[0].payload)
            expected.discard(command.command_id)
            for ack in self._machine.receive(command, wiring.wall_clock_ms()):
                await self.say(ack)

    async def _connect(self, boot_id: str) -> None:
        connect = wiring.machine_connect(self._settings)
        will = codec.encode(Offline(boot_id=boot_id))
        self._link = await connect(self._machine.key, mqtt_topic(self._machine.key, "presence"), will)
        await self._link.subscribe([mqtt_topic(self._machine.key, "command")])

    async def close(self) -> None:
        if self._link is not None:
            await self._link.close()
