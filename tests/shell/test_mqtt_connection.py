"""One MQTT connection against a broker that does what no good broker would: its answers are written by hand."""

import asyncio
from collections.abc import AsyncIterator

import mqtt5
import pytest

from adaptors import mqtt_client, mqtt_connection
from adaptors.mqtt_client import connect
from adaptors.mqtt_connection import Connection, Refused
from adaptors.mqtt_inbox import MAX_HELD_BYTES, MAX_TRACES, OBJECT_BYTES, Heard, Inbox
from adaptors.mqtt_link import MAX_PACKET_BYTES, ConnectionLost
from adaptors.mqtt_outbox import MAX_PACKET_ID, Outbox
from streams.core.errors import BrokenPromise, Busy
from tests.shell.hand_broker import DEADLINE_S, HandBroker, until

QOS_1 = mqtt5.QoS.AT_LEAST_ONCE


@pytest.fixture
async def broker() -> AsyncIterator[HandBroker]:
    """Let us in, and allow two unanswered publishes."""
    one = HandBroker(mqtt5.ConnAckPacket(receive_max=2))
    await one.listen()
    yield one
    await one.close()


@pytest.fixture
async def connection(broker: HandBroker) -> AsyncIterator[Connection]:
    async with await connect(broker.url, client_id="c", receive_maximum=10) as one:
        yield one


def message(number: int, packet_id: int | None = 1, payload: bytes | None = None) -> bytes:
    qos = mqtt5.QoS.AT_MOST_ONCE if packet_id is None else QOS_1
    return mqtt5.PublishPacket("t", payload or str(number).encode(), qos=qos, packet_id=packet_id).write()


def puback(packet_id: int, reason: mqtt5.PubAckReasonCode = mqtt5.PubAckReasonCode.SUCCESS) -> bytes:
    return mqtt5.PubAckPacket(packet_id, reason_code=reason).write()


async def test_messages_are_acknowledged_as_objects_although_their_ids_collide(
    broker: HandBroker, connection: Connection
) -> None:
    broker.send(message(1), message(2), message(3, packet_id=7))
    first = await connection.receive(1)
    rest = await connection.receive(10)
    with pytest.raises(BrokenPromise):
        connection.ack(rest)  # not before the first
    connection.ack(first)
    connection.ack(rest)
    assert [ack.packet_id for ack in await broker.until(mqtt5.PubAckPacket, 3)] == [1, 1, 7]
    assert connection.held == 0


async def test_a_message_without_an_id_is_delivered_and_needs_no_ack(
    broker: HandBroker, connection: Connection
) -> None:
    broker.send(message(1, packet_id=None), message(2, packet_id=5))
    await until(lambda: connection.held == 2)
    connection.ack(await connection.receive(10))
    assert [ack.packet_id for ack in await broker.until(mqtt5.PubAckPacket)] == [5]
    assert connection.held == 0


async def test_a_packet_in_pieces_is_put_together(broker: HandBroker, connection: Connection) -> None:
    for byte in message(1, payload=b"pieces"):
        broker.send(bytes([byte]))
        await asyncio.sleep(0)
    assert [one.payload for one in await connection.receive(1)] == [b"pieces"]


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\x00\x00", id="no such packet"),
        pytest.param(b"\x36\x05\x00\x01a\x00\x01\x00", id="QoS 3"),
        pytest.param(b"\x32\xff\xff\xff\xff", id="a length without end"),
        pytest.param(
            b"\x32\x06\x00\x02\xff\xfe\x00\x01",
            id="a topic that is not UTF-8",
            marks=pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # the codec panics
        ),
        pytest.param(b"\x32\xff\xff\xff\x7f" + bytes(MAX_PACKET_BYTES), id="a packet of 256 MB"),
        pytest.param(mqtt5.PubRelPacket(1).write(), id="an answer to what was never asked"),
        pytest.param(mqtt5.ConnAckPacket().write(), id="a second CONNACK"),
        pytest.param(
            mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SERVER_SHUTTING_DOWN).write(), id="goodbye"
        ),
    ],
)
async def test_nonsense_and_goodbyes_end_the_connection(broker: HandBroker, connection: Connection, raw: bytes) -> None:
    broker.send(raw)
    with pytest.raises(ConnectionLost) as lost:
        await asyncio.wait_for(connection.receive(1), DEADLINE_S)
    assert lost.value.reason == connection.lost


