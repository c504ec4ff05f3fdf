"""Link: the bytes under one MQTT 5 connection. Packets in and out, keep-alive, flow control, and one way to end."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import cast

import mqtt5

from streams.core.errors import Busy

BROKER_MAX_PACKET_BYTES = 270_336
"""Largest packet that the broker takes of anybody: 256 KiB of payload and 8 KiB for topic and properties."""

MAX_PACKET_BYTES = BROKER_MAX_PACKET_BYTES + 1_024
"""Largest packet that we take, and tell the broker so: larger than any that it can pass on. What it has confirmed and
finds too large for us it drops, and each such one takes for good a place in the window that we gave it. mosquitto
counts the bytes of a packet otherwise when it passes it on than when it takes it, so one limit for both won't do."""

WRITE_BUFFER_BYTES = 1_048_576
"""Bytes that the socket has not taken yet at which publishers wait: four of the largest packets."""

CLOSE_LIMIT_S = 2.0
"""Longest wait for the broker to hang up after our goodbye; a process that ends has 10 s for everything."""


class ConnectionLost(Busy):
    """The connection is gone: make a new one. What it delivered and was not acknowledged comes again there.

    Attributes
    ----------
    reason : str
        Why, for a person.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"MQTT connection lost: {reason}")
        self.reason = reason


class Link(asyncio.Protocol):
    """One TCP or TLS connection that carries MQTT 5 packets. It ends once, says why, and never comes back.

    Parameters
    ----------
    hear : callable
        Takes the packets of one read, in order.
    end : callable
        Called once, with the reason, when the link has ended.

    Attributes
    ----------
    lost : str or None
        Why it has ended, or None while it has not.
    """

    def __init__(self, hear: Callable[[Sequence[mqtt5.Packet]], None], end: Callable[[str], None]) -> None:
        self.lost: str | None = None
        self._hear, self._end = hear, end
        self._rest = b""
        self._is_paused = False
        self._was_heard = True
        self._writable = asyncio.Event()
        self._writable.set()
        self._closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport from the event loop."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(WRITE_BUFFER_BYTES)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Hear from the event loop that the transport is gone."""
        self._lose(str(exc) if exc else "closed by the broker")
        self._closed.set()

    def pause_writing(self) -> None:
        """Hear from the event loop that the write buffer is full."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Hear from the event loop that the write buffer has room."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Cut the bytes into packets and hand them on.

        `mqtt5.read` raises IndexError when a packet is not complete, ValueError when it is wrong, and a PanicException
        of its own when text is not UTF-8: for that one the event loop itself ends the connection.
        """
        if self.lost is not None:
            return  # we have said goodbye: what still comes is not acknowledged, and comes again
        self._was_heard = True
        view, at, packets = memoryview(self._rest + data if self._rest else data), 0, list[mqtt5.Packet]()
        try:
            while at < len(view):
                packet, size = mqtt5.read(view[at:])
                packets.append(packet)
                at += size
        except IndexError:
            pass  # the end of this packet is still on its way
        except ValueError as error:
            self.abort(f"malformed packet: {error}")
            return
        self._rest = bytes(view[at:])
        if len(self._rest) > MAX_PACKET_BYTES:
            self.abort(f"a packet of more than {MAX_PACKET_BYTES} bytes")
        else:
            self._hear(packets)

    def send(self, packets: Sequence[bytes]) -> None:
        """Write packets as one piece, or raise ConnectionLost."""
        self.check()
        self._transport.write(b"".join(packets))

    async def writable(self) -> None:
        """Wait until the write buffer has room, or the link has ended."""
        while not self._writable.is_set():  # the first that wakes may fill it again
            await self._writable.wait()

    def check(self) -> None:
        """Raise ConnectionLost if the link has ended."""
        if self.lost is not None:
            raise ConnectionLost(self.lost)

    def pause(self) -> None:
        """Read no more until `resume`: the socket fills, and then the broker keeps the messages."""
        if not self._is_paused and self.lost is None:
            self._is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Undo `pause`."""
        if self._is_paused and self.lost is None:
            self._is_paused, self._was_heard = False, True
            self._transport.resume_reading()

    def keep_alive(self, period_s: float) -> None:
        """Ping twice in every period, and end the link when nothing was heard for half a period after a ping."""
        if self.lost is not None:
            return
        if not (self._was_heard or self._is_paused):  # while we don't read, no answer can reach us
            self.abort(f"silent for {period_s / 2.0:g} s after a ping")
            return
        self._was_heard = False
        self._transport.write(mqtt5.PingReqPacket().write())
        asyncio.get_running_loop().call_later(period_s / 2.0, self.keep_alive, period_s)

    def abort(self, reason: str) -> None:
        """End the link at once, as a crash would: the broker then publishes the will."""
        self._lose(reason)
        self._transport.abort()

    async def close(self) -> None:
        """Say goodbye, so that the broker forgets the will and keeps the session; then it is the broker who hangs up.

        If we hung up and came back at once, it would give the session to the new connection with our last acks unread.
        """
        if self.lost is None:
            self.resume()
            self._transport.write(mqtt5.DisconnectPacket().write())
            self._lose("closed by us")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), CLOSE_LIMIT_S)
        self._transport.abort()

    def _lose(self, reason: str) -> None:
        if self.lost is None:
            self.lost = reason
            self._writable.set()
            self._end(reason)
