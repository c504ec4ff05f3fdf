"""Stepping: a story heard by the controller with no log around it, by one core: what is left when nothing waits.

In each run the story is heard once more, to see on which parts the time goes.
"""

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from itertools import islice

from loadtest.bench import shares, stories
from loadtest.bench.contenders import reps_are_measured
from loadtest.bench.report import Effort, Run
from loadtest.bench.stories import Said
from streams.checkpoint import State
from streams.core.controller import Controller
from streams.core.records import NewRecord, Record
from streams.core.telemetry import Rep
from streams.core.topics import DEAD_LETTER, METRIC
from streams.partition import SLICE_RECORDS
from streams.reducer import Reducer

MACHINES = 50
"""As many as a partition has of 200 machines."""

MESSAGES, QUICK_MESSAGES = 60_000, 15_000
"""What they say, heard again from the beginning in every run."""


PARTS: Mapping[str, str] = {
    f"streams.core.{module}": part
    for part, modules in {
        "model": "adaptive foresight",
        "measuring": "measure signals lowpass ragged waveform stamps recording segmentation excursions device_velocity "
        "kinematics kinetics momentum smoothness arc_length steadiness eccentric force_curve",
        "rules": "situation session_rules form_rules fatigue_rules votes rule envelope invariants bounds known danger",
        "order": "order boots repair seen",
        "notes": "reps sets set_metrics summaries learning curves baseline similarity strength fatigue session",
        "coding": "codec outputs records telemetry",
        "turn": "turn controller visit acknowledgements",
    }.items()
    for module in modules.split()
}
"""Parts of the controller by module: what a rep left behind, `notes`, is kept in sets and sessions."""


class Strict:
    """A witness to whom a defect ends the run."""

    def stepped(self) -> None:
        """Think nothing of it."""

    def put_aside(self, record: Record, reason: str) -> None:
        """Think nothing of it: dead letters are among the outputs."""

    def froze(self, record: Record, trace: str) -> None:
        """End the run."""
        raise RuntimeError(f"{record.key.decode()}: {trace}")


async def stepping(effort: Effort) -> AsyncGenerator[Run, None]:
    """Let the controller hear a story as one partition of the engine does, and encode all that it says."""
    messages = QUICK_MESSAGES if effort.quick else MESSAGES
    story = stories.story(seed=1, machines=MACHINES, tenant="bench", start_ms=1_790_000_000_000)
    said = list(islice(story, messages))
    reps = sum(isinstance(one.message, Rep) for one in said)
    records = [heard(stories.record(one), offset) for offset, one in enumerate(said)]
    for _ in range(effort.runs):
        start_s = time.process_time()
        outputs = outputs_of(records)
        spent_s = time.process_time() - start_s
        figures = {
            "reps_per_s": reps / spent_s,
            "cpu_us_per_rep": 1e6 * spent_s / reps,
            "records_per_rep": messages / reps,
            "outputs_per_rep": len(outputs) / reps,
            "output_bytes_per_rep": sum(len(one.key) + len(one.value or b"") for one in outputs) / reps,
        }
        with shares.watched(PARTS) as looks:
            outputs_of(records)
        parts = {f"share_{part}_percent": share for part, share in shares.percent(looks).items()}
        yield Run(figures | parts, _why_void(said, outputs))


def heard(record: NewRecord, offset: int) -> Record:
    """Place a record in the log."""
    return Record(record.topic, 0, offset, record.key, record.value, record.timestamp_ms, record.headers)


def outputs_of(records: Sequence[Record]) -> list[Record]:
    """Return what the controller says to records."""
    stage = Controller()
    reducer, said = Reducer(stage, State(stage), Strict()), list[NewRecord]()
    for start in range(0, len(records), SLICE_RECORDS):
        for _, outputs in reducer.take(records[start : start + SLICE_RECORDS]):
            said += outputs
    return [heard(one, offset) for offset, one in enumerate(said)]


def _why_void(said: Sequence[Said], outputs: Sequence[Record]) -> tuple[str, ...]:
    """Say which reps were not measured, or more than once."""
    letters = sum(one.topic == DEAD_LETTER for one in outputs)
    wrong = reps_are_measured(said, [one for one in outputs if one.topic == METRIC])
    return (*wrong, f"{letters} dead letters") if letters else wrong
