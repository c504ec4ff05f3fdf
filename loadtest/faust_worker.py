"""A stage on Faust as a process against the stack, as docs/faust.md has it, and how far its states reach."""

import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from loadtest.child import Program
from loadtest.stack import PARTITIONS, Stack
from streams.checkpoint import POSITION_KEY, Kept
from streams.core.stage import Stage
from streams.log import Log

STOP_LIMIT_S = 60.0
"""Longest wait after SIGTERM, in s: how soon Faust ends is its own business, and that it ends well is ours."""


def worker(stack: Stack, stage: str, number: int = 0, /, *, app: str = "", **chosen: str) -> Program:
    """Describe a worker of `control` or `plan`, or of another `app`; `number` tells several of one stage apart."""
    name = f"faust-{stage}-{number}"
    log = stack.folder / f"{name}.log"
    environment = stack.environment(**chosen) | {"FAUST_APP_DATADIR": str(stack.folder / name)}

    async def answers() -> bool:
        return "Worker ready" in log.read_text(encoding="utf-8", errors="replace")

    faust = (sys.executable, "-m", "faust", "-A", app or f"spineloop.on_faust:{stage}")
    return Program(
        name=name,
        command=(
            *("env", *(f"{key}={value}" for key, value in environment.items())),
            *(*faust, "worker", "--without-web", "--loglevel", "info"),
        ),
        log=log,
        answers=answers,
        stop_limit_s=STOP_LIMIT_S,
    )


def changelog(stage: str) -> str:
    """Name the topic that keeps the states of a stage on Faust.

    Examples
    --------
    >>> changelog("control")
    'spineloop-control-faust-state-changelog'
    """
    return f"spineloop-{stage}-faust-state-changelog"


class Reached:
    """How far the states of a stage reach, read on from where the last look ended; what Faust commits does not tell."""

    def __init__(self, stage: Stage[Any, Any], consumer: AIOKafkaConsumer) -> None:
        self._stage = stage
        self._consumer = consumer
        self._places = [TopicPartition(changelog(stage.name), number) for number in range(PARTITIONS)]
        self._positions: Counter[int] = Counter()

    async def covers(self, log: Log) -> bool:
        """Tell whether every record of the input is in the states; its outputs are then in the log too."""
        await self._read_on()
        ends = {number: end for number, (_, end) in (await log.bounds(self._stage.topic)).items()}
        return all(self._positions[number] >= end for number, end in ends.items())

    async def _read_on(self) -> None:
        if self._places[0].topic not in await self._consumer.topics():
            return  # the first worker makes it
        if not self._consumer.assignment():
            self._consumer.assign(self._places)
            await self._consumer.seek_to_beginning()
        ends = await self._consumer.end_offsets(self._places)
        while any([await self._consumer.position(place) < end for place, end in ends.items()]):
            for place, entries in (await self._consumer.getmany(timeout_ms=200)).items():
                for entry in entries:
                    if entry.key.startswith(POSITION_KEY):
                        kept = msgspec.msgpack.decode(entry.value, type=Kept)
                        self._positions[place.partition] = max(self._positions[place.partition], kept.position)


@asynccontextmanager
async def reading(stack: Stack, stage: Stage[Any, Any]) -> AsyncIterator[Reached]:
    """Read along in the states of a stage as long as the block."""
    consumer = AIOKafkaConsumer(bootstrap_servers=stack.log.address, auto_offset_reset="earliest")
    await consumer.start()
    try:
        yield Reached(stage, consumer)
    finally:
        await consumer.stop()
