"""The jitter of `pytest -p tests.jitter`: everything comes, and not always at once."""

import random
import selectors

from tests.jitter import Events, Jitter


def test_what_is_held_back_comes_later_and_not_always_in_the_same_order() -> None:
    now_s = [0.0]

    def sleep(pause_s: float) -> None:
        now_s[0] += pause_s

    jitter = Jitter(random.Random(1), lambda: now_s[0], sleep)
    found: Events = [(selectors.SelectorKey(fd, fd, selectors.EVENT_READ, None), 1) for fd in range(3)]
    looks = []
    for _ in range(200):
        looks.append([key.fd for key, _ in jitter.pass_on("selector", found)])
        now_s[0] += 0.01
    assert {len(fds) for fds in looks} == {0, 1, 2, 3}
    assert len({tuple(fds) for fds in looks if len(fds) == 3}) > 1
    for fd in range(3):
        assert max(map(len, "".join("x" if fd in fds else " " for fds in looks).split("x"))) <= 15  # of 10 ms or more
