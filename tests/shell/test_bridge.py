"""The bridge, between a real mosquitto and a log in memory that can be held up, refuse, or kill the process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count

import msgspec
import pytest
import pytest_asyncio

from adaptors.embedded_broker import embedded_broker
from adaptors.mqtt_client import connect
from adaptors.mqtt_connection import Connection, Refused
from adaptors.mqtt_inbox import Heard
from adaptors.mqtt_link import BROKER_MAX_PACKET_BYTES
from ingest import arrival, bridge
from ingest.bridge import Bridge, BridgeSettings, site_filter, site_filters
from loadtest.native import Server, free_port, mosquitto
from streams.core import codec
from streams.core.codec import Encoding
from streams.core.errors import BrokenPromise, Busy, Malformed
from streams.core.limits import MAX_MESSAGE_BYTES
from streams.core.records import NewRecord, header
from streams.core.telemetry import Heartbeat, Rep, SessionStarted
from streams.core.topics import DEAD_LETTER, TELEMETRY, mqtt_topic, parse_mqtt
from tests.core.story import Machine
from tests.shell.counts import Counts
from tests.shell.raw_machine import say_all, sized

pytestmark = pytest.mark.broker

DEADLINE_S = 120.0
NOW_MS = 1_700_000_000_123
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

tenants = (f"tenant{number}" for number in count())


class Killed(Exception):
    """What a kill -9 looks like from inside."""


class HandLog:
    """Records in memory; an append waits for `gate`, is refused while `busy`, and may be the last thing to happen."""

    def __init__(self) -> None:
        self.records: list[NewRecord] = []
        self.appends = 0
        self.busy = 0
        self.kill_after: int | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self._is_appending = False

    async def append(self, records: Sequence[NewRecord]) -> None:
        assert records
        assert not self._is_appending, "two appends at once could change places"
        self._is_appending = True
        self.appends += 1
        try:
            await asyncio.sleep(0)
            if self.busy > 0:
                self.busy -= 1
                raise Busy("disk full")
            await self.gate.wait()
            self.records += records
            if self.kill_after == self.appends:
                raise Killed
        finally:
            self._is_appending = False

    def values(self, topic: str = TELEMETRY) -> list[bytes | None]:
        return [record.value for record in self.records if record.topic == topic]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mosquitto_url() -> AsyncIterator[str]:
    async with mosquitto() as server:
        yield server.url


@pytest.fixture
def url(mosquitto_url: str) -> str:
    return mosquitto_url


class Clinic:
    """A tenant of its own on a broker that outlives the test: its bridge, its log, its machine."""

    def __init__(self, url: str) -> None:
        self.url, self.tenant = url, next(tenants)
        self.machine = f"{self.tenant}/north/m1"
        self.log, self.meters = HandLog(), Counts()
        self.window = 2_000
        self.when_connected: Callable[[], Awaitable[None]] | None = None
        self.settings = BridgeSettings(filters=(site_filter(self.tenant),), first_retry_s=0.01, longest_retry_s=0.05)

    async def connect(self, role: str = "bridge") -> Connection:
        name = f"{self.tenant}-{role}"
        return await connect(self.url, client_id=name, session_expiry_s=3_600, receive_maximum=self.window)

    def bridge(self, **settings: object) -> Bridge[Heard]:
        chosen = msgspec.structs.replace(self.settings, **settings)
        return Bridge(self._join, self.log, self.meters, now_ms=lambda: NOW_MS, settings=chosen)

    async def _join(self) -> Connection:
        connection = await self.connect()
        if self.when_connected is not None:
            await self.when_connected()
        return connection

    @asynccontextmanager
    async def carrying(self, **settings: object) -> AsyncIterator[Bridge[Heard]]:
        """Run a bridge; at the end of the block it is asked to stop, and does."""
        one, stop = self.bridge(**settings), asyncio.Event()
        running = asyncio.create_task(one.run(stop))
        try:
            await until(lambda: one.ready or running.done())
            yield one
        finally:
            stop.set()
            await asyncio.wait_for(running, DEADLINE_S)

    async def publish(self, *messages: tuple[str, bytes], **properties: object) -> None:
        """Publish, one after the other, on topics or on streams of the clinic's machine."""
        async with await self.connect("machine") as machine:
            for where, payload in messages:
                topic = where if "/" in where else f"spineloop/v1/{self.machine}/{where}"
                await machine.publish(topic, payload, **properties)  # type: ignore[arg-type]

    async def left(self, at_least: int = 0) -> int:
        """Count the messages that the broker still has for the bridge, which must not be running."""
        async with await self.connect() as again:
            assert again.session_present
            await until(lambda: again.held >= at_least)
            await asyncio.sleep(0.3)  # time enough for one that should not be there
            return again.held


