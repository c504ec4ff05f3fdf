"""What a panel says while time passes: a machine falls silent, a broker starts again; on a real InfluxDB."""

from collections.abc import AsyncIterator, Sequence
from itertools import count
from typing import Any

import pytest
import pytest_asyncio

from adaptors.influx_history import InfluxAddress, open_influx_history
from adaptors.points import FieldValue, Point
from dashboards.grafana import builder
from loadtest.grafana import Everything, interpolated, seconds
from loadtest.native import influxdb
from spineloop import wiring
from tests.e2e.alerting import fires
from tests.e2e.grafana_history import Filled

pytestmark = pytest.mark.stack

PANELS = {panel["title"]: panel for board in builder.BOARDS for panel in builder.board_json(board)["panels"]}
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS

LIMIT_S = 120.0
"""Longest wait for one answer of InfluxDB, in s."""

_sites = count()


class Told:
    """A place of its own in a history that is written by hand."""

    def __init__(self, url: str) -> None:
        self.place = f"site-{next(_sites)}"
        self.now_ms = wiring.wall_clock_ms()
        self._url = url

    async def write(self, measurement: str, tags: dict[str, str], since: dict[float, dict[str, FieldValue]]) -> None:
        """Write fields by how many minutes ago they were."""
        sorted_tags = tuple(sorted(tags.items()))
        points = [
            Point(measurement, sorted_tags, fields, 1_000_000 * (self.now_ms - round(ago * MINUTE_MS)))
            for ago, fields in since.items()
        ]
        async with open_influx_history(InfluxAddress(url=self._url, timeout_s=LIMIT_S)) as history:
            await history.prepare()
            assert not await history.write(points)

    async def ask(self, title: str, **chosen: str) -> list[dict[str, Any]]:
        """Ask for the last hour what a panel asks, of all that is not chosen."""
        panel = PANELS[title]
        (target,) = panel["targets"]
        values = dict.fromkeys(("tenant", "site", "machine", "role"), Everything([""])) | chosen
        since_ms, every_s = self.now_ms - HOUR_MS, seconds(panel.get("interval", "10s"))
        history = Filled(self._url, since_ms, self.now_ms)
        return await history.ask(interpolated(target["query"], values, since_ms, self.now_ms, every_s))

    async def doing(self, machine: str, *ago: float) -> list[str]:
        """Return what the timeline shows of a machine so many minutes ago."""
        panel = PANELS["What every machine is doing"]
        defaults = panel["fieldConfig"]["defaults"]
        (one,) = await self.ask(panel["title"], site=self.place, machine=machine)
        drawn = joined(one["values"], defaults["custom"].get("spanNulls", 0))
        nothing = [one["options"]["result"]["text"] for one in defaults["mappings"] if one["type"] == "special"]
        at_ms = [self.now_ms - ago_min * MINUTE_MS for ago_min in ago]
        states = [[state for since_ms, state in drawn if since_ms <= one][-1] for one in at_ms]
        return [nothing[0] if state is None and nothing else str(state) for state in states]


def joined(values: Sequence[Sequence[Any]], closer_than_ms: int) -> list[tuple[int, str | None]]:
    """Carry a state on to the next one if the two are close enough, as Grafana's timeline does (`spanNulls`)."""
    heard = [at_ms for at_ms, state in values if state is not None]
    drawn: list[tuple[int, str | None]] = []
    for at_ms, state in values:
        before, after = [one for one in heard if one < at_ms], [one for one in heard if one > at_ms]
        is_bridged = state is None and before and after and after[0] - before[-1] < closer_than_ms
        drawn.append((at_ms, drawn[-1][1] if is_bridged else state))
    return drawn


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def influx() -> AsyncIterator[str]:
    async with influxdb() as server:
        yield server.url


async def seen(told: Told, machine: str, modes: dict[float, str], *, gone: Sequence[float] = ()) -> None:
    """Write what a machine was doing by how many minutes ago; when it was `gone` the broker said so for it."""
    where = {"tenant": "acme", "site": told.place, "machine": machine}
    await told.write(
        "machine", where, {ago: {"mode": mode, "online": float(ago not in gone)} for ago, mode in modes.items()}
    )


@pytest.mark.asyncio(loop_scope="module")
async def test_a_machine_that_falls_silent_does_not_go_on_lifting(influx: str) -> None:
    #  minutes ago   50 ... 30        20        10         0
    #  said          lifting
    #  shown         lifting | silent . . . . . . . . . . .
    told = Told(influx)
    await seen(told, "m1", {float(ago): "lifting" for ago in range(50, 29, -1)})
    assert await told.doing("m1", 45, 31, 24, 10, 0.1) == ["lifting", "lifting", "silent", "silent", "silent"]


