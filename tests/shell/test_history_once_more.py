"""History once more: the recipe of docs/operations.md names the groups there are, and that for SQLite works."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from adaptors.history import GROUPS
from adaptors.sqlite_log import open_sqlite_log
from spineloop.pages import DOCS
from streams.core.records import NewRecord
from streams.core.topics import METRIC
from streams.log import Log

RECIPE = (DOCS / "operations.md").read_text(encoding="utf-8").partition("\n### History once more\n")[2]


async def told(log: Log) -> int:
    """Read what waits for history, commit it, and count it."""
    async with log.subscribe(METRIC, GROUPS[METRIC]) as group:
        found = await group.poll(10, 0.1)
        await group.commit({number: records[-1].offset + 1 for number, records in found.items()})
    return sum(map(len, found.values()))


async def test_a_group_in_sqlite_that_is_set_back_hears_everything_again(tmp_path: Path) -> None:
    (statement,) = re.findall(r"`(DELETE FROM [^`]+)`", RECIPE)
    async with open_sqlite_log(tmp_path / "log.db", 1) as log:
        await log.append([NewRecord(METRIC, b"acme/north/m1", b"1", 5)])
        assert [await told(log), await told(log)] == [1, 0]
    with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as file:
        file.execute(statement)
    async with open_sqlite_log(tmp_path / "log.db", 1) as log:
        assert await told(log) == 1


def test_the_recipe_for_kafka_sets_back_the_groups_that_history_has() -> None:
    (named,) = re.findall(r"^for group in (.*); do$", RECIPE, re.MULTILINE)
    assert named.split() == list(GROUPS.values())