@pytest.fixture
async def clinic(url: str) -> Clinic:
    """Make a clinic whose bridge has been there once, so that the broker keeps messages for it."""
    one = Clinic(url)
    async with one.carrying():
        pass
    return one


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


def beats(number: int, encoding: Encoding = "msgpack") -> list[tuple[str, bytes]]:
    """Heartbeats, the smallest messages with a place in their boot."""
    return [("event", codec.encode(Heartbeat(boot_id="b1", seq=seq, t_us=seq), encoding)) for seq in range(number)]


def sequence(values: Sequence[bytes | None]) -> list[int]:
    return [int(codec.decode_telemetry("a/b/c", value or b"").seq) for value in values]  # type: ignore[union-attr]


async def test_a_message_becomes_a_record_with_the_same_bytes_and_says_where_it_comes_from(clinic: Clinic) -> None:
    rep = Machine().rep(1)
    async with clinic.carrying():
        await clinic.publish(("rep", codec.encode(rep)), user_properties=[("traceparent", TRACE)])
        await clinic.publish(("rep", codec.encode(rep, "json")), user_properties=[("traceparent", "nonsense")])
        await until(lambda: len(clinic.log.records) == 2)
    packed, text = clinic.log.records
    assert (packed.topic, packed.key, packed.timestamp_ms) == (TELEMETRY, clinic.machine.encode(), NOW_MS)
    assert (packed.value, text.value) == (codec.encode(rep), codec.encode(rep, "json"))
    assert dict(packed.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": f"{clinic.machine}/b1/0".encode(),
        "ce_type": b"spineloop.rep.v1",
        "ce_source": f"/{clinic.machine}".encode(),
        "ce_time": b"2023-11-14T22:13:20.123Z",
        "content-type": b"application/msgpack",
        "traceparent": TRACE.encode(),
    }
    assert (header(text, "content-type"), header(text, "traceparent")) == ("application/json", None)
    assert clinic.meters.totals["spineloop_ingest_messages_total"] == 2


async def test_nothing_is_acknowledged_before_the_log_has_it(clinic: Clinic) -> None:
    clinic.log.gate.clear()
    await clinic.publish(*beats(5))
    dying = asyncio.create_task(clinic.bridge().run(asyncio.Event()))
    await until(lambda: clinic.log.appends == 1)
    dying.cancel()
    await asyncio.wait({dying})
    assert await clinic.left(5) == 5
    clinic.log.gate.set()
    async with clinic.carrying():
        await until(lambda: len(clinic.log.records) == 5)
    assert await clinic.left() == 0


async def test_commands_that_expire_while_it_is_away_let_nothing_overtake_what_waits(url: str) -> None:
    clinic = Clinic(url)
    clinic.window = 10
    clinic.settings = msgspec.structs.replace(clinic.settings, filters=site_filters(clinic.tenant))
    async with clinic.carrying():
        pass
    said = beats(31)
    for _ in range(3):
        await clinic.publish(("command", b"not for us"), expiry_s=1)
    await clinic.publish(*said[:30])
    await asyncio.sleep(2.5)  # the broker counts whole seconds

    async def just_before_it_subscribes() -> None:
        await clinic.publish(said[30])

    clinic.when_connected = just_before_it_subscribes
    async with clinic.carrying():
        await until(lambda: len(clinic.log.records) == 31)
    assert sequence(clinic.log.values()) == list(range(31))


async def test_a_crash_between_append_and_ack_repeats_and_never_loses(clinic: Clinic) -> None:
    await clinic.publish(*beats(20))
    clinic.log.kill_after = clinic.log.appends + 1
    with pytest.raises(ExceptionGroup) as group:
        await clinic.bridge().run(asyncio.Event())
    assert group.value.subgroup(Killed)
    first = sequence(clinic.log.values())
    async with clinic.carrying():
        await until(lambda: len(clinic.log.records) >= len(first) + 20)
    assert first
    assert sequence(clinic.log.values()) == [*first, *range(20)]


async def test_order_is_kept_over_batches_refusals_and_restarts(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "MAX_BATCH", 7)
    monkeypatch.setattr(bridge, "LOG_PAUSE_S", 0.001)
    await clinic.publish(*beats(200))
    for refusals in (3, 0, 5):
        clinic.log.busy = refusals
        seen = len(clinic.log.records)
        async with clinic.carrying():
            await until(lambda seen=seen: len(clinic.log.records) >= min(200, seen + 50))  # type: ignore[misc]
    async with clinic.carrying():
        await until(lambda: len(clinic.log.records) == 200)
    assert sequence(clinic.log.values()) == list(range(200))  # every stop was graceful: nothing came twice
    assert clinic.meters.totals["spineloop_busy_total"] >= 3


