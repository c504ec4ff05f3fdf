"""Disk: a small one of its own for history, that can be filled up."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from loadtest import native
from loadtest.child import installed

SIZE_MB = 256
"""Room for the points of an hour of this campaign; what fills it up is memory, so not more."""


class Disk:
    """A folder, and whether it has an end that can be reached.

    Attributes
    ----------
    kind : str
        What it is, in words, for the report.
    """

    def __init__(self, folder: Path, *, is_small: bool) -> None:
        self.folder, self.is_small = folder, is_small
        self.kind = f"tmpfs of {SIZE_MB} MB" if is_small else "not small: to mount one needs root"
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Leave no room."""
        if not self.is_small:
            return
        there = os.statvfs(self.folder)
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, there.f_bavail * there.f_frsize))

    def free(self) -> None:
        """Make room again."""
        self._ballast.unlink(missing_ok=True)


@asynccontextmanager
async def small_disk(*, is_wanted: bool = True) -> AsyncIterator[Disk]:
    """Mount a small disk in memory as long as the block, if wanted and allowed; else give a folder, never full."""
    may = is_wanted and os.geteuid() == 0
    with native.temporary_folder() as folder:
        is_small = may and await _run("mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", folder)
        try:
            yield Disk(folder, is_small=is_small)
        finally:
            if is_small:
                await _run("umount", "--lazy", folder)


async def _run(program: str, *arguments: str | Path) -> bool:
    command = [installed(program, package="mount"), *map(str, arguments)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
    return done.returncode == 0
