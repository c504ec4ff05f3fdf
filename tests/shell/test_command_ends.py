"""How commands that run for long begin and end."""

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spineloop import demo, running, simulation
from spineloop.wiring import Role
from streams.core.errors import BrokenPromise
from tests.shell.spoken import Spineloop


async def gone(_stop: asyncio.Event) -> None:
    raise BrokenPromise("the embedded broker ended with status -9")


async def run(*_: Any) -> None:
    async with demo.running([Role("broker", gone, lambda: True)]):
        await asyncio.sleep(5.0)


def test_a_demo_whose_broker_ends_by_itself_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "run", run)
    said = Spineloop(monkeypatch, capsys)("demo", "--no-page")
    assert said.code == 1
    assert said.err.splitlines()[-1] == "spineloop: demo: the embedded broker ended with status -9"
    assert "Traceback" not in said.err


async def stumbles(*_: Any) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(of_a_patient("acme/p-17"))


async def of_a_patient(name: str) -> None:
    raise KeyError(name)


@pytest.mark.usefixtures("_thawed")
def test_a_defect_that_ends_a_command_is_told_by_its_place_and_not_by_what_it_says_of_a_patient(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "run", stumbles)
    said = Spineloop(monkeypatch, capsys)("reflex")
    assert said.code == 1
    told = said.err.splitlines()[-1]
    assert told.startswith("spineloop: reflex: a defect of ours: KeyError at ")
    assert told.endswith(" of_a_patient")
    assert "p-17" not in said.err + said.out


def test_a_report_that_has_no_place_is_told_before_the_demo_runs(spineloop: Spineloop) -> None:
    said = spineloop("demo", "--no-page", "--report", "/nowhere/report.json")
    assert (said.code, said.err) == (2, "spineloop: --report: no folder to write to: /nowhere\n")


def test_a_demo_does_not_go_into_a_log_that_is_there(spineloop: Spineloop, tmp_path: Path) -> None:
    (tmp_path / "log.db").touch()
    said = spineloop("demo", "--no-page", "--data", tmp_path)
    assert said.code == 2
    assert said.err.startswith(f"spineloop: --data: {tmp_path} has a log already: name another folder")


def test_a_fleet_whose_broker_is_away_says_so(spineloop: Spineloop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any) -> None:
        raise TimeoutError  # as asyncio raises it: without a word

    monkeypatch.setattr(simulation, "run", away)
    said = spineloop("simulate")
    assert (said.code, said.err) == (1, "spineloop: simulate: the broker was away too long\n")


@pytest.fixture
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_thawed")
def test_no_collection_looks_at_what_a_role_has_from_its_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frozen = list[int]()

    async def look(*_: Any) -> None:
        frozen.append(gc.get_freeze_count())

    monkeypatch.setattr(running, "run", look)
    assert Spineloop(monkeypatch, capsys)("control").code == 0
    assert frozen[0] > 10_000