async def test_while_the_log_is_busy_nothing_is_acknowledged_and_later_everything_is_there(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "LOG_PAUSE_S", 0.001)
    clinic.log.busy = 1_000_000
    async with clinic.carrying():
        await clinic.publish(*beats(50))
        await until(lambda: clinic.log.appends > 20)
        assert clinic.log.records == []
    assert await clinic.left(50) == 50  # and a stop does not wait for the log
    clinic.log.busy = 0
    async with clinic.carrying():
        await until(lambda: len(clinic.log.records) == 50)
    assert await clinic.left() == 0


async def test_a_message_is_counted_once_it_is_durable_and_acknowledged_however_often_it_came(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "LOG_PAUSE_S", 0.001)
    clinic.log.busy = 1_000_000
    async with clinic.carrying():
        await clinic.publish(*beats(3), ("event", b"nonsense"))
        await until(lambda: clinic.log.appends > 20)
    counted = clinic.meters.totals
    assert (counted["spineloop_ingest_messages_total"], counted["spineloop_dead_letters_total"]) == (0, 0)
    clinic.log.busy = 0
    async with clinic.carrying():
        await until(lambda: len(clinic.log.records) == 4)
    assert (counted["spineloop_ingest_messages_total"], counted["spineloop_dead_letters_total"]) == (3, 1)


def _foreign_patient() -> bytes:
    started = SessionStarted(
        boot_id="b1", seq=1, t_us=1, session="s1", patient="elsewhere/p1", exercise="leg_press", settings="h1"
    )
    return codec.encode(started)


BAD: list[tuple[str, str, bytes]] = [
    ("bad_topic", "spineloop/v1/{tenant}/NORTH/m1/event", beats(1)[0][1]),
    ("bad_topic", "spineloop/v1/{tenant}/north/m1/chat", beats(1)[0][1]),
    ("not_a_message", "event", b""),
    ("not_a_message", "event", b"\xc1"),
    ("not_a_message", "event", b'{"type":"heartbeat","boot_id":"b1","seq":1,"t_us":1'),
    ("not_a_message", "event", b'{"type":"heartbeat","boot_id":"\xff","seq":1,"t_us":1}'),
    ("not_a_message", "event", b'{"a":' * 50_000),
    ("unknown_type", "event", b'{"type":"telepathy","boot_id":"b1","seq":1,"t_us":1}'),
    ("unknown_type", "rep", b'{"type":"heartbeat","boot_id":"b1","seq":1,"t_us":1}'),
    ("unknown_version", "event", b'{"type":"heartbeat","schema_version":9,"boot_id":"b1","seq":1,"t_us":1}'),
    ("bad_value", "event", b'{"type":"heartbeat","boot_id":"b1","seq":-1,"t_us":1}'),
    ("bad_samples", "rep", codec.encode(Machine().rep(1, samples=7))),
    ("foreign_machine", "event", codec.encode(Heartbeat(boot_id="b1", seq=1, t_us=1, machine="acme/north/other"))),
    ("foreign_patient", "event", _foreign_patient()),
]


@pytest.mark.parametrize(("reason", "where", "payload"), BAD)
async def test_what_can_not_be_understood_is_put_aside_unchanged_and_the_stream_goes_on(
    clinic: Clinic, reason: str, where: str, payload: bytes
) -> None:
    topic = where.format(tenant=clinic.tenant) if "/" in where else f"spineloop/v1/{clinic.machine}/{where}"
    before, after = beats(2)
    async with clinic.carrying():
        await clinic.publish(before, (topic, payload), after)
        await until(lambda: len(clinic.log.records) == 3)
    assert await clinic.left() == 0
    assert [record.topic for record in clinic.log.records] == [TELEMETRY, DEAD_LETTER, TELEMETRY]
    letter = clinic.log.records[1]
    assert letter.value == payload
    assert letter.key.decode() == (topic if reason == "bad_topic" else clinic.machine)
    assert header(letter, "mqtt_topic") == topic
    assert (header(letter, "__connect.errors.exception.message") or "").startswith(f"{reason}: ")
    assert clinic.meters.totals["spineloop_dead_letters_total"] == 1


