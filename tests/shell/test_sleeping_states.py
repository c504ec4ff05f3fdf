"""The states of a partition in memory: which are kept decoded, which as bytes, and that nobody can tell."""

from collections.abc import Sequence
from itertools import islice

import pytest

from loadtest.bench import stepping, stories
from streams import checkpoint
from streams.checkpoint import State
from streams.core.controller import Controller
from streams.core.records import NewRecord, Record
from streams.core.session import MachineState

MACHINES = 6


class Counting(Controller):
    """A controller that counts how often a state was decoded."""

    woken = 0

    def restore(self, saved: bytes) -> MachineState:
        self.woken += 1
        return super().restore(saved)


def run(records: Sequence[Record]) -> tuple[list[NewRecord], list[checkpoint.Entries], int]:
    """Step through records with a checkpoint after every fifty; return outputs, checkpoints and wakings."""
    stage, outputs, written = Counting(), list[NewRecord](), list[checkpoint.Entries]()
    state = State(stage)
    for start in range(0, len(records), 50):
        some = records[start : start + 50]
        for record, item in zip(some, stage.prepare(some), strict=True):
            outputs += state.step(record, item)
        written += state.snapshot()
    state.touch({record.key for record in records})
    return outputs, [*written, *state.snapshot()], stage.woken


def test_a_state_that_slept_as_bytes_goes_on_as_one_that_was_kept_awake(monkeypatch: pytest.MonkeyPatch) -> None:
    story = islice(stories.story(seed=1, machines=MACHINES, tenant="acme"), 1_500)
    records = [stepping.heard(stories.record(one), offset) for offset, one in enumerate(story)]
    outputs, written, woken = run(records)
    assert (woken, len({record.key for record in records})) == (0, MACHINES)
    monkeypatch.setattr(checkpoint, "AWAKE_KEYS", 2)
    outputs_of_sleepers, written_by_sleepers, woken = run(records)
    assert woken > MACHINES
    assert outputs_of_sleepers == outputs
    assert written_by_sleepers == written
