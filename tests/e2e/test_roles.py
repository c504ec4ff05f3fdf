"""Each role as a process: it tells how it is, counts what it does, and ends well when it is asked to."""

import aiohttp

from loadtest import stack
from loadtest.child import running
from loadtest.native import free_port
from spineloop.wiring import ROLES
from streams.core.meters import METERS


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
