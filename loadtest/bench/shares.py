"""Shares: on which parts of the code CPU time goes, by looking at the stack every millisecond of it."""

import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

PERIOD_S = 0.001
REST = "rest"


@contextmanager
def watched(parts: Mapping[str, str]) -> Iterator[Counter[str]]:
    """Count looks at the main thread's stack by part; the counts are there when the block has ended.

    A look belongs to the innermost function on the stack whose module has a part, else to `rest`.

    Parameters
    ----------
    parts : mapping of str to str
        Part by the module's name.

    Examples
    --------
    >>> with watched({__name__: "here"}) as looks:
    ...     _ = [sum(range(1_000)) for _ in range(5_000)]
    >>> looks.total() > 0
    True
    """
    looks = Counter[str]()

    def look(_number: int, frame: FrameType | None) -> None:
        while frame is not None:
            part = parts.get(frame.f_globals.get("__name__", ""))
            if part is not None:
                looks[part] += 1
                return
            frame = frame.f_back
        looks[REST] += 1

    before = signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, PERIOD_S, PERIOD_S)
    try:
        yield looks
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)


def percent(looks: Counter[str]) -> dict[str, float]:
    """Return what each part has of all looks, in %.

    Examples
    --------
    >>> percent(Counter(model=1, rest=3))
    {'model': 25.0, 'rest': 75.0}
    """
    return {part: 100.0 * count / looks.total() for part, count in sorted(looks.items())}
