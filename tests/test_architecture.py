"""The arrows of docs/architecture.md, from the sources, and the purity of the core, from fresh interpreters."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("spineloop", "ingest", "streams", "adaptors", "dashboards", "loadtest", "tests")
MAY_IMPORT = {
    "ingest": {"streams.core"},
    "adaptors": {"streams.core"},
    "streams": {"streams.core"},
    "streams.core": {"streams.core"},
    "dashboards": {"streams.core"},
    "loadtest": {"streams", "streams.core", "spineloop"},
    "spineloop": {"streams", "streams.core", "adaptors", "ingest", "dashboards", "loadtest"},
}
"""Beside itself. `loadtest` measures the whole, so it may start the whole."""

SHELL = {
    "asyncio", "socket", "logging", "aiokafka", "aiohttp", "mqtt5", "structlog", "prometheus_client", "scipy", "typer",
    "ingest", "adaptors", "dashboards", "spineloop", "loadtest", "streams.engine", "streams.log",
}  # fmt: skip

CORE_MODULES = sorted(
    f"streams.core.{path.stem}" for path in (ROOT / "streams" / "core").glob("*.py") if path.stem != "__init__"
)


def sources(room: str) -> Iterator[Path]:
    return (path for path in (ROOT / room).rglob("*.py") if "__pycache__" not in path.parts)


def imports(path: Path) -> set[str]:
    """Every module that a source names in an import."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


def room_of(module: str) -> str:
    return "streams.core" if module.startswith("streams.core") else module.split(".", maxsplit=1)[0]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_no_room_imports_its_neighbour(room: str) -> None:
    allowed = {room} | MAY_IMPORT[room]
    wrong = {
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sources(room.replace(".", "/"))
        if not (room == "streams" and "core" in path.relative_to(ROOT).parts)
        for module in imports(path)
        if module.split(".")[0] in ROOMS and room_of(module) not in allowed and module != "streams"
    }
    assert not wrong


def test_only_settings_reads_the_environment() -> None:
    reads = re.compile(r"os\.(environ|getenv)")
    readers = {
        str(path.relative_to(ROOT))
        for room in ("spineloop", "ingest", "streams", "adaptors", "dashboards", "loadtest")
        for path in sources(room)
        if reads.search(path.read_text(encoding="utf-8"))
    }
    assert readers == {"spineloop/settings.py"}


def test_only_the_wiring_builds_clients_in_the_front_door() -> None:
    builders = re.compile(r"\b(open_kafka_log|open_sqlite_log|open_influx_history|open_sqlite_history|mqtt_client)\b")
    found = {path.name for path in sources("spineloop") if builders.search(path.read_text(encoding="utf-8"))}
    assert found == {"wiring.py"}


def test_every_file_says_in_its_first_line_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in sources(room)
        if room != "tests" and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent


def test_the_core_brings_no_shell_with_it() -> None:
    code = "import importlib, json, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\nprint(*sys.modules)"
    command = [sys.executable, "-c", code, *CORE_MODULES]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    assert not SHELL.intersection(loaded)
