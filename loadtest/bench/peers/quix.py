"""Quix: a stage on Quix Streams, as its users would write it: record by record, its state in their RocksDB store.

`python -m loadtest.bench.peers.quix STAGE KAFKA FOLDER GROUP`; the stage is `control` or `empty`. Quix hands over one
record at a time, so the stage's `prepare`, which is made for many, is given one.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from quixstreams import Application, State, message_context
from quixstreams.models import Serializer

from loadtest.bench.peers.empty import Empty
from streams.core.controller import Controller
from streams.core.dead_letters import dead_letter
from streams.core.errors import Malformed
from streams.core.records import Header, NewRecord, Record
from streams.core.stage import Stage
from streams.core.topics import COMMAND, DEAD_LETTER, METRIC, PATIENT

STAGES: dict[str, Stage[Any, Any]] = {"control": Controller(), "empty": Empty()}

COMMIT_S = 0.25
"""Pause between two commits in s, each with a flush of outputs and states: as often as our engine's checkpoints."""

STATE = "state"


class Value(Serializer):
    """Writes what a stage has put out: its bytes are made already."""

    def __call__(self, value: NewRecord, *_: object, **__: object) -> bytes:
        """Return the bytes."""
        return value.value or b""


def app(stage: Stage[Any, Any], bootstrap: str, folder: Path, group: str) -> Application:
    """Build the application of a stage."""
    built = Application(
        bootstrap,
        consumer_group=group,
        auto_offset_reset="earliest",
        state_dir=folder,
        commit_interval=COMMIT_S,
        consumer_extra_config={"session.timeout.ms": 6_000},
        loglevel="INFO",
    )
    outputs = {
        name: built.topic(name, key_serializer="bytes", value_serializer=Value())
        for name in (METRIC, COMMAND, PATIENT, DEAD_LETTER)
    }

    def reduce(
        value: bytes, key: bytes, timestamp_ms: int, headers: Iterable[Header] | None, state: State[str, bytes]
    ) -> Iterator[NewRecord]:
        place = message_context()
        record = Record(stage.topic, place.partition, place.offset, key, value, timestamp_ms, tuple(headers or ()))
        item = stage.prepare([record])[0]
        if isinstance(item, Malformed):
            yield dead_letter(record, stage=stage.name, reason=item.reason, detail=item.detail)
            return
        saved = state.get_bytes(STATE)
        before = stage.start(key) if saved is None else stage.restore(saved)
        after, found = stage.step(before, item, timestamp_ms)
        state.set_bytes(STATE, stage.save(after))
        yield from found

    source = built.topic(stage.topic, key_deserializer="bytes", value_deserializer="bytes")
    stream = built.dataframe(source).apply(reduce, stateful=True, metadata=True, expand=True)
    stream.set_headers(lambda output, *_: list(output.headers))
    stream.to_topic(lambda output, *_: outputs[output.topic], key=lambda output: output.key)
    return built


def main(stage: str, bootstrap: str, folder: str, group: str) -> None:
    """Run a stage until SIGTERM."""
    app(STAGES[stage], bootstrap, Path(folder), group).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
