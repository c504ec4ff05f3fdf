"""Embedded broker: iotcore in a child process on loopback, for one clinic on one box. It ends with its parent.

It keeps nothing on disk and has no ACL, therefore it must never listen on anything but loopback.
"""

import asyncio
import os
import socket
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from adaptors import mqtt_client
from adaptors.mqtt_link import ConnectionLost
from streams.core.errors import BrokenPromise

LOOPBACK = "127.0.0.1"

CONFIGURATION = Path(__file__).parents[1] / "deploy" / "iotcore" / "rumqttd.toml"
"""The shipped configuration; of all its values only the address is ours to choose."""

PROGRAM = Path(__file__).with_name("broker_process.py")

SHIPPED_LISTEN = 'listen = "127.0.0.1:1883"'

START_LIMIT_S = 60.0
"""Longest wait for the first CONNACK; it takes 0.3 s, most of it for Python to start. One that ends is seen at once."""

STOP_LIMIT_S = 5.0
"""Longest wait after SIGTERM before SIGKILL."""

PROBE_PAUSE_S = 0.05

MEMORY = Path("/dev/shm")  # noqa: S108 - the file has a name that nobody can guess, and only we may read it
"""Where files lie in memory, if there is such a place: the broker has to start while the disk is full."""

ASKED_TOO_S = 0.5
"""How long a broker that has ended may have been faster than the signal that ends us: systemd sends it to both."""


class EmbeddedBroker:
    """A broker that runs.

    Parameters
    ----------
    url : str
        Where it is.
    process : Process
        The child that it is.

    Attributes
    ----------
    url : str
        As given.
    """

    def __init__(self, url: str, process: Process) -> None:
        self.url = url
        self._process = process

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    async def run(self, stop: asyncio.Event) -> None:
        """Watch it until `stop` is set, and end it then, at once: it keeps nothing, so it must confirm nothing more.

        Raises
        ------
        BrokenPromise
            It has ended by itself.
        """
        ended, stopping = asyncio.create_task(self._process.wait()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                await asyncio.wait({stopping}, timeout=ASKED_TOO_S)
        finally:
            ended.cancel()
            stopping.cancel()
        if not stop.is_set():
            raise BrokenPromise(f"the embedded broker ended with status {self._process.returncode}")
        await self.end()

    async def end(self) -> None:
        """End it."""
        if self.is_alive:
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_LIMIT_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def embedded_broker(port: int) -> AsyncIterator[str]:
    """Run a broker on a loopback port as long as the block; give its URL once it has accepted a client.

    Raises
    ------
    BrokenPromise
        The port is taken, or the broker did not answer in time.
    """
    async with started(port) as broker:
        yield broker.url


@asynccontextmanager
async def started(port: int) -> AsyncIterator[EmbeddedBroker]:
    """Run a broker on a loopback port as long as the block or until it is ended; give it once it has let a client in.

    Raises
    ------
    BrokenPromise
        The port is taken, or the broker did not answer in time.
    """
    url = f"mqtt://{LOOPBACK}:{port}"
    _check_free(port)
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8", dir=place) as file:
        file.write(configured(CONFIGURATION.read_text(encoding="utf-8"), port))
        file.flush()
        command = (sys.executable, "-P", str(PROGRAM), file.name)  # -P: our folder must not hide the child's modules
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=DEVNULL, start_new_session=True)
        broker = EmbeddedBroker(url, process)
        try:
            await _answers(url, process)
            yield broker
        finally:
            await broker.end()


def configured(text: str, port: int) -> str:
    """Give the shipped configuration another port.

    Examples
    --------
    >>> configured('listen = "127.0.0.1:1883"', 20_001)
    'listen = "127.0.0.1:20001"'
    """
    if text.count(SHIPPED_LISTEN) != 1:
        raise BrokenPromise(f"{CONFIGURATION.name} must have exactly one {SHIPPED_LISTEN}")
    return text.replace(SHIPPED_LISTEN, f'listen = "{LOOPBACK}:{port}"')


def _check_free(port: int) -> None:
    """Raise BrokenPromise if somebody listens there: our child would end, and the probe would be let in by another."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise BrokenPromise(f"port {port} for the embedded broker: {error}") from error


async def _answers(url: str, process: Process) -> None:
    """Wait until a real client is let in: a port that is open is not yet a broker that answers."""
    try:
        async with asyncio.timeout(START_LIMIT_S):
            while process.returncode is None:
                try:
                    async with await mqtt_client.connect(url, client_id="spineloop-probe"):
                        return
                except ConnectionLost:
                    await asyncio.sleep(PROBE_PAUSE_S)
    except TimeoutError as error:
        raise BrokenPromise(f"the embedded broker did not answer on {url} in {START_LIMIT_S:g} s") from error
    raise BrokenPromise(f"the embedded broker ended with status {process.returncode}")
