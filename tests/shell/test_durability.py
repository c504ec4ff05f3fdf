"""Durability: what a power cut would show and no killed process does, so the clients are asked how they are set up."""

import sqlite3
from pathlib import Path

from adaptors import kafka_clients
from adaptors.kafka_clients import Cluster
from adaptors.sqlite_history import open_sqlite_history
from adaptors.sqlite_log import open_sqlite_log

FULL = 2
"""`synchronous` as SQLite numbers it: a transaction that is committed has been flushed to the disk."""

ALL = -1
"""`acks` as Kafka numbers it: every replica that keeps up has the batch."""


def durability(connection: sqlite3.Connection) -> tuple[str, int]:
    """Return a connection's journal mode, which the file keeps, and its `synchronous`, which it has for itself."""
    (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    return journal, synchronous


async def test_what_the_log_file_has_taken_is_on_the_disk(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path / "log.db", 1) as log:
        assert durability(log._writer._connection) == ("wal", FULL)  # noqa: SLF001 - another connection has its own


async def test_what_the_history_file_has_taken_is_on_the_disk(tmp_path: Path) -> None:
    async with open_sqlite_history(tmp_path / "history.db") as history:
        told = await history._run(lambda: durability(history._connection))  # noqa: SLF001 - in its own thread
    assert told == ("wal", FULL)


async def test_what_kafka_has_taken_is_on_every_replica_that_keeps_up_and_once() -> None:
    producer = kafka_clients.producer(Cluster(bootstrap="hand:1", client_id="test"), batch_bytes=1_000)
    assert producer._sender._acks == ALL  # noqa: SLF001 - aiokafka has no public way to ask
    assert producer._txn_manager is not None  # noqa: SLF001 - who numbers its batches has one: idempotence
    await producer.stop()
