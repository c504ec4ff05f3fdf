"""Disk: a small one of its own for history, that can be filled up."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from loadtest import native
from loadtest.child import installed

SIZE_MB = 4_096
"""Room for the points of the longest campaign; only what is used of it takes memory."""

TRIES = 20
"""Looks at what is used until the disk could be made as small: it may grow between a look and that."""


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

    async def fill(self) -> None:
        """Leave no room: make the disk as small as what it holds."""
        for _ in range(TRIES if self.is_small else 0):
            there = os.statvfs(self.folder)
            used_kb = (there.f_blocks - there.f_bfree) * there.f_frsize // 1024
            if await _run("mount", "-o", f"remount,size={used_kb}k", self.folder):
                return
        if self.is_small:
            raise OSError(f"{self.folder} could not be made full")

    async def free(self) -> None:
        """Make room again."""
        if self.is_small and not await _run("mount", "-o", f"remount,size={SIZE_MB}m", self.folder):
            raise OSError(f"{self.folder} could not be made large again")


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
