"""Print the velocity loss of every set, read from Kafka with aiokafka.

    python examples/consume_metrics_aiokafka.py localhost:9092

A record is a CloudEvent in binary mode: what it is stands in its headers, so what is of no interest is never decoded.
"""

import asyncio
import json
import sys
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer

TOPIC = "spineloop.metric.v1"
WANTED = b"spineloop.set_summarised.v1"


def decoded(value: bytes, headers: dict[str, bytes]) -> Any:  # noqa: ANN401 - whatever was sent
    """Read a value in the encoding that its header names: MessagePack unless a machine chose JSON."""
    return json.loads(value) if headers["content-type"] == b"application/json" else msgspec.msgpack.decode(value)


def told(summary: dict[str, Any]) -> str:
    """Say a set in one line. A metric is in `values`, or in `undefined` with its reason; never in both."""
    loss = summary["values"].get("velocity_loss_pct")
    shown = f"{loss:.1f} %" if loss is not None else f"undefined: {summary['undefined']['velocity_loss_pct']}"
    return f"{summary['machine']} {summary['session']} set {summary['set_number']}: velocity loss {shown}"


async def main(servers: str, stop_after: int | None = None) -> None:
    """Print one line a set, each once, until `stop_after` lines."""
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=servers,
        group_id="velocity-loss",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    seen = set[bytes]()  # everything comes at least once, and a repetition has the same ce_id; a service would bound it
    await consumer.start()
    try:
        while stop_after is None or len(seen) < stop_after:
            polled = await consumer.getmany(timeout_ms=1_000)
            for record in [record for records in polled.values() for record in records]:
                headers = dict(record.headers)
                if headers["ce_type"] == WANTED and headers["ce_id"] not in seen:
                    seen.add(headers["ce_id"])
                    print(told(decoded(record.value, headers)), flush=True)
            if polled:
                await consumer.commit()  # what was printed, and not before
    finally:
        await consumer.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None))