async def test_what_is_in_hand_is_stored_though_the_broker_ends_when_we_do(clinic: Clinic) -> None:
    made = list[Connection]()

    async def join() -> Connection:
        made.append(await clinic.connect())
        return made[-1]

    clinic.log.gate.clear()
    stop = asyncio.Event()
    one = Bridge(join, clinic.log, clinic.meters, now_ms=lambda: NOW_MS, settings=clinic.settings)
    running = asyncio.create_task(one.run(stop))
    first, second = beats(2)
    await clinic.publish(first)
    await until(lambda: clinic.log.appends == 1)
    await clinic.publish(second)
    await until(lambda: made[-1].held == 2)
    await asyncio.sleep(0.1)  # it is translated, and waits for the first to be stored
    stop.set()
    made[-1].abort("the broker has ended")
    await asyncio.sleep(0.1)
    clinic.log.gate.set()
    await asyncio.wait_for(running, DEADLINE_S)
    assert sequence(clinic.log.values()) == [0, 1]


async def test_the_largest_packets_that_the_broker_takes_are_put_aside_and_stop_nothing(clinic: Clinic) -> None:
    topic, largest = f"spineloop/v1/{clinic.machine}/event", BROKER_MAX_PACKET_BYTES - 1
    clinic.window = 1  # one that the broker drops would take the only place in it for good
    before, after = beats(2)
    async with clinic.carrying():
        await clinic.publish(before)
        packets = [sized(topic, number, largest - number % 2) for number in range(1, 5)]
        await say_all(clinic.url, f"{clinic.tenant}-raw", packets)
        await clinic.publish(after)
        await until(lambda: len(clinic.log.records) == 6)
    letters = clinic.log.records[1:-1]
    assert sequence(clinic.log.values()) == [0, 1]
    assert {(header(one, "__connect.errors.exception.message") or "")[:11] for one in letters} == {"too_large: "}


def test_the_two_reasons_that_our_own_clients_can_not_bring_about_are_told_too() -> None:
    topic = mqtt_topic("acme/north/m1", "rep")
    huge = Heard(topic=topic, payload=bytes(MAX_MESSAGE_BYTES + 1))
    with pytest.raises(Malformed) as too_large:
        arrival.to_record(parse_mqtt(topic), huge, NOW_MS)
    down = Heard(topic=mqtt_topic("acme/north/m1", "command"), payload=b"{}")
    with pytest.raises(Malformed) as wrong_stream:
        arrival.to_record(parse_mqtt(down.topic), down, NOW_MS)
    assert (too_large.value.reason, wrong_stream.value.reason) == ("too_large", "wrong_stream")
    assert arrival.to_dead_letter(huge, too_large.value, NOW_MS).value == huge.payload


async def test_a_command_on_its_way_down_is_none_of_our_business(clinic: Clinic) -> None:
    async with clinic.carrying():
        await clinic.publish(("command", b"{}"), *beats(1))
        await until(lambda: len(clinic.log.records) == 1)
    assert sequence(clinic.log.values()) == [0]
    assert await clinic.left() == 0
    assert clinic.meters.totals["spineloop_ingest_messages_total"] == 2


async def test_one_machine_alone_can_not_end_the_bridge_for_the_others(clinic: Clinic) -> None:
    async with clinic.carrying(dead_letters_in_a_row=10, dead_letters_of_one=4):
        await clinic.publish(*[("event", b"?")] * 40, *beats(1))
        await until(lambda: len(clinic.log.records) == 41)


async def test_what_an_old_subscription_still_brings_of_another_tenant_is_a_dead_letter(clinic: Clinic) -> None:
    async with clinic.carrying():
        await clinic.publish(*beats(1))
        await until(lambda: len(clinic.log.records) == 1)
    # The same session, which the broker keeps with its subscription, and now for another site alone.
    async with clinic.carrying(filters=(site_filter(clinic.tenant, "south"),)):
        await clinic.publish(*beats(1))
        await until(lambda: len(clinic.log.records) == 2)
    assert [record.topic for record in clinic.log.records] == [TELEMETRY, DEAD_LETTER]
    assert (header(clinic.log.records[1], "__connect.errors.exception.message") or "").startswith("not_served: ")


async def test_too_many_dead_letters_in_a_row_stop_the_process_and_a_restart_gets_further(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "MAX_BATCH", 5)
    await clinic.publish(*[("event", b"?")] * 30, *beats(1))
    starts = 0
    async with asyncio.timeout(DEADLINE_S):
        while TELEMETRY not in {record.topic for record in clinic.log.records}:
            starts += 1
            one, stop = clinic.bridge(dead_letters_in_a_row=10), asyncio.Event()
            running = asyncio.create_task(one.run(stop))
            await until(lambda running=running: running.done() or bool(clinic.log.values()))  # type: ignore[misc]
            stop.set()
            if not clinic.log.values():
                with pytest.raises(ExceptionGroup) as group:
                    await running
                assert group.value.subgroup(BrokenPromise)
            await asyncio.wait({running})
    assert starts in range(2, 5)
    assert len(clinic.log.values(DEAD_LETTER)) == 30
    assert await clinic.left() == 0


