"""Connection: one MQTT 5 connection, QoS 1. The object is the epoch: it never reconnects, and no ack outlives it.

Packet ids are the broker's business and die with the connection. Here a message is acknowledged as the object that was
handed out, in the order of receipt, on the connection that delivered it, or not at all (docs/decisions/0001).
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from enum import Enum
from types import TracebackType
from typing import Self

import mqtt5

from adaptors.mqtt_inbox import Heard, Inbox
from adaptors.mqtt_link import BROKER_MAX_PACKET_BYTES, ConnectionLost, Link
from adaptors.mqtt_outbox import Outbox
from streams.core.errors import BrokenPromise, Busy
from streams.core.limits import MAX_MESSAGE_BYTES

MAX_IN_FLIGHT = 1_000
"""Publishes without a PUBACK, if the broker's Receive Maximum doesn't allow fewer; a further one waits."""

SUBACK_LIMIT_S = 10.0
"""Longest wait for the broker's answer to SUBSCRIBE."""

_QOS_1 = mqtt5.QoS.AT_LEAST_ONCE
_GRANTED = frozenset({"SUCCESS", "NO_MATCHING_SUBSCRIBERS", "GRANTED_QOS_AT_LEAST_ONCE"})
_NOT_NOW = frozenset(
    {
        "UNSPECIFIED_ERROR",
        "IMPLEMENTATION_SPECIFIC_ERROR",
        "SERVER_UNAVAILABLE",
        "SERVER_BUSY",
        "QUOTA_EXCEEDED",
        "CONNECTION_RATE_EXCEEDED",
    }
)
"""Reasons that pass; every other one says that we ask for what we can't have."""

_CONNECT = "CONNECT"
_CREDENTIALS = "check SPINELOOP_MQTT_USERNAME and SPINELOOP_MQTT_PASSWORD"
_MEND: Mapping[str, str] = {
    "NOT_AUTHORIZED": _CREDENTIALS,
    "BAD_USER_NAME_OR_PASSWORD": _CREDENTIALS,
    "CLIENT_ID_NOT_VALID": "check SPINELOOP_INGEST_CLIENT_ID, _DOWNLINK_CLIENT_ID or _REFLEX_CLIENT_ID",
}
"""What a person can do who is not let in."""


class Refused(BrokenPromise):
    """The broker refused for good: credentials, access rights or the request are wrong, and only a person can mend it.

    Attributes
    ----------
    what, reason : str
        What we asked for, and the name of the broker's reason code.
    """

    def __init__(self, what: str, reason: str) -> None:
        mend = _MEND.get(reason) if what == _CONNECT else None
        super().__init__(f"{what} refused: {reason}" + (f"; {mend}" if mend else ""))
        self.what, self.reason = what, reason


