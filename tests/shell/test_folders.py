"""A folder is the one that was named, whatever characters are in its name."""

from pathlib import Path

import pytest

from adaptors.sqlite_log import open_sqlite_log
from spineloop import embedded, looking, wiring
from spineloop.embedded import PARTITIONS, Embedding
from spineloop.settings import Settings
from streams.core.topics import LOG_TOPICS
from tests.shell.counts import Counts

NAMES = ("clinic#1", "clinic?mode=ro", "100%25", "a clinic; of two", "clinic@home", "[clinic]")


def inside(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


@pytest.mark.parametrize("name", NAMES)
async def test_a_loop_in_one_process_keeps_its_data_in_the_folder_that_was_named(name: str, tmp_path: Path) -> None:
    nowhere = Embedding(data=tmp_path / name, mqtt_url="mqtt://127.0.0.1:1")
    async with embedded.opened(Settings.read({}), nowhere, Counts()):
        pass
    assert inside(tmp_path) == [name]
    assert inside(tmp_path / name) == ["history.db", "log.db"]


@pytest.mark.parametrize("name", NAMES)
async def test_who_looks_into_a_folder_finds_its_log_there(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    async with open_sqlite_log(tmp_path / name / "log.db", PARTITIONS):
        pass
    settings = Settings.read({"SPINELOOP_LOG_URL": f"sqlite://{tmp_path / name}"})
    async with wiring.open_for_reading(settings, "test") as log:
        assert all([await log.bounds(topic) for topic in LOG_TOPICS])
    assert await wiring.rewrite_log(settings, lambda record: record) == {}
    in_folder = looking.in_folder(Settings.read({}), tmp_path / name)
    assert in_folder.log_url == settings.log_url
    assert inside(tmp_path) == [name]
