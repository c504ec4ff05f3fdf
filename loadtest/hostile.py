"""Hostile: what somebody with one good credential, or none, can try at the wall. Raw MQTT 5, so that nothing is polite.

Every attempt carries a mark in its payload, and whether it succeeded is asked of those whom it would have reached.
"""

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from random import Random
from typing import TypeVar
from urllib.parse import urlsplit

import mqtt5
import msgspec

from streams.core import codec
from streams.core.telemetry import Heartbeat, SessionStarted

MARK, MARK_POISON = b"hostile!", b"poison"
ANSWER_LIMIT_S = 30.0
BATCH = 100
OVERSIZED_BYTES = 300_000
HUNG_UP = (OSError, asyncio.IncompleteReadError, ValueError)
STREAMS = ("rep", "event", "ack", "presence", "command")
P = TypeVar("P", bound=mqtt5.Packet)
QOS_1 = mqtt5.QoS.AT_LEAST_ONCE


class Secret(msgspec.Struct, frozen=True):
    """A user name and what it knows."""

    name: str
    password: bytes | None


class Target(msgspec.Struct, frozen=True):
    """Whom it is about: a machine of another tenant, and names that are about."""

    machine: str
    services: tuple[str, ...]
    operator: str


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """One connection: how it introduces itself, what it sends then, and how many attempts that is."""

    kind: str
    attempts: int
    connect: bytes
    packets: tuple[bytes, ...] = ()


class Seen(msgspec.Struct):
    """What an attacker saw of the broker."""

    was_let_in: bool = False
    received: list[tuple[str, bytes]] = []
    is_gone: bool = False


