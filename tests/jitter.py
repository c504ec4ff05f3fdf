"""Jitter: what sockets bring is read late and in another order, as on a busy machine.

Nothing promises that of two sockets the one that has something first is read first, so no test may lean on it. With
this plugin a test that does fails here and not in somebody's build: `python -m pytest -p tests.jitter tests/shell`, and
again with another `JITTER_SEED`. What is held back comes a moment later, and nothing is lost.
"""

import os
import random
import selectors
import time
from collections.abc import Callable

Events = list[tuple[selectors.SelectorKey, int]]

SHARE = 0.25
"""How often something that is there is held back."""

HOLDS_S = (0.005, 0.05, 0.15)
"""For how long, in s."""

LOOK_AGAIN_S = 0.002
"""Pause in s when all that is there is held back: the selector would not wait."""


class Jitter:
    """Holds back some of what a selector finds, and shuffles the rest.

    Parameters
    ----------
    dice : random.Random
        Chooses what and for how long.
    now_s, sleep : callable
        The clock in s, and how to wait for so many.
    """

    def __init__(self, dice: random.Random, now_s: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._dice, self._now_s, self._sleep = dice, now_s, sleep
        self._until_s: dict[tuple[int, int], float] = {}

    def pass_on(self, selector: object, found: Events) -> Events:
        """Return what may be read now; the rest is found again at the next look."""
        passed = [event for event in found if not self._is_held(id(selector), event[0].fd)]
        if found and not passed:
            self._sleep(LOOK_AGAIN_S)
        self._dice.shuffle(passed)
        return passed

    def _is_held(self, selector: int, fd: int) -> bool:
        until_s = self._until_s.get((selector, fd))
        if until_s is None and self._dice.random() < SHARE:
            until_s = self._until_s[selector, fd] = self._now_s() + self._dice.choice(HOLDS_S)
        if until_s is not None and self._now_s() < until_s:
            return True
        self._until_s.pop((selector, fd), None)
        return False


def pytest_configure() -> None:
    """Stand between every event loop of this process and its sockets."""
    jitter = Jitter(random.Random(int(os.environ.get("JITTER_SEED", "1"))), time.monotonic, time.sleep)
    look = selectors.EpollSelector.select

    def select(self: selectors.EpollSelector, timeout: float | None = None) -> Events:
        return jitter.pass_on(self, look(self, timeout))

    selectors.EpollSelector.select = select  # type: ignore[assignment,method-assign]
