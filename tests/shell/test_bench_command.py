"""`spineloop bench`: as `scripts/bench`, where what that sets up is there; else one line says what is missing."""

import re
import sys

import pytest

from loadtest.bench.__main__ import app as script
from loadtest.child import NotInstalled
from tests.shell.spoken import Spineloop


def test_it_has_the_options_of_the_script(
    spineloop: Spineloop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = spineloop("bench", "--help").out
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        script(["--help"])
    told = [
        re.findall(r"--\w+|<[^>]+>|\[[^]]+\]", text.partition(" Options ")[2])
        for text in (ours, capsys.readouterr().out)
    ]
    assert told[0] == told[1]
    assert {"--quick", "[80.0<=x<=2000.0]", "[default: 200.0]"} < {*told[0]}


def test_it_runs_the_benches_that_are_named(spineloop: Spineloop) -> None:
    said = spineloop("bench", "nothing-such")
    assert said.code == 2
    assert "no bench is called nothing-such" in said.err


def test_a_package_that_only_benches_need_is_missed_in_one_line(
    spineloop: Spineloop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "loadtest.bench.__main__")
    monkeypatch.delattr("loadtest.bench.__main__")
    monkeypatch.delitem(sys.modules, "loadtest.bench.page", raising=False)
    monkeypatch.setitem(sys.modules, "playwright.async_api", None)
    said = spineloop("bench", "features")
    assert said.code == 1
    assert said.err.count("\n") == 1
    assert said.err.startswith("spineloop: bench: ")
    assert "scripts/bench" in said.err


@pytest.mark.parametrize("together", [False, True])
def test_a_server_that_is_not_installed_is_missed_in_one_line(
    spineloop: Spineloop, monkeypatch: pytest.MonkeyPatch, *, together: bool
) -> None:
    async def measured(*_: object) -> None:
        missing = NotInstalled("mosquitto is not installed: run scripts/setup-native, or install mosquitto")
        raise ExceptionGroup("servers", [missing]) if together else missing

    monkeypatch.setattr("loadtest.bench.__main__.measured", measured)
    said = spineloop("bench", "bridge")
    last = "spineloop: bench: mosquitto is not installed: run scripts/setup-native, or install mosquitto\n"
    assert (said.code, said.err) == (1, last)
