"""Wall: one machine's heartbeats through mosquitto and a bridge, alone, and while another tenant floods both.

Measured is the time from before `publish` to the bridge's stamp, which is in ms. Each bridge has a SQLite log. As root
it is done once more behind the firewall that is shipped.
"""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from loadtest import native, stack
from loadtest.bench.report import Effort, Run
from loadtest.child import Program, installed, running
from loadtest.native import Walled
from spineloop import access, wiring
from spineloop.settings import Settings
from streams.core import codec
from streams.core.telemetry import Heartbeat, Rep
from streams.core.topics import TELEMETRY, mqtt_topic

VICTIM, FLOODERS = "acme/north/m1", tuple(f"umbra/east/m{number}" for number in range(3))
BRIDGES = {"": "ingest-all", "acme": "ingest-acme", "umbra": "ingest-umbra"}
"""Names of bridges by the tenant that they are for."""

FIREWALL = Path(native.__file__).parents[1] / "deploy" / "firewall" / "machines.nft"

PERIOD_S = 0.02
SECONDS, QUICK_SECONDS = 15.0, 6.0
WARM_UP = 50
"""First heartbeats, which don't count: the flood has to come up."""

SETTLE_S = 30.0
"""Longest wait in s for the last heartbeat."""

Secrets = Mapping[str, str]


class Found(NamedTuple):
    """The p99 of the victim's heartbeats, the reps a second of the flood that came in, heartbeats lost or doubled."""

    p99_ms: float
    flood_per_s: float
    amiss: int


async def wall(effort: Effort) -> AsyncGenerator[Run, None]:
    """Measure alone, and under flood with one bridge for all and a bridge a tenant, without and with the firewall."""
    scenes: dict[str, tuple[tuple[str, ...], bool, bool]] = {"alone": (("acme",), False, False)}
    for firewall in (False, True) if os.geteuid() == 0 else (False,):
        where = "behind_firewall" if firewall else "flooded"
        scenes |= {
            f"{where}_one_bridge": (("",), True, firewall),
            f"{where}_own_bridge": (("acme", "umbra"), True, firewall),
        }
    scenes["alone_again"] = scenes["alone"]
    for _ in range(effort.runs):
        found = {name: await _scene(effort, *scene) for name, scene in scenes.items()}
        figures = {f"{name}_p99_ms": one.p99_ms for name, one in found.items()}
        figures |= {f"{name}_flood_reps_per_s": one.flood_per_s for name, one in found.items() if scenes[name][1]}
        figures |= {f"{name}_heartbeats_amiss": float(one.amiss) for name, one in found.items()}
        # What the open flood does to others is what is measured; without it, or behind the firewall, it may do nothing.
        wrong = {name: one.amiss for name, one in found.items() if one.amiss and not name.startswith("flooded")}
        yield Run(figures, tuple(f"{name}: {amiss} heartbeats lost or doubled" for name, amiss in wrong.items()))


async def _scene(effort: Effort, bridges: Sequence[str], is_flooded: bool, firewall: bool) -> Found:
    """Start broker and bridges, and the flood, and listen to the victim."""
    secrets: dict[str, str] = {}
    seconds = QUICK_SECONDS if effort.quick else SECONDS
    async with AsyncExitStack() as stops:
        broker = await stops.enter_async_context(native.walled_mosquitto(partial(_enrol, secrets)))
        if firewall:
            stops.enter_context(_firewall(broker))
        folder = stops.enter_context(native.temporary_folder())
        places = [folder / (tenant or "all") for tenant in bridges]
        for tenant, place in zip(bridges, places, strict=True):
            await stops.enter_async_context(running(_bridge(broker, secrets, tenant, place)))
        for name in FLOODERS if is_flooded else ():
            await stops.enter_async_context(running(_flooder(broker, secrets, name, folder)))
        return await _measured(Settings.read(_outside(broker, secrets, VICTIM)), places, seconds)


@contextmanager
def _firewall(broker: Walled) -> Iterator[None]:
    """Put what is shipped in front of this broker's port, under a name of its own; nothing else comes by it."""
    port = urlsplit(broker.outside).port
    rules = FIREWALL.read_text(encoding="ascii")
    shipped, table = ("define port = 8883", "table inet spineloop"), f"table inet spineloop_bench_{port}"
    for old, new in zip(shipped, (f"define port = {port}", table), strict=True):
        if old not in rules:
            raise ValueError(f"{FIREWALL.name} does not say {old!r} any more")
        rules = rules.replace(old, new)
    nft = installed("nft", package="nftables")
    subprocess.run([nft, "-f", "-"], input=rules.encode(), check=True, timeout=10.0)
    try:
        yield
    finally:
        subprocess.run([nft, "delete", *table.split()], check=True, timeout=10.0)


async def _measured(settings: Settings, places: Sequence[Path], seconds: float) -> Found:
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
    until_s = time.monotonic() + SETTLE_S
    while len(heard := await _said(places, Heartbeat)) < beats and time.monotonic() < until_s:
        await asyncio.sleep(0.2)
    meanwhile = [stamp for stamp, _ in await _said(places, Rep) if start_ms <= stamp <= start_ms + 1_000 * took_s]
    took_ms = [stamp - message.t_us / 1_000 for stamp, message in heard]
    different = len({message.seq for _, message in heard})
    amiss = beats - different + len(heard) - different
    return Found(float(np.percentile(took_ms[WARM_UP:], 99)), len(meanwhile) / took_s, amiss)


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
