"""A lane: the records on their way into one partition, in the order in which they were handed over.

aiokafka takes a second batch for a partition once the first is on its way, but which of several waiting tasks gets that
place is left to chance. So a lane has one batch on its way at a time, and what comes meanwhile makes up the next one.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError

from streams.core.records import NewRecord
from streams.core.topics import RECORD_BYTES


class Lot:
    """Records that one caller handed over, and how many of them have gone into batches."""

    __slots__ = ("records", "stored", "taken")

    def __init__(self, records: Sequence[NewRecord]) -> None:
        self.records = records
        self.taken = 0
        self.stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Lane:
    """What waits for one partition.

    Parameters
    ----------
    producer : AIOKafkaProducer
        Sends the batches.
    topic, partition : str, int
        Where to.
    """

    def __init__(self, producer: AIOKafkaProducer, topic: str, partition: int) -> None:
        self._producer = producer
        self._topic, self._partition = topic, partition
        self._lots: deque[Lot] = deque()
        self._sending: asyncio.Task[None] | None = None

    def put(self, records: Sequence[NewRecord]) -> asyncio.Future[None]:
        """Queue records; the future is done when all are stored, and cancelling it withdraws what has not left yet."""
        lot = Lot(records)
        self._lots.append(lot)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all())
        return lot.stored

    def drop_withdrawn(self) -> None:
        """Forget what nobody waits for any more."""
        self._lots = deque(lot for lot in self._lots if not lot.stored.done())

    async def close(self) -> None:
        """Give up what is not stored."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait({self._sending})

    async def _send_all(self) -> None:
        # what this turn of the event loop brings goes together; a linger of 1 ms cost 2 ms and gained no throughput
        await asyncio.sleep(0)
        while self._lots:
            batch, lots = self._fill()
            if not lots:
                continue
            try:
                await self._send(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait for this must hear of it
                self._refuse(lots, error)
            else:
                self._confirm(lots)
        self._sending = None

    def _fill(self) -> tuple[Any, list[Lot]]:
        """Put as many records into a batch as it takes, and tell whose they are."""
        batch = self._producer.create_batch()
        lots: list[Lot] = []
        while self._lots:
            lot = self._lots[0]
            if not lot.stored.done():
                taken = lot.taken
                is_full = _pour(lot, batch)
                if lot.taken > taken:
                    lots.append(lot)
                if is_full:
                    break
            self._lots.popleft()
        batch.close()  # also tells aiokafka to send it without delay
        return batch, lots

    async def _send(self, batch: Any) -> None:  # noqa: ANN401 - aiokafka ships no types
        if (
            batch.size() > RECORD_BYTES
        ):  # then it is one record, and after a refusal aiokafka numbers the next ones wrong
            raise MessageSizeTooLargeError(f"a record of {batch.size()} bytes, at most {RECORD_BYTES}")
        stored = await self._producer.send_batch(batch, self._topic, partition=self._partition)
        await stored

    def _confirm(self, lots: Sequence[Lot]) -> None:
        for lot in lots:
            if lot.taken == len(lot.records) and not lot.stored.done():
                lot.stored.set_result(None)

    def _refuse(self, lots: Sequence[Lot], error: Exception) -> None:
        for lot in lots:
            if not lot.stored.done():
                lot.stored.set_exception(error)
        self.drop_withdrawn()


def _pour(lot: Lot, batch: Any) -> bool:  # noqa: ANN401 - aiokafka ships no types
    """Move records of a lot into a batch; tell whether the batch is full before the lot is empty."""
    append = batch.append
    for record in lot.records[lot.taken :]:
        headers = list(record.headers)
        if append(timestamp=record.timestamp_ms, key=record.key, value=record.value, headers=headers) is None:
            return True
        lot.taken += 1
    return False
