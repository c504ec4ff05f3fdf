"""Sabotage: whoever changes the lines that keep a promise hears at once that its sabotage must follow."""

import ast
from pathlib import Path

import pytest

from loadtest.chaos import sabotage as spoiling
from loadtest.chaos.sabotage import ROOT, SABOTAGES, Sabotage


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda one: one.promise)
def test_the_lines_of_each_promise_stand_where_it_says_and_without_them_it_is_still_python(sabotage: Sabotage) -> None:
    spoiled = sabotage.spoiled()
    assert spoiled != (ROOT / sabotage.file).read_text(encoding="utf-8")
    ast.parse(spoiled)
    assert all((ROOT / test).exists() for test in sabotage.tests)


def test_lines_that_stand_nowhere_are_told() -> None:
    gone = Sabotage("a promise", "streams/partition.py", "no such line", "", ())
    with pytest.raises(ValueError, match="no longer has the lines of 'a promise'"):
        gone.spoiled()


TESTS = ("test_promises.py",)


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write sources of two promises, and a test that asks for the first."""
    (tmp_path / "promises.py").write_text("one = True\ntwo = True\n", encoding="utf-8")
    (tmp_path / "test_promises.py").write_text(
        "import promises\n\ndef test_they_are_kept() -> None:\n    assert promises.one\n", encoding="utf-8"
    )
    kept = tuple(Sabotage(name, "promises.py", f"{name} = True", f"{name} = None", TESTS) for name in ("one", "two"))
    monkeypatch.setattr(spoiling, "ROOT", tmp_path)
    monkeypatch.setattr(spoiling, "SABOTAGES", kept)
    return tmp_path


@pytest.mark.usefixtures("sources")
def test_tests_that_pass_while_nothing_is_spoiled_are_asked_of_each_promise() -> None:
    told = [(one.promise, list(failed)) for one, failed in spoiling.committed()]
    assert told == [("one", ["test_promises.py::test_they_are_kept"]), ("two", [])]


def test_a_test_that_fails_though_nothing_is_spoiled_has_noticed_nothing_and_the_run_ends(sources: Path) -> None:
    (sources / "test_promises.py").write_text(
        "import pytest\n\n@pytest.fixture\ndef server():\n    raise FileNotFoundError('mosquitto')\n\n"
        "def test_they_are_kept(server) -> None:\n    pass\n",
        encoding="utf-8",
    )
    with pytest.raises(RuntimeError, match=r"^test_promises.py::test_they_are_kept failed without any sabotage: "):
        next(spoiling.committed())
