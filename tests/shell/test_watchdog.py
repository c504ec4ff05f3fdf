"""A delivery that hangs ends its process; one that is refused, or has nothing to do, does not."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from adaptors.delivery import Delivery, Pace
from adaptors.sqlite_group import SqliteSubscription
from adaptors.sqlite_log import open_sqlite_log
from spineloop.watchdog import Watched
from streams.core.errors import BrokenPromise, Busy
from streams.core.records import Record
from streams.core.topics import TELEMETRY
from tests.shell.counts import Counts
from tests.shell.tally import told

STALL_S = 2.0


async def run(tmp_path: Path, effect: object, records: int) -> None:
    """Watch a delivery with this effect for twice as long as it may hang."""
    async with open_sqlite_log(tmp_path / "log.db", 1) as log:
        await log.append([told("m1", f"r{n}") for n in range(records)])
        stop, counts = asyncio.Event(), Counts()
        pace = Pace(linger_s=0.0, longest_retry_s=0.2)
        one = Delivery(log, TELEMETRY, "g", effect, pace=pace, dice=lambda: 0.0, meters=counts)  # type: ignore[arg-type]
        asyncio.get_running_loop().call_later(2 * STALL_S, stop.set)
        await Watched(one, STALL_S, counts).run(stop)


async def hangs(_: Sequence[Record]) -> None:
    await asyncio.Event().wait()


async def is_refused(_: Sequence[Record]) -> None:
    raise Busy("away")


async def test_a_delivery_that_hangs_ends_its_process(tmp_path: Path) -> None:
    with pytest.raises(BrokenPromise, match=r"g: 3 records of lag, no progress in 2.0 s"):
        await run(tmp_path, hangs, records=3)


async def test_a_delivery_that_is_refused_goes_on_asking(tmp_path: Path) -> None:
    await run(tmp_path, is_refused, records=3)


async def never_answers(_: SqliteSubscription, max_records: int, timeout_s: float) -> Mapping[int, Sequence[Record]]:
    """Poll as a member does whose group has gone on without it."""
    await asyncio.sleep(min(timeout_s, 0.01))
    raise Busy(f"none of {max_records} records")


async def test_a_delivery_whose_subscription_is_broken_while_the_log_answers_ends_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SqliteSubscription, "poll", never_answers)
    with pytest.raises(BrokenPromise, match=r"g: 3 records of lag, no progress in 2.0 s"):
        await run(tmp_path, hangs, records=3)


async def test_a_delivery_with_nothing_to_do_may_wait(tmp_path: Path) -> None:
    await run(tmp_path, hangs, records=0)
