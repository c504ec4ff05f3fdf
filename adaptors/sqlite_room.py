"""Room: what is known of the disk under a file, full or with room again."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from adaptors.sqlite_errors import Full

RECENT_S = 2.0
"""For how long a refusal says that the disk is full, in s: who waits for room tries five times a second."""

_log = structlog.get_logger()


def disk_of(path: Path) -> Path:
    """Return where the disk is mounted that a file or folder lies on, or will; a folder may be such a place itself."""
    whole = path.absolute()
    return next(place for place in (whole, *whole.parents) if os.path.ismount(place))


class Room:
    """Whether the disk has room, as far as writes tell; one line when it is full, and one when it has room again.

    A small write may find room where a large one does not, so it is refusals that count and not what went well
    between them.

    Parameters
    ----------
    path : Path
        The file that is written.
    now_s : callable
        A clock that only goes forward, in s.
    """

    def __init__(self, path: Path, now_s: Callable[[], float] = time.monotonic) -> None:
        self._path, self._now_s = path, now_s
        self._refused_s: float | None = None
        self._is_told = False

    def refused(self, why: Full) -> None:
        """Hear that a write found no room."""
        self._refused_s = self._now_s()
        if not self._is_told:
            self._is_told = True
            _log.error(
                "disk is full: nothing more is stored or acknowledged until there is room",
                disk=str(disk_of(self._path)),
                file=str(self._path),
                why=str(why),
            )

    def taken(self) -> None:
        """Hear that a write is durable."""
        if self._is_told and not self._is_recent():
            self._is_told = False
            _log.info("disk has room again", disk=str(disk_of(self._path)), file=str(self._path))

    def check(self) -> None:
        """Raise Full if a write was refused just now."""
        if self._is_recent():
            raise Full(f"{self._path}: the disk is full")

    def _is_recent(self) -> bool:
        return self._refused_s is not None and self._now_s() - self._refused_s < RECENT_S
