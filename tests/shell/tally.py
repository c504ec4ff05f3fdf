"""A stage small enough to see through: it counts the records of each key, and says the count."""

from collections.abc import Sequence

from streams.core.errors import Malformed
from streams.core.records import NewRecord, Record, cloud_event
from streams.core.topics import CONTROLLER_STATE, METRIC, TELEMETRY


class Tally:
    """State is the number of records; `?` is malformed, `boom` a defect in step, `bang` one in prepare."""

    name = "tally"
    topic = TELEMETRY
    state_topic = CONTROLLER_STATE

    def __init__(self, *, mended: bool = False) -> None:
        self.mended = mended
        self.largest_batch = 0

    def prepare(self, records: Sequence[Record]) -> Sequence[bytes | Malformed]:
        self.largest_batch = max(self.largest_batch, len(records))
        if not self.mended and any(record.value == b"bang" for record in records):
            raise ZeroDivisionError("bang")
        return [
            Malformed("nonsense", "a question mark") if record.value == b"?" else record.value or b""
            for record in records
        ]

    def start(self, key: bytes) -> int:  # noqa: ARG002 - all keys start alike
        return 0

    def step(self, state: int, item: bytes, now_ms: int) -> tuple[int, Sequence[NewRecord]]:
        if item == b"boom" and not self.mended:
            raise ZeroDivisionError("boom")
        value = f"{item.decode()}:{state + 1}".encode()
        return state + 1, [said(item.decode(), value, now_ms)]

    def save(self, state: int) -> bytes:
        return str(state).encode()

    def restore(self, saved: bytes) -> int:
        return int(saved)

    def alarm(self, record: Record, detail: str) -> Sequence[NewRecord]:
        return [said(f"alarm/{record.offset}", detail.encode(), record.timestamp_ms)]


def said(ce_id: str, value: bytes, now_ms: int) -> NewRecord:
    headers = cloud_event(ce_id=ce_id, ce_type="t", source="s", time_ms=now_ms, content_type=b"text/plain")
    return NewRecord(METRIC, b"all", value, now_ms, headers)


def told(key: str, value: str, now_ms: int = 1_000) -> NewRecord:
    return NewRecord(TELEMETRY, key.encode(), value.encode(), now_ms)
