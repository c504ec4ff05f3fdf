"""A log for the tests of what looks into a log."""

from pathlib import Path

import pytest

from tests.shell import week
from tests.shell.spoken import Spineloop


@pytest.fixture(scope="session")
def told_week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return week.told(tmp_path_factory.mktemp("week") / "data")


@pytest.fixture
def data(told_week: Path, tmp_path: Path) -> Path:
    """Copy the clinic into a folder of the test's own."""
    return week.copied(told_week, tmp_path / "data")


@pytest.fixture
def spineloop(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Spineloop:
    return Spineloop(monkeypatch, capsys)
