"""A stage on Faust as a process against the stack, as docs/faust.md has it."""

import sys

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from loadtest.child import Program
from loadtest.stack import Stack
from streams.log import Log

COMMIT_S = 0.25
"""Pause between two commits in s: as long as between two checkpoints of our engine."""


def worker(stack: Stack, stage: str, number: int = 0, /, **chosen: str) -> Program:
    """Describe a worker of `control` or `plan`; `number` tells several of one stage apart."""
    name = f"faust-{stage}-{number}"
    log = stack.folder / f"{name}.log"
    environment = stack.environment(**chosen) | {
        "FAUST_APP_DATADIR": str(stack.folder / name),
        "FAUST_BROKER_COMMIT_INTERVAL": str(COMMIT_S),
    }

    async def answers() -> bool:
        return "Worker ready" in log.read_text(encoding="utf-8", errors="replace")

    faust = (sys.executable, "-m", "faust", "-A", f"spineloop.on_faust:{stage}")
    return Program(
        name=name,
        command=(
            *("env", *(f"{key}={value}" for key, value in environment.items())),
            *(*faust, "worker", "--without-web", "--loglevel", "info"),
        ),
        log=log,
        answers=answers,
    )


async def has_committed(stack: Stack, log: Log, stage: str, topic: str) -> bool:
    """Tell whether a stage's group on Faust has committed the whole of its input."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.log.address)
    await admin.start()
    try:
        committed = await admin.list_consumer_group_offsets(f"spineloop-{stage}-faust")
    finally:
        await admin.close()
    ends = {TopicPartition(topic, number): end for number, (_, end) in (await log.bounds(topic)).items() if end}
    return all(place in committed and committed[place].offset >= end for place, end in ends.items())
