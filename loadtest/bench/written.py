"""Written: what a topic of the log has got since a certain moment."""

from collections.abc import Mapping

from streams.core.records import Record
from streams.log import Log


class Written:
    """The records of a topic from given offsets on.

    Parameters
    ----------
    log : Log
        Where the topic is.
    topic : str
        Its name.
    starts : mapping of int to int
        The offset to begin with, by partition.
    """

    def __init__(self, log: Log, topic: str, starts: Mapping[int, int]) -> None:
        self._log, self._topic, self._starts = log, topic, starts

    async def count(self) -> int:
        """Count what has been written since."""
        return sum(end - self._starts[number] for number, (_, end) in (await self._log.bounds(self._topic)).items())

    async def records(self) -> list[Record]:
        """Read what has been written since, partition by partition."""
        return [
            record
            for number, start in self._starts.items()
            async for records in self._log.read(self._topic, number, start)
            for record in records
        ]


async def from_now(log: Log, topic: str) -> Written:
    """Begin at the end of a topic."""
    return Written(log, topic, {number: end for number, (_, end) in (await log.bounds(topic)).items()})
