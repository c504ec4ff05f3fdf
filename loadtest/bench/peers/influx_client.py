"""Influx client: the role `history` with influxdb-client's batching API in the place of our own writer.

`python -m loadtest.bench.peers.influx_client URL`, with the settings of a role. The client takes points one by one and
writes them from a thread of its own, in batches as large as ours. It tells nobody which ones are stored, so the
position in the log moves before they are: what is on its way at a crash is lost.
"""

import asyncio
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import structlog
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write.point import Point
from influxdb_client.client.write_api import WriteApi, WriteOptions

from spineloop import running, wiring
from spineloop.exposition import Exposition
from spineloop.settings import Settings

BATCH = WriteOptions(batch_size=5_000, flush_interval=1_000)
"""Points in a batch, and the longest wait for it to be full in ms: as in our history."""

_log = structlog.get_logger()


class Handed:
    """A sink that hands points to the client, and calls them stored."""

    def __init__(self, writer: WriteApi, bucket: str) -> None:
        self._writer, self._bucket = writer, bucket

    async def write(self, points: Sequence[Any]) -> Sequence[Any]:
        """Hand points over."""
        for point in points:
            built = Point(point.measurement)
            for key, value in point.tags:
                built.tag(key, value)
            for name, value in point.fields.items():
                built.field(name, value)
            self._writer.write(bucket=self._bucket, record=built.time(point.t_ns))
        return ()

    async def ping(self) -> None:
        """Take it that the server is there: what could not be written is told by the client, later."""


def as_1x(call: Any, path: str, method: str, places: Any, query: Any, *more: Any, **options: Any) -> Any:  # noqa: ANN401
    """Ask an InfluxDB 1.x, which knows the client's request under another path and with other names."""
    database, _, retention = dict(query)["bucket"].partition("/")
    query = [("db", database), ("rp", retention), ("precision", "ns")]
    return call(path.replace("/api/v2/write", "/write"), method, places, query, *more, **options)


def failed(_place: object, _data: str, error: Exception) -> None:
    """Say what the client does not raise."""
    _log.error("a batch is lost", why=repr(error))


async def main(url: str) -> None:
    """Run the role until a signal comes."""
    settings = Settings.read()
    exposition = Exposition()
    with InfluxDBClient(url=url, token="", org="") as client:
        client.api_client.call_api = partial(as_1x, client.api_client.call_api)
        with client.write_api(BATCH, error_callback=failed) as writer:
            sink = Handed(writer, f"{settings.history_database}/{settings.history_retention}")
            async with wiring.open_log(settings, "history") as log:
                role = wiring.history(settings, log, sink, exposition)
                await running.run([role], settings, exposition, asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
