"""SQLite's errors as ours: by who must act."""

import sqlite3

from streams.core.errors import BrokenPromise, Busy

_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_NO_ROOM = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR_SHMSIZE,  # the index of the write-ahead log found no room; also when a file is opened
    sqlite3.SQLITE_IOERR_WRITE,  # a quota
}


class Full(Busy):
    """The disk has no room for now."""


def told(error: sqlite3.Error, what: str) -> Exception:
    """Tell SQLite's error as ours: `Busy` for a locked file, `Full` for a full disk, `BrokenPromise` for all others."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code in _NO_ROOM:
        return Full(f"{what}: {error}")
    # the low byte; the others tell the kind more closely
    return (Busy if code & 0xFF in _LOCKED else BrokenPromise)(f"{what}: {error}")
