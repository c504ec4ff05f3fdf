"""Settling: when the loop has dealt with everything that was said so far, and which commands that has led to."""

from collections import Counter
from typing import Any

from loadtest.oracle import until
from streams.checkpoint import State
from streams.core import codec
from streams.core.controller import Controller
from streams.core.planning import Planner
from streams.core.records import header
from streams.core.stage import Stage
from streams.core.topics import COMMAND, TELEMETRY
from streams.log import Log

LOOK_S = 0.01


class Reached:
    """How far the checkpoints of a stage reach, read on from where the last look ended."""

    def __init__(self, log: Log, stage: Stage[Any, Any]) -> None:
        self._log, self._stage = log, stage
        self._read: Counter[int] = Counter()
        self._positions: Counter[int] = Counter()

    async def covers(self, ends: dict[int, int]) -> bool:
        """Tell whether a checkpoint covers these ends of the input; its outputs are then in the log too (E1)."""
        behind = [number for number, end in ends.items() if self._positions[number] < end]
        for number in behind:
            state = State(self._stage)
            async for records in self._log.read(self._stage.state_topic, number, self._read[number]):
                state.join(records)
                self._read[number] = records[-1].offset + 1
            self._positions[number] = max(self._positions[number], state.position)
        return all(self._positions[number] >= end for number, end in ends.items())

    async def ends(self) -> dict[int, int]:
        """Return the ends of the input."""
        return {number: end for number, (_, end) in (await self._log.bounds(self._stage.topic)).items()}


class Settling:
    """Reads along in the log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._control, self._plan = Reached(log, Controller()), Reached(log, Planner())
        self._heard: set[str | None] = set()
        self._issued: dict[str, set[str]] = {}
        self._read: Counter[tuple[str, int]] = Counter()

    async def commands_after(self, message: str, machine: str) -> set[str]:
        """Wait until a message is in the log and so is all that it leads to; return the new commands to its machine."""
        await until(lambda: self._has_settled(message), look_s=LOOK_S)
        return self._issued.pop(machine, set())

    async def _has_settled(self, message: str) -> bool:
        await self._listen()
        if message not in self._heard:
            return False
        for stage in (self._control, self._plan, self._control):  # a plan comes back into telemetry
            if not await stage.covers(await stage.ends()):
                return False
        await self._listen()
        return True

    async def _listen(self) -> None:
        """Read on in telemetry and commands."""
        for topic in (TELEMETRY, COMMAND):
            for number, (_, end) in (await self._log.bounds(topic)).items():
                if self._read[topic, number] >= end:
                    continue
                async for records in self._log.read(topic, number, self._read[topic, number], end):
                    for record in records:
                        if topic == TELEMETRY:
                            self._heard.add(header(record, "ce_id"))
                        else:
                            command = codec.decode_command(record.value or b"")
                            self._issued.setdefault(command.machine, set()).add(command.command_id)
                self._read[topic, number] = end
