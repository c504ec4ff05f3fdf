"""The clients: how those of aiokafka are set up, started and stopped, and their errors told as ours."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol, TypeVar

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    RecordTooLargeError,
)

from streams.core.errors import BrokenPromise, Busy
from streams.core.topics import RECORD_BYTES, STATE_MAX_BATCH_BYTES

PRODUCER_BATCH_BYTES = 256 * 1024
"""Size at which a record batch is closed. A record batch of 1.5 kB reps then holds 170 of them."""

STATE_REQUEST_BYTES = STATE_MAX_BATCH_BYTES + 64 * 1024
"""Largest checkpoint and the request around it."""

PARTITION_FETCH_BYTES = 4 * 1024 * 1024
"""What a consumer holds of one partition at most, but for a single record batch, which comes whole."""

UNREAD_BYTES = 64 * 1024 * 1024
"""What a consumer holds of all partitions together: aiokafka keeps a fetch of each that is not handed out yet. Where
there are more than 64, it is more: `RECORD_BYTES` of each, so that no record has to wait until its partition is asked
for first."""

FETCH_BYTES = 16 * 1024 * 1024
"""What a consumer fetches in one request at most, of all its partitions."""

FETCH_WAIT_MS = 100
"""How long the broker keeps a fetch that finds nothing. While it does, a partition that was just resumed must wait."""

PATIENT_BYTES = 256 * 1024
"""What is worth an answer to one who has patience."""

SLOWEST_BYTES_PER_S = 500_000
"""What a line to Kafka carries at least, 4 Mbit/s. After an outage a bridge appends up to 64 MiB at once: where that
takes longer than an answer may, what fits in that time is stored again with each try, and the rest never."""

STOP_S = 2.0
"""Longest wait for a client to leave orderly; SIGTERM gives a process ten seconds, and most of them to its work."""

IDLE_MS = 2**31 - 1
"""How long a consumer may poll nothing and stay in its group: for ever. aiokafka would leave after 300 s, while a batch
waits for a server that is away, and never come back: it rejoins when somebody polls, and we poll once it has rejoined.
Whoever hangs is ended by our own watchdog (E8)."""

_NOT_NOW = (KafkaTimeoutError, OSError)  # TimeoutError is an OSError
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError, RecordTooLargeError)
_log = structlog.get_logger()


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """Where Kafka is, and how we behave towards it.

    Parameters
    ----------
    bootstrap : str
        `host:port` of one broker or more, with commas.
    client_id : str
        Who we are in Kafka's own logs and quotas.
    timeout_s : float
        How long to wait for an answer before Busy is raised, in s.
    session_timeout_ms, heartbeat_ms : int
        After how long without a sign of life the group gives a member's partitions away, and how often it gives one.
    rebalance_timeout_ms : int
        How long the members of a group have to finish with their partitions when these are shared out anew.
    instance : str or None
        Name under which a member that restarts within the session timeout finds its partitions as they were (static
        membership); one for each process. It leaves the group only by that timeout.
    patience_ms : int
        How long the broker may keep a fetch until `PATIENT_BYTES` have come; 0 for one who wants each record at once.
    security : mapping
        What aiokafka's clients take beyond that: `security_protocol`, `ssl_context`, `sasl_mechanism` and so on.
    """

    bootstrap: str
    client_id: str
    timeout_s: float = 10.0
    session_timeout_ms: int = 10_000
    heartbeat_ms: int = 3_000
    rebalance_timeout_ms: int = 30_000
    instance: str | None = None
    patience_ms: int = 0
    security: Mapping[str, Any] = {}

    def access(self) -> dict[str, Any]:
        """Return what every client is given."""
        return {
            "bootstrap_servers": self.bootstrap,
            "client_id": self.client_id,
            "request_timeout_ms": int(self.timeout_s * 1000),
            **self.security,
        }


class Client(Protocol):
    """What can be started and stopped."""

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Leave."""


_C = TypeVar("_C", bound=Client)


def producer(cluster: Cluster, *, batch_bytes: int) -> AIOKafkaProducer:
    """Return a producer that has stored a batch once it says so, and only once."""
    return AIOKafkaProducer(
        **cluster.access(),
        acks="all",
        enable_idempotence=True,
        max_batch_size=batch_bytes,
        max_request_size=STATE_REQUEST_BYTES,
    )


