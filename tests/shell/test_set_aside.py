"""What a stage puts aside while it steps: a letter with its reason, a state as it was, and a redrive that lasts."""

from collections.abc import Sequence

from loadtest.bench.stepping import Strict
from streams.checkpoint import State
from streams.core.dead_letters import reason_of
from streams.core.errors import Malformed
from streams.core.records import NewRecord, Record
from streams.core.topics import CONTROLLER_STATE, TELEMETRY
from streams.reducer import REDRIVE, Reducer
from tests.shell.tally import Tally


class Forgetful(Tally):
    """Can take nothing that is old any more."""

    def step(self, state: int, item: bytes, now_ms: int) -> tuple[int, Sequence[NewRecord]]:
        if item == b"old":
            raise Malformed("forgotten_boot", "too old")
        return super().step(state, item, now_ms)


def heard(offset: int, value: bytes, *, redriven: bool = False) -> Record:
    headers = ((REDRIVE, b"1"),) if redriven else ()
    return Record(TELEMETRY, 0, offset, b"k", value, 1_000, headers)


def outputs(state: State, *records: Record) -> list[NewRecord]:
    taken = Reducer(Forgetful(), state, Strict()).take(records)
    return [output for _, some in taken for output in some]


def test_what_can_t_be_taken_any_more_is_a_letter_and_leaves_the_state_as_it_was() -> None:
    first, letter, second = outputs(State(Forgetful()), heard(0, b"x"), heard(1, b"old"), heard(2, b"y"))
    assert (first.value, reason_of(letter), second.value) == (b"x:1", "forgotten_boot", b"y:2")


def test_a_quarantine_that_a_redrive_has_lifted_stays_lifted_after_a_restart_though_the_record_is_put_aside() -> None:
    state = State(Forgetful())
    outputs(state, heard(0, b"x"))
    state.quarantine(heard(1, b"boom"), "a defect")
    state.reach(2)
    state.snapshot()
    (letter,) = outputs(state, heard(2, b"old", redriven=True))
    state.reach(3)
    again = State(Forgetful())
    entries = [entry for some in state.snapshot() for entry in some]
    again.join(Record(CONTROLLER_STATE, 0, n, key, value, 0) for n, (key, value) in enumerate(entries))
    assert reason_of(letter) == "forgotten_boot"
    assert [one.value for one in outputs(again, heard(3, b"y"))] == [b"y:2"]


def test_a_quarantine_that_was_lifted_stays_lifted_though_a_replaced_worker_writes_late() -> None:
    state = State(Forgetful())
    outputs(state, heard(0, b"x"))
    state.quarantine(heard(1, b"boom"), "a defect")
    state.reach(2)
    frozen = [entry for some in state.snapshot() for entry in some]
    outputs(state, heard(2, b"old", redriven=True))
    state.reach(3)
    lifted = [entry for some in state.snapshot() for entry in some]
    again = State(Forgetful())
    again.join(Record(CONTROLLER_STATE, 0, n, key, value, 0) for n, (key, value) in enumerate([*lifted, *frozen]))
    assert [one.value for one in outputs(again, heard(3, b"y"))] == [b"y:2"]
