"""First command: how long somebody who starts the demo waits until the page tells of the first command."""

import asyncio
import time
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path

import aiohttp
import msgspec

from loadtest import native
from loadtest.bench.lap import TooSlow
from loadtest.bench.report import Effort, Run
from loadtest.child import Program, running
from loadtest.probes import LOOPBACK

DEMO = Path(__file__).parents[2] / "scripts" / "demo"

DEMO_S = 600.0
"""How long the demo would go on; it is ended as soon as the command is seen."""

DEADLINE_S = 120.0


class Figures(msgspec.Struct, frozen=True):
    """What the page tells of commands: how many were issued, and how many ended in which way."""

    commands: dict[str, int] = {}


class News(msgspec.Struct, frozen=True):
    """What is looked at of a message to a browser."""

    figures: Figures = Figures()


async def first_command(effort: Effort) -> AsyncGenerator[Run, None]:
    """Start `scripts/demo` as a person does, whose installation is there already, and listen as a browser does."""
    for _ in range(effort.runs):
        with native.temporary_folder() as folder:
            start_s = time.perf_counter()
            port = native.free_port()
            async with running(_demo(port, folder)):
                page_s = time.perf_counter() - start_s
                await _seen(port)
                yield Run({"page_s": page_s, "first_command_s": time.perf_counter() - start_s})


def _demo(port: int, folder: Path) -> Program:
    return Program(
        name="demo",
        command=(str(DEMO), "--seconds", f"{DEMO_S:g}", "--page-port", str(port)),
        log=folder / "demo.log",
        answers=partial(_answers, port),
        start_limit_s=DEADLINE_S,
    )


async def _answers(port: int) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://{LOOPBACK}:{port}/") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def _seen(port: int) -> None:
    """Return when the page tells that a command was issued."""
    try:
        async with (
            asyncio.timeout(DEADLINE_S),
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://{LOOPBACK}:{port}/live", max_msg_size=0) as browser,
        ):
            await browser.send_str('{"look":"health"}')
            async for message in browser:
                if msgspec.json.decode(message.data, type=News).figures.commands.get("issued"):
                    return
    except TimeoutError:
        raise TooSlow(f"no command within {DEADLINE_S:g} s") from None
    raise RuntimeError("the demo ended before it gave a command")
