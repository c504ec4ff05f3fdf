"""What commands tell to programs: JSON with `--json`, and nothing else on stdout."""

from pathlib import Path
from typing import Any

import pytest
import typer

from spineloop import recordings, wiring
from spineloop.cli import app
from spineloop.play import Played
from tests.core.recordings import Recorded, lift, recorded
from tests.shell.spoken import Spineloop
from tests.shell.test_command_help import HELPS

LIVE_LONG = {"serve", "ingest", "control", "plan", "history", "downlink", "reflex", "page"}
"""They tell their story in logs and metrics."""

ANOTHER_WAY = {"demo", "bench", "simulate"}
"""The first two write a report, as JSON; what the last prints is JSON anyway."""


@pytest.mark.parametrize("command", sorted(HELPS.keys() - LIVE_LONG - ANOTHER_WAY))
def test_every_command_that_has_something_to_tell_tells_it_to_programs(command: str) -> None:
    found: Any = typer.main.get_command(app)
    for name in command.split():
        found = found.commands[name]
    assert "--json" in {option for one in found.params for option in one.opts}


@pytest.mark.parametrize("made", [["spineloop.telemetry.v1", "spineloop.metric.v1"], []])
def test_topics_that_were_made_are_told(made: list[str], spineloop: Spineloop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def create(*_: Any) -> list[str]:
        return made

    monkeypatch.setattr(wiring, "create_topics", create)
    said = spineloop("topics", "create", "--json")
    assert (said.code, said.told) == (0, {"created": made})


def test_a_recording_that_was_played_is_told(
    spineloop: Spineloop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def played(*_: Any) -> Played:
        return Played(messages=12, reps=2, refused=1)

    monkeypatch.setattr(recordings, "_played", played)
    file = tmp_path / "recording.csv"
    file.write_text(Recorded(*recorded(lift(), lift(), lift(), seed=1)).csv())
    said = spineloop("play", file, "--machine", "acme/north/m1", "--boot", "b1", "--load-n", 400, "--json")
    whose = {"machine": "acme/north/m1", "boot": "b1"}
    assert (said.code, said.told) == (0, whose | {"sets": 1, "reps": 2, "left_out": 1, "refused": 1})
