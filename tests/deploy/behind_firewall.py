"""What comes through the firewall of the machines' port: run by test_firewall.py, in a network of its own."""

import asyncio
import json
import socket
import struct
import sys
import time
from contextlib import AsyncExitStack

PORT, ADDRESS, OTHER_ADDRESS = 8883, "127.0.0.1", "127.0.0.2"
FLOOD_BYTES, PINGS, AT_ONCE = 600_000, 200, 300
DATAGRAMS, DATAGRAM_BYTES = 600, 1_000
RETRANSMITTED = slice(100, 104)
"""Where `tcpi_total_retrans` stands in what Linux says of a connection."""


async def main() -> None:
    """Flood on one connection and say a little on another, then connect from one address until it is refused."""
    async with await asyncio.start_server(_served, ADDRESS, PORT), AsyncExitStack() as stops:
        start_s = time.monotonic()
        flood = asyncio.create_task(_answered(FLOOD_BYTES, of=FLOOD_BYTES))
        honest = await asyncio.gather(*(_answered(PINGS * 100, of=100) for _ in range(3)))
        flooded = await flood
        took_s = time.monotonic() - start_s
        held, refused = 0, False
        while not refused and held < AT_ONCE:
            refused = not await _held(stops, ADDRESS)
            held += not refused
        from_elsewhere = await _held(stops, OTHER_ADDRESS)
    told = {
        "flood_retransmitted": flooded,
        "flood_s": took_s,
        "honest_retransmitted": honest,
        "held": held,
        "from_elsewhere": from_elsewhere,
        "datagrams": _datagrams(),
    }
    sys.stdout.write(json.dumps(told))


def _datagrams() -> int:
    """Say something by UDP to the same port, more than a connection may; return how much of it came."""
    with socket.socket(type=socket.SOCK_DGRAM) as hears, socket.socket(type=socket.SOCK_DGRAM) as says:
        hears.bind((ADDRESS, PORT))
        hears.settimeout(0.0)
        came = 0
        for _ in range(DATAGRAMS):
            says.sendto(bytes(DATAGRAM_BYTES), (ADDRESS, PORT))
            try:
                came += len(hears.recv(2 * DATAGRAM_BYTES)) == DATAGRAM_BYTES
            except BlockingIOError:
                continue
        return came


async def _served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each 100 bytes with one."""
    while True:
        try:
            await reader.readexactly(100)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        writer.write(b".")


async def _answered(total: int, of: int) -> int:
    """Say `total` bytes, `of` at a time, each after the answer to those before; return how many segments went again."""
    reader, writer = await asyncio.open_connection(ADDRESS, PORT)
    for _ in range(total // of):
        writer.write(bytes(of))
        await reader.readexactly(of // 100)
    told: bytes = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    writer.close()
    await writer.wait_closed()
    return int(struct.unpack("=I", told[RETRANSMITTED])[0])


async def _held(stops: AsyncExitStack, source: str) -> bool:
    """Open one more connection from an address and keep it; return whether that was let in."""
    try:
        _, writer = await asyncio.open_connection(ADDRESS, PORT, local_addr=(source, 0))
    except ConnectionRefusedError:
        return False
    stops.callback(writer.close)
    return True


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(main(), timeout=120.0))
