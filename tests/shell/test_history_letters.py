"""History: every record ends as a point or as a dead letter, before its position may move."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from adaptors.history import GROUPS, History
from adaptors.points import BEYOND_RETENTION, Point, Rejected
from adaptors.sqlite_history import open_sqlite_history
from adaptors.sqlite_log import open_sqlite_log
from spineloop import wiring
from spineloop.settings import Settings
from streams.core import codec
from streams.core.dead_letters import reason_of
from streams.core.errors import BrokenPromise, Busy
from streams.core.records import NewRecord, Record, header
from streams.core.results import Notice
from streams.core.topics import DEAD_LETTER, METRIC
from tests.shell.counts import Counts
from tests.shell.week import everything

DEADLINE_S = 120.0
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


def garbage(offset: int, machine: str = MACHINE) -> Record:
    return Record(METRIC, 3, offset, machine.encode(), GARBAGE, 5, HEADERS)


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


async def test_too_many_dead_letters_in_a_row_end_the_process_once_all_of_them_are_put_aside() -> None:
    desk = Desk(limit=5)
    await desk.history.store([garbage(n) for n in range(5)])
    desk.history.check()
    await desk.history.store([garbage(5), record(6, "good")])
    with pytest.raises(BrokenPromise, match="6 dead letters in a row, last not_a_message"):
        desk.history.check()
    assert len(desk.box.letters) == 6


async def test_what_ends_the_process_says_the_reason_and_nothing_that_the_sink_said_of_the_data() -> None:
    desk = Desk(limit=5)
    await desk.history.store([record(n, "bad") for n in range(6)])
    with pytest.raises(BrokenPromise) as ended:
        desk.history.check()
    assert str(ended.value) == "history: 6 dead letters in a row, last refused"


async def test_one_machine_alone_ends_history_for_nobody() -> None:
    desk = Desk(limit=100)
    await desk.history.store([garbage(n) for n in range(1_000)])
    desk.history.check()
    await desk.history.store([garbage(1_000, "acme/north/row-1")])
    with pytest.raises(BrokenPromise, match="1001 dead letters in a row"):
        desk.history.check()


async def test_after_too_many_dead_letters_in_a_row_a_restart_gets_further(tmp_path: Path) -> None:
    machines = [f"acme/north/m{number}" for number in range(20)]
    bad = [NewRecord(METRIC, machine.encode(), GARBAGE, 5) for machine in machines for _ in range(60)]
    async with (
        open_sqlite_log(tmp_path / "log.db", 2) as log,
        open_sqlite_history(tmp_path / "history.db") as sink,
        asyncio.timeout(DEADLINE_S),
    ):
        await log.append(bad)
        role = wiring.history(Settings.read({}), log, sink, Counts())
        with pytest.raises(ExceptionGroup) as ended:
            await asyncio.create_task(role.run(asyncio.Event()))  # as in a process: what cancels it there ends with it
        assert ended.value.subgroup(BrokenPromise)
        assert len(await everything(log, DEAD_LETTER)) == len(bad)
        async with log.subscribe(METRIC, GROUPS[METRIC]) as again:
            assert await again.poll(1, 0.1) == {}


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
    await desk.history.store([garbage(0), record(1, "old"), *(garbage(n) for n in range(2, 7))])
    with pytest.raises(BrokenPromise, match="6 dead letters in a row"):
        desk.history.check()


async def test_one_good_record_starts_the_count_anew() -> None:
    desk = Desk(limit=5)
    for n in range(0, 60, 6):
        await desk.history.store([*(garbage(n + k) for k in range(5)), record(n + 5, "good")])
        desk.history.check()
    assert len(desk.box.letters) == 50


async def test_a_repeated_batch_is_not_counted_twice() -> None:
    desk = Desk(limit=5)
    desk.box.is_down = True
    for _ in range(3):
        with pytest.raises(Busy):
            await desk.history.store([garbage(n) for n in range(5)])
    desk.box.is_down = False
    await desk.history.store([garbage(n) for n in range(5)])
    desk.history.check()
    assert len(desk.box.letters) == 5


async def test_no_records_are_no_work() -> None:
    desk = Desk()
    await desk.history.store([])
    assert (desk.stored, desk.box.letters) == ([], [])