async def test_what_was_not_handed_out_when_the_connection_ends_comes_again_and_not_now(
    broker: HandBroker, connection: Connection
) -> None:
    broker.send(message(1), mqtt5.DisconnectPacket().write())
    await until(lambda: connection.lost is not None)
    with pytest.raises(ConnectionLost):
        await connection.receive(1)


async def test_a_full_inbox_stops_the_reading_until_half_of_it_is_acknowledged(
    broker: HandBroker, connection: Connection
) -> None:
    broker.send(*(message(number) for number in range(20)))
    await until(lambda: connection.held == 20)
    broker.send(*(message(number) for number in range(20, 30)))
    batch = await connection.receive(20)
    connection.ack(batch[:9])
    await broker.until(mqtt5.PubAckPacket, 9)
    assert connection.held == 11
    connection.ack(batch[9:10])
    await until(lambda: connection.held == 20)


def test_an_inbox_is_full_by_bytes_too() -> None:
    inbox = Inbox(max_held=1_000)
    one = Heard(topic="t", payload=bytes(MAX_HELD_BYTES // 4 - OBJECT_BYTES), packet_id=1)
    inbox.put([one] * 3)
    assert not inbox.is_full
    inbox.put([one])
    assert inbox.is_full
    inbox.settle(inbox.take(3))
    assert inbox.has_room


def test_what_is_held_beside_the_payload_counts_too() -> None:
    topic = "t/" * 30_000 + "\U0001f600"  # one of those makes each of its characters take four bytes
    inbox = Inbox(max_held=10_000)
    while not inbox.is_full:
        inbox.put([Heard(topic=topic, payload=b"", packet_id=1)])
    assert inbox.held <= MAX_HELD_BYTES // (4 * len(topic)) + 1


async def test_a_message_of_tens_of_thousands_of_properties_takes_no_more_than_one_of_none(
    broker: HandBroker, connection: Connection
) -> None:
    properties = [*[("", "")] * 25_000, ("traceparent", "00-1"), *[("", "")] * 25_000]
    many = mqtt5.PublishPacket("t", b"1", qos=QOS_1, packet_id=1, user_properties=properties).write()
    broker.send(*[many] * 5, message(2, packet_id=2))
    await until(lambda: connection.held == 6)
    *full, last = await connection.receive(6)
    assert [one.user_properties for one in full] == [[("traceparent", "00-1")]] * 5
    assert [type(one) for one in full] == [Heard] * 5  # and not the packet, of 4 MB
    assert {one.held_bytes - last.held_bytes for one in full} <= set(range(100))
    connection.ack([*full, last])
    assert connection.held == 0


def test_the_traces_that_are_kept_are_few_and_count() -> None:
    long = "0" * 10_000
    packet = mqtt5.PublishPacket("t", b"1", user_properties=[("traceparent", long)] * 20)
    heard = Heard.of(packet)
    assert len(heard.user_properties) == MAX_TRACES
    assert heard.held_bytes >= MAX_TRACES * len(long)


async def test_a_peer_that_falls_silent_is_given_up(broker: HandBroker) -> None:
    connection = await connect(broker.url, client_id="c", keep_alive_s=1)
    with pytest.raises(ConnectionLost, match="silent"):
        await asyncio.wait_for(connection.receive(1), DEADLINE_S)
    assert broker.of(mqtt5.PingReqPacket)


async def test_the_brokers_keep_alive_counts_and_an_answer_keeps_the_connection() -> None:
    broker = HandBroker(mqtt5.ConnAckPacket(server_keep_alive=1))
    await broker.listen()
    async with await connect(broker.url, client_id="c", keep_alive_s=600) as connection:
        for number in range(1, 4):
            await broker.until(mqtt5.PingReqPacket, number)
            broker.send(mqtt5.PingRespPacket().write())
        assert connection.lost is None
    await broker.close()


async def test_reading_that_we_paused_ourselves_is_no_silence(broker: HandBroker) -> None:
    async with await connect(broker.url, client_id="c", keep_alive_s=1, receive_maximum=1) as connection:
        await broker.until(mqtt5.PingReqPacket)
        broker.send(message(1), message(2))
        await broker.until(mqtt5.PingReqPacket, 5)
        assert connection.lost is None
        connection.ack(await connection.receive(2))


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (mqtt5.ConnAckReasonCode.NOT_AUTHORIZED, Refused),
        (mqtt5.ConnAckReasonCode.UNSUPPORTED_PROTOCOL_VERSION, Refused),
        (mqtt5.ConnAckReasonCode.SERVER_BUSY, Busy),
    ],
)
async def test_a_refused_connection_says_who_must_act(reason: mqtt5.ConnAckReasonCode, error: type[Exception]) -> None:
    broker = HandBroker(mqtt5.ConnAckPacket(reason_code=reason))
    await broker.listen()
    with pytest.raises(error, match=reason.name):
        await connect(broker.url, client_id="c")
    await broker.close()


