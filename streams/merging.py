"""Merging: the records of several partitions in the order of their times."""

import heapq
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack

from streams.core.records import Record
from streams.stretch import Part, Readable, closing


async def merged(
    log: Readable, topic: str, parts: Mapping[int, Part], slice_records: int
) -> AsyncIterator[Sequence[Record]]:
    """Read partitions side by side, in slices; the order within a partition stays as it is.

    Of each partition one batch is held, some 3 MB.
    """
    async with AsyncExitStack() as stack:
        sources = [
            Source(await stack.enter_async_context(closing(log.read(topic, number, part.first, part.stop))))
            for number, part in sorted(parts.items())
        ]
        heads = [(first.timestamp_ms, n) for n, source in enumerate(sources) if (first := await source.first())]
        heapq.heapify(heads)
        some: list[Record] = []
        while heads:
            _, n = heads[0]
            some.append(sources[n].take())
            following = await sources[n].first()
            if following is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, (following.timestamp_ms, n))
            if len(some) >= slice_records:
                yield some
                some = []
        if some:
            yield some


class Source:
    """Records one by one, read ahead by a batch."""

    def __init__(self, batches: AsyncIterator[Sequence[Record]]) -> None:
        self._batches = batches
        self._ahead: list[Record] = []

    async def first(self) -> Record | None:
        """Return the next record without taking it; None at the end."""
        while not self._ahead:
            batch = await anext(self._batches, None)
            if batch is None:
                return None
            self._ahead = list(reversed(batch))
        return self._ahead[-1]

    def take(self) -> Record:
        """Take the record that `first` found."""
        return self._ahead.pop()
