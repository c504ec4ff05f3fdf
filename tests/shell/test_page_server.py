"""The operator page over HTTP: who may look, who may act, what a browser is told, and what ends up in the log."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import (
    ClientConnectionError,
    ClientResponse,
    ClientSession,
    ClientWebSocketResponse,
    WSMsgType,
    WSServerHandshakeError,
)
from msgspec.structs import replace
from structlog.testing import capture_logs

from adaptors.sqlite_log import SqliteLog, open_sqlite_log
from dashboards.live import shown
from dashboards.live.feed import Listener, Subscription
from dashboards.live.guard import COOKIE, MAX_ADDRESSES, MAX_FAILURES, Guard
from dashboards.live.server import HEADERS, STATIC, Page, PageSettings
from dashboards.live.view import FOLDS
from spineloop.settings import Settings, WrongSetting
from streams.core import codec, policy
from streams.core.controller import Controller
from streams.core.danger import EARLY
from streams.core.errors import Busy
from streams.core.operators import OperatorAsked
from streams.core.records import NewRecord, Record, header
from streams.core.topics import COMMAND, METRIC, TELEMETRY
from streams.digest import has_any
from streams.engine import Engine, EngineSettings
from streams.traces import places
from tests.shell import clinic
from tests.shell.clinic import NOW_MS, STEADY, TIRING
from tests.shell.counts import Counts

KEY = "acme/north/lumbar-1"
TOKEN = "a token of the clinic, long enough"  # noqa: S105 - of these tests
DEADLINE_S = 120.0


class Shaky:
    """A log that refuses when told to."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log
        self.refuses = False
        self.refused = 0
        self.bounds = log.bounds

    async def append(self, records: Sequence[NewRecord]) -> None:
        self._check()
        await self._log.append(records)

    @asynccontextmanager
    async def subscribe(self, topic: str, group: str, listener: Listener | None = None) -> AsyncIterator[Subscription]:
        self._check()
        async with self._log.subscribe(topic, group, listener) as subscription:
            yield _Shaky(self, subscription)

    def _check(self) -> None:
        if self.refuses:
            self.refused += 1
            raise Busy("the disk is full")


class _Shaky:
    def __init__(self, shaky: Shaky, subscription: Subscription) -> None:
        self._shaky, self._subscription = shaky, subscription
        self.lag = subscription.lag

    async def poll(self, max_records: int, timeout_s: float) -> Mapping[int, Sequence[Record]]:
        self._shaky._check()  # noqa: SLF001
        return await self._subscription.poll(max_records, min(timeout_s, 0.05))


@asynccontextmanager
async def log_in(folder: Path) -> AsyncIterator[SqliteLog]:
    async with open_sqlite_log(folder / "log.db", 2, now_ms=lambda: NOW_MS) as log:
        yield log


def a_page(log: Any, settings: PageSettings) -> Page:
    return Page(log, settings, policy.DEFAULT, now_ms=lambda: NOW_MS, places=places)


@asynccontextmanager
async def page_on(log: Any, *, is_reading: bool = False, **fields: Any) -> AsyncIterator[Page]:
    """Run a page until the block ends, from when it has read the log to its end, or only listens."""
    page = a_page(log, PageSettings(**({"port": 0} | fields)))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(page.run(stop))
        async with asyncio.timeout(DEADLINE_S):
            while not (page.port if is_reading else page.is_ready) and not running.done():
                await asyncio.sleep(0.01)
        try:
            yield page
        finally:
            stop.set()


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    async with log_in(tmp_path) as opened:
        await opened.append(clinic.whole(clinic.session(KEY, TIRING)))
        yield opened


@asynccontextmanager
async def browser_at(page: Page, **headers: str) -> AsyncIterator[ClientSession]:
    async with ClientSession(base_url=page.url, headers=headers) as browser:
        yield browser