async def test_good_messages_between_bad_ones_keep_it_going(clinic: Clinic) -> None:
    async with clinic.carrying(dead_letters_in_a_row=3):
        for beat in beats(5):
            await clinic.publish(*[("event", b"?")] * 3, beat)
        await until(lambda: len(clinic.log.records) == 20)


async def test_a_graceful_stop_finishes_the_batch_in_hand_and_keeps_the_session(clinic: Clinic) -> None:
    clinic.log.gate.clear()
    async with clinic.carrying() as one:
        await clinic.publish(*beats(10))
        await until(lambda: clinic.log.appends > 0)
        asyncio.get_running_loop().call_later(0.1, clinic.log.gate.set)
        assert one.ready
    assert not one.ready
    stored = len(clinic.log.records)
    assert await clinic.left(10 - stored) + stored == 10
    assert clinic.log.records


async def test_a_log_that_hangs_does_not_hold_up_the_end_for_long(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "FINISH_S", 0.1)
    clinic.log.gate.clear()
    async with clinic.carrying():
        await clinic.publish(*beats(3))
        await until(lambda: clinic.log.appends == 1)
    assert await clinic.left(3) == 3


async def test_a_broker_that_restarts_is_found_again_with_all_it_kept() -> None:
    async with mosquitto() as server:
        clinic = Clinic(server.url)
        async with clinic.carrying() as one:
            await clinic.publish(*beats(3))
            await until(lambda: len(clinic.log.records) == 3)
            await _restart(server, clinic, one)
            await clinic.publish(*beats(5)[3:])
            await until(lambda: len(clinic.log.records) == 5)
        assert sequence(clinic.log.values()) == list(range(5))
        assert clinic.meters.totals["spineloop_busy_total"] >= 1


async def _restart(server: Server, clinic: Clinic, one: Bridge[Heard]) -> None:
    await server.process.stop()
    await until(lambda: not one.ready and clinic.meters.totals["spineloop_busy_total"] > 1)
    await server.process.restart()
    await until(lambda: one.ready)


async def test_a_broker_that_refuses_us_for_good_ends_the_process() -> None:
    async def refused() -> Connection:
        raise Refused("CONNECT", "NOT_AUTHORIZED")

    one = Bridge(refused, HandLog(), Counts(), now_ms=lambda: NOW_MS, settings=BridgeSettings())
    with pytest.raises(ExceptionGroup) as group:
        await asyncio.wait_for(one.run(asyncio.Event()), DEADLINE_S)
    assert group.value.subgroup(BrokenPromise)


async def test_a_cancellation_while_the_broker_is_away_is_one_and_no_failure() -> None:
    async def away() -> Connection:
        raise Busy("nobody there")

    meters = Counts()
    one = Bridge(away, HandLog(), meters, now_ms=lambda: NOW_MS, settings=BridgeSettings(first_retry_s=DEADLINE_S))
    running = asyncio.create_task(one.run(asyncio.Event()))
    await until(lambda: meters.totals["spineloop_busy_total"] == 1)
    running.cancel()
    await asyncio.wait({running}, timeout=DEADLINE_S)
    assert running.cancelled()


async def test_several_bridges_share_out_the_sites(url: str) -> None:
    north, south = Clinic(url), Clinic(url)
    south.machine, filters = f"{north.tenant}/south/m2", (site_filter(north.tenant, "south"),)
    async with north.carrying(filters=(site_filter(north.tenant, "north"),)), south.carrying(filters=filters):
        for clinic in (north, south):
            await clinic.publish(*beats(3))
        await until(lambda: len(north.log.records) == len(south.log.records) == 3)
    assert {record.key.decode() for record in north.log.records} == {north.machine}
    assert {record.key.decode() for record in south.log.records} == {south.machine}


async def test_it_carries_from_the_embedded_broker_too_and_keeps_the_order_between_streams() -> None:
    machine = Machine()
    said = [machine.rep(1) if number % 2 else machine.say(Heartbeat) for number in range(400)]
    async with embedded_broker(free_port()) as url:
        clinic = Clinic(url)
        async with clinic.carrying():
            pass
        await clinic.publish(*(("rep" if isinstance(one, Rep) else "event", codec.encode(one)) for one in said))
        async with clinic.carrying():
            await until(lambda: len(clinic.log.records) == 400)
        assert sequence(clinic.log.values()) == list(range(400))
        assert await clinic.left() == 0
