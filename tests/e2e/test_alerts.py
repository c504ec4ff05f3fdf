"""Every alert is made to fire by what it is there for, on real servers, and does not before.

Its own query is asked, on the history that the roles as processes have written. Some look minutes back; then the
question is put as if it was asked those minutes later.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, Self

import pytest
import pytest_asyncio

from adaptors.meter_points import MEASUREMENT
from adaptors.points import Point
from dashboards.grafana import alerts
from loadtest import stack
from loadtest.bench import stories
from loadtest.child import Child
from loadtest.oracle import fill, log_of
from loadtest.stack import Stack
from spineloop import wiring
from streams.core import codec
from streams.core.limits import MAX_MESSAGE_BYTES
from streams.core.telemetry import Heartbeat, Offline, SymptomReported, Telemetry
from streams.core.topics import Stream, mqtt_topic
from tests.core import story
from tests.e2e.alerting import Labels, fires
from tests.e2e.grafana_history import Filled

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1_800)]

TENANT, SITE = "acme", "north"
METERS_S = "1"
MINUTE_MS = 60_000

LIMIT_S, LONG_S = 180.0, 360.0
"""Longest wait for what must come, in s, and for what takes minutes."""

FORGOTTEN_S = 700.0
"""Longest wait, in s, until an alert has forgotten what was before the test: they look back ten minutes."""

BACKLOG = 12_000
"""Messages that come at once: some ten seconds of work for one controller."""

QUEUE_BYTES = 268_435_456
"""What mosquitto keeps for a client that is away, as shipped (`max_queued_bytes`)."""

_numbers = count()


@dataclass(frozen=True)
class Clinic:
    """The servers, the roles as processes, and the history."""

    servers: Stack
    roles: dict[str, Child]
    history: Filled

    async def fires(self, uid: str, *, later_ms: int = 0) -> list[Labels]:
        """Ask an alert, now or as if later."""
        return await fires(self.history, uid, wiring.wall_clock_ms() + later_ms)

    async def until(self, holds: Callable[[], Awaitable[bool]], limit_s: float = LIMIT_S) -> None:
        async with asyncio.timeout(limit_s):
            while not await holds():
                await asyncio.sleep(0.2)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clinic() -> AsyncIterator[Clinic]:
    async with stack.servers() as servers, stack.roles(servers, meters_s=METERS_S, ingest_tenant=TENANT) as roles:
        yield Clinic(servers, roles, Filled(servers.history.url, 0, 0))


class Machine:
    """A machine of its own for each test, on a connection of its own."""

    def __init__(self, clinic: Clinic) -> None:
        self.name = f"alert-{next(_numbers)}"
        self.key = f"{TENANT}/{SITE}/{self.name}"
        self.story = story.Machine(f"boot-{self.name}")
        self._clinic = clinic
        self._link: Any = None

    @property
    def labels(self) -> Labels:
        return {"tenant": TENANT, "site": SITE, "machine": self.name}

    async def __aenter__(self) -> Self:
        connect = wiring.machine_connect(self._clinic.servers.settings())
        self._link = await connect(
            self.key, mqtt_topic(self.key, "presence"), codec.encode(Offline(boot_id=self.story.boot_id))
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._link.close()

    async def say(self, *messages: Telemetry) -> None:
        streams: dict[str, Stream] = {"Online": "presence", "Offline": "presence", "Rep": "rep"}
        for message in messages:
            await self.publish(streams.get(type(message).__name__, "event"), codec.encode(message))

    async def publish(self, stream: Stream, payload: bytes) -> None:
        await self._link.publish(mqtt_topic(self.key, stream), payload)

    async def beat_until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Say that it is alive, and nothing else, until something is so."""

        async def said() -> bool:
            await self.say(self.story.say(Heartbeat))
            return await holds()

        await self._clinic.until(said)


