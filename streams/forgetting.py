"""Forgetting: what becomes of records and states when a patient's pseudonym is erased."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from streams.checkpoint import POSITION_KEY, Entries, Kept, position_entry
from streams.core.erasure import Erasure
from streams.core.records import Record
from streams.core.stage import Stage

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Kept).decode


class Forgetting:
    """Erases one pseudonym from records, and from the states of stages.

    Parameters
    ----------
    erasure : Erasure
        Whom to forget.
    stages : sequence of Stage
        Whose states there are.
    """

    def __init__(self, erasure: Erasure, stages: Sequence[Stage[Any, Any]]) -> None:
        self._erasure = erasure
        self._of_topic: Mapping[str, Stage[Any, Any]] = {stage.state_topic: stage for stage in stages}

    def record(self, record: Record) -> Record | None:
        """Return a record without the pseudonym: itself if it has none, None if it is the patient's own state."""
        if record.topic in self._of_topic:
            if record.key == self._erasure.patient.encode():
                return None
            value = None if record.value is None else self._state(record)
            return record if value == record.value else msgspec.structs.replace(record, value=value)
        key, headers = record.key, self._erasure.headers(record.headers)
        key = self._erasure.raw(key)
        value = None if record.value is None else self._erasure.payload(record.value)
        if (key, value, headers) == (record.key, record.value, record.headers):
            return record
        return msgspec.structs.replace(record, key=key, value=value, headers=headers)

    def mentions(self, record: Record) -> bool:
        """Tell whether a record has the pseudonym in it."""
        return self.record(record) is not record

    def states(self, records: Iterable[Record]) -> Entries:
        """Join what a state topic's partition holds, and return it anew and without the pseudonym, the position last.

        The patient's own state is left out, and not deleted by a tombstone: that would bear the name.
        """
        newest: dict[bytes, tuple[int, bytes]] = {}
        reached = Kept(0, None)
        for record in records:
            clean = self.record(record)
            if clean is None or clean.value is None:
                continue
            kept = _decode(clean.value)
            if clean.key == POSITION_KEY:
                reached = max(reached, kept, key=lambda one: (one.position, one.partitions))
            elif clean.key not in newest or newest[clean.key][0] <= kept.position:
                newest[clean.key] = kept.position, clean.value
        last = position_entry(reached.position, partitions=reached.partitions)
        return [*((key, value) for key, (_, value) in newest.items()), last]

    def _state(self, record: Record) -> bytes:
        value = record.value or b""
        kept = _decode(value)
        stage = self._of_topic[record.topic]
        state = None if kept.state is None else stage.restore(kept.state)
        clean = self._erasure.anywhere(state)
        quarantine = self._erasure.anywhere(kept.quarantine)  # also of a key that froze before it had a state
        if clean is state and quarantine == kept.quarantine:
            return value
        saved = kept.state if clean is state else stage.save(clean)
        return _encode(msgspec.structs.replace(kept, state=saved, quarantine=quarantine))
