"""Server: the page over HTTP, live over a WebSocket, and what an operator asks for into the log."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from dashboards.live import shown
from dashboards.live.board import Board
from dashboards.live.door import listening
from dashboards.live.feed import Feed, Log
from dashboards.live.guard import COOKIE, FAILURES_S, IDLE_S, Guard
from dashboards.live.view import View
from streams.core.danger import early_stop
from streams.core.errors import Busy
from streams.core.operators import OperatorAsked
from streams.core.outputs import to_records
from streams.core.policy import Policy, digest
from streams.core.records import Record

STATIC = Path(__file__).parent / "static"
KINDS: Mapping[str, str] = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
PACE_S = 0.25
"""Time between two messages to one browser, in s; what happens meanwhile is told together."""

DETAIL_MS = 1_000
"""How often a machine or patient is looked at although nothing came of it, in ms: time passes for it, too."""

BEAT_S = 2.0
"""A browser hears something at least so often, in s; one that hears nothing for longer knows that it is alone."""

SEND_S = 20.0
"""A browser that takes nothing for so long is let go, in s; it comes back by itself and is told everything anew."""

MAX_BROWSERS = 100
MAX_CONNECTIONS = 512
"""Connections that are open at once: each browser that looks holds one for as long, and some more for a while. With
thousands that ask nothing the process would have no file left for Kafka or the broker."""

MAX_BODY = 4_096
BODY_S = 10.0
"""A body has to be there after so long, in s."""

MAX_ADDRESS = 64
"""Characters that are kept of what a proxy says where a request comes from."""

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_Body = TypeVar("_Body")
_log = structlog.get_logger()
_encode = msgspec.json.encode


class PageSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the page listens, what it asks of a browser, how far it looks back, under which group it reads."""

    host: str = "127.0.0.1"
    port: int = 8480
    token: str = ""
    look_back: int = 40_000
    group: str = "page"


class Look(msgspec.Struct, frozen=True):
    """What a browser looks at."""

    look: str = "fleet"
    key: str = ""


class SignIn(msgspec.Struct, frozen=True):
    """What a browser tells to be let in."""

    token: str


class NoPort(OSError):
    """Nobody can listen where the page was to be."""


