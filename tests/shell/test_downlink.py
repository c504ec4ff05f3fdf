"""The downlink, between records of the command topic and machines on a real mosquitto."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import mqtt5
import pytest
import pytest_asyncio

from adaptors import downlink
from adaptors.delivery import Delivery, Pace
from adaptors.downlink import Downlink, Sender
from adaptors.mqtt_client import connect
from adaptors.mqtt_connection import Connection, Refused
from adaptors.mqtt_inbox import Heard
from adaptors.sqlite_log import open_sqlite_log
from loadtest.native import mosquitto
from streams.core import codec
from streams.core.commands import Action, Command
from streams.core.dead_letters import reason_of
from streams.core.errors import Busy
from streams.core.outputs import repeated, to_records
from streams.core.records import NewRecord, Record, header
from streams.core.topics import COMMAND, DEAD_LETTER, mqtt_topic
from tests.shell.counts import Counts
from tests.shell.hand_broker import DEADLINE_S, HandBroker, until

pytestmark = pytest.mark.broker

NOT_AUTHORIZED, QUOTA_EXCEEDED = mqtt5.PubAckReasonCode.NOT_AUTHORIZED, mqtt5.PubAckReasonCode.QUOTA_EXCEEDED
NOW_MS = 1_700_000_000_000
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

tenants = (f"tenant{number}" for number in count())


class HandClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.t_ms = NOW_MS

    def now_ms(self) -> int:
        return self.t_ms


class HandLog:
    """Keeps dead letters; refuses while `busy`."""

    def __init__(self) -> None:
        self.letters: list[NewRecord] = []
        self.busy = False

    async def append(self, records: Sequence[NewRecord]) -> None:
        if self.busy:
            raise Busy("disk full")
        self.letters += records


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mosquitto_url() -> AsyncIterator[str]:
    async with mosquitto() as server:
        yield server.url


class Fleet:
    """A tenant of its own on a broker that outlives the test: its downlink, and one ear for all its machines."""

    def __init__(self, url: str) -> None:
        self.url, self.tenant = url, next(tenants)
        self.clock, self.log, self.meters = HandClock(), HandLog(), Counts()
        self.sender = Sender(self.connect, self.meters, now_ms=self.clock.now_ms)
        self.downlink = Downlink(self.sender, self.log, self.meters)
        self._offset = count()

    async def connect(self, role: str = "downlink") -> Connection:
        return await connect(self.url, client_id=f"{self.tenant}-{role}", session_expiry_s=3_600)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Connection]:
        async with await self.connect("machines") as ear:
            await ear.subscribe([f"spineloop/v1/{self.tenant}/+/+/command"])
            yield ear
        await self.sender.close()

    def command(self, number: int, action: Action = "cue", machine: str = "m1") -> Command:
        key = f"{self.tenant}/north/{machine}"
        return Command(
            command_id=f"{key}/b1/{number}/rule",
            machine=key,
            boot_id="b1",
            sequence=number,
            action=action,
            rule="rule",
            cause=f"{key}/b1/{number}",
            evidence=(),
            policy="p",
            issued_ms=NOW_MS,
            expires_ms=NOW_MS + 30_000,
        )

    def record(self, command: Command, *, attempt: int = 0) -> Record:
        (first,) = to_records(command, NOW_MS, (("traceparent", TRACE.encode()),))
        return self.stored(repeated(command, attempt, NOW_MS) if attempt else first)

    def stored(self, new: NewRecord) -> Record:
        return Record(new.topic, 0, next(self._offset), new.key, new.value, new.timestamp_ms, new.headers)

    async def deliver(self, *commands: Command) -> None:
        await self.downlink.deliver([self.record(command) for command in commands])

    def sent(self) -> int:
        return self.meters.totals["spineloop_commands_sent_total"]


@pytest.fixture
def fleet(mosquitto_url: str) -> Fleet:
    return Fleet(mosquitto_url)


async def heard(ear: Connection, number: int) -> list[Heard]:
    messages: list[Heard] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(messages) < number:
            batch = await ear.receive(100)
            ear.ack(batch)
            messages += batch
    return messages


def sequences(messages: Sequence[Heard | mqtt5.PublishPacket]) -> list[int]:
    return [codec.decode_command(message.payload).sequence for message in messages]


async def test_a_command_reaches_its_machine_in_words_that_a_simple_device_understands(fleet: Fleet) -> None:
    command = fleet.command(7)
    fleet.clock.t_ms += 10_500
    async with fleet.listening() as ear:
        await fleet.deliver(command)
        (message,) = await heard(ear, 1)
    assert message.topic == mqtt_topic(command.machine, "command")
    assert message.payload == codec.encode(command, "json")
    assert message.content_type == "application/json"
    assert message.response_topic == mqtt_topic(command.machine, "ack")
    assert message.correlation_data == command.command_id.encode()
    assert message.message_expiry_interval == 19  # what is left of 30 s
    assert message.user_properties == [("traceparent", TRACE)]
    assert message.packet_id is not None  # it is to be acknowledged: QoS 1
    assert fleet.sent() == 1


async def test_a_command_past_its_expiry_is_not_sent_and_is_counted_but_stop_is_sent_all_the_same(
    fleet: Fleet,
) -> None:
    fleet.clock.t_ms += 30_000
    async with fleet.listening() as ear:
        await fleet.deliver(fleet.command(1), fleet.command(2, "stop"), fleet.command(3))
        (message,) = await heard(ear, 1)
    assert (sequences([message]), message.message_expiry_interval) == ([2], None)
    assert fleet.meters.totals["spineloop_commands_expired_total"] == 2


async def test_not_even_stop_is_sent_that_is_read_again_long_after(fleet: Fleet) -> None:
    async with fleet.listening() as ear:
        fleet.clock.t_ms += downlink.MAX_STOP_AGE_MS
        await fleet.deliver(fleet.command(1, "stop"))
        fleet.clock.t_ms += 1
        await fleet.deliver(fleet.command(2, "stop"))
        (message,) = await heard(ear, 1)
    assert sequences([message]) == [1]
    assert fleet.meters.totals["spineloop_commands_expired_total"] == 1


async def test_a_command_in_its_last_second_still_has_a_second(fleet: Fleet) -> None:
    fleet.clock.t_ms += 29_999
    async with fleet.listening() as ear:
        await fleet.deliver(fleet.command(1))
        assert [message.message_expiry_interval for message in await heard(ear, 1)] == [1]


async def test_what_was_sent_is_not_sent_again_unless_it_is_a_new_attempt(fleet: Fleet) -> None:
    first, again = fleet.command(1), fleet.command(2)
    async with fleet.listening() as ear:
        await fleet.downlink.deliver([fleet.record(first), fleet.record(first)])
        await fleet.downlink.deliver([fleet.record(first), fleet.record(first, attempt=1), fleet.record(again)])
        assert sequences(await heard(ear, 3)) == [1, 1, 2]
    assert fleet.sent() == 3


async def test_of_what_was_sent_the_newest_are_remembered(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downlink, "MAX_SEEN", 2)
    async with fleet.listening() as ear:
        for number in (1, 2, 3):
            await fleet.deliver(fleet.command(number))
        await fleet.deliver(*(fleet.command(number) for number in (1, 2, 3)))  # 1 goes out, and 2 is forgotten for it
        assert sequences(await heard(ear, 5))[:4] == [1, 2, 3, 1]


async def test_stop_goes_first_and_each_machine_keeps_its_order(fleet: Fleet) -> None:
    batch = [fleet.command(number, machine=f"m{number % 5}") for number in range(100)]
    stops = [fleet.command(100, "stop", machine="m3"), fleet.command(101, "stop", machine="m9")]
    async with fleet.listening() as ear:
        await fleet.deliver(*batch, *stops)
        messages = await heard(ear, 102)
    assert sequences(messages)[:2] == [100, 101]
    for machine in range(5):
        own = [message for message in messages[2:] if message.topic.endswith(f"/m{machine}/command")]
        assert sequences(own) == list(range(machine, 100, 5))


async def test_a_request_for_messages_waits_until_what_moves_something_is_sent(fleet: Fleet) -> None:
    async with fleet.listening() as ear:
        await fleet.deliver(fleet.command(1, "resend"), fleet.command(2, "lower_load"), fleet.command(3, "stop"))
        assert sequences(await heard(ear, 3)) == [3, 2, 1]


async def test_it_returns_only_when_the_broker_has_every_command() -> None:
    broker = HandBroker(mqtt5.ConnAckPacket())
    await broker.listen()
    fleet = Fleet(broker.url)
    delivering = asyncio.create_task(fleet.deliver(fleet.command(1, machine="m1"), fleet.command(2, machine="m2")))
    first, second = await broker.until(mqtt5.PublishPacket, 2)
    broker.send(mqtt5.PubAckPacket(second.packet_id or 0).write())
    await until(lambda: fleet.sent() == 1)
    assert not delivering.done()
    broker.send(mqtt5.PubAckPacket(first.packet_id or 0).write())
    await asyncio.wait_for(delivering, DEADLINE_S)
    await fleet.sender.close()
    await broker.close()


async def test_after_a_lost_connection_only_what_the_broker_did_not_confirm_is_sent_again() -> None:
    broker = HandBroker(mqtt5.ConnAckPacket())
    await broker.listen()
    fleet = Fleet(broker.url)
    batch = [fleet.record(fleet.command(number, machine=f"m{number}")) for number in (1, 2)]
    delivering = asyncio.create_task(fleet.downlink.deliver(batch))
    first, _ = await broker.until(mqtt5.PublishPacket, 2)
    broker.send(mqtt5.PubAckPacket(first.packet_id or 0).write(), mqtt5.DisconnectPacket().write())
    with pytest.raises(Busy):
        await delivering
    broker.heard.clear()
    delivering = asyncio.create_task(fleet.downlink.deliver(batch))
    (again,) = await broker.until(mqtt5.PublishPacket)
    assert sequences([again]) == [2]
    broker.send(mqtt5.PubAckPacket(again.packet_id or 0).write())
    await asyncio.wait_for(delivering, DEADLINE_S)
    await fleet.sender.close()
    await broker.close()


async def test_a_command_that_the_broker_refuses_is_put_aside_and_the_others_are_sent() -> None:
    broker = HandBroker(mqtt5.ConnAckPacket())
    await broker.listen()
    fleet = Fleet(broker.url)
    batch = [fleet.record(fleet.command(number, machine=machine)) for number, machine in ((1, "m1"), (2, "m2"))]
    then = fleet.record(fleet.command(3, machine="m1"))
    delivering = asyncio.create_task(fleet.downlink.deliver([*batch, then]))
    first, second = await broker.until(mqtt5.PublishPacket, 2)
    broker.send(mqtt5.PubAckPacket(first.packet_id or 0, reason_code=NOT_AUTHORIZED).write())
    broker.send(mqtt5.PubAckPacket(second.packet_id or 0).write())
    *_, third = await broker.until(mqtt5.PublishPacket, 3)
    broker.send(mqtt5.PubAckPacket(third.packet_id or 0).write())
    await asyncio.wait_for(delivering, DEADLINE_S)
    assert sequences([first, second, third]) == [1, 2, 3]
    assert [(letter.value, reason_of(letter)) for letter in fleet.log.letters] == [(batch[0].value, "refused")]
    assert "NOT_AUTHORIZED" in (header(fleet.log.letters[0], "__connect.errors.exception.message") or "")
    assert (fleet.sent(), fleet.meters.totals["spineloop_dead_letters_total"]) == (2, 1)
    await fleet.sender.close()
    await broker.close()


async def test_a_command_that_is_refused_is_put_aside_once_however_often_the_others_have_to_wait() -> None:
    broker = HandBroker(mqtt5.ConnAckPacket())
    await broker.listen()
    fleet = Fleet(broker.url)
    batch = [fleet.record(fleet.command(number, machine=f"m{number}")) for number in (1, 2)]
    delivering = asyncio.create_task(fleet.downlink.deliver(batch))
    first, second = await broker.until(mqtt5.PublishPacket, 2)
    broker.send(mqtt5.PubAckPacket(first.packet_id or 0, reason_code=NOT_AUTHORIZED).write())
    broker.send(mqtt5.PubAckPacket(second.packet_id or 0, reason_code=QUOTA_EXCEEDED).write())
    with pytest.raises(Busy):
        await asyncio.wait_for(delivering, DEADLINE_S)
    assert fleet.log.letters == []
    delivering = asyncio.create_task(fleet.downlink.deliver(batch))
    *_, again, later = await broker.until(mqtt5.PublishPacket, 4)
    broker.send(mqtt5.PubAckPacket(again.packet_id or 0, reason_code=NOT_AUTHORIZED).write())
    broker.send(mqtt5.PubAckPacket(later.packet_id or 0).write())
    await asyncio.wait_for(delivering, DEADLINE_S)
    assert ([letter.value for letter in fleet.log.letters], fleet.sent()) == ([batch[0].value], 1)
    await fleet.sender.close()
    await broker.close()


async def test_a_broker_that_does_not_let_us_in_ends_the_downlink() -> None:
    broker = HandBroker(mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.NOT_AUTHORIZED))
    await broker.listen()
    fleet = Fleet(broker.url)
    with pytest.raises(Refused, match="CONNECT"):
        await fleet.deliver(fleet.command(1))
    assert fleet.log.letters == []
    await fleet.sender.close()
    await broker.close()


async def test_while_the_broker_is_away_it_is_busy() -> None:
    fleet = Fleet("mqtt://127.0.0.1:1")
    with pytest.raises(Busy):
        await fleet.deliver(fleet.command(1))
    await fleet.sender.close()


async def test_what_is_not_a_command_is_put_aside_before_the_others_are_sent(fleet: Fleet) -> None:
    nonsense = fleet.stored(NewRecord(COMMAND, b"acme/north/m1", b"?", NOW_MS))
    tombstone = fleet.stored(NewRecord(COMMAND, b"acme/north/m1", None, NOW_MS))
    batch = [nonsense, fleet.record(fleet.command(1)), tombstone]
    async with fleet.listening() as ear:
        fleet.log.busy = True
        with pytest.raises(Busy):
            await fleet.downlink.deliver(batch)
        assert fleet.sent() == 0
        fleet.log.busy = False
        await fleet.downlink.deliver(batch)
        assert sequences(await heard(ear, 1)) == [1]
    assert [(letter.topic, letter.value) for letter in fleet.log.letters] == [(DEAD_LETTER, b"?"), (DEAD_LETTER, None)]
    assert header(fleet.log.letters[0], "__connect.errors.stage") == "downlink"


async def test_what_is_not_a_command_is_put_aside_once_however_long_the_broker_is_away() -> None:
    fleet = Fleet("mqtt://127.0.0.1:1")
    nonsense = fleet.stored(NewRecord(COMMAND, b"acme/north/m1", b"?", NOW_MS))
    for _ in range(5):
        with pytest.raises(Busy):
            await fleet.downlink.deliver([nonsense, fleet.record(fleet.command(1))])
    assert [letter.value for letter in fleet.log.letters] == [b"?"]
    await fleet.sender.close()


async def test_a_delivery_moves_on_when_the_commands_are_sent_and_not_while_the_broker_is_away(
    tmp_path: Path,
) -> None:
    pace = Pace(linger_s=0.0, first_retry_s=0.01, longest_retry_s=0.05)
    async with mosquitto() as server, open_sqlite_log(tmp_path / "log.db", partitions=1) as log:
        fleet, stop = Fleet(server.url), asyncio.Event()
        delivery = Delivery(
            log,
            COMMAND,
            "downlink",
            fleet.downlink.deliver,
            pace=pace,
            dice=lambda: 0.0,
            meters=fleet.meters,
        )
        running = asyncio.create_task(delivery.run(stop))
        async with fleet.listening() as ear:
            await log.append(to_records(fleet.command(1), NOW_MS))
            assert sequences(await heard(ear, 1)) == [1]
            await until(lambda: delivery.positions == {0: 1})
        await server.process.kill()
        await log.append(to_records(fleet.command(2, "stop"), NOW_MS))
        await until(lambda: fleet.meters.totals["spineloop_busy_total"] > 2)
        assert delivery.positions == {0: 1}
        await server.process.restart()
        await until(lambda: delivery.positions == {0: 2})
        stop.set()
        await running
        await fleet.sender.close()
