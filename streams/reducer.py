"""Reducer: a stage at work on the records of one partition, in memory. Engine and replay both drive it.

It keeps the promise E7: a record that can't be understood becomes a dead letter, a defect of ours freezes its key
alone, and the same records freeze the same keys whoever drives.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from streams.checkpoint import State
from streams.core.dead_letters import dead_letter
from streams.core.errors import Malformed
from streams.core.records import NewRecord, Record, header
from streams.core.stage import Stage
from streams.traces import Trace

REDRIVE = "spineloop-redrive"
"""Header of a dead letter that was put back after a mend: it lifts the quarantine of its key."""

REDRIVEN = "spineloop-redriven"
"""Header of a dead letter that was put back: the partition and the offset where it lay, so that it goes back once."""


class Witness(Protocol):
    """Who hears what went well and what did not; each call may raise to stop the work."""

    def stepped(self) -> None:
        """Hear that a record was reduced."""

    def put_aside(self, record: Record, reason: str) -> None:
        """Hear that a record became a dead letter."""

    def froze(self, record: Record, trace: Trace) -> None:
        """Hear that a defect of ours froze the record's key; of the trace only `places` may go into a log."""


class Defect(Exception):
    """`prepare` failed on one record: the fault is ours, the record is innocent."""

    def __init__(self, trace: Trace) -> None:
        super().__init__(trace)
        self.trace = trace


def prepared(stage: Stage[Any, Any], records: Sequence[Record]) -> Sequence[Any]:
    """Prepare all at once; if that fails, one by one, so that one bad record can't take others with it."""
    try:
        return stage.prepare(records)
    except Exception:  # noqa: BLE001 - whatever it is, it is ours, and E7 says what follows
        return [_prepared_alone(stage, record) for record in records]


def _prepared_alone(stage: Stage[Any, Any], record: Record) -> Any:  # noqa: ANN401 - an item, or what went wrong
    try:
        return stage.prepare([record])[0]
    except Exception as error:  # noqa: BLE001
        return Defect(Trace.of(error))


class Reducer:
    """Takes records in order and answers what each of them leads to."""

    def __init__(self, stage: Stage[Any, Any], state: State, witness: Witness) -> None:
        self._stage = stage
        self._state = state
        self._witness = witness

    def take(
        self, records: Sequence[Record], items: Sequence[Any] | None = None
    ) -> Iterator[tuple[Record, Sequence[NewRecord]]]:
        """Reduce one record after the other; dead letters are outputs, too. Without `items`, prepare them first."""
        items = prepared(self._stage, records) if items is None else items
        for record, item in zip(records, items, strict=True):
            yield record, self._step(record, item)

    def _step(self, record: Record, item: Any) -> Sequence[NewRecord]:  # noqa: ANN401
        if isinstance(item, Malformed):
            return self._aside(record, item)
        if not self._state.is_new(record):
            return ()  # the checkpoint of this key is ahead of the partition's position: it has been done (E3)
        if self._state.is_quarantined(record.key):
            if header(record, REDRIVE) is None:
                return [self._letter(record, "quarantined", "its key is frozen until a redrive")]
            self._state.release(record.key)
        if isinstance(item, Defect):
            return self._freeze(record, item.trace)
        return self._stepped(record, item)

    def _stepped(self, record: Record, item: Any) -> Sequence[NewRecord]:  # noqa: ANN401
        try:
            outputs = self._state.step(record, item)
        except Malformed as malformed:
            self._state.passed(record)  # what a redrive has lifted stays lifted
            return self._aside(record, malformed)
        except Exception as error:  # noqa: BLE001
            return self._freeze(record, Trace.of(error))
        self._witness.stepped()
        return outputs

    def _aside(self, record: Record, malformed: Malformed) -> Sequence[NewRecord]:
        return [self._letter(record, malformed.reason, malformed.detail)]

    def _freeze(self, record: Record, trace: Trace) -> Sequence[NewRecord]:
        """Freeze one key as it was before this record (E7)."""
        detail = trace.strip().splitlines()[-1]
        self._state.quarantine(record, detail)
        self._witness.froze(record, trace)
        return [self._letter(record, "quarantined", detail, trace), *self._stage.alarm(record, detail)]

    def _letter(self, record: Record, reason: str, detail: str, trace: str = "") -> NewRecord:
        self._witness.put_aside(record, reason)
        return dead_letter(record, stage=self._stage.name, reason=reason, detail=detail, trace=trace)
