"""Wall: one machine's heartbeats through mosquitto and a bridge, alone, and while another tenant floods both.

Measured is the time from before `publish` to the bridge's stamp, which is in ms. Each bridge has a SQLite log.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import numpy as np

from loadtest import native, stack
from loadtest.bench.report import Effort, Run
from loadtest.child import Program, running
from loadtest.native import Walled
from spineloop import access, wiring
from spineloop.settings import Settings
from streams.core import codec
from streams.core.telemetry import Heartbeat, Rep
from streams.core.topics import TELEMETRY, mqtt_topic

VICTIM, FLOODERS = "acme/north/m1", tuple(f"umbra/east/m{number}" for number in range(3))
BRIDGES = {"": "ingest-all", "acme": "ingest-acme", "umbra": "ingest-umbra"}
"""Names of bridges by the tenant that they are for."""

PERIOD_S = 0.02
SECONDS, QUICK_SECONDS = 15.0, 6.0
WARM_UP = 50
"""First heartbeats, which don't count: the flood has to come up."""

SETTLE_S = 30.0
"""Longest wait in s for the last heartbeat."""

Secrets = Mapping[str, str]


async def wall(effort: Effort) -> AsyncGenerator[Run, None]:
    """Measure alone, with one bridge for all under flood, and with a bridge a tenant under flood."""
    for _ in range(effort.runs):
        alone = await _p99_ms(effort, bridges=("acme",), floods=False)
        shared = await _p99_ms(effort, bridges=("",), floods=True)
        own = await _p99_ms(effort, bridges=("acme", "umbra"), floods=True)
        yield Run(
            {
                "alone_p99_ms": alone[0],
                "flooded_one_bridge_p99_ms": shared[0],
                "flooded_own_bridge_p99_ms": own[0],
                "flood_one_bridge_per_s": shared[1],
                "flood_own_bridge_per_s": own[1],
            }
        )


async def _p99_ms(effort: Effort, bridges: Sequence[str], *, floods: bool) -> tuple[float, float]:
    """Return the p99 of the victim's heartbeats, and how many reps a second of the flood got through."""
    secrets: dict[str, str] = {}
    seconds = QUICK_SECONDS if effort.quick else SECONDS
    async with AsyncExitStack() as stops:
        broker = await stops.enter_async_context(native.walled_mosquitto(partial(_enrol, secrets)))
        folder = stops.enter_context(native.temporary_folder())
        places = [folder / (tenant or "all") for tenant in bridges]
        for tenant, place in zip(bridges, places, strict=True):
            await stops.enter_async_context(running(_bridge(broker, secrets, tenant, place)))
        if floods:
            for name in FLOODERS:
                await stops.enter_async_context(running(_flooder(broker, secrets, name, folder)))
        return await _measured(Settings.read(_outside(broker, secrets, VICTIM)), places, seconds)


async def _measured(settings: Settings, places: Sequence[Path], seconds: float) -> tuple[float, float]:
    beats = round(seconds / PERIOD_S)
    sending = set[asyncio.Task[bool]]()
    async with await wiring.connect(settings, "victim")() as victim:
        start_s, start_ms = time.monotonic(), wiring.wall_clock_ms()
        for number in range(beats):
            await asyncio.sleep(max(0.0, start_s + number * PERIOD_S - time.monotonic()))
            beat = Heartbeat(boot_id="bench", seq=number, t_us=time.time_ns() // 1_000)
            sending.add(asyncio.create_task(victim.publish(mqtt_topic(VICTIM, "event"), codec.encode(beat))))
        await asyncio.gather(*sending)
        took_s = time.monotonic() - start_s
    async with asyncio.timeout(SETTLE_S):
        while len(heard := await _heard(places)) < beats:
            await asyncio.sleep(0.2)
    meanwhile = [stamp for stamp, _ in await _said(places, Rep) if start_ms <= stamp <= start_ms + 1_000 * took_s]
    return float(np.percentile(heard[WARM_UP:], 99)), len(meanwhile) / took_s


async def _heard(places: Sequence[Path]) -> list[float]:
    """Return how long each of the victim's heartbeats took, in ms, in their order."""
    return [stamp - message.t_us / 1_000 for stamp, message in await _said(places, Heartbeat)]


async def _said(places: Sequence[Path], kind: type[Heartbeat] | type[Rep]) -> list[tuple[int, Heartbeat | Rep]]:
    found = []
    for place in places:
        settings = Settings.read({"SPINELOOP_LOG_URL": f"sqlite://{place}"})
        async with wiring.open_for_reading(settings, "bench") as log:
            for number in await log.bounds(TELEMETRY):
                async for batch in log.read(TELEMETRY, number):
                    for record in batch:
                        message = codec.decode_telemetry(record.key.decode(), record.value or b"")
                        if isinstance(message, kind):
                            found.append((record.timestamp_ms, message))
    return found


def _enrol(secrets: dict[str, str], folder: Path) -> None:
    register = access.Register()
    for name in (VICTIM, *FLOODERS):
        register, secrets[name] = access.add(register, name, 1)
    for tenant, name in BRIDGES.items():
        register, secrets[name] = access.add(register, name, 1, service="ingest", scope=tenant)
    access.write(folder, register)


def _outside(broker: Walled, secrets: Secrets, name: str) -> dict[str, str]:
    return {
        "SPINELOOP_MQTT_URL": broker.outside,
        "SPINELOOP_MQTT_USERNAME": name,
        "SPINELOOP_MQTT_PASSWORD": secrets[name],
        "SPINELOOP_MQTT_CA_FILE": str(broker.authority),
    }


def _bridge(broker: Walled, secrets: Secrets, tenant: str, place: Path) -> Program:
    port, name = native.free_port(), BRIDGES[tenant]
    place.mkdir()
    (place / "secret").write_text(secrets[name], encoding="ascii")
    told = {
        "MQTT_URL": broker.inside,
        "MQTT_USERNAME": name,
        "MQTT_PASSWORD_FILE": str(place / "secret"),
        "INGEST_CLIENT_ID": name,
        "INGEST_TENANT": tenant or "+",
        "LOG_URL": f"sqlite://{place}",
        "HTTP_PORT": str(port),
        "METERS_S": "0",
    }
    return Program(
        name=name,
        command=("env", *(f"SPINELOOP_{key}={value}" for key, value in told.items()), *stack.spineloop("ingest")),
        log=place / "ingest.log",
        answers=partial(stack.is_ready, port),
    )


def _flooder(broker: Walled, secrets: Secrets, name: str, folder: Path) -> Program:
    # Nice, because machines have processors of their own, and here they would take those of broker and bridge.
    settings = (f"{key}={value}" for key, value in _outside(broker, secrets, name).items())
    return Program(
        name=name,
        command=("nice", "-n", "19", "env", *settings, *stack.spineloop()[:2], "loadtest.flood"),
        log=folder / f"{name.replace('/', '.')}.log",
        answers=_at_once,
    )


async def _at_once() -> bool:
    return True