class Live:
    """What a browser is told, put together as the page's own script does it."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket
        self.tiles: dict[str, Any] = {}
        self.detail: Any = None
        self.messages: list[dict[str, Any]] = []

    async def hear(self) -> dict[str, Any]:
        message: dict[str, Any] = await self.socket.receive_json(timeout=DEADLINE_S)
        self.messages.append(message)
        self.tiles = {key: one for key, one in self.tiles.items() if key not in message.get("gone", ())}
        self.tiles |= {one["key"]: one for one in message.get("tiles", ())}
        self.detail = message.get("detail", self.detail)
        return message

    async def until(self, holds: Any) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not holds():
                await self.hear()


def live(browser: ClientSession) -> AbstractAsyncContextManager[ClientWebSocketResponse]:
    return browser.ws_connect("/live")


def wish(**fields: Any) -> dict[str, Any]:
    return {"machine": KEY, "id": "0" * 32, "by": "Kim", "reason": "patient unwell", "action": "stop"} | fields


async def asked(log: SqliteLog) -> list[OperatorAsked]:
    found = []
    for partition in await log.bounds(TELEMETRY):
        async for records in log.read(TELEMETRY, partition):
            found += [codec.decode_telemetry(one.key.decode(), one.value or b"") for one in records]
    return [one for one in found if isinstance(one, OperatorAsked)]


# --- What a browser is told


async def test_a_browser_is_told_everything_first_and_then_what_changes(log: SqliteLog) -> None:
    async with page_on(log) as page, browser_at(page) as browser, live(browser) as socket:
        told = Live(socket)
        first = await told.hear()
        assert first["all"] is True
        assert first["limits"]["loss_stop"] == 20.0
        assert told.tiles[KEY]["rep"] == 6
        other = "acme/north/lumbar-2"
        await log.append(clinic.whole(clinic.session(other, STEADY)))
        await told.until(lambda: other in told.tiles and told.tiles[other].get("rep") == 5)
        assert not any("all" in message for message in told.messages[1:])


async def test_whoever_comes_back_after_an_hour_is_told_everything_anew(log: SqliteLog) -> None:
    async with page_on(log) as page, browser_at(page) as browser:
        async with live(browser) as socket:
            await Live(socket).hear()
        await log.append(clinic.whole(clinic.session("acme/north/lumbar-2", STEADY)))
        async with live(browser) as socket:
            told = Live(socket)
            await told.until(lambda: "acme/north/lumbar-2" in told.tiles)
            assert told.messages[0]["all"] is True
            assert KEY in told.tiles


async def test_one_machine_is_told_in_full_while_somebody_looks_at_it(log: SqliteLog) -> None:
    async with page_on(log) as page, browser_at(page) as browser, live(browser) as socket:
        told = Live(socket)
        await socket.send_json({"look": "machine", "key": KEY})
        await told.until(lambda: told.detail and told.detail["key"] == KEY)
        assert len(told.detail["session"]["reps"]) == 6
        assert len(told.detail["curve"]["force"]) == 101
        await socket.send_json({"look": "machine", "key": "acme/north/nothing"})
        await told.until(lambda: told.detail["key"] == "acme/north/nothing")
        assert told.detail["known"] is False
        await socket.send_json({"look": "patient", "key": "acme/p1"})
        await told.until(lambda: told.detail["look"] == "patient")
        assert told.detail["at"] == [KEY]
        await socket.send_json({"look": "letters"})
        await told.until(lambda: told.detail["look"] == "letters")
        await socket.send_json({"look": "health"})
        await told.until(lambda: told.detail is None)


async def test_nonsense_from_a_browser_changes_nothing(log: SqliteLog) -> None:
    async with page_on(log) as page, browser_at(page) as browser, live(browser) as socket:
        told = Live(socket)
        await socket.send_json({"look": "machine", "key": KEY})
        for nonsense in ("?", "{}x", '{"look": 1}', "[]", f'{{"more": {"[" * 2_000}'):
            await socket.send_str(nonsense)
        await told.until(lambda: told.detail and told.detail["key"] == KEY)
        await socket.send_json({"look": "letters"})
        await told.until(lambda: told.detail["look"] == "letters")


def defect(*_: object) -> bytes:
    raise KeyError("acme/p1")


def said_of_defects(logged: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what was logged of defects, which must not quote what they met."""
    said = [str(one["defect"]) for one in logged if "defect" in one]
    assert not any("acme/p1" in one for one in said)
    return said


async def test_a_record_that_meets_a_defect_of_ours_is_counted_and_told_once_and_the_page_goes_on(
    log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FOLDS, METRIC, defect)
    with capture_logs() as logged:
        async with page_on(log) as page, browser_at(page) as browser, live(browser) as socket:
            unread = page.view.counts[METRIC]
            assert unread > 1
            assert page.view.unread == unread
            told = Live(socket)
            await told.until(lambda: KEY in told.tiles)
            assert told.messages[0]["figures"]["unread"] == unread
    (said,) = said_of_defects(logged)
    assert said.startswith("KeyError at ")