@pytest.mark.asyncio(loop_scope="module")
class TestEach:
    """One test an alert, named after it."""

    async def test_stop_issued(self, clinic: Clinic) -> None:
        async with Machine(clinic) as machine:
            await machine.say(*machine.story.begin())

            async def was_told() -> bool:
                return machine.labels in await clinic.fires("stop-issued")

            assert not await was_told()
            await machine.say(machine.story.say(SymptomReported, session="s1", symptom="red_flag"))
            await clinic.until(was_told)
            assert not await clinic.fires("stop-issued", later_ms=11 * MINUTE_MS)

    async def test_command_unacknowledged(self, clinic: Clinic) -> None:
        async with Machine(clinic) as machine:
            await machine.say(*machine.story.begin())

            async def has_no_answer() -> bool:
                return machine.labels in await clinic.fires("command-unacknowledged")

            assert not await has_no_answer()
            await machine.say(machine.story.say(SymptomReported, session="s1", symptom="red_flag"))
            await machine.beat_until(has_no_answer)

    async def test_machine_silent(self, clinic: Clinic) -> None:
        async with Machine(clinic) as silent, Machine(clinic) as gone:
            for machine in (silent, gone):
                await machine.say(machine.story.online(), machine.story.say(Heartbeat))
            await gone.say(Offline(boot_id=gone.story.boot_id))

            async def is_known() -> bool:
                online: float | None = await last(clinic, "online", "machine", "machine", gone.name)
                return online == 0.0

            await silent.beat_until(is_known)
            assert silent.labels not in await clinic.fires("machine-silent")
            later = await clinic.fires("machine-silent", later_ms=10 * MINUTE_MS)
            assert silent.labels in later
            assert gone.labels not in later

    async def test_dead_letters_rising(self, clinic: Clinic) -> None:
        async def rise() -> bool:
            return "ingest" in {one["stage"] for one in await clinic.fires("dead-letters-rising")}

        async with Machine(clinic) as machine:
            await machine.beat_until(lambda: written(clinic, "spineloop_ingest_messages_total"))
            assert not await rise()
            await machine.publish("event", b"what nobody understands")
            await clinic.until(rise)

    async def test_history_failing(self, clinic: Clinic) -> None:
        async def fails() -> bool:
            return bool(await clinic.fires("history-failing"))

        diary = clinic.roles["history"].program.log

        async def is_refused() -> bool:
            return "refused for now" in await asyncio.to_thread(diary.read_text, encoding="utf-8")

        async def is_well() -> bool:
            return not await fails()

        await clinic.until(is_well, limit_s=FORGOTTEN_S)  # it may have been slow since the start
        async with Machine(clinic) as machine:
            await clinic.servers.history.process.kill()
            await machine.say(machine.story.online())
            await machine.beat_until(is_refused)
            await clinic.servers.history.process.start()
        await clinic.until(fails)
        assert {one["component"] for one in await clinic.fires("history-failing")} <= {
            "history-metric",
            "history-command",
        }

    async def test_server_away(self, clinic: Clinic) -> None:
        async def refused() -> set[str]:
            return {one["component"] for one in await clinic.fires("server-away")}

        async def nobody_is() -> bool:
            return not await refused()

        async def everybody_at_the_broker_is() -> bool:
            return await refused() == {"mqtt", "reflex"}

        await clinic.until(nobody_is, limit_s=LONG_S)
        await clinic.servers.broker.process.kill()
        await clinic.until(everybody_at_the_broker_is, limit_s=LONG_S)
        await clinic.servers.broker.process.start()
        await clinic.until(nobody_is, limit_s=LONG_S)

    async def test_process_silent(self, clinic: Clinic) -> None:
        async def silent() -> set[str]:
            return {one["role"] for one in await clinic.fires("process-silent")}

        async def nobody_is() -> bool:
            return not await silent()

        async def one_is() -> bool:
            return await silent() == {"plan"}

        await clinic.until(nobody_is)
        await clinic.roles["plan"].kill()
        await clinic.until(one_is, limit_s=LONG_S)
        await clinic.roles["plan"].start()
        await clinic.until(nobody_is)

    async def test_lag_rising(self, clinic: Clinic) -> None:
        await clinic.until(lambda: written(clinic, "spineloop_lag_records"))
        start_ms = wiring.wall_clock_ms()
        assert not await fires(clinic.history, "lag-rising", start_ms)
        told = stories.story(seed=1, machines=50, tenant="backlog", start_ms=start_ms)
        async with log_of(clinic.servers) as log:
            await fill(log, [stories.record(said) for said in islice(told, BACKLOG)])

        async def falls_behind() -> bool:  # five minutes after the beginning the older five were those before it
            return {"stage": "control"} in await fires(clinic.history, "lag-rising", start_ms + 5 * MINUTE_MS)

        await clinic.until(falls_behind)
        assert "downlink" not in {
            one["stage"] for one in await fires(clinic.history, "lag-rising", start_ms + 5 * MINUTE_MS)
        }

    async def test_broker_dropping(self, clinic: Clinic) -> None:
        """Fill the queue of a client that is away."""
        settings = clinic.servers.settings()
        async with await wiring.connect(settings, "away", session_expiry_s=600)() as away:
            await away.subscribe(["spineloop/v1/flood/+/+/+"])

        async def drops() -> bool:
            return bool(await clinic.fires("broker-dropping"))

        await clinic.until(lambda: written(clinic, "spineloop_broker_dropped_messages"))
        known_ms = wiring.wall_clock_ms()

        async def is_another_minute() -> bool:  # a rise is seen from one minute to the next
            return wiring.wall_clock_ms() // MINUTE_MS > known_ms // MINUTE_MS

        await clinic.until(is_another_minute)
        assert not await drops()
        payload = b"\0" * MAX_MESSAGE_BYTES
        async with await wiring.connect(settings, "flood")() as flood:
            for _ in range(QUEUE_BYTES // MAX_MESSAGE_BYTES + 10):
                await flood.publish(mqtt_topic("flood/north/m1", "rep"), payload)
        await clinic.until(drops)


@pytest.mark.asyncio(loop_scope="module")
async def test_one_worker_that_is_stuck_among_four_is_lag_that_rises(clinic: Clinic) -> None:
    #  stage, by instance     older five minutes      last five minutes
    #  stuck  0               1,200                   2,400    sum 2,400, mean 600
    #         1, 2, 3             0                       0
    #  busy   0 to 3          300 each                260 each sum 1,040, which falls
    now_ms = wiring.wall_clock_ms()
    lags = {("stuck", number): (0.0, 0.0) for number in "123"} | {("stuck", "0"): (1_200.0, 2_400.0)}
    lags |= {("busy", number): (300.0, 260.0) for number in "0123"}
    points = [
        Point(
            MEASUREMENT,
            (("instance", number), ("name", "spineloop_lag_records"), ("role", "control"), ("stage", stage)),
            {"value": lag},
            1_000_000 * (now_ms - minutes * MINUTE_MS),
        )
        for (stage, number), both in lags.items()
        for lag, since in zip(both, ((9, 8, 7), (3, 2, 1)), strict=True)
        for minutes in since
    ]
    async with wiring.open_history(clinic.servers.settings()) as sink:
        assert not await sink.write(points)
    fired = {one["stage"] for one in await fires(clinic.history, "lag-rising", now_ms)}
    assert fired & {"stuck", "busy"} == {"stuck"}


@pytest.mark.asyncio(loop_scope="module")
async def test_a_log_that_is_away_calls_for_itself_also_from_who_has_not_begun_and_history_does_not(
    clinic: Clinic,
) -> None:
    start_ms = wiring.wall_clock_ms()
    plan, log = clinic.roles["plan"], clinic.servers.log.process
    await plan.kill()
    await log.kill()
    plan.launch()  # as after a reboot: it has nothing to begin with

    async def log_refused(role: str) -> float:
        found = await clinic.history.ask(
            'SELECT SUM("increase") FROM "raw"."meter" WHERE "name" = \'spineloop_busy_total\' '  # noqa: S608
            f"AND \"component\" = 'log' AND \"role\" = '{role}' AND time >= {start_ms}ms"
        )
        return float(found[0]["values"][0][1]) if found else 0.0

    async def both_say_so() -> bool:
        return await log_refused("plan") > 3.0 and await log_refused("history") > 0.0

    await clinic.until(both_say_so)  # of what has happened since, as the alerts see it in a while
    assert "log" in {one["component"] for one in await fires(clinic.history, "server-away", start_ms + 2 * MINUTE_MS)}
    assert not await fires(clinic.history, "history-failing", start_ms + 10 * MINUTE_MS)
    await log.start()
    await plan.restart()  # it may have waited for too long


async def written(clinic: Clinic, meter: str) -> bool:
    """Tell whether a meter is in history."""
    return await last(clinic, "value", "meter", "name", meter) is not None


async def last(clinic: Clinic, field: str, measurement: str, tag: str, value: str) -> Any:
    """Return the last value of a field, None if there is none."""
    found = await clinic.history.ask(f'SELECT LAST("{field}") FROM "raw"."{measurement}" WHERE "{tag}" = \'{value}\'')  # noqa: S608
    return found[0]["values"][0][1] if found else None


def test_no_alert_is_without_such_a_test() -> None:
    tested = {name.removeprefix("test_").replace("_", "-") for name in vars(TestEach) if name.startswith("test_")}
    assert tested == {alert.uid for alert in alerts.ALERTS}
