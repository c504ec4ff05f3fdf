"""Demo: the embedded loop with a simulated fleet. Live progress, then a table and a report of what became of it."""

import asyncio
import math
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace
from rich.console import Console
from rich.live import Live
from rich.table import Table

from loadtest.disturbance import Rates
from loadtest.fleet import Fleet, FleetSettings
from loadtest.kept import KeptOnDisk
from spineloop import embedded, wiring
from spineloop.embedded import Embedded, Embedding
from spineloop.exposition import Exposition
from spineloop.settings import Settings
from spineloop.simulation import Percentiles
from spineloop.wiring import Role, Sink
from streams.settled import digest_of, settled_before

SPEED = 15.0
"""Simulated seconds in a second: a session of ten minutes passes in forty seconds."""

SETTLE_S = 60.0
"""Longest wait, in s, until what the fleet said last has reached history: less, and a slow machine's last reps pass for
lost."""

LOOK_S = 0.25
"""Pause between two looks at the progress."""


class Demo(msgspec.Struct, frozen=True, kw_only=True):
    """What to show: for how long in s, how many machines, which dice, where the data stays (None: nowhere).

    `page` is the port of the operator page, or any other that is free where that is taken; 0 is none.
    """

    seconds: float = 60.0
    machines: int = 24
    seed: int = 1
    data: Path | None = None
    page: int = 0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What became of everything that the fleet said and was told.

    `lost` counts reps that the fleet gave to the network and history does not have; `never_sent` those that the
    simulated network swallowed and nobody got to ask for again; `said_again` counts messages that it swallowed and that
    came after all, because the loop asked for them. `duplicate_effects` counts commands that took effect more than once
    on a machine, and reps that history holds more than once. `digest` names all that was said and decided:
    `spineloop replay` recomputes the same one from what the machines said.
    """

    seed: int
    machines: int
    seconds: float
    reps_published: int
    reps_stored: int
    lost: int
    never_sent: int
    said_again: int
    duplicate_effects: int
    commands_issued: int
    commands_applied: int
    commands_rejected: int
    commands_expired: int
    commands_open: int
    commands_by_rule: dict[str, int]
    rep_to_command_ms: Percentiles
    dead_letters: int
    digest: str

    @property
    def is_well(self) -> bool:
        """Whether the loop kept its promises."""
        return self.lost == 0 and self.duplicate_effects == 0


async def run(demo: Demo, settings: Settings, console: Console) -> Report:
    """Run the loop and the fleet, wait until everything has arrived, and report."""
    with tempfile.TemporaryDirectory(prefix="spineloop-") as folder, ExitStack() as stack:
        has_page = demo.page > 0
        embedding = Embedding(data=demo.data or Path(folder), port=embedded.free_port(), page=has_page)
        quiet = replace(settings, http_port=0, page_port=embedded.free_port(demo.page) if has_page else 0)
        async with embedded.opened(quiet, embedding, Exposition()) as loop, running(loop.roles):
            if loop.page is not None:
                console.print(f"operator page: {loop.page.url}")
            kept = stack.enter_context(closing(KeptOnDisk(Path(folder, "machines.sqlite"))))
            fleet = Fleet(
                fleet_settings(demo),
                wiring.machine_connect(loop.settings),
                now_ms=wiring.wall_clock_ms,
                kept=kept,
            )
            with Live(console=console, refresh_per_second=4, transient=True) as live:
                showing = asyncio.create_task(_show(live, fleet, loop.history))
                await fleet.run()
                await settled(fleet, loop)
                showing.cancel()
            return await report(demo, fleet, loop)


def fleet_settings(demo: Demo) -> FleetSettings:
    """Describe the demo's fleet: everything goes wrong now and then, as on a real network."""
    return FleetSettings(
        machines=demo.machines, seed=demo.seed, run=f"s{demo.seed}", speed=SPEED, max_s=demo.seconds, rates=Rates()
    )