async def test_a_browser_that_meets_a_defect_of_ours_is_let_go_and_the_others_hear_on(
    log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "one_patient", defect)
    with capture_logs() as logged:
        async with page_on(log) as page, browser_at(page) as browser, live(browser) as one, live(browser) as other:
            await one.send_json({"look": "patient", "key": "acme/p1"})
            async with asyncio.timeout(DEADLINE_S):
                while (last := await one.receive()).type is WSMsgType.TEXT:
                    continue
            assert (last.type, one.close_code) == (WSMsgType.CLOSE, 1011)
            told = Live(other)
            await log.append(clinic.whole(clinic.session("acme/north/lumbar-2", STEADY)))
            await told.until(lambda: "acme/north/lumbar-2" in told.tiles)
    assert len(said_of_defects(logged)) == 1


async def test_a_page_that_ends_says_good_bye_so_that_browsers_come_back_at_once(log: SqliteLog) -> None:
    async with browser_at_end(log) as socket:
        closing = await socket.receive(timeout=DEADLINE_S)
        while closing.type is WSMsgType.TEXT:
            closing = await socket.receive(timeout=DEADLINE_S)
        assert (closing.type, socket.close_code) == (WSMsgType.CLOSE, 1001)


@asynccontextmanager
async def browser_at_end(log: SqliteLog) -> AsyncIterator[ClientWebSocketResponse]:
    """Connect to a page, then let the page end."""
    page = page_on(log)
    opened = await page.__aenter__()
    async with browser_at(opened) as browser, live(browser) as socket:
        await socket.receive(timeout=DEADLINE_S)
        ending = asyncio.create_task(page.__aexit__(None, None, None))
        yield socket
        await ending


async def test_a_page_shows_the_last_records_of_a_long_log(log: SqliteLog) -> None:
    async with page_on(log, look_back=4) as page:
        assert page.view.counts[TELEMETRY] == 2  # of each of two partitions as much, and one of them is empty


async def test_a_log_that_refuses_is_told_and_nothing_is_read_twice(log: SqliteLog) -> None:
    shaky = Shaky(log)
    async with page_on(shaky) as page, browser_at(page) as browser, live(browser) as socket:
        told = Live(socket)
        await told.hear()
        before = page.view.counts[TELEMETRY]
        shaky.refuses = True
        await told.until(lambda: any((one.get("figures") or {}).get("refused") for one in told.messages))
        refused = await browser.post("/api/asked", json=wish())
        assert (refused.status, "nothing was recorded" in (await refused.json())["error"]) == (503, True)
        shaky.refuses = False
        await log.append(clinic.spoken(clinic.session("acme/north/lumbar-2", [0.5])))
        await told.until(lambda: "acme/north/lumbar-2" in told.tiles and told.tiles["acme/north/lumbar-2"].get("set"))
        async with asyncio.timeout(DEADLINE_S):
            while page.view.counts[TELEMETRY] < before + 5:
                await asyncio.sleep(0.01)
        assert page.view.counts[TELEMETRY] == before + 5
        assert page.view.counts[METRIC] == len(
            [one for one in clinic.whole(clinic.session(KEY, TIRING)) if one.topic == METRIC]
        )


# --- What an operator asks for


async def test_what_an_operator_asks_for_is_in_the_log_once_it_is_answered(log: SqliteLog) -> None:
    async with page_on(log) as page, browser_at(page) as browser:
        answer = await browser.post("/api/asked", json=wish())
        assert (answer.status, await answer.json()) == (202, {"id": "0" * 32, "cause": f"{KEY}/operator/{'0' * 32}"})
        assert await asked(log) == [
            OperatorAsked(machine=KEY, id="0" * 32, by="Kim", reason="patient unwell", action="stop")
        ]


