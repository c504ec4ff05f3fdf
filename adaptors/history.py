"""History: what the metric and the command topic say, as points in a sink; what can't be stored, as dead letters.

What is older than the sink keeps anything is neither: it is counted and left in the log, whose retention is longer.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from adaptors.delivery import Pace
from adaptors.points import BEYOND_RETENTION, Point, Rejected, points
from streams.core.dead_letters import InARow, dead_letter
from streams.core.errors import BrokenPromise, Malformed
from streams.core.meters import Meters
from streams.core.records import NewRecord, Record
from streams.core.topics import COMMAND, METRIC

GROUPS = {METRIC: "history-metric", COMMAND: "history-command"}
"""The topics that history reads, each with a `Delivery`, a `History` and a group of its own: in one group, every member
that comes or goes on the one topic would interrupt the other."""

STAGE = "history"
"""Name of the stage in dead letters and meters."""

PACE = Pace(max_records=5_000, linger_s=1.0)
"""One record is one point, and InfluxDB takes points fastest by thousands: a batch is full, or a second old."""

DEAD_LETTERS_IN_A_ROW = 1_000
"""So many dead letters with nothing stored between them end the process: then the release is bad, not the data."""

YIELD_EVERY_RECORDS = 100
"""Records turned into points before other tasks get their turn: about 5 ms."""


class Sink(Protocol):
    """Keeps points: InfluxDB or SQLite."""

    async def write(self, points: Sequence[Point]) -> Sequence[Rejected]:
        """Store points; when it returns, all are durable but those that are returned with the reason. Raises Busy."""


class Letterbox(Protocol):
    """Takes dead letters: the log."""

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Store records; when it returns, all are durable. Raises Busy."""


class History:
    """The effect of one topic's delivery: its records are points in the sink, or dead letters.

    Parameters
    ----------
    sink : Sink
        Where points go.
    letterbox : Letterbox
        Where records go that are no points, or whose points the sink refuses for good.
    meters : Meters
        Counts points (`spineloop_points_total`), those too old to be kept (`spineloop_points_too_old_total`) and dead
        letters (`spineloop_dead_letters_total` by stage and reason).
    dead_letters_in_a_row : int
        More of them with nothing stored in between end the process; of one key only a hundred count.
    """

    def __init__(
        self, sink: Sink, letterbox: Letterbox, meters: Meters, *, dead_letters_in_a_row: int = DEAD_LETTERS_IN_A_ROW
    ) -> None:
        self._sink = sink
        self._letterbox = letterbox
        self._meters = meters
        self._letters = InARow(dead_letters_in_a_row)
        self._broken: str | None = None

    async def store(self, records: Sequence[Record]) -> None:
        """Store records; when it returns, each is durable as a point or as a dead letter, or too old to be kept.

        Storing the same records again changes no point; dead letters are then written twice.

        Raises
        ------
        Busy
            The sink or the log refuses for now: store the same records again.
        """
        stored: list[tuple[int, Point]] = []
        refused: dict[int, Rejected] = {}
        for index, record in enumerate(records):
            try:
                stored += [(index, point) for point in points(record)]
            except Malformed as malformed:
                refused[index] = Rejected(index, malformed.reason, malformed.detail)
            if index % YIELD_EVERY_RECORDS == 0:
                await asyncio.sleep(0)
        rejected = await self._sink.write([point for _, point in stored])
        too_old = {stored[one.index][0] for one in rejected if one.reason == BEYOND_RETENTION}
        refused |= {stored[one.index][0]: one for one in rejected if one.reason != BEYOND_RETENTION}
        if refused:
            await self._letterbox.append([_letter(records[index], refused[index]) for index in sorted(refused)])
        self._count_in_a_row(records, refused, too_old)
        self._meters.count("spineloop_points_total", len(stored) - len(rejected))
        if too_old:
            self._meters.count("spineloop_points_too_old_total", len(too_old))
        for one in refused.values():
            self._meters.count("spineloop_dead_letters_total", stage=STAGE, reason=one.reason)

    def check(self) -> None:
        """Raise BrokenPromise if too many in a row became dead letters.

        Asked when positions have moved, and not before: a restart must get further.
        """
        if self._broken is not None:
            raise BrokenPromise(self._broken)

    def _count_in_a_row(self, records: Sequence[Record], refused: dict[int, Rejected], too_old: set[int]) -> None:
        for index, record in enumerate(records):
            if index in too_old:
                continue
            if index not in refused:
                self._letters.good()
                continue
            self._letters.bad(record.key, refused[index].reason)
            if self._letters.are_too_many:  # the detail stays in the letter: it may quote what was to be stored
                self._broken = f"{STAGE}: {self._letters.total} dead letters in a row, last {refused[index].reason}"


def _letter(record: Record, refused: Rejected) -> NewRecord:
    return dead_letter(record, stage=STAGE, reason=refused.reason, detail=refused.detail)
