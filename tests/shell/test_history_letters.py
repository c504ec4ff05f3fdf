"""History: every record ends as a point or as a dead letter, before its position may move."""

from collections import Counter
from collections.abc import Sequence

import pytest

from adaptors.history import History
from adaptors.points import BEYOND_RETENTION, Point, Rejected
from streams.core import codec
from streams.core.dead_letters import reason_of
from streams.core.errors import BrokenPromise, Busy
from streams.core.records import NewRecord, Record, header
from streams.core.results import Notice
from streams.core.topics import DEAD_LETTER, METRIC

MACHINE = "acme/north/lumbar-1"
HEADERS = (("ce_id", b"i1"),)
GARBAGE = b"\xc1"  # the one byte that MessagePack never uses


class HandSink:
    """Keeps points in memory and refuses those whose detail says so, as bad or as too old."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.is_down = False

    async def write(self, points: Sequence[Point]) -> Sequence[Rejected]:
        if self.is_down:
            raise Busy("down")
        reasons = {"bad": "refused", "old": BEYOND_RETENTION}
        refused = {index: reasons[str(d)] for index, p in enumerate(points) if (d := p.fields["detail"]) in reasons}
        self.points += [point for index, point in enumerate(points) if index not in refused]
        return [Rejected(index, reason, "as the server says it") for index, reason in refused.items()]


class HandLetterbox:
    """Keeps dead letters in memory."""

    def __init__(self) -> None:
        self.letters: list[NewRecord] = []
        self.is_down = False

    async def append(self, records: Sequence[NewRecord]) -> None:
        if self.is_down:
            raise Busy("down")
        self.letters += records


class CountingMeters:
    """Keeps the sums by name and reason."""

    def __init__(self) -> None:
        self.sums: Counter[tuple[str, str]] = Counter()

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        self.sums[name, labels.get("reason", "")] += int(amount)

    def set(self, name: str, value: float, **labels: str) -> None: ...
    def observe(self, name: str, value: float, **labels: str) -> None: ...


class Desk:
    """A history with everything around it at hand."""

    def __init__(self, limit: int = 1_000) -> None:
        self.sink, self.box, self.meters = HandSink(), HandLetterbox(), CountingMeters()
        self.history = History(self.sink, self.box, self.meters, dead_letters_in_a_row=limit)

    @property
    def stored(self) -> list[object]:
        return [point.fields["detail"] for point in self.sink.points]


def record(offset: int, detail: str) -> Record:
    id_ = f"{MACHINE}/b1/{offset}/gap"
    notice = Notice(id=id_, machine=MACHINE, cause="", at_ms=5, name="gap", severity="info", detail=detail)
    return Record(METRIC, 3, offset, MACHINE.encode(), codec.encode(notice), 5, HEADERS)


def garbage(offset: int) -> Record:
    return Record(METRIC, 3, offset, MACHINE.encode(), GARBAGE, 5, HEADERS)


async def test_a_record_that_is_no_metric_becomes_a_dead_letter_and_the_others_are_stored() -> None:
    desk = Desk()
    await desk.history.store([record(0, "a"), garbage(1), record(2, "b")])
    assert desk.stored == ["a", "b"]
    (letter,) = desk.box.letters
    assert (letter.topic, letter.key, letter.value, letter.timestamp_ms) == (DEAD_LETTER, MACHINE.encode(), GARBAGE, 5)
    assert header(letter, "ce_id") == "i1"
    told = {name: header(letter, f"__connect.errors.{name}") for name in ("topic", "partition", "offset", "stage")}
    assert told == {"topic": METRIC, "partition": "3", "offset": "1", "stage": "history"}


async def test_a_point_that_the_sink_refuses_becomes_a_dead_letter_with_the_sinks_reason() -> None:
    desk = Desk()
    await desk.history.store([garbage(0), record(1, "a"), record(2, "bad"), record(3, "b")])
    assert desk.stored == ["a", "b"]
    assert [(header(letter, "__connect.errors.offset"), reason_of(letter)) for letter in desk.box.letters] == [
        ("0", "not_a_message"),
        ("2", "refused"),
    ]
    assert desk.meters.sums == {
        ("spineloop_points_total", ""): 2,
        ("spineloop_dead_letters_total", "not_a_message"): 1,
        ("spineloop_dead_letters_total", "refused"): 1,
    }


async def test_a_sink_that_is_down_is_busy_and_nothing_is_put_aside() -> None:
    desk = Desk()
    desk.sink.is_down = True
    with pytest.raises(Busy):
        await desk.history.store([record(0, "a"), garbage(1)])
    assert (desk.box.letters, desk.meters.sums) == ([], {})


async def test_without_its_dead_letter_a_record_is_not_done() -> None:
    desk = Desk()
    desk.box.is_down = True
    with pytest.raises(Busy):
        await desk.history.store([record(0, "a"), garbage(1)])
    desk.box.is_down = False
    await desk.history.store([record(0, "a"), garbage(1)])
    assert (set(desk.stored), len(desk.box.letters)) == ({"a"}, 1)


async def test_too_many_dead_letters_in_a_row_end_the_process_before_they_fill_the_topic() -> None:
    desk = Desk(limit=5)
    await desk.history.store([garbage(n) for n in range(5)])
    with pytest.raises(BrokenPromise, match="6 dead letters in a row, last not_a_message"):
        await desk.history.store([garbage(5)])
    assert len(desk.box.letters) == 5


async def test_what_is_older_than_the_sink_keeps_is_counted_and_neither_a_dead_letter_nor_an_end() -> None:
    desk = Desk(limit=5)
    await desk.history.store([record(0, "a"), *(record(n, "old") for n in range(1, 40)), garbage(40)])
    assert desk.stored == ["a"]
    assert [reason_of(letter) for letter in desk.box.letters] == ["not_a_message"]
    assert desk.meters.sums == {
        ("spineloop_points_total", ""): 1,
        ("spineloop_points_too_old_total", ""): 39,
        ("spineloop_dead_letters_total", "not_a_message"): 1,
    }


async def test_what_is_too_old_does_not_start_the_count_of_dead_letters_anew() -> None:
    desk = Desk(limit=5)
    with pytest.raises(BrokenPromise, match="6 dead letters in a row"):
        await desk.history.store([garbage(0), record(1, "old"), *(garbage(n) for n in range(2, 7))])


async def test_one_good_record_starts_the_count_anew() -> None:
    desk = Desk(limit=5)
    for n in range(0, 60, 6):
        await desk.history.store([*(garbage(n + k) for k in range(5)), record(n + 5, "good")])
    assert len(desk.box.letters) == 50


async def test_a_repeated_batch_is_not_counted_twice() -> None:
    desk = Desk(limit=5)
    desk.box.is_down = True
    for _ in range(3):
        with pytest.raises(Busy):
            await desk.history.store([garbage(n) for n in range(5)])
    desk.box.is_down = False
    await desk.history.store([garbage(n) for n in range(5)])
    assert len(desk.box.letters) == 5


async def test_no_records_are_no_work() -> None:
    desk = Desk()
    await desk.history.store([])
    assert (desk.stored, desk.box.letters) == ([], [])