class Connection:
    """One connection; `adaptors.mqtt_client.connect` makes one, and `async with` closes it.

    Parameters
    ----------
    inbox : Inbox
        Holds what was received; while it is full, nothing more is read, and the broker keeps the rest.

    Attributes
    ----------
    session_present : bool
        Whether the broker still had our session, with its subscriptions and messages.
    """

    def __init__(self, inbox: Inbox) -> None:
        self.session_present = False
        self._link = Link(self._hear, self._end)
        self._connack: asyncio.Future[mqtt5.ConnAckPacket] = asyncio.get_running_loop().create_future()
        self._inbox, self._outbox = inbox, Outbox(0)
        self._arrived = asyncio.Event()
        self._max_packet_bytes = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def held(self) -> int:
        """Messages received but not yet acknowledged."""
        return self._inbox.held

    @property
    def lost(self) -> str | None:
        """Why the connection is gone, or None while it is not."""
        return self._link.lost

    async def open(self, host: str, port: int, packet: mqtt5.ConnectPacket, tls: ssl.SSLContext | None) -> None:
        """Open the link and shake hands; `connect` does this, once."""
        await asyncio.get_running_loop().create_connection(lambda: self._link, host, port, ssl=tls)
        try:
            self._link.send([packet.write()])
            connack = await self._connack
            _check(_CONNECT, connack.reason_code)
        except BaseException:
            self.abort()
            raise
        self.session_present = connack.session_present
        self._outbox = Outbox(min(connack.receive_max, MAX_IN_FLIGHT))
        self._max_packet_bytes = connack.max_packet_size or BROKER_MAX_PACKET_BYTES
        self._link.keep_alive(float(connack.server_keep_alive or packet.keep_alive))

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe with QoS 1; a filter that is there already stays as it is and sends no retained message again.

        What is published while we hear comes without its retain flag, so the flag says: kept from before.
        Go on receiving meanwhile: behind a full inbox the answer can't come.

        Raises
        ------
        ConnectionLost
            The connection is gone, or there was no answer in 10 s.
        Busy, Refused
            The broker does not grant QoS 1 on a filter, now or for good.
        """
        once = mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS
        packet_id = self._outbox.free_id()
        self._send(
            mqtt5.SubscribePacket(
                packet_id,
                [
                    mqtt5.TopicFilter(name, max_qos=_QOS_1, retain_as_published=False, retain_handling=once)
                    for name in filters
                ],
            )
        )
        try:
            suback = await asyncio.wait_for(self._outbox.subscribe(packet_id), SUBACK_LIMIT_S)
        except TimeoutError as error:
            self.abort("no SUBACK")
            raise ConnectionLost("no SUBACK") from error
        for name, reason in zip(filters, suback.reason_codes, strict=True):
            _check(f"SUBSCRIBE {name}", reason)

    async def receive(self, limit: int) -> Sequence[Heard]:
        """Return what has come, at least one and at most `limit` messages; one caller at a time.

        Raises ConnectionLost at once when the connection is gone: what was not handed out comes again.
        """
        while not self._inbox:
            self._link.check()
            self._arrived.clear()
            await self._arrived.wait()
        self._link.check()
        return self._inbox.take(limit)

    def ack(self, batch: Sequence[Heard]) -> None:
        """Acknowledge messages: the first of those that `receive` handed out, in its order, in one write.

        Raises
        ------
        ConnectionLost
            The connection is gone, and with it the right to acknowledge: the messages come again.
        BrokenPromise
            These are not the first ones.
        """
        self._link.check()
        self._link.send([mqtt5.PubAckPacket(packet_id).write() for packet_id in self._inbox.settle(batch)])
        if self._inbox.has_room:
            self._link.resume()

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        expiry_s: int | None = None,
        response_topic: str | None = None,
        correlation_data: bytes | None = None,
        content_type: str | None = None,
        user_properties: Sequence[tuple[str, str]] = (),
    ) -> bool:
        """Publish with QoS 1 and return when the broker has it; False if it says that nobody subscribes to the topic.

        Waits while as many publishes as the broker allows are unanswered. Cancelled, the message may still go out.

        Raises
        ------
        ConnectionLost
            The connection is gone, and the broker may have the message or not: publish it again on the next one.
        Busy, Refused
            The broker does not take it, now or for good.
        """
        if len(payload) > MAX_MESSAGE_BYTES:
            raise Refused(f"PUBLISH {topic}", f"{len(payload)} bytes, at most {MAX_MESSAGE_BYTES}")
        outbox = self._outbox
        await outbox.room()  # its place is given back by the PUBACK, and not before
        try:
            await self._link.writable()
            packet_id = outbox.free_id()
            self._send(
                mqtt5.PublishPacket(
                    topic,
                    payload,
                    qos=_QOS_1,
                    packet_id=packet_id,
                    retain=retain,
                    message_expiry_interval=expiry_s,
                    response_topic=response_topic,
                    correlation_data=correlation_data,
                    content_type=content_type,
                    user_properties=list(user_properties),
                )
            )
        except BaseException:
            outbox.give_back()
            raise
        reason = (await outbox.publish(packet_id)).reason_code
        _check(f"PUBLISH {topic}", reason)
        return reason != mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS

    def abort(self, reason: str = "aborted") -> None:
        """Drop the connection as a crash does; the broker publishes the will."""
        self._link.abort(reason)

    async def close(self) -> None:
        """Say goodbye: the broker forgets the will and keeps the session as long as it was asked to."""
        await self._link.close()

    def _send(self, packet: mqtt5.PublishPacket | mqtt5.SubscribePacket) -> None:
        raw = packet.write()
        if len(raw) > self._max_packet_bytes:
            raise Refused(type(packet).__name__, f"{len(raw)} bytes, the broker takes {self._max_packet_bytes}")
        self._link.send([raw])

    def _hear(self, packets: Sequence[mqtt5.Packet]) -> None:
        messages = [Heard.of(packet) for packet in packets if isinstance(packet, mqtt5.PublishPacket)]
        if len(messages) < len(packets):
            for packet in packets:
                self._hear_answer(packet)
        if messages:
            self._inbox.put(messages)
            self._arrived.set()
        if self._inbox.is_full:
            self._link.pause()

    def _hear_answer(self, packet: mqtt5.Packet) -> None:
        match packet:
            case mqtt5.PubAckPacket():
                self._outbox.hear_puback(packet)
            case mqtt5.SubAckPacket():
                self._outbox.hear_suback(packet)
            case mqtt5.ConnAckPacket() if not self._connack.done():
                self._connack.set_result(packet)
            case mqtt5.DisconnectPacket():
                self.abort(f"the broker says {packet.reason_code.name}")
            case mqtt5.PublishPacket() | mqtt5.PingRespPacket():
                pass  # the one went into the inbox, the other has been heard by the link
            case _:
                self.abort(f"unexpected {type(packet).__name__}")

    def _end(self, reason: str) -> None:
        self._arrived.set()
        self._outbox.end(reason)
        if not self._connack.done():
            self._connack.set_exception(ConnectionLost(reason))
            self._connack.exception()  # seen, even if nobody waits for it


def _check(what: str, reason: Enum) -> None:
    if reason.name in _NOT_NOW:
        raise Busy(f"{what} refused: {reason.name}")
    if reason.name not in _GRANTED:
        raise Refused(what, reason.name)
