"""A machine whose client has no limit of its own: it sends packets of a size to the byte, as they are."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from mqtt5 import ConnectPacket, PubAckPacket, PublishPacket, QoS, read

from adaptors.mqtt_client import address

DEADLINE_S = 120.0
QOS_1 = QoS.AT_LEAST_ONCE


def sized(topic: str, packet_id: int, remaining_bytes: int) -> bytes:
    """Write a PUBLISH whose bytes after the fixed header are so many: topic, packet id, no properties, payload."""
    about = 2 + len(topic) + 2 + 1
    return PublishPacket(topic, bytes(remaining_bytes - about), qos=QOS_1, packet_id=packet_id).write()


async def say_all(url: str, client_id: str, packets: Sequence[bytes]) -> None:
    """Connect, publish packets, and wait until the broker has confirmed all."""
    _, host, port = address(url)
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"".join([ConnectPacket(client_id, keep_alive=30).write(), *packets]))
    heard, confirmed = b"", 0
    async with asyncio.timeout(DEADLINE_S):
        while confirmed < len(packets):
            heard += await reader.read(65_536)
            with suppress(IndexError):  # the end of a packet is still on its way
                while heard:
                    packet, size = read(memoryview(heard))
                    heard, confirmed = heard[size:], confirmed + isinstance(packet, PubAckPacket)
    writer.close()
