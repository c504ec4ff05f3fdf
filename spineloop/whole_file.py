"""Whole file: a file that is there as a whole or not at all, and what was there stays until then."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """Write a file beside its place, and put it there when it is done. Devices, pipes and links are written to."""
    if file.is_symlink() or (file.exists() and not file.is_file()):
        yield file  # to put a file in the place of /dev/stdout or /dev/null would take it from everybody
        return
    unfinished = file.with_name(f".{file.name}.unfinished")
    try:
        yield unfinished
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
