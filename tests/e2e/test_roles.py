"""Each role as a process: it tells how it is, counts what it does, and ends well when it is asked to."""

import asyncio
import signal

import aiohttp
import pytest

from loadtest import stack
from loadtest.child import Child, running
from loadtest.native import free_port
from loadtest.oracle import until
from loadtest.probes import listens
from spineloop.wiring import ROLES
from streams.core.meters import METERS

pytestmark = pytest.mark.stack

PATIENT_S = "600"
"""How long a role waits for a server, in s, where it is not to end of that."""


async def get(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/{path}") as answer:
        return answer.status, await answer.text()


async def test_every_role_answers_for_itself_and_ends_with_0_on_sigterm() -> None:
    async with stack.servers() as servers:
        for name in ROLES:
            port = free_port()
            async with running(servers.role(name, 0, http_port=str(port))) as child:
                assert await get(port, "healthz") == (200, "alive\n")
                status, text = await get(port, "metrics")
                assert status == 200
                missing = [meter for meter in METERS if f"# HELP {meter.removesuffix('_total')}" not in text]
                assert not missing
            assert child.status == 0, name  # SIGKILL would follow after 10 s, and leave -9


@pytest.mark.parametrize("name", ["control", "history"])
async def test_a_role_that_starts_while_kafka_is_away_waits_is_not_ready_and_begins_when_it_is_back(name: str) -> None:
    port = free_port()
    async with stack.servers() as servers:
        await servers.log.process.kill()
        child = Child(servers.role(name, 0, http_port=str(port), stall_s=PATIENT_S))
        child.launch()
        try:
            await until(lambda: tries(child))
            assert await get(port, "healthz") == (200, "alive\n")
            assert await get(port, "readyz") == (503, "not ready\n")
            await servers.log.process.start()
            await until(lambda: stack.is_ready(port))
        finally:
            await child.stop()
        assert child.status == 0


async def tries(child: Child) -> bool:
    return child.program.log.read_text(encoding="utf-8").count("waiting for a server") > 1


async def test_a_role_that_waits_for_kafka_ends_when_it_is_told_to_and_by_itself_when_the_stall_limit_is_over() -> None:
    async with stack.servers() as servers:
        await servers.log.process.kill()
        patient = Child(servers.role("control", 0, stall_s="3"))
        stopped = Child(servers.role("control", 1, stall_s=PATIENT_S))
        patient.launch()
        stopped.launch()
        try:
            await until(lambda: tries(stopped))
            await stopped.stop()
            assert stopped.status == 0
            async with asyncio.timeout(180):
                while patient.is_running:
                    await asyncio.sleep(0.1)
            assert patient.status == 1
            assert "nothing to begin with in 3.0 s" in patient.program.log.read_text(encoding="utf-8")
        finally:
            await patient.stop()
            await stopped.stop()


async def test_a_role_that_waits_for_an_answer_of_kafka_ends_when_it_is_told_to() -> None:
    port = free_port()
    async with stack.servers() as servers:
        servers.log.process.tell(signal.SIGSTOP)  # it takes connections, and answers nothing
        child = Child(servers.role("control", 0, http_port=str(port)))
        child.launch()
        try:
            await until(lambda: listens(port))
            await child.stop()
            assert child.status == 0  # SIGKILL would follow after 10 s, and leave -9
        finally:
            servers.log.process.tell(signal.SIGCONT)
            await child.stop()
