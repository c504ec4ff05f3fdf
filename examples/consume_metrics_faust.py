"""Print the velocity loss of every set, as a Faust agent (faust-streaming 0.15.3 or later).

    KAFKA=localhost:9092 python examples/consume_metrics_faust.py worker --without-web

Values are read as bytes and decoded here, because the headers say what they are.
"""

import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import faust
import msgspec

app = faust.App(
    "velocity-loss-faust",
    broker=f"kafka://{os.environ.get('KAFKA', 'localhost:9092')}",
    value_serializer="raw",
    consumer_auto_offset_reset="earliest",
    topic_disable_leader=True,  # no table here, so no topic of its own is needed
    datadir=Path(tempfile.gettempdir()) / "velocity-loss-faust",  # else a folder where it was started
    web_enabled=False,  # its web server would show tables to everybody
    stream_wait_empty=False,  # else SIGTERM hangs once an agent has failed
    broker_session_timeout=15,
    broker_heartbeat_interval=3,
    broker_rebalance_timeout=10,
)
metrics = app.topic("spineloop.metric.v1", key_type=bytes, value_type=bytes)
seen = set[bytes]()  # everything comes at least once, and a repetition has the same ce_id; a service would bound it


@app.agent(metrics, concurrency=1)  # more would commit past what is not finished
async def velocity_loss(stream: Any) -> AsyncIterator[None]:  # noqa: ANN401 - untyped in Faust
    """Print one line a set, each once."""
    async for event in stream.events():
        headers = dict(event.headers)
        if headers["ce_type"] == b"spineloop.set_summarised.v1" and headers["ce_id"] not in seen:
            seen.add(headers["ce_id"])
            print(told(decoded(event.value, headers)), file=sys.__stdout__, flush=True)  # sys.stdout is Faust's log
        yield


def decoded(value: bytes, headers: dict[str, bytes]) -> Any:  # noqa: ANN401 - whatever was sent
    """Read a value in the encoding that its header names: MessagePack unless a machine chose JSON."""
    return json.loads(value) if headers["content-type"] == b"application/json" else msgspec.msgpack.decode(value)


def told(summary: dict[str, Any]) -> str:
    """Say a set in one line. A metric is in `values`, or in `undefined` with its reason; never in both."""
    loss = summary["values"].get("velocity_loss_pct")
    shown = f"{loss:.1f} %" if loss is not None else f"undefined: {summary['undefined']['velocity_loss_pct']}"
    return f"{summary['machine']} {summary['session']} set {summary['set_number']}: velocity loss {shown}"


if __name__ == "__main__":
    app.main()
