"""Secrets: known to the roles, and shown by none of them, neither in logs nor by `doctor` nor over HTTP."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from loadtest import native, stack
from loadtest.child import Program, running
from loadtest.native import Walled, free_port
from loadtest.probes import LOOPBACK
from spineloop import access
from spineloop.access import Register

pytestmark = pytest.mark.stack

SERVICE = "everything-0"
OTHERS = ("control", "plan", "history", "downlink", "reflex", "page")


class Keys:
    """The secret of one service, and a broker that knows it."""

    broker: Walled
    secret: str

    def enrol(self, folder: Path) -> None:
        register, self.secret = access.add(Register(), SERVICE, 1, service="ingest")
        access.write(folder, register)


@pytest.fixture
async def keys() -> AsyncIterator[Keys]:
    one = Keys()
    async with native.walled_mosquitto(one.enrol) as one.broker:
        yield one


def environment(keys: Keys, folder: Path, **chosen: str) -> dict[str, str]:
    """Configure everything with secrets, the one of the broker in a file, and the history away."""
    (folder / "mqtt-password").write_text(keys.secret, encoding="ascii")
    told = {
        "mqtt_url": keys.broker.inside,
        "mqtt_username": SERVICE,
        "mqtt_password_file": str(folder / "mqtt-password"),
        "log_url": f"sqlite://{folder}/log",
        "history_url": f"http://{LOOPBACK}:{free_port()}",
        "history_password": "hush-history-password",
        "http_token": "hush-http-token-of-this-test",
        "page_token": "hush-page-token-of-this-test",
        "log_level": "debug",
        "meters_s": "0.1",
    } | chosen
    return {f"SPINELOOP_{name.upper()}": value for name, value in told.items()}


def role(name: str, keys: Keys, folder: Path, port: int, **chosen: str) -> Program:
    told = environment(keys, folder, http_port=str(port), page_port=str(free_port()), **chosen)
    return Program(
        name=name,
        command=("env", *(f"{key}={value}" for key, value in told.items()), *stack.spineloop(name)),
        log=folder / f"{name}.log",
        answers=partial(answers, port),
    )


async def answers(port: int) -> bool:
    try:
        return await get(port, "/healthz") == (200, "alive\n")
    except aiohttp.ClientError:
        return False


async def get(port: int, path: str, token: str = "") -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{LOOPBACK}:{port}{path}", headers=headers) as answer,
    ):
        return answer.status, await answer.text()


def logs(folder: Path) -> list[str]:
    return [log.read_text("utf-8") for log in folder.glob("*.log")]


async def test_no_role_and_no_doctor_shows_a_secret(keys: Keys, tmp_path: Path) -> None:
    port = free_port()
    doctor = [
        "env",
        *(f"{key}={value}" for key, value in environment(keys, tmp_path).items()),
        *stack.spineloop("doctor", "--json"),
    ]
    async with AsyncExitStack() as stops:
        await stops.enter_async_context(running(role("ingest", keys, tmp_path, port)))
        for name in OTHERS:
            await stops.enter_async_context(running(role(name, keys, tmp_path, free_port())))
        done = await asyncio.to_thread(subprocess.run, doctor, capture_output=True, text=True, check=False, timeout=120)
        async with asyncio.timeout(120.0):
            while await get(port, "/readyz") != (200, "ready\n"):
                await asyncio.sleep(0.05)
        refused = await get(port, "/metrics")
        wrong = await get(port, "/metrics", "hush-http-token-of-this-tesT")
        right = await get(port, "/metrics", "hush-http-token-of-this-test")
    assert [refused, wrong] == [(401, "not for you\n")] * 2
    assert right[0] == 200
    assert "spineloop_ingest_window_messages" in right[1]
    shown = [done.stdout, done.stderr, right[1], *logs(tmp_path)]
    assert len(shown) == 4 + len(OTHERS)
    assert all(shown[0:1] + shown[3:])  # they did say something
    assert not [text for text in shown if keys.secret in text or "hush" in text]
    assert "connected with MQTT 5" in done.stdout


async def test_a_wrong_password_ends_a_role_with_one_line_that_does_not_show_it(keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("hush-not-the-password", encoding="ascii")
    told = environment(keys, tmp_path, mqtt_password_file=str(tmp_path / "wrong"), http_port="0")
    command = ["env", *(f"{key}={value}" for key, value in told.items()), *stack.spineloop("ingest")]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "spineloop: ingest: CONNECT refused: NOT_AUTHORIZED" in done.stderr
    assert "hush" not in done.stdout + done.stderr
