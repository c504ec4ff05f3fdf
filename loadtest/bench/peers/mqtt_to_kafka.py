"""MQTT to Kafka: aiomqtt in, aiokafka out, as one would write it in an afternoon.

`python -m loadtest.bench.peers.mqtt_to_kafka HOST PORT KAFKA`. It looks at nothing and promises less than our bridge:
aiomqtt acknowledges a message when it has read it, so what is on its way into Kafka at a crash is lost.
"""

import asyncio
import signal
import sys

import aiomqtt
from aiokafka import AIOKafkaProducer
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from streams.core.topics import TELEMETRY

FILTER = "spineloop/v1/+/+/+/+"
CLIENT_ID = "bench-bare-bridge"
READY = "bare bridge is ready"

WAITING = 1_000
"""Messages handed to Kafka's client and not stored yet, above which it waits for them."""


async def main(host: str, port: int, bootstrap: str) -> None:
    """Carry until SIGTERM."""
    carrying = asyncio.ensure_future(_carry(host, port, bootstrap))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, carrying.cancel)
    await asyncio.wait({carrying})
    if not carrying.cancelled():
        carrying.result()


async def _carry(host: str, port: int, bootstrap: str) -> None:
    kept = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho ships half of its types
    kept.SessionExpiryInterval = 3_600
    client = aiomqtt.Client(
        host, port, identifier=CLIENT_ID, protocol=aiomqtt.ProtocolVersion.V5, clean_start=False, properties=kept
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, max_batch_size=256 * 1024
    )
    async with producer, client:
        await client.subscribe(FILTER, qos=1)
        print(READY, flush=True)  # noqa: T201 - whoever started it waits for this
        waiting = []
        async for message in client.messages:
            key = "/".join(message.topic.value.split("/")[2:5])
            payload = message.payload if isinstance(message.payload, bytes) else b""
            waiting.append(await producer.send(TELEMETRY, key=key.encode(), value=payload))
            if len(waiting) >= WAITING:
                await asyncio.gather(*waiting)
                waiting.clear()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
