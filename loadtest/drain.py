"""Drain: each role is told to end (SIGTERM) under load, and then while one of its servers does not answer.

Under load nothing that was dealt with may be dealt with again after a restart. While a server is away there is nothing
to finish with; what was in hand is repeated later, with the same effects (E5), and only the time counts.
"""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from loadtest.child import Child
from loadtest.fleet import Fleet, FleetSettings
from loadtest.native import Server, free_port
from loadtest.oracle import everything, is_covered, log_of, retried, until
from loadtest.stack import Stack, servers
from spineloop import wiring
from streams.core import codec
from streams.core.commands import Command
from streams.core.controller import Controller
from streams.core.planning import Planner
from streams.core.records import header
from streams.core.results import RepMeasured
from streams.core.topics import COMMAND, METRIC, PATIENT, TELEMETRY
from streams.log import Log

AIM_S = 10.0
"""Longest time from SIGTERM to the end, in s: then an orchestrator kills."""

PATIENCE_S = 15.0
"""When we kill, in s, as docker-compose.yml has it (`stop_grace_period`): such a role has not ended by itself."""

NEVER_S = "60"
"""A checkpoint that is seldom due: what keeps anything from being said again is the last one, that of the drain."""

SESSION_S = "60"
"""How long a role may show no sign of life, in s, and keep its partitions: who loses them says much again, and here
only a drain may be the reason for that."""

FINISH_S = 180.0
"""Longest time in s until every machine has said its last word."""

LOADED = ("ingest", "control", "plan", "history", "downlink", "page")
"""`reflex` keeps nothing and has nothing to repeat. Here it would send each STOP a second time, as it should."""

MOVED = 50
"""Reps that are measured between two drains."""

AWAY = (
    ("ingest", "broker"),
    ("ingest", "log"),
    ("control", "log"),
    ("plan", "log"),
    ("history", "log"),
    ("history", "history"),
    ("downlink", "broker"),
    ("downlink", "log"),
    ("reflex", "broker"),
    ("page", "log"),
)
"""Which role ends while which of its servers is frozen: it takes connections, and answers nothing."""

IN_HAND_S = 2.0
"""From when a server is frozen until SIGTERM, in s: by then a role has something in hand that it can't finish."""

MEASUREMENTS = ("rep", "set_summary", "session_summary", "patient", "command_closed", "machine", "notice")
"""What records of the metric topic become in history, one point each."""


class Drained(msgspec.Struct, frozen=True):
    """One SIGTERM: who got it, which server was away, how long it took, in s, and the exit status."""

    role: str
    away: str | None
    took_s: float
    status: int | None

    @property
    def is_good(self) -> bool:
        """Whether it ended in time and by itself, and well."""
        return self.took_s <= AIM_S and self.status == 0


class Report(msgspec.Struct):
    """What happened, and how much was dealt with twice: `{topic: records}`, `sent` and `stored` beside them."""

    reps: int = 0
    drains: list[Drained] = []
    again: dict[str, int] = {}

    @property
    def is_good(self) -> bool:
        """Whether all ended well, and nothing was done again."""
        return all(one.is_good for one in self.drains) and not any(self.again.values())

    def write(self, path: Path) -> None:
        """Write it down as JSON."""
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")


async def run(seed: int, rounds: int, rate: float, *, away: bool = True) -> Report:
    """Let a fleet bring `rate` reps a second, and every role drain so many times; then once for each of `AWAY`."""
    report = Report()
    async with servers() as stack, log_of(stack) as log, _roles(stack) as roles:
        for name in LOADED:
            await roles[name].start()
        async with _overheard(stack) as sent, _training(stack, seed, rate) as fleet:
            for _ in range(rounds):
                for name in LOADED:
                    await _moved(log)
                    report.drains.append(await _drained(roles[name]))
                    if name == "history":
                        report.again["stored"] = report.again.get("stored", 0) + await _stored_again(stack)
                    await roles[name].start()
        await _settled(log, fleet, roles)
        report.reps = await _measured(log)
        report.again |= await _again(log, sent)
        if away:
            async with _training(stack, seed + 1, rate):
                await _with_servers_away(stack, roles, report)
    return report


async def _with_servers_away(stack: Stack, roles: dict[str, Child], report: Report) -> None:
    others: dict[str, Server] = {"broker": stack.broker, "log": stack.log, "history": stack.history}
    for name, other in AWAY:
        if not roles[name].is_running:
            await roles[name].start()
        others[other].process.tell(signal.SIGSTOP)
        try:
            await asyncio.sleep(IN_HAND_S)
            report.drains.append(await _drained(roles[name], other))
        finally:
            others[other].process.tell(signal.SIGCONT)


