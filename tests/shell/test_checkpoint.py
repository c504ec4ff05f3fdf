"""The state topic as one reads it back: from where its last position says, and that is never far from its end."""

from collections.abc import Iterator, Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from streams.checkpoint import REWRITE_RECORDS, Entries, State, found_since
from streams.core.records import Record
from streams.core.topics import CONTROLLER_STATE, TELEMETRY
from tests.shell.tally import Tally

KEYS = 40
CHECKPOINTS = 400


class Topic:
    """A state partition in memory."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, entries: Entries) -> int:
        base = len(self.records)
        self.records += [Record(CONTROLLER_STATE, 0, base + n, key, value, 0) for n, (key, value) in enumerate(entries)]
        return base

    def read(self, since: int) -> State:
        state = State(Tally())
        state.join(self.records[since:])
        state.end = len(self.records)
        return state


def worked(state: State, topic: Topic, rounds: Sequence[Sequence[int]]) -> Iterator[State]:
    """Let keys take a record each, round by round, with a checkpoint after each round."""
    for numbers in rounds:
        for number in numbers:
            offset = state.position
            state.step(Record(TELEMETRY, 0, offset, b"k%d" % number, b"x", offset), b"x")
            state.reach(offset + 1)
        for entries in state.snapshot():
            base = topic.write(entries)
            if base != state.end:
                state.met(state.end, [record.key for record in topic.records[state.end : base]])
            state.wrote(base, entries)
        yield state


def kept(state: State) -> tuple[int, dict[bytes, bytes]]:
    """Tell the position and what each key counts, of a state that was read back."""
    state.touch([b"k%d" % number for number in range(KEYS)])
    entries = [entry for some in state.snapshot() for entry in some]
    fresh = State(Tally())
    fresh.join(Record(CONTROLLER_STATE, 0, n, key, value, 0) for n, (key, value) in enumerate(entries))
    return fresh.position, dict(entries[:-1])


def few_change() -> list[list[int]]:
    """Every key once, and then the same two for ever."""
    return [list(range(KEYS)), *([[0, 1]] * 20 * CHECKPOINTS)]


def test_what_is_read_back_stays_bounded_though_most_keys_change_no_more() -> None:
    topic, furthest = Topic(), 0
    for _ in worked(State(Tally()), topic, few_change()):
        furthest = max(furthest, len(topic.records) - found_since(topic.records[-1]))
    assert len(topic.records) > 10 * furthest
    assert furthest < 4 * KEYS + 2 * REWRITE_RECORDS


def test_keys_that_change_all_the_time_are_not_written_more_often_for_it() -> None:
    topic = Topic()
    rounds = [list(range(KEYS))] * CHECKPOINTS
    for _ in worked(State(Tally()), topic, rounds):
        pass
    assert len(topic.records) == CHECKPOINTS * (KEYS + 1)


@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 5), min_size=1, max_size=4)), max_size=30))
@example([(False, [0, 1]), (False, [1]), (True, [0, 1]), (False, [1]), (True, [1])])
def test_however_often_a_replaced_worker_still_writes_its_last_word_hides_nothing_of_its_successors(
    turns: list[tuple[bool, list[int]]],
) -> None:
    topic, old = Topic(), State(Tally())
    for _ in worked(old, topic, [list(range(6)), *([[0]] * REWRITE_RECORDS)]):
        pass
    new = topic.read(found_since(topic.records[-1]))
    for is_old, numbers in turns:
        state = old if is_old else new
        state.touch([b"k%d" % number for number in numbers])
        for _ in worked(state, topic, [numbers]):
            pass
        assert kept(topic.read(found_since(topic.records[-1]))) == kept(topic.read(0))


@given(
    st.lists(st.lists(st.integers(0, KEYS - 1), max_size=6), min_size=1, max_size=30),
    st.lists(st.lists(st.integers(0, KEYS - 1), max_size=6), min_size=1, max_size=30),
    st.booleans(),
)
def test_read_back_from_there_is_the_same_as_from_the_beginning_also_after_a_change_of_owner_and_its_late_write(
    first: list[list[int]], second: list[list[int]], comes_late: bool
) -> None:
    topic, old = Topic(), State(Tally())
    for _ in worked(old, topic, [*few_change()[:450], *first]):
        pass
    new = topic.read(found_since(topic.records[-1]))
    for _ in worked(new, topic, second):
        pass
    if comes_late:
        offset = old.position
        old.step(Record(TELEMETRY, 0, offset, b"k0", b"x", offset), b"x")
        topic.write(old.snapshot()[0])
    assert kept(topic.read(found_since(topic.records[-1]))) == kept(topic.read(0))
