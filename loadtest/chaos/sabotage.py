"""Sabotage: take one promise out of a copy of the sources, and see which test notices."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from loadtest import native

ROOT = Path(__file__).parents[2]
LIMIT_S = 900.0
"""Longest time in s for the tests of one: three may each wait for their deadline of two minutes before they fail."""
_FAILED = re.compile(r"^(?:FAILED|ERROR) (?P<test>\S+)", re.MULTILINE)


class Sabotage(msgspec.Struct, frozen=True):
    """A promise, the lines that keep it, what stands there instead, and the tests that are asked."""

    promise: str
    file: str
    old: str
    new: str
    tests: Sequence[str]

    def spoiled(self) -> str:
        """Return the file without the promise. Raises ValueError if its lines don't stand there, once."""
        text = (ROOT / self.file).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} no longer has the lines of {self.promise!r} once")
        return text.replace(self.old, self.new)


ENGINE = ("tests/shell/test_engine.py",)

SABOTAGES: Sequence[Sabotage] = (
    Sabotage(
        "E1: the checkpoint comes before the outputs",
        "streams/partition.py",
        "        if outputs:\n            await self._retry(",
        "        self._state.reach(records[-1].offset + 1)\n"
        "        await self._checkpoint(self._state.position, self._state.snapshot())\n"
        "        if outputs:\n            await self._retry(",
        ENGINE,
    ),
    Sabotage(
        "E1: a checkpoint is taken when the next slice may have begun",
        "streams/partition.py",
        "for entries in batches:",
        "for entries in [*batches, *self._state.snapshot()]:",
        ENGINE,
    ),
    Sabotage(
        "E2: the position is a write of its own, before the states",
        "streams/partition.py",
        "for entries in batches:",
        "for entries in [part for whole in batches for part in (whole[-1:], whole[:-1]) if part]:",
        ENGINE,
    ),
    Sabotage(
        "E3: the checkpoint that was written last counts, though it is older",
        "streams/checkpoint.py",
        "elif record.key not in self._keys or self._keys[record.key].position <= kept.position:",
        "elif True:",
        ENGINE,
    ),
    Sabotage(
        "E3: a replaced worker's last word hides what its successor wrote",
        "streams/checkpoint.py",
        "return found if self._foreign is None else min(found, self._foreign)",
        "return found",
        ("tests/shell/test_checkpoint.py",),
    ),
    Sabotage(
        "PUBACK before the log has it",
        "ingest/bridge.py",
        "        if records:\n            await self._append(records, stop)\n"
        "        try:\n            machines.ack(batch)\n",
        "        try:\n            machines.ack(batch)\n"
        "            if records:\n                await self._append(records, stop)\n",
        ("tests/shell/test_bridge.py",),
    ),
    Sabotage(
        "the downlink does not look at the expiry",
        "adaptors/downlink.py",
        "if _is_too_old(order, now_ms):",
        "if False:",
        ("tests/shell/test_downlink.py",),
    ),
    Sabotage(
        "the machine does not look at the expiry",
        "loadtest/programme.py",
        "now_ms >= command.expires_ms,",
        "False,",
        ("tests/loadtest/test_programme.py", "tests/loadtest/test_machine.py"),
    ),
    Sabotage(
        "the controller does not look whether it has heard a seq",
        "streams/core/boots.py",
        "        if order.is_repeated(boot, heard.message.seq):\n            return None\n",
        "",
        ("tests/core/test_controller.py", "tests/core/test_both_stages.py"),
    ),
    Sabotage(
        "the machine does not look at a command's sequence",
        "loadtest/programme.py",
        "command.sequence <= programme.last_sequence,",
        "False,",
        ("tests/loadtest/test_programme.py", "tests/loadtest/test_machine.py"),
    ),
)


def committed() -> Iterator[tuple[Sabotage, Sequence[str]]]:
    """Commit each, one at a time; return it with the tests that failed.

    Raises
    ------
    RuntimeError
        Tests fail without any sabotage, or do not run: what they say of one would mean nothing.
    """
    sound = set[tuple[str, ...]]()
    for sabotage in SABOTAGES:
        with _copied() as copy:
            if (tests := tuple(sabotage.tests)) not in sound:
                _control(copy, tests)
                sound.add(tests)
        with _copied() as copy:  # another one, in which no test has left anything
            (copy / sabotage.file).write_text(sabotage.spoiled(), encoding="utf-8")
            yield sabotage, _failed(copy, sabotage.tests)


@contextmanager
def _copied() -> Iterator[Path]:
    """Copy the sources."""
    with native.temporary_folder() as folder:
        copy = folder / "sources"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info"))
        yield copy


def _control(sources: Path, tests: Sequence[str]) -> None:
    """See that tests pass as long as nothing is spoiled: a server that is missing would look as if they had noticed."""
    if failed := _failed(sources, tests):
        raise RuntimeError(
            f"{', '.join(failed)} failed without any sabotage: mend that first, until then nothing is shown by it"
        )


def _failed(sources: Path, tests: Sequence[str]) -> Sequence[str]:
    """Run tests of a copy of the sources; return those that fail, the first three at most."""
    command = [sys.executable, "-m", "pytest", "-q", "--maxfail=3", "-rfE", "--tb=no", *tests]
    done = subprocess.run(command, cwd=sources, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    if done.returncode not in {0, 1}:
        raise RuntimeError(f"the tests did not run:\n{done.stdout}{done.stderr}")
    return [each["test"] for each in _FAILED.finditer(done.stdout)]