def fetch_bytes(partitions: int) -> int:
    """Return what a consumer may hold of each partition, so that it is not much of all of them.

    Examples
    --------
    >>> [fetch_bytes(partitions) // 1024 for partitions in (1, 12, 32, 192)]
    [4096, 4096, 2048, 1024]
    """
    return max(RECORD_BYTES, min(PARTITION_FETCH_BYTES, UNREAD_BYTES // partitions))


def consumer(cluster: Cluster, group: str | None = None, *, partitions: int = 1) -> AIOKafkaConsumer:
    """Return a consumer, of so many partitions at most, that commits only what it is told to."""
    return AIOKafkaConsumer(
        **cluster.access(),
        group_id=group,
        group_instance_id=cluster.instance if group else None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=cluster.session_timeout_ms,
        heartbeat_interval_ms=cluster.heartbeat_ms,
        rebalance_timeout_ms=cluster.rebalance_timeout_ms,
        max_poll_interval_ms=IDLE_MS,
        max_partition_fetch_bytes=fetch_bytes(partitions),
        fetch_max_bytes=FETCH_BYTES,
        fetch_max_wait_ms=max(FETCH_WAIT_MS, cluster.patience_ms),
        fetch_min_bytes=PATIENT_BYTES if cluster.patience_ms else 1,
    )


@contextmanager
def promises(what: str) -> Iterator[None]:
    """Tell Kafka's errors as ours: `Busy` for what may pass, `BrokenPromise` for what will not."""
    try:
        yield
    except _NOT_NOW as error:
        raise Busy(f"Kafka: {what}: {str(error) or 'no answer in time'}") from error
    except _TOO_LARGE as error:
        raise BrokenPromise(f"Kafka: {what}: {error}") from error
    except KafkaError as error:
        raise (Busy if error.retriable else BrokenPromise)(f"Kafka: {what}: {error}") from error


@asynccontextmanager
async def within(timeout_s: float, what: str) -> AsyncIterator[None]:
    """Give Kafka so many seconds; raises as `promises` does."""
    with promises(what):
        async with asyncio.timeout(timeout_s):
            yield


@asynccontextmanager
async def running(client: _C, timeout_s: float) -> AsyncIterator[_C]:
    """Start a client, and stop it at the end of the block whatever state it and Kafka are in."""
    try:
        async with within(timeout_s, "connect"):
            await client.start()
        yield client
    finally:
        await stop(client)


@asynccontextmanager
async def running_together(clients: Sequence[Client], timeout_s: float) -> AsyncIterator[None]:
    """Start clients, and stop them at the same time: if Kafka is gone, the waiting is done once and not for each."""
    try:
        for client in clients:
            async with within(timeout_s, "connect"):
                await client.start()
        yield
    finally:
        await asyncio.gather(*(stop(client) for client in clients))


async def stop(client: Client) -> None:
    """Stop a client; if it doesn't, because Kafka is gone, drop its connections.

    In a task of its own, because some of aiokafka's stop with the CancelledError of a task of theirs.
    """
    stopping = asyncio.ensure_future(client.stop())
    await asyncio.wait({stopping}, timeout=STOP_S)
    if stopping.done() and not stopping.cancelled() and stopping.exception() is None:
        return
    _log.warning("kafka_client_cut_off", client=type(client).__name__)
    stopping.cancel()
    await _cut_off(client)


async def _cut_off(client: Client) -> None:
    # aiokafka has no public way to leave without the broker
    if isinstance(client, AIOKafkaProducer):
        client._message_accumulator.fail_all(KafkaTimeoutError())  # noqa: SLF001
        client._sender.sender_task.cancel()  # noqa: SLF001
        await client.client.close()
    elif isinstance(client, AIOKafkaConsumer):
        _end_fetching(client)
        await client._client.close()  # noqa: SLF001


def _end_fetching(client: AIOKafkaConsumer) -> None:
    """End the tasks that fetch: aiokafka ends them when it stops, and they would go on if Kafka came back."""
    if client._fetcher is not None:  # noqa: SLF001
        for task in (client._fetcher._fetch_task, *client._fetcher._pending_tasks):  # noqa: SLF001
            task.cancel()