@asynccontextmanager
async def running(roles: Sequence[Role]) -> AsyncIterator[None]:
    """Run roles beside the block, from when all are ready until they have finished what they had in hand."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for role in roles:
            tasks.create_task(role.run(stop))
        while not all(role.is_ready() for role in roles):
            await asyncio.sleep(LOOK_S / 10)
        try:
            yield
        finally:
            stop.set()


async def settled(fleet: Fleet[Any], loop: Embedded) -> None:
    """Wait until history has all reps and ends of commands, and nobody has anything to say; but not for ever."""
    history, stages = loop.history, wiring.stages(loop.settings)
    try:
        async with asyncio.timeout(SETTLE_S):
            while fleet.ledger.lost(await measured(history)) or await _unmatched(history):
                await asyncio.sleep(LOOK_S)
            while await settled_before(loop.log, stages) < math.inf:
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        return  # what is missing then is for the report to say


async def measured(history: Sink) -> list[str]:
    """Return the message id of every rep in history."""
    return [
        f"{told['tenant']}/{told['site']}/{told['machine']}/{told['boot_id']}/{told['seq']}"
        for told in await _rows(history, "rep")
    ]


async def _rows(history: Sink, measurement: str) -> list[dict[str, object]]:
    return [dict(point.tags) | dict(point.fields) for point in await history.select(measurement)]


async def _unmatched(history: Sink) -> set[object]:
    """Return commands of which history has only one end: two deliveries bring them, each in its own time.

    A request for messages that a machine did not get to answer before it left stays open: nobody is there any more.
    """
    rows = await _rows(history, "command")
    requests = {row["command_id"] for row in rows if row["action"] == "resend"}
    closed = {row["command_id"] for row in await _rows(history, "command_closed")}
    return ({row["command_id"] for row in rows} ^ closed) - requests


async def _open_commands(history: Sink) -> set[object]:
    issued = {row["command_id"] for row in await _rows(history, "command")}
    return issued - {row["command_id"] for row in await _rows(history, "command_closed")}


async def report(demo: Demo, fleet: Fleet[Any], loop: Embedded) -> Report:
    """Hold what the fleet knows against what history has."""
    reps = await measured(loop.history)
    commands = {row["command_id"]: row for row in await _rows(loop.history, "command")}
    closed = await _rows(loop.history, "command_closed")
    outcomes = Counter(str(row["outcome"]) for row in closed)
    return Report(
        seed=demo.seed,
        machines=demo.machines,
        seconds=demo.seconds,
        reps_published=fleet.ledger.reps_published,
        reps_stored=len(set(reps)),
        lost=len(fleet.ledger.lost(reps)),
        never_sent=list(fleet.ledger.withheld.values()).count("rep"),
        said_again=len(fleet.ledger.repaired),
        duplicate_effects=fleet.ledger.duplicate_effects + len(reps) - len(set(reps)),
        commands_issued=len(commands),
        commands_applied=outcomes["applied"],
        commands_rejected=outcomes["rejected"],
        commands_expired=outcomes["expired"],
        commands_open=len(await _open_commands(loop.history)),
        commands_by_rule=dict(sorted(Counter(str(row["rule"]) for row in commands.values()).items())),
        rep_to_command_ms=Percentiles.of(fleet, "end_set"),
        dead_letters=await loop.dead_letters(),
        digest=await digest_of(loop.log),
    )


async def _show(live: Live, fleet: Fleet[Any], history: Sink) -> None:
    """Draw the progress until cancelled."""
    while True:
        table = Table(title="spineloop demo", show_header=False)
        table.add_row("reps published", str(fleet.timings.reps))
        table.add_row("reps in history", str(await history.count("rep")))
        table.add_row("commands in history", str(await history.count("command")))
        table.add_row("commands received by machines", str(sum(fleet.ledger.received.values())))
        latest = fleet.timings.percentile_ms(0.5, "end_set")
        table.add_row("rep to command, median", "none yet" if latest is None else f"{latest:.1f} ms")
        live.update(table)
        await asyncio.sleep(LOOK_S)


def table(report: Report) -> Table:
    """Draw the report for a person."""
    drawn = Table("what", "how many", title="what became of it")
    for name, value in msgspec.to_builtins(report).items():
        if name == "digest":
            continue  # a line of its own: as long as it is, a table would break it
        shown = ", ".join(f"{key} {count}" for key, count in value.items()) if isinstance(value, dict) else str(value)
        drawn.add_row(name.replace("_", " "), shown)
    return drawn