async def test_a_stop_on_the_page_becomes_a_command_for_the_machine(log: SqliteLog) -> None:
    engine = Engine(Controller(), log, Counts(), EngineSettings(checkpoint_s=0.01))
    stop = asyncio.Event()
    async with page_on(log) as page, browser_at(page) as browser, live(browser) as socket, asyncio.TaskGroup() as tasks:
        tasks.create_task(engine.run(stop))
        told = Live(socket)
        await socket.send_json({"look": "machine", "key": KEY})
        for _ in range(3):  # a page that got no answer sends the same again
            assert (await browser.post("/api/asked", json=wish())).status == 202
        await told.until(lambda: told.detail and [one["status"] for one in told.detail["asked"]] == ["sent"])
        await told.until(lambda: told.tiles[KEY]["state"] == "stopped")
        stop.set()
    stops = []
    for partition in await log.bounds(COMMAND):
        async for records in log.read(COMMAND, partition):
            stops += [one for one in records if codec.decode_command(one.value or b"").action == "stop"]
    early = {header(one, "ce_id") for one in stops if has_any(one, [EARLY])}
    assert early == {f"{KEY}/operator/{'0' * 32}/emergency_stop#early"}  # sent once, however often it was written
    (command,) = [codec.decode_command(one.value or b"") for one in stops if not has_any(one, [EARLY])]
    assert {codec.decode_command(one.value or b"").command_id for one in stops} == {command.command_id}
    assert [(one.name, one.value) for one in command.evidence] == [("operator", "Kim"), ("reason", "patient unwell")]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (wish(machine="acme/north/nobody"), 404),
        (wish(by=""), 400),
        (wish(reason="no"), 400),
        (wish(id="1"), 400),
        (wish(action="release"), 400),
        (wish(action="acknowledge"), 400),
        ([], 400),
        ({"machine": KEY, "reason": "x" * 5_000}, 413),
    ],
)
async def test_a_wish_that_cannot_be_kept_is_refused_with_a_reason(log: SqliteLog, body: Any, status: int) -> None:
    async with page_on(log) as page, browser_at(page) as browser:
        answer = await browser.post("/api/asked", json=body)
        assert (answer.status, bool((await answer.json())["error"])) == (status, True)
        assert await asked(log) == []


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"token": "\xff"}', {}),
        (b'{"more": ' + b"[" * 2_000, {}),
        (b"no gzip", {"Content-Encoding": "gzip"}),
    ],
)
async def test_bytes_that_nobody_can_read_are_refused_and_no_defect_of_ours(
    log: SqliteLog, body: bytes, headers: dict[str, str]
) -> None:
    async with page_on(log, token=TOKEN) as page, browser_at(page) as browser:
        told = {"Content-Type": "application/json"} | headers
        answer = await browser.post("/api/sign-in", data=body, headers=told)
        assert (answer.status, bool((await answer.json())["error"])) == (400, True)


async def test_a_page_that_still_reads_says_so_and_not_that_there_is_no_such_machine(log: SqliteLog) -> None:
    shaky = Shaky(log)
    shaky.refuses = True
    async with page_on(shaky, is_reading=True) as page, browser_at(page) as browser:
        answer = await browser.post("/api/asked", json=wish())
        assert (answer.status, "still reads" in (await answer.json())["error"]) == (503, True)
        assert await asked(log) == []


