"""A child process: a server that is started, waited for, killed, restarted and stopped, always by its own id."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.02
"""Pause between two questions whether the server answers."""

STOP_LIMIT_S = 10.0
"""Longest wait after SIGTERM before SIGKILL. Kafka, the slowest, takes 1.6 s."""

START_LIMIT_S = 120.0
"""Longest wait for an answer; who ends before is found out at once. Roles need 2 s, on a machine that stalls 30."""

LOG_TAIL_LINES = 20


class NotInstalled(Exception):
    """A component is missing; the message says which, and how to get it."""


class DidNotStart(Exception):
    """The server ended, or was silent for too long, before it answered; the end of its log is in the message."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to start, and how to tell that it answers."""

    name: str
    command: tuple[str, ...]
    log: Path
    answers: Callable[[], Awaitable[bool]]
    """Connect and ask once; false if there is no answer, or a wrong one."""
    account: str = ""
    """Who it runs as when we are root; nobody else than us if empty."""
    start_limit_s: float = START_LIMIT_S
    stop_limit_s: float = STOP_LIMIT_S


class Child:
    """A program running as a process that cannot outlive us: however we die, the kernel kills it.

    It has a session of its own, so that Ctrl-C reaches us alone and the servers are stopped in order.

    Parameters
    ----------
    program : Program
        What to start. Each start appends to the same log.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The id of the process, of the last one if it has ended."""
        return self._started().pid

    @property
    def status(self) -> int | None:
        """Exit status of the process, negative the signal that ended it; None while it runs."""
        return self._started().poll()

    @property
    def has_started(self) -> bool:
        """Whether it has been started at all."""
        return self._process is not None

    @property
    def is_running(self) -> bool:
        """Whether the process has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start the program and return when it answers; raise DidNotStart if it does not."""
        if self.is_running:
            raise RuntimeError(f"{self.program.name} is running already")  # the first process would be forgotten
        self._spawn()
        try:
            async with asyncio.timeout(self.program.start_limit_s):
                await self._answer()
        except TimeoutError:
            raise self._failed(f"no answer within {self.program.start_limit_s:g} s") from None

    def launch(self) -> None:
        """Start the program and wait for nothing: whoever starts it while its servers are away wants that."""
        if self.is_running:
            raise RuntimeError(f"{self.program.name} is running already")
        self._spawn()

    def tell(self, what: signal.Signals) -> None:
        """Send the process a signal; one that has ended hears nothing."""
        self._started().send_signal(what)

    async def kill(self) -> None:
        """End the process as a crash does (SIGKILL), and return when it is gone."""
        process = self._started()
        process.kill()
        await asyncio.to_thread(process.wait)

    async def stop(self) -> None:
        """Ask the process to end (SIGTERM), kill it if it has not within the limit, and return when it is gone."""
        if not self.is_running:
            return
        process = self._started()
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, self.program.stop_limit_s)
        except subprocess.TimeoutExpired:
            await self.kill()

    async def restart(self) -> None:
        """Start the program again, stopping it first if it still runs: same command, so same port and same data."""
        await self.stop()
        await self.start()

    def _spawn(self) -> None:
        with self.program.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*bound_to_us(self.program.account), *self.program.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    async def _answer(self) -> None:
        while True:
            has_answered = await self.program.answers()
            if not self.is_running:  # asked last: the answer may have been another's, on the port that was to be ours
                raise self._failed(f"ended with status {self._started().returncode}")
            if has_answered:
                return
            await asyncio.sleep(POLL_S)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ProcessLookupError(f"{self.program.name} has not been started")
        return self._process

    def _failed(self, what: str) -> DidNotStart:
        lines = self.program.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return DidNotStart("\n".join([f"{self.program.name}: {what}; the end of its log:", *lines]))


@asynccontextmanager
async def running(program: Program) -> AsyncIterator[Child]:
    """Run a program as long as the block, whatever happens in it."""
    child = Child(program)
    try:
        await child.start()
        yield child
    finally:
        await child.stop()


def bound_to_us(account: str) -> tuple[str, ...]:
    """Return the prefix of a command that the kernel kills when the thread that starts it is gone (PR_SET_PDEATHSIG).

    A change of account makes the kernel forget that, so a program that would leave root by itself is started under
    its account to begin with.
    """
    prefix = (installed("setpriv", package="util-linux"), "--pdeathsig", "KILL")
    if account and os.geteuid() == 0:
        return (*prefix, f"--reuid={account}", f"--regid={account}", "--init-groups")
    return prefix


def installed(executable: str, package: str) -> str:
    """Find an executable, also where a distribution has its servers and a user's PATH may not look.

    Raises
    ------
    NotInstalled
        It is not on this machine.
    """
    path = shutil.which(executable) or shutil.which(executable, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        raise NotInstalled(f"{executable} is not installed: run scripts/setup-native, or install {package}")
    return path
