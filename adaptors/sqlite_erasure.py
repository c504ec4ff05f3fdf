"""Erasure in the SQLite log: every record is looked at, and what is replaced is gone from the file as well."""

import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from adaptors import sqlite_file
from adaptors.sqlite_writer import promises
from streams.core.records import Record

LOCK_WAIT_S = 1.0
"""How long to wait for others to close the file, in s."""


def rewrite(path: Path, change: Callable[[Record], Record | None]) -> Counter[str]:
    """Replace records where they stand, in one transaction, and leave nothing of the old ones in the file.

    Parameters
    ----------
    path : Path
        The log's file. Nobody else may have it open: a role would write from memory what was just erased.
    change : callable
        Returns a record as it is to be, the same one if it stays, or None to remove it. Offset and time stay.

    Returns
    -------
    Counter of str
        Records that were changed or removed, by topic.

    Raises
    ------
    Busy
        Somebody has the file open.
    """
    if not path.is_file():
        raise ValueError(f"no log at {path}")
    with promises(), closing(sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None)) as file:
        file.execute("PRAGMA locking_mode = EXCLUSIVE")  # in WAL mode this fails while anybody has the file open
        file.execute("PRAGMA secure_delete = ON")
        with sqlite_file.transaction(file):
            done = _rewrite(file, change)
        file.execute("VACUUM")  # secure_delete does not reach what was freed before
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return done


def _rewrite(file: sqlite3.Connection, change: Callable[[Record], Record | None]) -> Counter[str]:
    done = Counter[str]()
    places = {row[0]: (row[1], row[2]) for row in file.execute("SELECT id, topic, number FROM partition")}
    for rowid, place in file.execute("SELECT rowid, partition_id FROM batch").fetchall():
        topic, number = places[place]
        (body,) = file.execute("SELECT body FROM batch WHERE rowid = ?", (rowid,)).fetchone()
        new, changed = sqlite_file.changed(body, topic, number, change)
        if not changed:
            continue
        done[topic] += changed
        if new is None:
            file.execute("DELETE FROM batch WHERE rowid = ?", (rowid,))
        else:
            file.execute("UPDATE batch SET body = ? WHERE rowid = ?", (new, rowid))
    return done