# --- Who may look, and who may act


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://example.org"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Host": "example.org"},
        {"Host": "["},
        {"Host": "example.org:8480", "Origin": "http://example.org:8480"},
    ],
)
async def test_another_web_site_can_neither_act_nor_listen(log: SqliteLog, headers: dict[str, str]) -> None:
    async with page_on(log) as page, browser_at(page, **headers) as browser:
        answer = await browser.post("/api/asked", json=wish())
        assert answer.status == 403
        with pytest.raises(WSServerHandshakeError, match="403"):
            await browser.ws_connect("/live")
        assert await asked(log) == []


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: "])
async def test_who_asks_nothing_is_cut_and_who_listens_is_not(
    log: SqliteLog, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr("dashboards.live.server.IDLE_S", 0.2)
    async with page_on(log) as page, browser_at(page) as browser, live(browser) as socket:
        await Live(socket).hear()
        reader, writer = await asyncio.open_connection("127.0.0.1", page.port)
        writer.write(said)
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.read() == b""
        writer.close()
        await socket.send_json({"look": "letters"})
        told = Live(socket)
        await told.until(lambda: told.detail)


async def test_one_connection_more_than_the_bound_is_closed_and_after_another_has_gone_a_new_one_is_answered(
    log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboards.live.server.MAX_CONNECTIONS", 2)
    async with page_on(log) as page, browser_at(page) as browser, live(browser) as socket:
        _, idle = await asyncio.open_connection("127.0.0.1", page.port)
        async with browser_at(page) as another, asyncio.timeout(DEADLINE_S):
            with pytest.raises(ClientConnectionError):
                await another.get("/api/me")
            idle.close()
            status = 0
            while status != 200:
                with suppress(ClientConnectionError):
                    status = (await another.get("/api/me")).status
            await Live(socket).hear()  # who looks was not disturbed


async def test_a_body_that_does_not_come_is_not_waited_for(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboards.live.server.BODY_S", 0.1)
    async with page_on(log, token=TOKEN) as page:
        reader, writer = await asyncio.open_connection("127.0.0.1", page.port)
        told = "Host: x\r\nContent-Type: application/json\r\nContent-Length: 9"
        writer.write(f"POST /api/sign-in HTTP/1.1\r\n{told}\r\n\r\n".encode())
        async with asyncio.timeout(DEADLINE_S):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_a_form_of_another_web_site_is_not_understood(log: SqliteLog) -> None:
    async with page_on(log) as page, browser_at(page) as browser:
        answer = await browser.post("/api/asked", data='{"machine": "x"}', headers={"Content-Type": "text/plain"})
        assert answer.status == 415


async def test_without_the_token_nothing_is_seen_or_done_and_with_it_everything(log: SqliteLog) -> None:
    async with page_on(log, token=TOKEN) as page, browser_at(page) as browser:
        assert await (await browser.get("/api/me")).json() == {"signed_in": False, "asks": True}
        assert (await browser.get("/")).status == 200  # the page itself tells nothing
        assert (await browser.post("/api/asked", json=wish())).status == 401
        with pytest.raises(WSServerHandshakeError, match="401"):
            await browser.ws_connect("/live")
        assert (await browser.post("/api/sign-in", json={"token": TOKEN + "!"})).status == 401
        answer = await browser.post("/api/sign-in", json={"token": TOKEN})
        assert answer.status == 200
        cookie = answer.cookies["spineloop_page"]
        assert (cookie["httponly"], cookie["samesite"], TOKEN in cookie.value) == (True, "Strict", False)
    async with (
        page_on(log, token=TOKEN) as page,
        ClientSession(base_url=page.url, cookies={cookie.key: cookie.value}) as again,
    ):
        assert (await again.post("/api/asked", json=wish())).status == 202
        async with live(again) as socket:
            assert (await Live(socket).hear())["all"] is True
        assert (await again.post("/api/sign-out", json={})).cookies["spineloop_page"].value == ""


async def test_a_tool_shows_the_token_as_bearer(log: SqliteLog) -> None:
    async with page_on(log, token=TOKEN) as page:
        async with browser_at(page, Authorization=f"Bearer {TOKEN}") as tool:
            assert (await tool.post("/api/asked", json=wish())).status == 202
        async with browser_at(page, Authorization="Bearer guessed") as tool:
            assert (await tool.post("/api/asked", json=wish())).status == 401


async def test_after_many_wrong_tokens_none_is_looked_at(log: SqliteLog) -> None:
    async with page_on(log, token=TOKEN) as page, browser_at(page) as browser:
        found = [(await browser.post("/api/sign-in", json={"token": f"{n}"})).status for n in range(MAX_FAILURES)]
        assert Counter(found) == {401: MAX_FAILURES}
        assert (await browser.post("/api/sign-in", json={"token": TOKEN})).status == 429


async def test_behind_a_proxy_wrong_tokens_keep_out_whom_the_proxy_names(log: SqliteLog) -> None:
    async with page_on(log, token=TOKEN) as page, browser_at(page) as browser:

        async def sign_in(token: str, told: str) -> int:
            told_by = {"X-Forwarded-For": told}
            return (await browser.post("/api/sign-in", json={"token": token}, headers=told_by)).status

        for number in range(MAX_FAILURES):  # what a client says itself stands before what the proxy adds
            assert await sign_in("wrong", f"10.1.0.{number}, 10.0.0.66") == 401
        assert await sign_in(TOKEN, "10.0.0.66") == 429
        assert await sign_in(TOKEN, "10.0.0.1") == 200


def test_a_guard_forgets_wrong_tokens_in_time() -> None:
    at_s = [0.0]
    guard = Guard(TOKEN, lambda: at_s[0])
    assert not any(guard.knows("wrong") for _ in range(MAX_FAILURES))
    assert not guard.knows(TOKEN)
    at_s[0] = 61.0
    assert guard.knows(TOKEN)


def test_who_tells_wrong_tokens_keeps_nobody_at_another_address_out() -> None:
    guard = Guard(TOKEN, lambda: 0.0)
    assert not any(guard.knows("wrong", "10.0.0.66") for _ in range(MAX_FAILURES))
    assert not guard.knows(TOKEN, "10.0.0.66")
    assert guard.knows(TOKEN, "10.0.0.1")
    assert guard.lets_in({"Authorization": f"Bearer {TOKEN}"}, {}, "10.0.0.2")


def test_a_guard_remembers_the_wrong_tokens_of_so_many_addresses_and_forgets_the_quietest() -> None:
    guard = Guard(TOKEN, lambda: 0.0)
    for number in range(MAX_ADDRESSES + 1):
        for _ in range(MAX_FAILURES):
            guard.knows("wrong", f"{number}")
    assert [guard.is_tired_of(f"{number}") for number in (0, 1, MAX_ADDRESSES)] == [False, True, True]


def test_a_token_that_is_no_text_is_a_wrong_one() -> None:
    guard = Guard(TOKEN, lambda: 0.0)
    odd = b"\xff".decode(errors="surrogateescape")  # as headers come
    assert not guard.knows(odd)
    assert not guard.lets_in({"Authorization": f"Bearer {odd}"}, {COOKIE: odd})


def test_a_guard_without_a_token_knows_none() -> None:
    guard = Guard("", lambda: 0.0)
    assert not guard.knows("")
    assert guard.lets_in({}, {})


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"SPINELOOP_PAGE_HOST": "0.0.0.0"}, "SPINELOOP_PAGE_TOKEN: needed"),  # noqa: S104 - refused here
        ({"SPINELOOP_PAGE_HOST": "page.clinic.example"}, "SPINELOOP_PAGE_TOKEN: needed"),
        ({"SPINELOOP_PAGE_TOKEN": "short"}, "SPINELOOP_PAGE_TOKEN: at least 16"),
        ({"SPINELOOP_PAGE_PORT": "99999"}, "SPINELOOP_PAGE_PORT"),
    ],
)
def test_a_page_in_reach_of_others_needs_a_token(environment: dict[str, str], named: str) -> None:
    with pytest.raises(WrongSetting, match=named):
        Settings.read(environment)
    assert Settings.read({"SPINELOOP_PAGE_HOST": "0.0.0.0", "SPINELOOP_PAGE_TOKEN": TOKEN}).page_token == TOKEN  # noqa: S104


