"""What takes time says how far it is, on stderr and to a terminal only."""

import asyncio
import io
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from adaptors.sqlite_log import open_sqlite_log
from loadtest.fleet import Fleet
from spineloop import looking
from spineloop.embedded import PARTITIONS
from streams.core.dead_letters import dead_letter
from streams.core.records import NewRecord, Record
from streams.core.topics import TELEMETRY
from tests.shell.spoken import Spineloop
from tests.shell.test_dead_letters import MACHINE, NOW_MS, heartbeat

Bars = dict[str, list[tuple[int, int]]]


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> Bars:
    """Note what would be drawn, by name: how much was done, of how much."""
    drawn: Bars = defaultdict(list)

    @contextmanager
    def progress(what: str) -> Iterator[looking.Advance]:
        yield lambda done, of: drawn[what].append((done, of))

    monkeypatch.setattr(looking, "progress", progress)
    return drawn


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a log with 1,200 messages of a machine and as many dead letters."""

    async def fill() -> None:
        async with open_sqlite_log(tmp_path / "log.db", PARTITIONS) as log:
            for start in range(0, 1_200, 100):
                numbers = range(start, start + 100)
                said = [NewRecord(TELEMETRY, MACHINE.encode(), heartbeat(n), NOW_MS + n) for n in numbers]
                await log.append([*said, *(_aside(n) for n in numbers)])

    asyncio.run(fill())
    return tmp_path


def _aside(seq: int) -> NewRecord:
    record = Record(TELEMETRY, 1, seq, MACHINE.encode(), heartbeat(seq), NOW_MS, ())
    return dead_letter(record, stage="control", reason="bad_value", detail="of an older release", trace="")


def is_drawn(seen: list[tuple[int, int]], of: int) -> bool:
    """Tell whether a bar began, grew and came to its end."""
    return len(seen) > 1 and seen == sorted(seen) and seen[0][0] < of and seen[-1] == (of, of)


def test_a_list_of_letters_is_drawn_while_their_topic_is_read(spineloop: Spineloop, folder: Path, bars: Bars) -> None:
    assert spineloop("dead-letters", "list", "--data", folder).code == 0
    assert list(bars) == ["dead letters: marks", "dead letters"]
    assert all(is_drawn(seen, of=1_200) for seen in bars.values())


def test_a_list_for_a_program_is_its_own_progress(spineloop: Spineloop, folder: Path, bars: Bars) -> None:
    assert len(spineloop("dead-letters", "list", "--data", folder, "--json").told) == 1_200
    assert list(bars) == ["dead letters: marks"]  # a bar that is there keeps stdout for itself


def test_letters_that_go_back_are_drawn(spineloop: Spineloop, folder: Path, bars: Bars) -> None:
    assert spineloop("dead-letters", "redrive", "--all", "--data", folder).out == "1,200 went back\n"
    assert bars.keys() == {"dead letters", "redrive"}
    assert is_drawn(bars["redrive"], of=1_200)


def test_an_erasure_is_drawn_pass_by_pass(spineloop: Spineloop, folder: Path, bars: Bars) -> None:
    assert spineloop("erase", "--patient", "acme/p1", "--data", folder, "--yes").code == 0
    assert list(bars) == ["erase: machines", "erase: log", "erase: what is left"]
    assert is_drawn(bars["erase: machines"], of=1_200)
    assert is_drawn(bars["erase: log"], of=2_400)
    assert is_drawn(bars["erase: what is left"], of=2_400)


def test_a_simulated_fleet_is_drawn_by_the_time_that_it_has(
    spineloop: Spineloop, bars: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(_: Fleet[Any]) -> None:
        while not bars["simulate"]:  # as long as nobody has looked
            await asyncio.sleep(0.0)

    monkeypatch.setattr(Fleet, "run", run)
    said = spineloop("simulate", "--seconds", 90)
    assert (said.code, said.told["reps_published"]) == (0, 0)
    assert bars["simulate"][0] == (0, 90)


def test_a_bar_is_for_a_terminal_alone() -> None:
    for is_terminal in (True, False):
        err = io.StringIO()
        with looking._progress("read", Console(file=err, force_terminal=is_terminal, width=80)) as advance:  # noqa: SLF001
            advance(5, 10)
        assert ("read" in err.getvalue()) is is_terminal