class Wire:
    """One raw connection through TLS; what it receives is kept, and acknowledged, so that more would come."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer, self._rest = reader, writer, b""
        self.seen = Seen()

    async def exchange(self, packets: Sequence[bytes]) -> None:
        """Send packets and PINGREQ, and read until its answer, or until the broker hangs up."""
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                self._writer.write(b"".join([*packets, mqtt5.PingReqPacket().write()]))
                await self._until(mqtt5.PingRespPacket)
        except HUNG_UP:
            self.seen.is_gone = True

    async def enter(self, connect: bytes) -> bool:
        """Say CONNECT; tell whether the broker lets us in."""
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                self._writer.write(connect)
                connack = await self._until(mqtt5.ConnAckPacket)
        except HUNG_UP:
            self.seen.is_gone = True
            return False
        self.seen.was_let_in = connack.reason_code == mqtt5.ConnAckReasonCode.SUCCESS
        return self.seen.was_let_in

    def vanish(self) -> None:
        """Be gone without a goodbye."""
        self._writer.transport.abort()

    async def _until(self, kind: type[P]) -> P:
        while True:
            for packet in self._packets():
                if isinstance(packet, mqtt5.PublishPacket):
                    self.seen.received.append((packet.topic, bytes(packet.payload or b"")))
                    if packet.packet_id is not None:
                        self._writer.write(mqtt5.PubAckPacket(packet.packet_id).write())
                if isinstance(packet, kind):
                    return packet
            data = await self._reader.read(65_536)
            if not data:
                raise ConnectionResetError
            self._rest += data

    def _packets(self) -> Iterator[mqtt5.Packet]:
        while self._rest:
            try:
                packet, size = mqtt5.read(memoryview(self._rest))
            except IndexError:
                return
            self._rest = self._rest[size:]
            yield packet


async def dial(url: str, tls: ssl.SSLContext) -> Wire:
    """Open a connection through TLS."""
    parts = urlsplit(url)
    return Wire(*await asyncio.open_connection(parts.hostname, parts.port, ssl=tls))


async def pay(url: str, tls: ssl.SSLContext, visit: Visit) -> Seen:
    """Make one visit and leave."""
    try:
        wire = await dial(url, tls)
    except OSError:
        return Seen(is_gone=True)
    try:
        if await wire.enter(visit.connect):
            await wire.exchange(visit.packets)
    finally:
        wire.vanish()  # without a goodbye, so that its will is told
    return wire.seen


def campaign(dice: Random, me: Secret, revoked: Secret, target: Target, scale: int = 1) -> Iterator[Visit]:
    """Think of 10,000 attempts (times `scale` by connection), with the credential of one machine and a revoked one."""
    yield from _publishes(dice, me, target, 45 * scale, retain=False)
    yield from _publishes(dice, me, target, 20 * scale, retain=True)
    yield from _subscriptions(dice, me, target, 20 * scale)
    yield from _wills(dice, me, target, 300 * scale)
    yield from _forged_ids(dice, me, target, 300 * scale)
    yield from _bad_credentials(dice, me, target, 500 * scale)
    yield from _logins("revoked", [revoked] * (200 * scale), dice)
    yield from _oversized(me, target, 50 * scale)
    yield from _lies(dice, me, target, 3 * scale)
    yield from _poison(me, 24 * scale)


def introduced(secret: Secret, client_id: str = "", will: mqtt5.Will | None = None) -> bytes:
    """Write a CONNECT."""
    return mqtt5.ConnectPacket(
        client_id,
        username=secret.name or None,
        password=secret.password,
        clean_start=True,
        keep_alive=120,
        will=will,
    ).write()


def foreign_topics(me: Secret, target: Target) -> list[str]:
    """Name topics that a machine must not write: another's, its own command, the broker's, and made-up ones."""
    tenant, site, machine = me.name.split("/")
    return [
        *(f"spineloop/v1/{target.machine}/{stream}" for stream in STREAMS),
        *(f"spineloop/v1/{tenant}/{site}/other/{stream}" for stream in STREAMS),
        *(f"spineloop/v1/{tenant}/elsewhere/{machine}/{stream}" for stream in STREAMS),
        f"spineloop/v1/{me.name}/command",
        f"spineloop/v1/{me.name}/rep/more",
        f"spineloop/v1/{me.name}",
        f"spineloop/v1/{me.name}/",
        f"/spineloop/v1/{me.name}/rep",
        f"spineloop/v1//{me.name}/rep",
        f"spineloop/v1/{me.name}/../../../{target.machine}/rep",
        f"spineloop/v1/{target.operator}",
        f"spineloop/v2/{target.machine}/rep",
        "spineloop/v1",
        "anything",
        "$SYS/broker/publish/messages/dropped",
        "$CONTROL/dynamic-security/v1",
        f"$share/spineloop/spineloop/v1/{target.machine}/rep",
    ]


def filters(me: Secret, target: Target) -> list[str]:
    """Name filters that would tell a machine more than its own commands."""
    wide = [
        "#",
        "+/#",
        "spineloop/#",
        "spineloop/v1/#",
        "spineloop/v1/+/+/+/+",
        "spineloop/v1/+/+/+/command",
        f"spineloop/v1/{target.machine}/#",
        f"spineloop/v1/{target.machine}/command",
        f"spineloop/v1/{target.operator}/+/rep",
        f"spineloop/v1/{me.name}/#",
    ]
    return [*wide, *(f"$share/thieves/{one}" for one in wide), "$SYS/#", "$SYS/broker/clients/+", "$CONTROL/#"]


def listening(wanted: Sequence[str]) -> list[bytes]:
    """Write a SUBSCRIBE for each filter."""
    return [
        mqtt5.SubscribePacket(number + 1, [mqtt5.TopicFilter(one, max_qos=QOS_1)]).write()
        for number, one in enumerate(wanted)
    ]


def _marked(kind: str, number: int) -> bytes:
    return MARK + f"{kind} {number}".encode()


def _publishes(dice: Random, me: Secret, target: Target, visits: int, *, retain: bool) -> Iterator[Visit]:
    kind, topics = "retained" if retain else "publish", foreign_topics(me, target)
    command = codec.encode(Heartbeat(boot_id="forged", seq=1, t_us=1))
    for visit in range(visits):
        packets = [
            mqtt5.PublishPacket(
                dice.choice(topics),
                _marked(kind, visit * BATCH + number) + command,
                qos=QOS_1,
                packet_id=number + 1,
                retain=retain,
            ).write()
            for number in range(BATCH)
        ]
        yield Visit(kind=kind, attempts=BATCH, connect=introduced(me), packets=tuple(packets))


def _subscriptions(dice: Random, me: Secret, target: Target, visits: int) -> Iterator[Visit]:
    known = filters(me, target)
    for _ in range(visits):
        wanted = [dice.choice(known) for _ in range(BATCH)]
        yield Visit(kind="subscribe", attempts=BATCH, connect=introduced(me), packets=tuple(listening(wanted)))


def _wills(dice: Random, me: Secret, target: Target, visits: int) -> Iterator[Visit]:
    topics = foreign_topics(me, target)
    for number in range(visits):
        will = mqtt5.Will(dice.choice(topics), payload=_marked("will", number), qos=QOS_1, retain=dice.random() < 0.5)
        yield Visit(kind="will", attempts=1, connect=introduced(me, will=will))


def _forged_ids(dice: Random, me: Secret, target: Target, visits: int) -> Iterator[Visit]:
    ids = [target.machine, target.machine.replace("/", "."), target.operator, *target.services]
    listen = tuple(listening([f"spineloop/v1/{target.machine}/command"]))
    for _ in range(visits):
        yield Visit(kind="forged id", attempts=1, connect=introduced(me, dice.choice(ids)), packets=listen)


def _bad_credentials(dice: Random, me: Secret, target: Target, visits: int) -> Iterator[Visit]:
    names = [
        target.machine,
        target.operator,
        *target.services,
        "+/+/+",
        "#",
        "root",
        "",
        f"{target.machine}\n",
        me.name,
    ]
    passwords = [b"", b"password", me.password, None, b"\x00", b"x" * 1_000]
    tried = [(dice.choice(names), dice.choice(passwords)) for _ in range(visits)]
    secrets = [Secret(name, word if (name, word) != (me.name, me.password) else b"wrong") for name, word in tried]
    yield from _logins("credential", secrets, dice)


def _logins(kind: str, secrets: Sequence[Secret], dice: Random) -> Iterator[Visit]:
    for secret in secrets:
        yield Visit(kind=kind, attempts=1, connect=introduced(secret, f"c{dice.randrange(1_000)}"))


def _oversized(me: Secret, target: Target, visits: int) -> Iterator[Visit]:
    for number in range(visits):
        topic = f"spineloop/v1/{(me.name, target.machine)[number % 2]}/rep"
        payload = _marked("oversized", number) + bytes(OVERSIZED_BYTES)
        packet = mqtt5.PublishPacket(topic, payload, qos=QOS_1, packet_id=1).write()
        yield Visit(kind="oversized", attempts=1, connect=introduced(me), packets=(packet,))


def _lies(dice: Random, me: Secret, target: Target, visits: int) -> Iterator[Visit]:
    """Say on one's own topics, as one may, what is about others: for the bridge to see through."""
    tenant = target.machine.split("/", 1)[0]
    for visit in range(visits):
        packets = []
        for number in range(BATCH):
            seq = visit * BATCH + number
            lie = dice.choice(
                [
                    Heartbeat(boot_id=f"lie-{seq}", seq=seq, t_us=1, machine=target.machine),
                    SessionStarted(
                        boot_id=f"lie-{seq}",
                        seq=seq,
                        t_us=1,
                        session="s",
                        patient=f"{tenant}/p-1",
                        exercise="leg_press",
                        settings="h",
                    ),
                ]
            )
            topic = f"spineloop/v1/{me.name}/event"
            packets.append(mqtt5.PublishPacket(topic, codec.encode(lie), qos=QOS_1, packet_id=number + 1).write())
        yield Visit(kind="lie", attempts=BATCH, connect=introduced(me), packets=tuple(packets))


