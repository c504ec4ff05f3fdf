"""Page: how soon a browser shows five hundred machines, and what a viewer costs at two hundred updates a second.

The page is the role of its own, on Kafka. What it shows was computed before: records are appended at a steady pace,
and only what changes a tile, as reps and sets do and heartbeats don't.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import chain, count, islice
from pathlib import Path
from statistics import median
from typing import Any, Self

import aiohttp
import msgspec
from msgspec.structs import replace
from playwright.async_api import Browser, async_playwright

from loadtest import native, stack
from loadtest.bench import stories
from loadtest.bench.lap import TooSlow
from loadtest.bench.processes import cpu_s, peak_bytes
from loadtest.bench.report import Effort, Run
from loadtest.bench.stepping import heard
from loadtest.child import NotInstalled, installed, running
from loadtest.probes import LOOPBACK
from spineloop import wiring
from streams.core.controller import Controller
from streams.core.errors import Malformed
from streams.core.records import NewRecord
from streams.core.telemetry import Heartbeat
from streams.log import Log

MACHINES = 500
UPDATES_PER_S = 200
"""Messages that change a tile."""

WARM_UP_MESSAGES = 25_000
"""Until every machine has been heard of and most train."""

CHUNK = 500
TICK_S = 0.05
VIEWERS = 10
"""Beside the browser: connections that listen as a browser does."""

WATCHED_S, QUICK_WATCHED_S = 20.0, 10.0
OPENED, QUICK_OPENED = 5, 3
"""Times that a browser without any memory opens the page."""

TILES_LIMIT_MS = 30_000
DEADLINE_S = 60.0


class News(msgspec.Struct, frozen=True):
    """What is counted of a message to a viewer."""

    tiles: list[msgspec.Raw] = []

    @classmethod
    def read(cls, message: str) -> Self:
        """Read a message."""
        return msgspec.json.decode(message, type=cls)


async def page(effort: Effort) -> AsyncGenerator[Run, None]:
    """Fill the log, start the page, open it, and let more and more look at it."""
    watched_s = QUICK_WATCHED_S if effort.quick else WATCHED_S
    opened = QUICK_OPENED if effort.quick else OPENED
    seconds = effort.runs * (opened * 3 + 3 * watched_s + 20.0)
    past, coming = await asyncio.to_thread(_told, round(UPDATES_PER_S * seconds))
    async with stack.servers() as servers, wiring.open_log(servers.settings(), "bench") as log:
        for some in past:
            await log.append(_now(some))
        port = native.free_port()
        async with running(servers.role("page", 0, page_port=str(port))) as process:
            url = f"http://{LOOPBACK}:{port}/"
            async with _happening(log, coming), _browser() as browser:
                for _ in range(effort.runs):
                    yield await _run(browser, url, process.pid, opened, watched_s)


def _told(updates: int) -> tuple[list[list[NewRecord]], list[list[NewRecord]]]:
    """Return what was said and concluded before, and what will be, by message; of the latter, what changes a tile."""
    start_ms = wiring.wall_clock_ms()
    story = stories.story(seed=1, machines=MACHINES, tenant="bench", start_ms=start_ms)
    controller, states = Controller(), dict[bytes, Any]()
    past, coming = list[list[NewRecord]](), list[list[NewRecord]]()
    for start in count(0, CHUNK):
        said = list(islice(story, CHUNK))
        records = [heard(stories.record(one), offset) for offset, one in enumerate(said)]
        told = past if start < WARM_UP_MESSAGES else coming
        for one, record, item in zip(said, records, controller.prepare(records), strict=True):
            if isinstance(item, Malformed):
                raise item
            state = states.get(record.key) or controller.start(record.key)
            states[record.key], outputs = controller.step(state, item, record.timestamp_ms)
            if told is past or not isinstance(one.message, Heartbeat):
                told.append([stories.record(one), *outputs])
        if len(coming) >= updates:
            break
    return [list(chain.from_iterable(past[n : n + CHUNK])) for n in range(0, len(past), CHUNK)], coming


def _now(records: Sequence[NewRecord]) -> list[NewRecord]:
    now_ms = wiring.wall_clock_ms()
    return [replace(one, timestamp_ms=now_ms) for one in records]


@asynccontextmanager
async def _happening(log: Log, coming: Sequence[list[NewRecord]]) -> AsyncIterator[None]:
    """Append so many messages a second, each with what follows from it, beside the block."""

    async def tell() -> None:
        clock = asyncio.get_running_loop()
        start_s, done = clock.time(), 0
        while done < len(coming):
            due = min(len(coming), round(UPDATES_PER_S * (clock.time() - start_s)))
            some = [one for records in coming[done:due] for one in records]
            if some:
                await log.append(_now(some))
            done = due
            await asyncio.sleep(TICK_S)

    task = asyncio.create_task(tell())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def _browser() -> AsyncIterator[Browser]:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        with contextlib.suppress(NotInstalled):
            path = installed(name, package="chromium")
            break
    else:
        raise NotInstalled("no Chromium here: scripts/setup-native installs it")
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        await opened.close()


async def _run(browser: Browser, url: str, pid: int, opened: int, watched_s: float) -> Run:
    paints, whole = zip(*[await _opened(browser, url) for _ in range(opened)], strict=True)
    alone = await _cpu_share(pid, watched_s)
    async with _viewers(url, VIEWERS) as seen:
        crowded = await _cpu_share(pid, watched_s)
        messages, size = len(seen), sum(len(one) for one in seen)
        tiles = sum(len(News.read(one).tiles) for one in seen)
    context = await browser.new_context(viewport={"width": 1440, "height": 900})
    tab = await context.new_page()
    await tab.goto(url)
    await tab.wait_for_function(
        f"() => document.querySelectorAll('.tile').length >= {MACHINES}", timeout=TILES_LIMIT_MS
    )
    before_s, page_before_s = _chromium_s(), cpu_s(pid)
    await asyncio.sleep(watched_s)
    drawn, told = (_chromium_s() - before_s) / watched_s, (cpu_s(pid) - page_before_s) / watched_s
    live = await tab.locator("#link").inner_text()
    await context.close()
    figures = {
        "machines": float(MACHINES),
        "tile_changes_per_s_and_viewer": tiles / watched_s / VIEWERS,
        "first_paint_ms": median(paints),
        "first_paint_slowest_ms": max(paints),
        "all_tiles_ms": median(whole),
        "page_cpu_without_viewers_pct": 100.0 * alone,
        "page_cpu_per_viewer_pct": 100.0 * (crowded - alone) / VIEWERS,
        "page_cpu_for_one_browser_pct": 100.0 * (told - alone),
        "browser_cpu_pct": 100.0 * drawn,
        "kB_per_s_and_viewer": size / 1e3 / watched_s / VIEWERS,
        "messages_per_s_and_viewer": messages / watched_s / VIEWERS,
        "page_peak_MB": peak_bytes(pid) / 1e6,
    }
    void = () if live == "Live" and tiles else (f"the browser said {live!r}, viewers heard of {tiles} tiles",)
    return Run(figures, void)


async def _opened(browser: Browser, url: str) -> tuple[float, float]:
    """Open the page as somebody who never saw it; return the first paint and all tiles, in ms after the request."""
    context = await browser.new_context(viewport={"width": 1440, "height": 900})
    tab = await context.new_page()
    await tab.goto(url)
    await tab.wait_for_function(
        f"() => document.querySelectorAll('.tile').length >= {MACHINES}", timeout=TILES_LIMIT_MS
    )
    all_ms: float = await tab.evaluate("performance.now()")
    paint_ms: float = await tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    await context.close()
    return paint_ms, all_ms


async def _cpu_share(pid: int, watched_s: float) -> float:
    before_s = cpu_s(pid)
    await asyncio.sleep(watched_s)
    return (cpu_s(pid) - before_s) / watched_s


@asynccontextmanager
async def _viewers(url: str, number: int) -> AsyncIterator[list[str]]:
    """Listen as browsers do, so many of them; give each message after the first ones."""
    seen: list[str] = []
    ready: list[asyncio.Event] = [asyncio.Event() for _ in range(number)]

    async def listen(session: aiohttp.ClientSession, first: asyncio.Event) -> None:
        async with session.ws_connect(f"{url}live", max_msg_size=0) as socket:
            async for message in socket:
                if first.is_set():
                    seen.append(message.data)
                first.set()

    async with aiohttp.ClientSession() as session:
        tasks = [asyncio.create_task(listen(session, first)) for first in ready]
        try:
            try:
                async with asyncio.timeout(DEADLINE_S):
                    await asyncio.gather(*(first.wait() for first in ready))
            except TimeoutError:
                raise TooSlow(f"not every listener was told within {DEADLINE_S:g} s") from None
            yield seen
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _chromium_s() -> float:
    """Return the CPU time that every process of a browser here has spent, in s."""
    spent_s = 0.0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if (folder / "comm").read_text(encoding="utf-8").startswith("chrom"):
                    spent_s += cpu_s(int(folder.name))
    return spent_s
