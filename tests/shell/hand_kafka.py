"""A Kafka of one partition whose answers are written by hand, below aiokafka's own consumer."""

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import KafkaTimeoutError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import BrokerMetadata, PartitionMetadata

TOPIC = "topic"
BATCH_RECORDS = 5


class HandKafka(AIOKafkaClient):  # type: ignore[misc]  # aiokafka ships no types
    """Holds a number of records, takes any member into any group, and counts what it is asked.

    It is a client of aiokafka's, to be put in the place of a consumer's own before that is started.

    Parameters
    ----------
    records : int
        How many there are.

    Attributes
    ----------
    asked : Counter
        Requests by the name of their kind.
    unanswered : Counter
        Those that wait for it to thaw.
    """

    def __init__(self, records: int) -> None:
        super().__init__(bootstrap_servers="hand:1", client_id="hand")
        self.asked = Counter[str]()
        self.unanswered = Counter[str]()
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._records = records

    def freeze(self) -> None:
        """Take requests and answer none."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Answer again; to what came meanwhile it is too late."""
        self._thawed.set()

    async def bootstrap(self) -> None:
        self.cluster._brokers = {0: BrokerMetadata(0, "hand", 1, None)}  # noqa: SLF001 - there is no other way in
        self.cluster._partitions = {TOPIC: {0: PartitionMetadata(TOPIC, 0, 0, [0], [0], 0)}}  # noqa: SLF001

    async def ready(self, *_: Any, **__: Any) -> bool:
        return True

    def force_metadata_update(self) -> "asyncio.Future[bool]":
        known = asyncio.get_running_loop().create_future()
        known.set_result(True)
        return known

    def set_topics(self, _: Any) -> "asyncio.Future[bool]":
        return self.force_metadata_update()

    add_topic = set_topics

    async def coordinator_lookup(self, *_: Any) -> int:
        return 0

    async def close(self) -> None:
        """There is no connection to close."""

    async def send(self, _: int, request: Any, *, group: Any = None) -> Any:  # noqa: ARG002 - aiokafka names it
        kind = type(request).__name__
        self.asked[kind] += 1
        await asyncio.sleep(0.01)
        if not self._thawed.is_set():
            self.unanswered[kind] += 1
            await self._thawed.wait()
            raise KafkaTimeoutError
        return SimpleNamespace(error_code=0, **self._answer(kind, request))

    def _answer(self, kind: str, request: Any) -> dict[str, Any]:  # noqa: PLR0911 - one for each kind
        match kind:
            case "JoinGroupRequest":
                members = [("m", ConsumerProtocol.METADATA(0, [TOPIC], b"").encode())]
                told = {"generation_id": 1, "group_protocol": "roundrobin", "leader_id": "m", "member_id": "m"}
                return {"API_VERSION": 2, "members": members, **told}
            case "SyncGroupRequest":
                return {"member_assignment": ConsumerProtocol.ASSIGNMENT(0, [(TOPIC, [0])], b"").encode()}
            case "OffsetFetchRequest":
                return {"topics": [(TOPIC, [(0, -1, "", 0)])]}
            case "OffsetCommitRequest":
                return {"topics": [(TOPIC, [(0, 0)])]}
            case "OffsetRequest" | "ListOffsetsRequest":
                (_, [(_, time_ms, *_)]), *_ = request._topics  # noqa: SLF001 - -2 asks for the earliest
                return {"API_VERSION": 1, "topics": [(TOPIC, [(0, 0, -1, 0 if time_ms == -2 else self._records)])]}
            case "FetchRequest":
                (_, [(_, offset, _)]), *_ = request.topics
                some = _batch(offset) if offset < self._records else b""
                return {"API_VERSION": 4, "topics": [(TOPIC, [(0, 0, self._records, self._records, [], some)])]}
        return {}  # a heartbeat, or a goodbye


def _batch(first: int) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 10**6)
    for number in range(BATCH_RECORDS):
        builder.append(number, 1_000, b"k", b"v", [])
    raw = bytearray(builder.build())
    raw[0:8] = first.to_bytes(8, "big")
    return bytes(raw)