async def _drained(child: Child, away: str | None = None) -> Drained:
    start_s = time.monotonic()
    await child.stop()
    name = child.program.name.rpartition("-")[0]
    return Drained(name, away, round(time.monotonic() - start_s, 2), child.status)


@asynccontextmanager
async def _roles(stack: Stack) -> AsyncIterator[dict[str, Child]]:
    """Describe every role; what is running is stopped at the end."""
    chosen = {"checkpoint_s": NEVER_S, "kafka_session_timeout_s": SESSION_S, "page_port": str(free_port())}
    names = dict.fromkeys((*LOADED, *(name for name, _ in AWAY)))
    roles = {name: Child(replace(stack.role(name, 0, **chosen), stop_limit_s=PATIENCE_S)) for name in names}
    try:
        yield roles
    finally:
        for child in roles.values():
            if child.has_started:
                await child.stop()


@asynccontextmanager
async def _training(stack: Stack, seed: int, rate: float) -> AsyncIterator[Fleet[Any]]:
    """Let a fleet train as long as the block; then wait until it has said its last word."""
    settings = FleetSettings(
        machines=30, seed=seed, run=f"drain{seed}", reps_per_s=rate, max_s=900.0, finish_s=FINISH_S
    )
    fleet: Fleet[Any] = Fleet(settings, wiring.machine_connect(stack.settings()), now_ms=wiring.wall_clock_ms)
    training = asyncio.create_task(fleet.run())
    try:
        yield fleet
        fleet.finish()
        await training
    finally:
        training.cancel()
        await asyncio.gather(training, return_exceptions=True)


@asynccontextmanager
async def _overheard(stack: Stack) -> AsyncIterator[Counter[str]]:
    """Count the commands on their way to machines, by id."""
    sent = Counter[str]()
    connection = await wiring.connect(stack.settings(), "overhearing")()

    async def listen() -> None:
        while True:
            batch = await connection.receive(100)
            sent.update(codec.decode_command(one.payload).command_id for one in batch)
            connection.ack(batch)

    async with connection:
        await connection.subscribe(["spineloop/v1/+/+/+/command"])
        listening = asyncio.create_task(listen())
        try:
            yield sent
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def _moved(log: Log) -> None:
    """Wait until more reps have been measured."""
    start = await _measured(log)

    async def have_they() -> bool:
        return await _measured(log) >= start + MOVED

    await until(have_they)


async def _settled(log: Log, fleet: Fleet[Any], roles: dict[str, Child]) -> None:
    """Wait until everything is dealt with, which the last checkpoints of a drain tell: there are no others."""
    published = {name for name, kind in fleet.ledger.published.items() if kind == "rep"}
    await until(lambda: _holds(log, len(published)))

    async def are_both_done() -> bool:
        for name in ("control", "plan"):
            await roles[name].stop()
        done = await is_covered(log, Controller()) and await is_covered(log, Planner())
        for name in ("control", "plan"):
            await roles[name].start()
        return done

    await until(are_both_done, limit_s=300.0)


async def _holds(log: Log, reps: int) -> bool:
    return await _measured(log) >= reps


async def _measured(log: Log) -> int:
    told = [codec.decode_metric(record.value or b"") for record in await everything(log, METRIC)]
    return len({one.cause for one in told if isinstance(one, RepMeasured)})


async def _stored_again(stack: Stack) -> int:
    """Count the points that history holds beyond its position: it would store them again."""
    position = sum(at for (topic, _), at in (await wiring.delivered(stack.settings())).items() if topic == METRIC)

    async def stored() -> int:
        async with wiring.open_history(stack.settings()) as history:
            return sum([await history.count(name) for name in MEASUREMENTS])

    return await retried(stored) - position


async def _again(log: Log, sent: Counter[str]) -> dict[str, int]:
    """Count what stands in a topic more than once, and what was sent more often than it was decided."""
    again = {}
    for topic in (TELEMETRY, METRIC, COMMAND, PATIENT):
        ids = Counter(header(record, "ce_id") for record in await everything(log, topic))
        again[topic] = ids.total() - len(ids)
    commands: Sequence[Command] = [
        codec.decode_command(record.value or b"") for record in await everything(log, COMMAND)
    ]
    decided = Counter(command.command_id for command in commands)
    again["sent"] = (sent - decided).total()
    return again
