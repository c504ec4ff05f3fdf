"""`scripts/bench --quick`, as a person runs it: nothing may be lost or doubled. How fast it was is no matter here."""

import asyncio
import sys
from pathlib import Path

import msgspec
import pytest

from loadtest.bench.__main__ import QUICK

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1_200)]


async def test_a_quick_bench_loses_and_doubles_nothing(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = (sys.executable, "-m", "loadtest.bench", "--quick", "--report", str(report))
    bench = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    told, _ = await bench.communicate()
    last_words = told.decode(errors="replace")[-1_500:]  # the tables before them are long, and no reason to fail
    assert report.exists(), last_words
    benches = msgspec.json.decode(report.read_bytes())["benches"]
    assert {name: found["void"] for name, found in benches.items() if found["void"]} == {}
    assert bench.returncode == 0, last_words
    assert set(benches) == set(QUICK)
