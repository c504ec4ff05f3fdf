"""The command line called in this process: what it says, and with which code it ends."""

import asyncio
import os
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
import structlog

from spineloop import cli


@dataclass(frozen=True)
class Said:
    """What a call came to."""

    code: int
    out: str
    err: str

    @property
    def told(self) -> Any:
        """What it printed, as JSON."""
        return msgspec.json.decode(self.out)


class Spineloop:
    """Calls `spineloop`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: object, **environment: str) -> Said:
        configured = structlog.get_config()
        with self._monkeypatch.context() as patched:
            for name in [name for name in os.environ if name.startswith("SPINELOOP_")]:
                patched.delenv(name)
            for name, value in environment.items():
                patched.setenv(name, value)
            patched.setattr("sys.argv", ["spineloop", *map(str, words)])
            patched.setenv("COLUMNS", "200")
            self._capsys.readouterr()
            try:
                cli.main()
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                structlog.configure(**configured)
        said = self._capsys.readouterr()
        return Said(code, said.out, said.err)


async def in_thread(spineloop: Spineloop, *words: object) -> Said:
    """Call it where an event loop runs already."""
    return await asyncio.to_thread(spineloop, *words)