class Page:
    """The operator page on one log.

    Parameters
    ----------
    log : Log
        What it reads, and where it appends what operators ask for.
    settings : PageSettings
        Where it listens.
    chosen : Policy
        The policy in force, for limits.
    now_ms : callable
        The log's clock in ms since 1970.
    places : callable
        Tells of an exception where it was, without any value: what may be logged of a defect.
    roles : callable
        Whether each role of this process is ready.

    Attributes
    ----------
    view : View
        What it knows.
    port : int
        Where it listens; 0 before it does.
    """

    def __init__(
        self,
        log: Log,
        settings: PageSettings,
        chosen: Policy,
        *,
        now_ms: Callable[[], int],
        places: Callable[[BaseException], str],
        roles: Callable[[], Mapping[str, bool]] = dict,
    ) -> None:
        self.view = View(chosen)
        self._policy = digest(chosen)
        self.port = 0
        self._log, self._settings = log, settings
        self._now_ms, self._places, self._roles = now_ms, places, roles
        self._board = Board(self.view)
        self._guard = Guard(settings.token, time.monotonic)
        self._feed = Feed(log, settings.group, self._take, look_back=settings.look_back, now_s=lambda: now_ms() / 1_000)
        self._defects = set[str]()
        self._browsers: set[web.WebSocketResponse] = set()
        self._files = {path.name: path.read_bytes() for path in STATIC.iterdir() if path.suffix in KINDS}

    @property
    def is_ready(self) -> bool:
        """Whether it listens, has read to the end of the log, and can read on."""
        return self.port != 0 and self._feed.caught_up and self._feed.refused is None

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        host = self._settings.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set. Raises NoPort."""
        runner = web.AppRunner(self.app(), access_log=None, shutdown_timeout=1.0, keepalive_timeout=IDLE_S)
        await runner.setup()
        try:
            async with AsyncExitStack() as stops:
                heard = listening(runner, self._settings.host, self._settings.port, MAX_CONNECTIONS)
                try:
                    self.port = await stops.enter_async_context(heard)
                except OSError as error:
                    raise NoPort(error.errno, error.strerror) from error
                _log.info("page", url=self.url, asks_for_token=self._guard.asks)
                await self._feed.run(stop)
        finally:
            self.port = 0
            for browser in [*self._browsers]:
                with suppress(ConnectionError, TimeoutError):
                    await asyncio.wait_for(browser.close(code=WSCloseCode.GOING_AWAY, message=b"stopping"), 1.0)
            await runner.cleanup()

    def app(self) -> web.Application:
        """Build the routes."""
        app = web.Application(middlewares=[self._guarded], client_max_size=MAX_BODY)
        app.add_routes(
            [
                web.get("/api/me", self._me),
                web.post("/api/sign-in", self._sign_in),
                web.post("/api/sign-out", self._sign_out),
                web.post("/api/asked", self._asked),
                web.get("/live", self._live),
                web.get("/", self._file),
                web.get("/{name}", self._file),
            ]
        )
        return app

    @web.middleware
    async def _guarded(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Turn away who must not come in; say in the headers what a browser may do with the answer."""
        is_open = request.path in {"/api/me", "/api/sign-in"} or not request.path.startswith(("/api/", "/live"))
        acts = request.method != "GET" or request.path == "/live"
        if not self._guard.is_our_host(request.headers):
            answer: web.StreamResponse = _told(403, "this page is only for this machine itself")
        elif acts and not self._guard.is_from_here(request.headers):
            answer = _told(403, "only the page itself may do this")
        elif not is_open and not self._guard.lets_in(request.headers, request.cookies, _address(request)):
            answer = _told(401, "the token is missing or wrong")
        else:
            try:
                answer = await handler(request)
            except web.HTTPException as refused:
                answer = _told(refused.status, refused.reason)
        if not answer.prepared:
            answer.headers.update(HEADERS)
        return answer

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info.get("name", "index.html")
        body = self._files.get(name)
        if body is None:
            return _told(404, "there is no such page")
        return web.Response(body=body, content_type=KINDS[Path(name).suffix], charset="utf-8")

    async def _me(self, request: web.Request) -> web.Response:
        is_in = self._guard.lets_in(request.headers, request.cookies, _address(request))
        return _json({"signed_in": is_in, "asks": self._guard.asks})

    async def _sign_in(self, request: web.Request) -> web.Response:
        told = await _body(request, SignIn)
        if not isinstance(told, SignIn):
            return told
        address = _address(request)
        if self._guard.is_tired_of(address):
            return _told(429, f"too many wrong tokens: try again in {FAILURES_S:.0f} s")
        if not self._guard.knows(told.token, address):
            return _told(401, "the token is wrong")
        answer = _json({"signed_in": True})
        secure = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
        answer.set_cookie(
            COOKIE, self._guard.cookie, httponly=True, samesite="Strict", secure=secure, max_age=12 * 3_600
        )
        return answer

    async def _sign_out(self, _: web.Request) -> web.Response:
        answer = _json({"signed_in": False})
        answer.del_cookie(COOKIE)
        return answer

    async def _asked(self, request: web.Request) -> web.Response:
        """Put what an operator asks for into the log, then the STOP that need not wait; answer once it is durable."""
        told = await _body(request, OperatorAsked)
        if not isinstance(told, OperatorAsked):
            return told
        if told.machine not in self.view and not self._feed.caught_up:
            still = "this page still reads what was said before it started, so nothing was recorded"
            return _told(503, f"{still}: try again in some seconds, or use the button on the machine")
        if told.machine not in self.view:
            return _told(404, f"no machine {told.machine} is known here, so nothing was recorded")
        try:
            now_ms = self._now_ms()
            await self._log.append(to_records(told, now_ms))
        except Busy as busy:
            _log.warning("what an operator asked for was not recorded", machine=told.machine, why=str(busy))
            return _told(503, "the log did not answer, so perhaps nothing was recorded; use the button on the machine")
        with suppress(Busy):  # the controller's STOP follows from what is recorded
            await self._log.append(early_stop(told, now_ms, self._policy))
        _log.info("operator asked", machine=told.machine, action=told.action, id=told.id)
        return _json({"id": told.id, "cause": told.cause}, status=202)

    async def _live(self, request: web.Request) -> web.StreamResponse:
        if len(self._browsers) >= MAX_BROWSERS:
            return _told(503, f"{MAX_BROWSERS} browsers are looking already")
        browser = web.WebSocketResponse(heartbeat=15.0, max_msg_size=MAX_BODY, compress=False)
        browser.headers.update(HEADERS)
        await browser.prepare(request)
        self._browsers.add(browser)
        looking = _Looking()
        teller = asyncio.create_task(self._tell(browser, looking))
        try:
            async for message in browser:
                if message.type is WSMsgType.TEXT:
                    looking.at(message.data)
        finally:
            teller.cancel()
            self._browsers.discard(browser)
        return browser

    def _take(self, record: Record) -> None:
        """Fold a record; a defect of ours costs the page this one, and not the roles that run beside it."""
        try:
            self.view.take(record)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is ours, and the record would come again
            self.view.unread += 1
            self._met("a record was left out", error)

    def _met(self, what: str, error: Exception) -> None:
        """Log a defect of ours, each once: the next record or the browser that comes back may meet it again."""
        where = self._places(error)
        if where not in self._defects:
            self._defects.add(where)
            _log.error(what, defect=where)

    async def _tell(self, browser: web.WebSocketResponse, looking: "_Looking") -> None:
        """Tell a browser everything once, then what changes."""
        told = _Told()
        try:
            while not browser.closed:
                news = self._news(looking, told)
                if news is not None:
                    async with asyncio.timeout(SEND_S):
                        await browser.send_str(news.decode())
                with suppress(TimeoutError):
                    await asyncio.wait_for(looking.changed.wait(), PACE_S)
                looking.changed.clear()
        except (ConnectionError, TimeoutError):
            await browser.close(code=WSCloseCode.TRY_AGAIN_LATER)
        except Exception as error:  # noqa: BLE001 - it would stand still, and believe that nothing happens
            self._met("a browser was let go", error)
            await browser.close(code=WSCloseCode.INTERNAL_ERROR)

    def _news(self, looking: "_Looking", told: "_Told") -> bytes | None:
        """Write what a browser has not been told yet; None if there is nothing and it heard something lately."""
        now_ms, board = self._now_ms(), self._board
        board.refresh(now_ms)
        news: dict[str, Any] = board.since(told.version)
        if told.version == 0:
            news |= {"all": True, "limits": shown.limits(self.view.policy)}
        figures = self._figures(now_ms)
        if figures != told.figures and (looking.look.look == "health" or _without_rates(figures) != told.steady):
            news["figures"] = told.figures = figures
            told.steady = _without_rates(figures)
        seen = (looking.look, self._changed(looking.look), now_ms // DETAIL_MS)
        detail = told.detail if seen == told.seen else self._detail(looking.look, now_ms)
        told.seen = seen
        if detail != told.detail:
            news["detail"] = msgspec.Raw(detail)
            told.detail = detail
        is_due = abs(now_ms - told.at_ms) >= 1_000 * BEAT_S
        if not news and not is_due:
            return None
        told.version, told.at_ms = max(board.version, 1), now_ms
        return _encode({"now": now_ms} | news)

    def _changed(self, look: Look) -> int:
        match look.look:
            case "machine":
                return self.view.version_of(look.key)
            case "patient":
                return self.view.version_of(f"patient {look.key}")
            case _:
                return len(self.view.letters)

    def _detail(self, look: Look, now_ms: int) -> bytes:
        match look.look:
            case "machine":
                return _encode(shown.one_machine(self.view, look.key, now_ms))
            case "patient":
                return _encode(shown.one_patient(self.view, look.key))
            case "letters":
                return _encode(shown.letters(self.view))
            case _:
                return b"null"

    def _figures(self, now_ms: int) -> dict[str, Any]:
        view, feed, second = self.view, self._feed, now_ms // 1_000
        return {
            "caught_up": feed.caught_up,
            "refused": feed.refused,
            "behind_ms": view.behind_ms,
            "states": dict(self._board.states),
            "commands": dict(view.commands),
            "letters": sum(view.reasons.values()),
            "unread": view.unread,
            "roles": dict(self._roles()),
            "browsers": len(self._browsers),
            "topics": [
                {
                    "topic": topic,
                    "caught_up": status.caught_up,
                    "records": view.counts[topic],
                    "per_s": status.per_second(second),
                    "last_ms": view.last_ms.get(topic),
                }
                for topic, status in feed.status.items()
            ],
        }


def _without_rates(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what changes all the time and is shown on one page only."""
    return {name: value for name, value in figures.items() if name not in {"topics", "behind_ms", "commands"}}


class _Looking:
    """What a browser looks at now, and whether that is new."""

    def __init__(self) -> None:
        self.look = Look()
        self.changed = asyncio.Event()

    def at(self, message: str) -> None:
        """Hear what it wants to look at; what can't be read changes nothing."""
        with suppress(ValueError, RecursionError):
            self.look = msgspec.json.decode(message, type=Look)
            self.changed.set()


class _Told:
    """What a browser has been told."""

    def __init__(self) -> None:
        self.version = 0
        self.at_ms = 0
        self.figures: Mapping[str, Any] = {}
        self.steady: Mapping[str, Any] = {}
        self.detail = b""
        self.seen: tuple[Look, int, int] | None = None


def _address(request: web.Request) -> str:
    """Name where a request comes from: who is connected, and of whom that says that it passes it on.

    A proxy has one address for all; the last name is what it added itself. Who is no proxy and makes names up keeps
    nobody out, because its own address stands before them.
    """
    passed_on = request.headers.getall("X-Forwarded-For", [""])[-1].rpartition(",")[2].strip()
    return f"{request.remote or ''} {passed_on[:MAX_ADDRESS]}"


async def _body(request: web.Request, kind: type[_Body]) -> _Body | web.Response:
    """Read a JSON body; a browser can't send this content type for another site without asking first."""
    if request.content_type != "application/json":
        return _told(415, "only application/json is understood")
    try:
        async with asyncio.timeout(BODY_S):
            body = await request.read()
        return msgspec.json.decode(body, type=kind)
    except TimeoutError:
        return _told(408, f"the body did not come within {BODY_S:.0f} s")
    except web.RequestPayloadError:
        return _told(400, "the body is not what its headers say")
    except (ValueError, RecursionError) as error:  # broken UTF-8 is a ValueError but not a msgspec.DecodeError
        return _told(400, str(error))


def _json(told: Any, status: int = 200) -> web.Response:  # noqa: ANN401
    return web.Response(body=_encode(told), status=status, content_type="application/json")


def _told(status: int, why: str) -> web.Response:
    return _json({"error": why}, status)