async def test_every_answer_says_what_a_browser_may_do_with_it(log: SqliteLog) -> None:
    async with page_on(log, token=TOKEN) as page, browser_at(page) as browser:
        for path in (
            "/",
            "/app.js",
            "/style.css",
            "/icon.svg",
            "/nothing.js",
            "/../server.py",
            "/api/me",
            "/api/nothing",
            "/live",
        ):
            answer: ClientResponse = await browser.get(path)
            assert {name: answer.headers.get(name) for name in HEADERS} == dict(HEADERS), path
        assert (await browser.get("/app.js")).content_type == "text/javascript"
        assert (await browser.get("/nothing.js")).status == 404
        assert (await browser.get("/server.py")).status == 404


def test_the_page_asks_nothing_of_other_servers() -> None:
    allowed = {"http://www.w3.org/2000/svg"}  # a name, not an address
    for path in STATIC.iterdir():
        found = set(re.findall(r"(?:https?:)?//[a-z][\w.]+\.[a-z]{2,}[^\s\"']*", path.read_text(encoding="utf-8")))
        assert found <= allowed, path.name


async def test_a_port_that_is_taken_ends_the_page_with_a_reason(log: SqliteLog) -> None:
    async with page_on(log) as page:
        second = a_page(log, PageSettings(port=page.port))
        with pytest.raises(OSError, match="address already in use"):
            await second.run(asyncio.Event())


def test_an_ipv6_address_is_written_in_brackets(log: SqliteLog) -> None:
    page = a_page(log, replace(PageSettings(), host="::1"))
    assert page.url.startswith("http://[::1]:")
