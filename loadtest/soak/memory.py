"""Memory: what a process holds, sample by sample, and how fast that grows."""

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Sample(msgspec.Struct, frozen=True):
    """Memory held (the resident set, in bytes) after so many reps; `at_s` since the start.

    The resident set keeps what was needed at once at any time before. What is in use now is `blocks` of Python's own
    allocator, each of up to 512 bytes, and `malloc_bytes` of the C library's, which has all that is larger.
    """

    reps: int
    rss_bytes: int
    at_s: float
    blocks: int = 0
    malloc_bytes: int = 0


def rss_bytes() -> int:
    """Return the memory that this process holds now, in bytes.

    Examples
    --------
    >>> rss_bytes() > 5_000_000
    True
    """
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * _PAGE


class _MallInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc, as mallinfo(3) describes it."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def in_use() -> tuple[int, int]:
    """Return what is in use now: blocks of Python's allocator, and bytes of malloc's, 0 where there is no glibc.

    Examples
    --------
    >>> blocks, _ = in_use()
    >>> kept = [object() for _ in range(5_000)]
    >>> in_use()[0] - blocks >= 5_000
    True
    """
    look = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if look is None:
        return sys.getallocatedblocks(), 0
    look.restype = _MallInfo
    found = look()
    return sys.getallocatedblocks(), int(found.uordblks) + int(found.hblkhd)


def growth_pct(samples: Sequence[Sample], of: str = "rss_bytes") -> float:
    """Return by how much a straight line through samples grows from the first one to the last, in % of its beginning.

    Examples
    --------
    >>> round(growth_pct([Sample(10, 100, 0.0), Sample(20, 104, 1.0), Sample(30, 102, 2.0)]), 6)
    1.980198
    """
    reps = np.array([sample.reps for sample in samples], dtype=float)
    held = np.array([getattr(sample, of) for sample in samples], dtype=float)
    slope, start = np.polyfit(reps - reps[0], held, 1)
    return float(100.0 * slope * (reps[-1] - reps[0]) / start)
