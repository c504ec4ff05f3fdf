"""The probes: does a server on a loopback port speak its protocol yet?

They are bytes on a socket and not clients, because a client retries, logs and caches, and none of that is wanted here.
"""

import asyncio

LOOPBACK = "127.0.0.1"

ANSWER_LIMIT_S = 2.0
"""Longest wait for one answer; how long a server may take to start is the business of its Program."""


async def speaks_mqtt(port: int) -> bool:
    """Tell whether a broker accepts an MQTT 5 client: CONNECT, and CONNACK with reason 0."""
    connect = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00"  # clean start, keep alive 60 s, no id of its own
    connack = await _answer(port, connect, length=4)
    return connack[:1] == b"\x20" and connack[3:] == b"\x00"


async def listens(port: int) -> bool:
    """Tell whether anybody takes a connection: all that can be asked where one has to be known."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(LOOPBACK, port), ANSWER_LIMIT_S)
    except OSError:  # a TimeoutError is one
        return False
    writer.close()
    return True


async def speaks_kafka(port: int) -> bool:
    """Tell whether a broker answers ApiVersions without error; it listens only once its controller has let it in."""
    api_versions = bytes.fromhex("0000000a 0012 0000 00000001 ffff")  # size, key, version, correlation id, no client id
    return (await _answer(port, api_versions, length=10))[4:] == bytes.fromhex("00000001 0000")


async def speaks_influx(port: int) -> bool:
    """Tell whether a server answers /ping, which it does once its shards are open."""
    ping = f"GET /ping HTTP/1.1\r\nHost: {LOOPBACK}\r\nConnection: close\r\n\r\n".encode()
    return (await _answer(port, ping, length=12)).endswith(b" 204")


async def _answer(port: int, question: bytes, length: int) -> bytes:
    """Return the first bytes of the answer to a question, none if there is none in time."""
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(question)
                return await reader.readexactly(length)
            finally:
                writer.close()
    except (OSError, EOFError):  # a TimeoutError is an OSError
        return b""
