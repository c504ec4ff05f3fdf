"""Flood: one machine that says reps as fast as the broker lets it, a process of its own: `python -m loadtest.flood`.

Broker and credential come from the settings; the user name is the machine.
"""

import asyncio

from msgspec.structs import replace

from loadtest.bench import stories
from spineloop import wiring
from spineloop.settings import Settings
from streams.core import codec
from streams.core.topics import mqtt_topic

WINDOW = 100
"""Reps on their way at a time."""


async def flood(settings: Settings) -> None:
    """Publish without end."""
    pool, seq = stories.reps(seed=1, count=WINDOW), 0
    machine = settings.mqtt_username or ""
    topic = mqtt_topic(machine, "rep")
    async with await wiring.connect(settings, machine.replace("/", "."))() as connection:
        while True:
            some = [replace(rep, boot_id="flood", seq=seq + number) for number, rep in enumerate(pool)]
            seq += WINDOW
            await asyncio.gather(*(connection.publish(topic, codec.encode(rep)) for rep in some))


if __name__ == "__main__":
    asyncio.run(flood(Settings.read()))
