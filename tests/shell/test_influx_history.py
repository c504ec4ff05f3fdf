"""InfluxHistory against a server that answers as 2.x or as a server in trouble; the real 1.6.7 is in tests/contract.

2.x is foreign and not installed here: `Answers` gives the statuses and bodies that its documentation and issues show.
"""

import base64
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


class Answers:
    """A server that answers writes with one status and body, or judges the lines as 2.x does."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], str]] = []
        self.logins: set[str] = set()
        self.status, self.body = 204, ""
        self.conflict: tuple[int, str] | None = None
        self.policies = [["raw", "0s", "168h0m0s", 1, True]]

    async def ping(self, _: web.Request) -> web.Response:
        return web.Response(status=204, headers={"X-Influxdb-Version": "v2.9.1", "X-Influxdb-Build": "OSS"})

    async def write(self, request: web.Request) -> web.Response:
        text = await self.remember(request)
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


@pytest_asyncio.fixture
async def answers() -> Answers:
    return Answers()


@asynccontextmanager
async def history_of(answers: Answers, user: str = "", password: str = "") -> AsyncIterator[InfluxHistory]:
    app = web.Application()
    app.router.add_get("/ping", answers.ping)
    app.router.add_post("/write", answers.write)
    app.router.add_post("/query", answers.query)
    async with TestServer(app) as server:
        url = str(server.make_url("/"))
        address = InfluxAddress(url=url, database="telemetry", user=user, password=password)
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


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
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
