"""Kept: what a machine has said stays in it for a while, so that it can be said again. On disk, or nowhere."""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from streams.core import codec
from streams.core.telemetry import Ordered

MAX_KEPT = 10_000
"""Messages of one machine that are kept: a day of training. The oldest goes first."""

MAX_KEPT_BYTES = 16 * 2**20
"""Bytes of one machine's messages that are kept: as many reps of 300 samples."""


class Kept(Protocol):
    """Where machines keep what they said, whatever became of it."""

    def keep(self, machine: str, message: Ordered) -> None:
        """Keep a message; it is safe before it is said."""

    def between(self, machine: str, boot_id: str, first_seq: int, last_seq: int) -> Sequence[Ordered]:
        """Return what is kept of a stretch of a boot, in order."""


class Nothing:
    """A machine that keeps nothing: what is lost on the way is lost."""

    def keep(self, machine: str, message: Ordered) -> None:
        """Forget it."""

    def between(self, machine: str, boot_id: str, first_seq: int, last_seq: int) -> Sequence[Ordered]:  # noqa: ARG002 - whatever is asked
        """Return nothing."""
        return ()


class KeptOnDisk:
    """One SQLite file for the machines of one process; `:memory:` is no file, and dies with the process.

    A message is in the file when `keep` returns, so the end of the process loses none. A crash of the computer may lose
    the last ones: a real machine waits for its disk as well.

    Parameters
    ----------
    path : str or Path
        The file.
    max_count, max_bytes : int
        How much is kept of each machine.
    """

    def __init__(self, path: str | Path, *, max_count: int = MAX_KEPT, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self._max_count, self._max_bytes = max_count, max_bytes
        self._file = sqlite3.connect(path, isolation_level=None)
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("PRAGMA synchronous = NORMAL")
        self._file.execute(
            "CREATE TABLE IF NOT EXISTS kept (number INTEGER PRIMARY KEY, machine TEXT NOT NULL, boot_id TEXT NOT NULL,"
            " seq INTEGER NOT NULL, said BLOB NOT NULL, UNIQUE (machine, boot_id, seq))"
        )
        self._count, self._bytes = Counter[str](), Counter[str]()
        for machine, count, size in self._file.execute(
            "SELECT machine, count(*), sum(length(said)) FROM kept GROUP BY machine"
        ):
            self._count[machine], self._bytes[machine] = count, size

    def keep(self, machine: str, message: Ordered) -> None:
        """Keep a message; the oldest ones make room for it and some more."""
        said = codec.encode(message)
        row = (machine, message.boot_id, message.seq, said)
        done = self._file.execute("INSERT OR IGNORE INTO kept (machine, boot_id, seq, said) VALUES (?, ?, ?, ?)", row)
        self._count[machine] += done.rowcount
        self._bytes[machine] += done.rowcount * len(said)
        while self._count[machine] > self._max_count or self._bytes[machine] > self._max_bytes:
            self._forget_the_oldest(machine)

    def _forget_the_oldest(self, machine: str) -> None:
        """Forget a hundredth of what is kept, so that it is not looked for with every message."""
        gone = self._file.execute(
            "DELETE FROM kept WHERE number IN (SELECT number FROM kept WHERE machine = ? ORDER BY number LIMIT ?)"
            " RETURNING length(said)",
            (machine, max(1, self._count[machine] // 100)),
        ).fetchall()
        self._count[machine] -= len(gone)
        self._bytes[machine] -= sum(size for (size,) in gone)

    def between(self, machine: str, boot_id: str, first_seq: int, last_seq: int) -> Sequence[Ordered]:
        """Return what is kept of a stretch of a boot, in order."""
        found = self._file.execute(
            "SELECT said FROM kept WHERE machine = ? AND boot_id = ? AND seq BETWEEN ? AND ? ORDER BY seq",
            (machine, boot_id, first_seq, last_seq),
        )
        return [cast("Ordered", codec.decode_telemetry(machine, said)) for (said,) in found]

    def close(self) -> None:
        """Close the file."""
        self._file.close()