@pytest.mark.asyncio(loop_scope="module")
async def test_the_last_word_counts_until_the_machine_has_been_silent_for_five_minutes(influx: str) -> None:
    told = Told(influx)
    await seen(told, "still", {float(ago): "resting" for ago in range(20, 3, -1)})  # the last is 4 minutes old
    await seen(told, "silent", {float(ago): "resting" for ago in range(20, 5, -1)})  # 6 minutes
    assert await told.doing("still", 10, 3, 0.1) == ["resting"] * 3
    assert await told.doing("silent", 10, 3, 0.1) == ["resting", "silent", "silent"]


@pytest.mark.asyncio(loop_scope="module")
async def test_only_a_hole_of_more_than_five_minutes_is_silence(influx: str) -> None:
    #  minutes ago   40 ... 35   32 ... 30         20 ... 0
    #  said          idle        idle              idle
    #  shown         idle  idle  idle   | silent |  idle
    told = Told(influx)
    spoke = [*range(40, 34, -1), *range(32, 29, -1), *range(20, -1, -1)]
    await seen(told, "m1", {float(ago): "idle" for ago in spoke})
    assert await told.doing("m1", 38, 33.5, 31, 25, 15) == ["idle", "idle", "idle", "silent", "idle"]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_machine_that_was_switched_off_is_offline_and_not_silent(influx: str) -> None:
    told = Told(influx)
    await seen(told, "off", {40.0: "idle", 39.0: "idle", 38.0: "offline"}, gone=[38.0])
    await seen(told, "locked", {39.0: "lifting", 38.0: "locked", 37.0: "locked"}, gone=[37.0])  # and it stays locked
    assert await told.doing("off", 40, 30, 10, 0.1) == ["idle", "offline", "offline", "offline"]
    assert await told.doing("locked", 30, 10, 0.1) == ["locked"] * 3


@pytest.mark.asyncio(loop_scope="module")
async def test_a_machine_that_was_offline_and_came_back_can_fall_silent(influx: str) -> None:
    #  minutes ago   50    48        30 ... 24            0
    #  said          idle  offline   idle
    #  shown         idle  offline   idle     | silent . . .
    told = Told(influx)
    modes = {50.0: "idle", 48.0: "offline"} | {float(ago): "idle" for ago in range(30, 23, -1)}
    await seen(told, "m1", modes, gone=[48.0])
    assert await told.doing("m1", 50, 40, 27, 18, 10, 0.1) == ["idle", "offline", "idle", "silent", "silent", "silent"]


async def dropped(told: Told, counts: dict[str, dict[float, int]]) -> list[float]:
    """Write by how many minutes ago each bridge was told which count; return what the panel makes of it."""
    for instance, since in counts.items():
        tags = {"role": told.place, "instance": instance, "name": "spineloop_broker_dropped_messages"}
        await told.write("meter", tags, {ago: {"value": float(one)} for ago, one in since.items()})
    series = await told.ask("Dropped by the broker", role=told.place)
    return [row[1] for one in series for row in one["values"]]


@pytest.mark.asyncio(loop_scope="module")
async def test_what_was_dropped_before_the_broker_started_again_is_not_dropped_anew(influx: str) -> None:
    #  minutes ago   50   40   | 30   20
    #  mosquitto     40   40   |  0    0     started again
    assert await dropped(Told(influx), {"0": {50.0: 40, 40.0: 40, 30.0: 0, 20.0: 0}}) == [0.0]


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_dropped_before_and_after_the_broker_started_again_is_added_up_once(influx: str) -> None:
    #  minutes ago   50   40   | 30   20   10
    #  mosquitto     40   45   |  0    2    2     5 and 2, told to two bridges
    told = {50.0: 40, 40.0: 45, 30.0: 0, 20.0: 2, 10.0: 2}
    assert await dropped(Told(influx), {"0": told, "1": {ago - 0.1: one for ago, one in told.items()}}) == [7.0]


@pytest.mark.asyncio(loop_scope="module")
async def test_the_alert_is_not_called_by_a_broker_that_starts_again_and_is_by_what_that_drops(influx: str) -> None:
    told = Told(influx)
    await dropped(told, {"calm": {10.0: 40, 8.0: 40, 6.0: 0, 4.0: 0}, "drops": {10.0: 40, 8.0: 40, 6.0: 0, 4.0: 2}})
    fired = {one["instance"] for one in await fires(Filled(influx, 0, 0), "broker-dropping", told.now_ms)}
    assert fired & {"calm", "drops"} == {"drops"}