@pytest.mark.parametrize(
    ("reason", "mend"),
    [
        (mqtt5.ConnAckReasonCode.NOT_AUTHORIZED, "check SPINELOOP_MQTT_USERNAME and SPINELOOP_MQTT_PASSWORD$"),
        (mqtt5.ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD, "check SPINELOOP_MQTT_USERNAME and "),
        (mqtt5.ConnAckReasonCode.CLIENT_ID_NOT_VALID, "check SPINELOOP_INGEST_CLIENT_ID, "),
    ],
)
async def test_who_is_not_let_in_is_told_which_settings_to_check(reason: mqtt5.ConnAckReasonCode, mend: str) -> None:
    broker = HandBroker(mqtt5.ConnAckPacket(reason_code=reason))
    await broker.listen()
    with pytest.raises(Refused, match=f"^CONNECT refused: {reason.name}; {mend}"):
        await connect(broker.url, client_id="c")
    await broker.close()


async def test_a_broker_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = HandBroker(connack=None)
    await broker.listen()
    monkeypatch.setattr(mqtt_client, "CONNACK_LIMIT_S", 0.1)
    with pytest.raises(ConnectionLost, match="no answer"):
        await connect(broker.url, client_id="c")
    await broker.close()


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (mqtt5.PubAckReasonCode.NOT_AUTHORIZED, Refused),
        (mqtt5.PubAckReasonCode.QUOTA_EXCEEDED, Busy),
    ],
)
async def test_a_refused_publish_says_who_must_act(
    broker: HandBroker, connection: Connection, reason: mqtt5.PubAckReasonCode, error: type[Exception]
) -> None:
    publishing = asyncio.create_task(connection.publish("t", b"1"))
    (packet,) = await broker.until(mqtt5.PublishPacket)
    assert packet.packet_id is not None
    broker.send(puback(packet.packet_id, reason))
    with pytest.raises(error, match=reason.name):
        await publishing


async def test_a_refused_filter_is_named(broker: HandBroker, connection: Connection) -> None:
    subscribing = asyncio.create_task(connection.subscribe(["mine", "yours"]))
    (packet,) = await broker.until(mqtt5.SubscribePacket)
    granted, refused = mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE, mqtt5.SubAckReasonCode.NOT_AUTHORIZED
    broker.send(mqtt5.SubAckPacket(packet.packet_id, [granted, refused]).write())
    with pytest.raises(Refused, match="yours") as refusal:
        await subscribing
    assert refusal.value.reason == "NOT_AUTHORIZED"


async def test_a_subscription_that_is_not_answered_ends_the_connection(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_connection, "SUBACK_LIMIT_S", 0.1)
    with pytest.raises(ConnectionLost, match="SUBACK"):
        await connection.subscribe(["t"])


async def test_a_cancelled_subscription_keeps_its_id_until_it_is_answered(
    broker: HandBroker, connection: Connection
) -> None:
    subscribing = asyncio.create_task(connection.subscribe(["t"]))
    (packet,) = await broker.until(mqtt5.SubscribePacket)
    subscribing.cancel()
    publishing = asyncio.create_task(connection.publish("t", b"1"))
    (other,) = await broker.until(mqtt5.PublishPacket)
    assert other.packet_id not in {packet.packet_id, None}
    broker.send(mqtt5.SubAckPacket(packet.packet_id, [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]).write())
    broker.send(puback(other.packet_id or 0))
    assert await publishing


async def test_a_publish_beyond_the_window_waits_for_an_answer(broker: HandBroker, connection: Connection) -> None:
    publishing = [asyncio.create_task(connection.publish("t", str(number).encode())) for number in range(3)]
    sent = await broker.until(mqtt5.PublishPacket, 2)
    await asyncio.sleep(0)
    assert [packet.payload for packet in sent] == [b"0", b"1"]
    broker.send(puback(sent[0].packet_id or 0))
    sent = await broker.until(mqtt5.PublishPacket, 3)
    assert sent[2].payload == b"2"
    broker.send(puback(sent[1].packet_id or 0), puback(sent[2].packet_id or 0))
    assert await asyncio.gather(*publishing) == [True] * 3


