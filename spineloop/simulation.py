"""Simulation: a simulated fleet on the configured broker, and what it saw."""

import asyncio
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from loadtest.fleet import Fleet, FleetSettings
from loadtest.kept import KeptOnDisk
from spineloop import looking, wiring
from spineloop.settings import Settings

LOOK_S = 0.25
"""Pause between two looks at the progress."""


class Percentiles(msgspec.Struct, frozen=True):
    """A distribution in ms; None if nothing was measured."""

    p50: float | None
    p99: float | None
    max: float | None

    @classmethod
    def of(cls, fleet: Fleet[Any], action: str) -> "Percentiles":
        """Take the latencies from what a machine said to the command of this kind that followed."""
        found = (fleet.timings.percentile_ms(share, action) for share in (0.5, 0.99, 1.0))
        return cls(*(None if ms is None else round(ms, 1) for ms in found))


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the machines know: what they said, what they were told, and how they answered."""

    reps_published: int
    messages: dict[str, int]
    unsaid: int
    commands_received: int
    answers: dict[str, int]
    duplicate_effects: int
    rep_to_command_ms: Percentiles


async def run(chosen: FleetSettings, settings: Settings) -> Seen:
    """Run a fleet until it ends."""
    connect = wiring.machine_connect(settings)
    with (
        tempfile.TemporaryDirectory(prefix="spineloop-") as folder,
        closing(KeptOnDisk(Path(folder, "machines.sqlite"))) as kept,
    ):
        fleet: Fleet[Any] = Fleet(chosen, connect, now_ms=wiring.wall_clock_ms, kept=kept)
        with looking.progress("simulate") as advance:
            showing = asyncio.create_task(_show(chosen.max_s, advance))
            try:
                await fleet.run()
            finally:
                showing.cancel()
    return Seen(
        reps_published=fleet.ledger.reps_published,
        messages=dict(sorted(fleet.timings.confirmed.items())),
        unsaid=fleet.unsaid,
        commands_received=len(fleet.ledger.received),
        answers=dict(sorted(fleet.ledger.outcomes().items())),
        duplicate_effects=fleet.ledger.duplicate_effects,
        rep_to_command_ms=Percentiles.of(fleet, "end_set"),
    )


async def _show(max_s: float, advance: looking.Advance) -> None:
    """Show how many seconds of the run are over, until cancelled; what is said after them has no known end."""
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    while True:
        advance(min(int(loop.time() - start_s), int(max_s)), int(max_s))
        await asyncio.sleep(LOOK_S)