def _poison(me: Secret, visits: int) -> Iterator[Visit]:
    """Say on one's own topic what a reader could choke on: text beside the payload that is no UTF-8, or no text."""
    texts = [b"\xff", b"\xed\xa0\x80", b"\x00", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xef\xbf\xbf"]
    names = [b"\x26" + _text(b"traceparent"), b"\x26" + _text(b"n"), b"\x03", b"\x08"]
    topic = _text(f"spineloop/v1/{me.name}/event".encode())
    for number in range(visits):
        properties = names[number % len(names)] + _text(texts[number // len(names) % len(texts)])
        body = topic + b"\x00\x01" + bytes([len(properties)]) + properties + MARK_POISON
        packet = b"\x32" + _length(len(body)) + body
        yield Visit(kind="poison", attempts=1, connect=introduced(me), packets=(packet,))


def _text(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


def _length(length: int) -> bytes:
    return bytes([length]) if length < 128 else bytes([length % 128 | 128, length // 128])


async def slow(url: str, number: int) -> list[asyncio.StreamWriter]:
    """Open connections that begin a TLS handshake and never go on with it."""
    parts, held = urlsplit(url), []
    for _ in range(number):
        with suppress(OSError):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.write(b"\x16\x03\x01\x02")
            held.append(writer)
    return held
