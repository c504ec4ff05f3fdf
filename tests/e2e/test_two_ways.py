"""Embedded and distributed are one loop: the same fleet gives the same metrics and the same decisions."""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adaptors.influx_history import InfluxAddress, open_influx_history
from adaptors.points import Point
from loadtest import native, stack
from loadtest.oracle import everything, log_of, until
from spineloop import embedded
from spineloop.demo import running
from spineloop.embedded import Embedded, Embedding
from spineloop.exposition import Exposition
from spineloop.settings import Settings
from spineloop.wiring import Sink
from streams.core import codec
from streams.core.records import header
from streams.core.topics import COMMAND, METRIC, PATIENT
from streams.log import Log
from tests.e2e.lockstep import run_in_lockstep

pytestmark = pytest.mark.stack

TIMES = ("at_ms", "began_ms", "issued_ms", "expires_ms")
"""What may differ: each run has its own clock."""

POLICY = "ack_timeout_s = 60.0\ncommand_ttl_s = 120.0\n"
"""Patience with machines that answer only when all has settled: else it is chance which command is sent again."""

PATIENCE_S = 120.0
"""How long one who looks on waits for an answer of InfluxDB, in s."""


@pytest.fixture
def chosen(tmp_path: Path) -> dict[str, str]:
    """Choose settings, by the names that a role has for them."""
    (tmp_path / "policy.toml").write_text(POLICY, encoding="utf-8")
    return {"checkpoint_s": "0.01", "http_port": "0", "policy_file": str(tmp_path / "policy.toml")}


def opened(folder: Path, chosen: dict[str, str]) -> AbstractAsyncContextManager[Embedded]:
    settings = Settings.read({f"SPINELOOP_{name.upper()}": value for name, value in chosen.items()})
    return embedded.opened(settings, Embedding(data=folder, port=native.free_port()), Exposition())


async def in_lockstep(log: Log, settings: Settings) -> None:
    await run_in_lockstep(log, settings, seed=11, machines=5, messages=400)


async def decisions(log: Log) -> dict[str | None, Any]:
    """Everything that the stages said, by id and without times."""
    decode: dict[str, Callable[[bytes], msgspec.Struct]] = {
        METRIC: codec.decode_metric,
        COMMAND: codec.decode_command,
        PATIENT: codec.decode_patient_fact,
    }
    said: dict[str | None, Any] = {}
    for topic, read in decode.items():
        for record in await everything(log, topic):
            told = msgspec.to_builtins(read(record.value or b""))
            name = f"{topic} {header(record, 'ce_id')}"
            said[name] = {key: value for key, value in told.items() if key not in TIMES}
    return said


async def history_of(sink: Sink, measurement: str) -> list[tuple[Any, ...]]:
    def known(point: Point) -> tuple[Any, ...]:
        fields = {name: value for name, value in point.fields.items() if name not in TIMES}
        return point.tags, sorted(fields.items())

    return sorted(known(point) for point in await sink.select(measurement))


async def until_stored(sink: Sink, said: dict[str | None, Any]) -> None:
    of_type = {"rep_measured": "rep", "set_summarised": "set_summary"}
    wanted = Counter(of_type[told["type"]] for told in said.values() if told["type"] in of_type)
    wanted["command"] = len({told["command_id"] for told in said.values() if told["type"] == "command"})

    async def has_all() -> bool:
        return all([await sink.count(name) == count for name, count in wanted.items()])

    await until(has_all)


async def test_the_same_fleet_gives_the_same_metrics_and_decisions_embedded_and_distributed(
    tmp_path: Path, chosen: dict[str, str]
) -> None:
    async with opened(tmp_path / "data", chosen) as loop, running(loop.roles):
        await in_lockstep(loop.log, loop.settings)
        in_one_process = await decisions(loop.log)
        await until_stored(loop.history, in_one_process)
        kept = {name: await history_of(loop.history, name) for name in ("rep", "set_summary", "command")}
    at_work = {name: value for name, value in chosen.items() if name != "http_port"}  # each has its own
    async with stack.servers() as servers, stack.roles(servers, **at_work), log_of(servers) as log:
        await in_lockstep(log, servers.settings())
        in_many = await decisions(log)
        async with open_influx_history(InfluxAddress(url=servers.history.url, timeout_s=PATIENCE_S)) as sink:
            await until_stored(sink, in_many)
            kept_there = {name: await history_of(sink, name) for name in kept}
    assert len([told for told in in_many.values() if told["type"] == "command"]) >= 5
    assert in_many == in_one_process
    assert kept_there == kept


async def test_two_runs_of_the_same_seed_in_lockstep_say_the_same(tmp_path: Path, chosen: dict[str, str]) -> None:
    """Without this the test above could pass or fail by luck."""
    runs = []
    for name in ("one", "other"):
        async with opened(tmp_path / name, chosen) as loop, running(loop.roles):
            await in_lockstep(loop.log, loop.settings)
            runs.append(await decisions(loop.log))
    assert runs[0] == runs[1]
