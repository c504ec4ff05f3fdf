"""InfluxHistory against a server that answers as 2.x or as a server in trouble; the real 1.6.7 is in tests/contract.

2.x is foreign and not installed here: `Answers` gives the statuses and bodies that its documentation and issues show.
"""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from adaptors.influx_history import InfluxAddress, InfluxHistory, open_influx_history
from adaptors.points import Point
from streams.core.errors import BrokenPromise, Busy

CONFLICT = (
    '{"code":"unprocessable entity","message":"failure writing points to database: partial write: field type conflict: '
    'input field \\"f\\" on measurement \\"m\\" is type integer, already exists as type float dropped=%d"}'
)
OUT_OF_DATE_CONFLICT = (
    '{"code":"internal error","message":"unexpected error writing points to database: partial write: field type '
    'conflict dropped=%d"}'
)
UNPARSED = '{"code":"invalid","message":"unable to parse \'m f=1i 1\': bad"}'


DAY_NS = 86_400 * 10**9


class Answers:
    """A server that answers writes with one status and body, or judges the lines as 2.x does."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], str]] = []
        self.logins: set[str] = set()
        self.status, self.body = 204, ""
        self.conflict: tuple[int, str] | None = None
        self.takes_s_per_byte = 0.0
        self.policies = [["raw", "0s", "168h0m0s", 1, True]]

    async def ping(self, _: web.Request) -> web.Response:
        return web.Response(status=204, headers={"X-Influxdb-Version": "v2.9.1", "X-Influxdb-Build": "OSS"})

    async def write(self, request: web.Request) -> web.Response:
        text = await self.remember(request)
        await asyncio.sleep(len(text) * self.takes_s_per_byte)
        if self.conflict is not None:
            status, body = self.conflict
            bad = [line for line in text.split("\n") if "i " in line]
            return web.Response(status=status, text=body % len(bad)) if bad else web.Response(status=204)
        return web.Response(status=self.status, text=self.body)

    async def query(self, request: web.Request) -> web.Response:
        await self.remember(request)
        columns = ["name", "duration", "shardGroupDuration", "replicaN", "default"]
        return web.json_response({"results": [{"series": [{"columns": columns, "values": self.policies}]}]})

    async def remember(self, request: web.Request) -> str:
        text = await request.text()
        self.requests.append((request.path, dict(request.query), text))
        self.logins.add(request.headers.get("Authorization", ""))
        return text


class Years:
    """A server with points of many days, which takes its time for every query and looks at the times that it names."""

    def __init__(self, days: int, takes_s: float) -> None:
        self.texts = {day * DAY_NS + 1: "acme/p-1" for day in range(days)}
        self.widest_ns = 0
        self._takes_s = takes_s

    async def write(self, request: web.Request) -> web.Response:
        for text in (await request.text()).split("\n"):
            fields, t_ns = text.removeprefix("rep ").rsplit(" ", 1)
            self.texts[int(t_ns)] = fields.removeprefix('patient="').removesuffix('"')
        return web.Response(status=204)

    async def query(self, request: web.Request) -> web.Response:
        await asyncio.sleep(self._takes_s)
        query = str((await request.post())["q"])
        if query.startswith("SHOW MEASUREMENTS"):
            values: list[list[object]] = [["rep"]]
        elif query.startswith("SHOW FIELD KEYS"):
            values = [["patient", "string"]]
        elif query.startswith("SHOW"):
            values = []
        elif query.endswith("LIMIT 1"):
            values = [[(min if "ASC" in query else max)(self.texts), "..."]]
        else:
            start, end = map(int, re.findall(r"time (?:>=|<) (\d+)", query))
            self.widest_ns = max(self.widest_ns, end - start)
            values = [[t_ns, text] for t_ns, text in self.texts.items() if start <= t_ns < end and text == "acme/p-1"]
        series = [{"name": "rep", "columns": ["time", "patient"], "values": values}] if values else []
        return web.json_response({"results": [{"series": series}]})


@pytest_asyncio.fixture
async def answers() -> Answers:
    return Answers()


@asynccontextmanager
async def history_of(
    answers: Answers, user: str = "", password: str = "", timeout_s: float = 5.0
) -> AsyncIterator[InfluxHistory]:
    app = web.Application()
    app.router.add_get("/ping", answers.ping)
    app.router.add_post("/write", answers.write)
    app.router.add_post("/query", answers.query)
    async with TestServer(app) as server:
        url = str(server.make_url("/"))
        address = InfluxAddress(url=url, database="telemetry", user=user, password=password, timeout_s=timeout_s)
        async with open_influx_history(address) as history:
            yield history


@asynccontextmanager
async def history_of_years(years: Years, timeout_s: float) -> AsyncIterator[InfluxHistory]:
    app = web.Application()
    app.router.add_post("/write", years.write)
    app.router.add_post("/query", years.query)
    async with TestServer(app) as server:
        address = InfluxAddress(url=str(server.make_url("/")), timeout_s=timeout_s)
        async with open_influx_history(address) as history:
            yield history


def pulse(number: int, value: float = 1.5) -> Point:
    return Point("m", (), {"f": value}, number)


async def test_a_write_names_database_policy_and_precision_and_logs_in_with_basic(answers: Answers) -> None:
    async with history_of(answers, user="any", password="token") as history:  # noqa: S106 - not a secret
        assert await history.write([pulse(1), pulse(2)]) == []
    place = {"db": "telemetry", "rp": "raw", "precision": "ns"}
    assert answers.requests == [("/write", place, "m f=1.5 1\nm f=1.5 2")]
    assert answers.logins == {"Basic " + base64.b64encode(b"any:token").decode()}


async def test_reps_are_counted_from_a_time_on_and_by_one_field(answers: Answers) -> None:
    answers.policies = [[5_000, 12]]
    async with history_of(answers) as history:
        assert await history.reps_since(5_000) == 12
    ((_, _, form),) = answers.requests
    assert parse_qs(form)["q"] == ['SELECT COUNT("valid") FROM "raw"."rep" WHERE time >= 5000']


async def test_nothing_to_write_sends_nothing(answers: Answers) -> None:
    async with history_of(answers) as history:
        assert await history.write([]) == []
    assert answers.requests == []


@pytest.mark.parametrize("said", [(422, CONFLICT), (500, OUT_OF_DATE_CONFLICT), (400, UNPARSED + "%.0s")])
async def test_the_bad_lines_of_a_refused_batch_are_found_without_sending_it_again_and_again(
    answers: Answers, said: tuple[int, str]
) -> None:
    answers.conflict = said
    async with history_of(answers) as history:
        rejected = await history.write([pulse(n, 7 if n in {3, 900} else 1.5) for n in range(1_024)])
    assert [one.index for one in rejected] == [3, 900]
    assert all(one.reason == "refused" and one.detail for one in rejected)
    assert len(answers.requests) == 1 + 2 * 10 + 2 * 9  # down to each of the two, past the first cut apart


async def test_a_batch_that_is_bad_throughout_costs_one_request(answers: Answers) -> None:
    answers.conflict = (422, CONFLICT)
    async with history_of(answers) as history:
        assert len(await history.write([pulse(n, 7) for n in range(1_000)])) == 1_000
    assert len(answers.requests) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_a_server_in_trouble_is_busy(answers: Answers, status: int) -> None:
    answers.status = status
    async with history_of(answers) as history:
        with pytest.raises(Busy, match=str(status)):
            await history.write([pulse(1)])


@pytest.mark.parametrize(
    ("status", "body", "setting"),
    [
        (401, '{"code":"unauthorized","message":"unauthorized access"}', "check history_user and history_password"),
        (403, "", "check history_user and history_password"),
        (404, '{"code":"not found","message":"no dbrp mapping found"}', "no bucket telemetry/raw"),
        (405, "", "check history_url"),
        (200, "<html>", "check history_url"),
    ],
)
async def test_a_wrong_setting_ends_the_process_with_one_line_that_names_it(
    answers: Answers, status: int, body: str, setting: str
) -> None:
    answers.status, answers.body = status, body
    async with history_of(answers) as history:
        with pytest.raises(BrokenPromise, match=setting) as caught:
            await history.write([pulse(1)])
    assert "\n" not in str(caught.value)


async def test_prepare_on_2x_creates_nothing_and_says_so_if_the_bucket_is_missing(answers: Answers) -> None:
    async with history_of(answers) as history:
        await history.prepare()
        answers.policies = []
        with pytest.raises(BrokenPromise, match="no bucket telemetry/raw"):
            await history.prepare()
    asked = {parse_qs(text)["q"][0] for _, _, text in answers.requests}
    assert asked == {'SHOW RETENTION POLICIES ON "telemetry"'}


async def test_erasing_has_patience_with_a_server_and_never_asks_for_more_than_a_day() -> None:
    years = Years(days=3, takes_s=0.5)
    async with history_of_years(years, timeout_s=0.4) as history:
        assert await history.rewrite("acme/p-1", lambda text: text.replace("p-1", "erased")) == 3
    assert (set(years.texts.values()), len(years.texts)) == ({"acme/erased"}, 3)
    assert years.widest_ns <= DAY_NS


async def test_a_batch_of_megabytes_has_the_time_that_its_bytes_take_on_a_slow_line(answers: Answers) -> None:
    answers.takes_s_per_byte = 4e-7
    batch = [Point("m", (), {"f": "x" * 1_000}, number) for number in range(950)]
    async with history_of(answers, timeout_s=0.2) as history:
        assert await history.write(batch) == []
        answers.takes_s_per_byte = 1.0
        with pytest.raises(Busy, match="can't be reached"):
            await history.write([pulse(1)])


async def test_a_server_that_gives_no_answer_in_time_is_told_as_such() -> None:
    async with history_of_years(Years(days=1, takes_s=0.5), timeout_s=0.05) as history:
        with pytest.raises(Busy, match=r"can't be reached: \S+"):
            await history.count("rep")