async def test_a_cancelled_publish_keeps_its_place_until_it_is_answered(
    broker: HandBroker, connection: Connection
) -> None:
    given_up = [asyncio.create_task(connection.publish("t", b"given up")) for _ in range(2)]
    sent = await broker.until(mqtt5.PublishPacket, 2)
    for publishing in given_up:
        publishing.cancel()
    waiting = asyncio.create_task(connection.publish("t", b"waits"))
    await asyncio.sleep(0)
    assert len(broker.of(mqtt5.PublishPacket)) == 2
    broker.send(*(puback(packet.packet_id or 0) for packet in sent))
    third = (await broker.until(mqtt5.PublishPacket, 3))[2]
    broker.send(puback(third.packet_id or 0))
    assert await waiting


async def test_everybody_who_waits_for_the_window_hears_that_the_connection_is_gone(
    broker: HandBroker, connection: Connection
) -> None:
    publishing = [asyncio.create_task(connection.publish("t", b"1")) for _ in range(100)]
    await broker.until(mqtt5.PublishPacket, 2)
    connection.abort()
    results = await asyncio.wait_for(asyncio.gather(*publishing, return_exceptions=True), DEADLINE_S)
    assert {type(result) for result in results} == {ConnectionLost}


async def test_who_writes_to_a_broker_that_does_not_read_waits_and_then_hears_that_it_is_gone() -> None:
    broker = HandBroker(mqtt5.ConnAckPacket())
    await broker.listen()
    connection = await connect(broker.url, client_id="c")
    broker._writer.transport.pause_reading()  # type: ignore[attr-defined]  # noqa: SLF001
    publishing = [asyncio.create_task(connection.publish("t", bytes(200_000))) for _ in range(200)]
    await asyncio.sleep(0.1)
    assert connection._link._transport.get_write_buffer_size() < 2_000_000  # noqa: SLF001
    connection.abort()
    results = await asyncio.wait_for(asyncio.gather(*publishing, return_exceptions=True), DEADLINE_S)
    assert {type(result) for result in results} == {ConnectionLost}
    await broker.close()


async def test_an_answer_to_nothing_we_sent_is_nobodys_loss(broker: HandBroker, connection: Connection) -> None:
    broker.send(puback(999), message(1))
    assert len(await connection.receive(1)) == 1


async def test_a_packet_that_the_broker_does_not_take_never_leaves() -> None:
    broker = HandBroker(mqtt5.ConnAckPacket(max_packet_size=1_000))
    await broker.listen()
    async with await connect(broker.url, client_id="c") as connection:
        with pytest.raises(Refused, match="1000"):
            await connection.publish("t", bytes(1_000))
        assert connection.lost is None
    await broker.close()


async def test_a_goodbye_to_a_broker_that_does_not_hang_up_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = HandBroker(mqtt5.ConnAckPacket())
    await broker.listen()
    connection = await connect(broker.url, client_id="c")
    broker._writer.transport.pause_reading()  # type: ignore[attr-defined]  # noqa: SLF001
    monkeypatch.setattr("adaptors.mqtt_link.CLOSE_LIMIT_S", 0.1)
    await connection.close()
    with pytest.raises(ConnectionLost, match="closed by us"):
        connection.ack([])
    await broker.close()


async def test_an_id_comes_round_again_only_when_it_is_free() -> None:
    outbox = Outbox(window=MAX_PACKET_ID)
    for _ in range(MAX_PACKET_ID - 1):
        outbox.publish(outbox.free_id())
    outbox.hear_puback(mqtt5.PubAckPacket(1_000))
    assert {outbox.free_id(), outbox.free_id()} == {MAX_PACKET_ID, 1_000}


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "127.0.0.1:1883", "mqtt://"])
async def test_what_is_not_a_brokers_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="mqtt://host:port"):
        await connect(url, client_id="c")


@pytest.mark.parametrize("client_id", ["acme/north/m1", "+", "a#", "$SYS"])
async def test_a_client_id_that_iotcore_would_not_survive_never_leaves(client_id: str) -> None:
    with pytest.raises(ValueError, match="not a client id"):
        await connect("mqtt://127.0.0.1:1", client_id=client_id)
