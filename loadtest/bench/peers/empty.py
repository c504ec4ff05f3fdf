"""Empty: a stage that computes next to nothing, so that what is left is the engine, or the peer, around it.

`python -m loadtest.bench.peers.empty` runs it on our engine, as a role with the settings of one.
"""

import asyncio
from collections.abc import Sequence

from spineloop import running, wiring
from spineloop.exposition import Exposition
from spineloop.settings import Settings
from spineloop.wiring import Role
from streams.core.records import NewRecord, Record
from streams.core.topics import METRIC, PLANNER_STATE, TELEMETRY
from streams.engine import Engine, EngineSettings

OUTPUT_BYTES = 200
"""Bytes of an input that its output repeats: a metric has about as many."""


class Empty:
    """One output for one input, and a count for a state; its state topic is that of the planner, who is away."""

    name = "empty"
    topic = TELEMETRY
    state_topic = PLANNER_STATE

    def prepare(self, records: Sequence[Record]) -> Sequence[Record]:
        """Leave the records as they are."""
        return records

    def start(self, key: bytes) -> int:  # noqa: ARG002 - as every stage
        """Begin with nothing."""
        return 0

    def step(self, state: int, item: Record, now_ms: int) -> tuple[int, Sequence[NewRecord]]:
        """Count, and pass on."""
        value = (item.value or b"")[:OUTPUT_BYTES]
        return state + 1, (NewRecord(METRIC, item.key, value, now_ms, item.headers),)

    def save(self, state: int) -> bytes:
        """Write the count."""
        return b"%d" % state

    def restore(self, saved: bytes) -> int:
        """Read the count."""
        return int(saved)

    def alarm(self, record: Record, detail: str) -> Sequence[NewRecord]:  # noqa: ARG002 - as every stage
        """Say nothing."""
        return ()


async def main() -> None:
    """Run the empty stage until a signal comes."""
    settings = Settings.read()
    exposition = Exposition()
    async with wiring.open_log(settings, Empty.name) as log:
        pace = EngineSettings(checkpoint_s=settings.checkpoint_s, stall_s=settings.stall_s)
        engine = Engine(Empty(), log, exposition, pace)
        role = Role(Empty.name, engine.run, lambda: engine.ready)
        await running.run([role], settings, exposition, asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main())
