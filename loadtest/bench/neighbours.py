"""Neighbours: two tenants at one broker, and one of them floods; a process, which is one scene of the bench `wall`.

Measured are a button's way to `reflex` and that of its STOP back, by one clock, and a heartbeat's way from before
`publish` to the bridge's stamp, which is in whole ms. The flood pauses and goes on in turn, so that both are measured
in the same minute. There is one bridge for all or one for each tenant, each with a SQLite log. `--help` tells how it is
run; it writes its figures as JSON.
"""

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np

from loadtest import native, stack
from loadtest.bench.victim import PERIOD_S, Victim
from loadtest.chaos.ground import beside
from loadtest.child import Child, Program, installed, running
from loadtest.native import Walled
from spineloop import access, wiring
from spineloop.settings import Settings
from streams.core import codec
from streams.core.telemetry import Heartbeat, Rep
from streams.core.topics import TELEMETRY

VICTIMS = tuple(f"acme/north/m{number}" for number in range(5))
FLOODERS = tuple(f"umbra/east/m{number}" for number in range(3))
BRIDGES = {"": "ingest-all", "acme": "ingest-acme", "umbra": "ingest-umbra"}
"""Names of bridges by the tenant that they are for."""

TENANTS = {"all": ("",), "each": ("acme", "umbra")}
"""For whom there is a bridge."""

REFLEX = "reflex-all"

FIREWALL = Path(native.__file__).parents[1] / "deploy" / "firewall" / "machines.nft"

QUIET, FLOODED = "quiet", "flooded"

PHASE_S = 3.0
"""How long each phase counts, in s."""

RISE_S = 1.0
"""What does not count when the flood begins, in s."""

FALL_S = 3.0
"""When it pauses, in s: behind the firewall what the kernel still holds of it takes two."""

SETTLE_S = 30.0
"""Longest wait in s for the last heartbeat and the last STOP."""

Secrets = Mapping[str, str]
K = TypeVar("K", Heartbeat, Rep)


async def scene(rounds: int, bridges: Sequence[str], *, firewall: bool) -> Mapping[str, float]:
    """Start broker and bridges, and let the flood come and go."""
    secrets: dict[str, str] = {}
    async with AsyncExitStack() as stops:
        broker = await stops.enter_async_context(native.walled_mosquitto(partial(_enrol, secrets)))
        if firewall:
            await asyncio.to_thread(_load_firewall, broker)
        folder = stops.enter_context(native.temporary_folder())
        places = [folder / (tenant or "all") for tenant in bridges]
        for tenant, place in zip(bridges, places, strict=True):
            await stops.enter_async_context(running(_bridge(broker, secrets, tenant, place)))
        await stops.enter_async_context(running(_reflex(broker, secrets, folder)))
        victims = [await _victim(stops, broker, secrets, name) for name in VICTIMS]
        flood = Flood([_flooder(broker, secrets, name, folder) for name in FLOODERS])
        stops.push_async_callback(flood.end)
        windows = list[tuple[int, int]]()
        async with beside(*(victim.listen() for victim in victims)):
            async with asyncio.TaskGroup() as tasks:
                done = asyncio.Event()
                for number, victim in enumerate(victims):
                    tasks.create_task(victim.say(done, after_s=number * PERIOD_S / len(victims)))
                for number in range(rounds):
                    await asyncio.sleep(FALL_S if number else RISE_S)
                    await _phase(victims, QUIET)
                    await flood.go()
                    await asyncio.sleep(RISE_S)
                    windows.append(await _phase(victims, FLOODED))
                    flood.pause()
                done.set()
            await _until_all_came(victims, places)
        return await _figures(victims, places, windows)


async def _victim(stops: AsyncExitStack, broker: Walled, secrets: Secrets, name: str) -> Victim[Any]:
    connect = wiring.connect(Settings.read(_outside(broker, secrets, name)), name.replace("/", "."))
    return Victim(name, await stops.enter_async_context(await connect()))


class Flood:
    """Machines that say as much as they can, or nothing."""

    def __init__(self, programs: Sequence[Program]) -> None:
        self._machines = [Child(program) for program in programs]

    async def go(self) -> None:
        """Begin, or go on."""
        for machine in self._machines:
            if machine.has_started:
                machine.tell(signal.SIGCONT)
            else:
                await machine.start()

    def pause(self) -> None:
        """Stop where they are."""
        for machine in self._machines:
            machine.tell(signal.SIGSTOP)

    async def end(self) -> None:
        """End those that have begun."""
        for machine in self._machines:
            if machine.has_started:
                machine.tell(signal.SIGCONT)
                await machine.stop()


def _load_firewall(broker: Walled) -> None:
    """Put what is shipped in front of this broker's port; it goes with the network that it is in."""
    rules, shipped = FIREWALL.read_text(encoding="ascii"), "define port = 8883"
    if shipped not in rules:
        raise ValueError(f"{FIREWALL.name} does not say {shipped!r} any more")
    rules = rules.replace(shipped, f"define port = {urlsplit(broker.outside).port}")
    subprocess.run([installed("nft", package="nftables"), "-f", "-"], input=rules.encode(), check=True, timeout=10.0)


async def _phase(victims: Sequence[Victim[Any]], name: str) -> tuple[int, int]:
    """Let it count for a while; return from when to when, in ms since 1970."""
    start_ms = wiring.wall_clock_ms()
    for victim in victims:
        victim.phase = name
    await asyncio.sleep(PHASE_S)
    for victim in victims:
        victim.phase = None
    return start_ms, wiring.wall_clock_ms()


