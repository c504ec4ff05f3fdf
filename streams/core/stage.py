"""Stage: the pure pair that the engine drives. `prepare` measures a whole poll, `step` reduces one item."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from streams.core.errors import Malformed
from streams.core.records import NewRecord, Record

S = TypeVar("S")
Item = TypeVar("Item")


class Stage(Protocol[S, Item]):
    """One reducer over a keyed topic. Every method is pure: same arguments, same bytes out."""

    @property
    def name(self) -> str:
        """Short name for logs, meters and the consumer group."""

    @property
    def topic(self) -> str:
        """The topic that it reads."""

    @property
    def state_topic(self) -> str:
        """The compacted topic, with as many partitions, that keeps its state."""

    def prepare(self, records: Sequence[Record]) -> Sequence[Item | Malformed]:
        """Decode and measure many records at once; one answer a record, in order, each by that record alone."""

    def start(self, key: bytes) -> S:
        """Return the state of a key that was never seen."""

    def step(self, state: S, item: Item, now_ms: int) -> tuple[S, Sequence[NewRecord]]:
        """Reduce one item; `now_ms` is the record's timestamp, the only clock that there is.

        Raises Malformed for what can't be taken any more; the state stays as it is, and the record is put aside.
        """

    def save(self, state: S) -> bytes:
        """Write a state, at most `MAX_STATE_BYTES` long."""

    def restore(self, saved: bytes) -> S:
        """Read a state back."""

    def alarm(self, record: Record, detail: str) -> Sequence[NewRecord]:
        """Say that the record's key has been quarantined."""


MAX_STATE_BYTES = 32_768
"""Largest state of one key in bytes. Every list in a state has a bound, so a larger one is a defect of ours."""
