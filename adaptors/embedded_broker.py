"""Embedded broker: iotcore in a child process on loopback, for one clinic on one box. It ends with its parent.

It keeps nothing on disk and has no ACL, therefore it must never listen on anything but loopback.
"""

import asyncio
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

START_LIMIT_S = 15.0
"""Longest wait for the first CONNACK; it takes 0.3 s, most of it for Python to start."""

STOP_LIMIT_S = 5.0
"""Longest wait after SIGTERM before SIGKILL."""

PROBE_PAUSE_S = 0.05


@asynccontextmanager
async def embedded_broker(port: int) -> AsyncIterator[str]:
    """Run a broker on a loopback port as long as the block; give its URL once it has accepted a client.

    Raises
    ------
    BrokenPromise
        The port is taken, or the broker did not answer in time.
    """
    url = f"mqtt://{LOOPBACK}:{port}"
    _check_free(port)
    with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8") as file:
        file.write(configured(CONFIGURATION.read_text(encoding="utf-8"), port))
        file.flush()
        command = (sys.executable, "-P", str(PROGRAM), file.name)  # -P: our folder must not hide the child's modules
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=DEVNULL, start_new_session=True)
        try:
            await _answers(url, process)
            yield url
        finally:
            await _stop(process)


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


async def _stop(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_LIMIT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