async def _until_all_came(victims: Sequence[Victim[Any]], places: Sequence[Path]) -> None:
    said, until_s = sum(victim.beats for victim in victims), time.monotonic() + SETTLE_S
    while time.monotonic() < until_s:
        if not any(victim.unanswered for victim in victims) and len(await _said(places, Heartbeat)) >= said:
            return
        await asyncio.sleep(0.2)


async def _figures(
    victims: Sequence[Victim[Any]], places: Sequence[Path], windows: Sequence[tuple[int, int]]
) -> Mapping[str, float]:
    heard = await _said(places, Heartbeat)
    different = len({(machine, beat.seq) for machine, _, beat in heard})
    came = [stamp for _, stamp, _ in await _said(places, Rep)]
    meanwhile = sum(start_ms <= stamp < end_ms for stamp in came for start_ms, end_ms in windows)
    flooded_s = sum(end_ms - start_ms for start_ms, end_ms in windows) / 1_000
    figures = dict[str, float]()
    for phase in (QUIET, FLOODED):
        p50_ms, p99_ms = np.percentile([ms for victim in victims for ms in victim.stops_ms(phase)], (50, 99))
        beats_ms = np.percentile([ms for victim in victims for ms in victim.beats_ms(phase, heard)], 99)
        told = {"stop_p50_ms": p50_ms, "stop_p99_ms": p99_ms, "heartbeat_p99_ms": beats_ms}
        figures |= {f"{phase}_{figure}": float(value) for figure, value in told.items()}
    return {
        **figures,
        "stop_p99_raised_percent": 100 * (figures[f"{FLOODED}_stop_p99_ms"] / figures[f"{QUIET}_stop_p99_ms"] - 1),
        "flood_reps_per_s": meanwhile / flooded_s,
        "heartbeats_amiss": float(sum(victim.beats for victim in victims) - different + len(heard) - different),
        "unanswered": float(sum(victim.unanswered for victim in victims)),
    }


async def _said(places: Sequence[Path], kind: type[K]) -> list[tuple[str, int, K]]:
    """Return all messages of a kind, each with its machine and the bridge's stamp in ms."""
    found = []
    for place in places:
        settings = Settings.read({"SPINELOOP_LOG_URL": f"sqlite://{place}"})
        async with wiring.open_for_reading(settings, "bench") as log:
            for number in await log.bounds(TELEMETRY):
                async for batch in log.read(TELEMETRY, number):
                    for record in batch:
                        message = codec.decode_telemetry(machine := record.key.decode(), record.value or b"")
                        if isinstance(message, kind):
                            found.append((machine, record.timestamp_ms, message))
    return found


def _enrol(secrets: dict[str, str], folder: Path) -> None:
    register = access.Register()
    for name in (*VICTIMS, *FLOODERS):
        register, secrets[name] = access.add(register, name, 1)
    for tenant, name in BRIDGES.items():
        register, secrets[name] = access.add(register, name, 1, service="ingest", scope=tenant)
    register, secrets[REFLEX] = access.add(register, REFLEX, 1, service="reflex")
    access.write(folder, register)


def _outside(broker: Walled, secrets: Secrets, name: str) -> dict[str, str]:
    return {
        "SPINELOOP_MQTT_URL": broker.outside,
        "SPINELOOP_MQTT_USERNAME": name,
        "SPINELOOP_MQTT_PASSWORD": secrets[name],
        "SPINELOOP_MQTT_CA_FILE": str(broker.authority),
    }


def _bridge(broker: Walled, secrets: Secrets, tenant: str, place: Path) -> Program:
    name = BRIDGES[tenant]
    place.mkdir()
    told = {"INGEST_CLIENT_ID": name, "INGEST_TENANT": tenant or "+", "LOG_URL": f"sqlite://{place}"}
    return _role("ingest", name, place, told | _inside(broker, secrets, name, place))


def _reflex(broker: Walled, secrets: Secrets, folder: Path) -> Program:
    told = {"REFLEX_CLIENT_ID": REFLEX}
    return _role("reflex", REFLEX, folder, told | _inside(broker, secrets, REFLEX, folder))


def _inside(broker: Walled, secrets: Secrets, name: str, place: Path) -> dict[str, str]:
    secret = place / f"{name}.secret"
    secret.write_text(secrets[name], encoding="ascii")
    return {"MQTT_URL": broker.inside, "MQTT_USERNAME": name, "MQTT_PASSWORD_FILE": str(secret)}


def _role(role: str, name: str, place: Path, told: Mapping[str, str]) -> Program:
    port = native.free_port()
    settings = {**told, "HTTP_PORT": str(port), "METERS_S": "0"}
    return Program(
        name=name,
        command=("env", *(f"SPINELOOP_{key}={value}" for key, value in settings.items()), *stack.spineloop(role)),
        log=place / f"{name}.log",
        answers=partial(stack.is_ready, port),
    )


def _flooder(broker: Walled, secrets: Secrets, name: str, folder: Path) -> Program:
    # Only what nobody else wants: machines have processors of their own, and here they take those of broker and bridge.
    settings = (f"{key}={value}" for key, value in _outside(broker, secrets, name).items())
    return Program(
        name=name,
        command=("chrt", "--idle", "0", "env", *settings, *stack.spineloop()[:2], "loadtest.flood"),
        log=folder / f"{name.replace('/', '.')}.log",
        answers=_at_once,
    )


async def _at_once() -> bool:
    return True


def main() -> None:
    """Run the scene that the command line names; behind a firewall only in a network of its own, for it stays there."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench.neighbours")
    parser.add_argument("rounds", type=int)
    parser.add_argument("bridges", choices=TENANTS)
    parser.add_argument("--firewall", action="store_true")
    told = parser.parse_args()
    json.dump(asyncio.run(scene(told.rounds, TENANTS[told.bridges], firewall=told.firewall)), sys.stdout)


if __name__ == "__main__":
    main()
