"""History in InfluxDB: points in by line protocol, InfluxQL out, the same requests for 1.x and 2.x.

1.x and 2.x share `POST /write` and `POST /query` with `db` and `rp`, and Basic authentication (on 2.x the password is
an API token, and the bucket's name is `database/retention policy`), so there is one path through this file.
"""

import asyncio
import io
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from adaptors.line_protocol import line
from adaptors.points import BEYOND_RETENTION, FieldValue, Point, Rejected
from streams.core.errors import BrokenPromise, Busy, Malformed

DETAIL_CHARACTERS = 500
"""How much of a server's answer is kept: its end, because 1.x puts the line before the reason."""

SHARD_DAYS = 7
"""Days in one shard; retention drops whole shards, so a policy keeps up to this much more than it says."""

YIELD_EVERY_POINTS = 250
"""Points turned into lines before other tasks get their turn: about 5 ms."""

SLOWEST_BYTES_PER_S = 500_000
"""What a line to the server carries at least, 4 Mbit/s. A full batch of reps is 10 MB: on a line of 10 Mbit/s, or to a
server with much else to do, it takes longer than an answer may, and sent again it takes as long again, for ever."""

ERASE_TIMEOUT_S = 300.0
"""Longest wait for one answer while something is erased, in s: the server reads every point of a day for it."""

ERASE_STEP_NS = 86_400 * 10**9
"""How much is looked through in one query: a day, for a query over all time would end in no time that one may wait."""

ERASE_POINTS = 5_000
"""Most points that are written again in one request."""

_TOO_OLD = re.compile(r"(beyond|outside) retention policy")
"""What is said of points that retention would delete at once: `beyond` by 1.6.7, tried; `outside` by 2.x, not tried."""

_COERCE: Mapping[str, type[FieldValue]] = {"float": float, "integer": int, "string": str, "boolean": bool}


class InfluxAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where history is kept, and who we are there.

    Parameters
    ----------
    url : str
        `http://host:port` or `https://host:port`.
    database, retention : str
        On 2.x the bucket is called `database/retention`.
    user, password : str
        On 2.x any user name, and an API token as the password. Empty: anonymous.
    timeout_s : float
        Longest wait for one answer in s, beside what the bytes of a write may take.
    """

    url: str
    database: str = "telemetry"
    retention: str = "raw"
    user: str = ""
    password: str = ""
    timeout_s: float = 5.0


class _Columns(msgspec.Struct, frozen=True):
    """The tags of a measurement, sorted, and its fields with their types."""

    tags: Sequence[str]
    fields: Mapping[str, type[FieldValue]]


@asynccontextmanager
async def open_influx_history(address: InfluxAddress) -> AsyncIterator["InfluxHistory"]:
    """Open a history in InfluxDB; nothing is sent before the first call."""
    has_login = bool(address.user or address.password)
    headers = {"Authorization": aiohttp.encode_basic_auth(address.user, address.password)} if has_login else None
    timeout = aiohttp.ClientTimeout(total=address.timeout_s)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        yield InfluxHistory(address, session)


class InfluxHistory:
    """Points in one database and retention policy.

    Every call raises `Busy` when the server can't be reached or refuses for now, and `BrokenPromise` with the setting
    that is wrong when it refuses who we are or does not have our database.
    """

    def __init__(self, address: InfluxAddress, session: aiohttp.ClientSession) -> None:
        self._address = address
        self._session = session
        self._url = URL(address.url)

    async def prepare(self, *, keep_days: int = 0) -> None:
        """Make sure that database and retention policy exist.

        On 1.x they are created; an existing policy is left as it is. On 2.x the bucket is created by its operator, and
        asked for here.

        Parameters
        ----------
        keep_days : int
            Days that a new policy keeps points, 0 for ever. Points older than that are refused, not stored.
        """
        database, policy = (_quoted(name) for name in (self._address.database, self._address.retention))
        if await self._is_1x():
            await self._query(f"CREATE DATABASE {database}")
            if not await self._has_policy():
                keep, shard = (f"{keep_days}d", min(SHARD_DAYS, keep_days)) if keep_days else ("INF", SHARD_DAYS)
                duration = f"DURATION {keep} REPLICATION 1 SHARD DURATION {shard}d"
                await self._query(f"CREATE RETENTION POLICY {policy} ON {database} {duration} DEFAULT")
        if not await self._has_policy():
            raise BrokenPromise(self._missing("SHOW RETENTION POLICIES does not list it"))

    async def write(self, points: Sequence[Point]) -> Sequence[Rejected]:
        """Store points; when it returns, all are durable but those that are returned with the reason.

        Points that are there already are overwritten with the same values. All go in one request: two at a time cost
        the server a quarter more CPU and were a tenth faster. With one bad line among n the server gets the good ones
        again up to log2(n) times, which changes nothing; a batch of nothing but bad lines costs one request if the
        server says so, and at most 2 n.
        """
        lines: list[tuple[int, str]] = []
        rejected: list[Rejected] = []
        for index, point in enumerate(points):
            try:
                lines.append((index, line(point)))
            except Malformed as malformed:
                rejected.append(Rejected(index, malformed.reason, malformed.detail))
            if index % YIELD_EVERY_POINTS == 0:
                await asyncio.sleep(0)
        return rejected + await self._send(lines)

    async def ping(self) -> None:
        """Ask whether the server is there."""
        await self._is_1x()

    async def count(self, measurement: str) -> int:
        """Return how many points a measurement has, if at least one of its fields is in each of them."""
        series = await self._query(f"SELECT COUNT(*) {self._from(measurement)}")
        return max((int(number) for row in series for number in row["values"][0][1:]), default=0)

    async def reps_since(self, t_ns: int) -> int:
        """Return how many reps there are from a time on, by one field that all have; what is older costs nothing."""
        series = await self._query(f'SELECT COUNT("valid") {self._from("rep")} WHERE time >= {t_ns}')
        return sum(int(values[1]) for row in series for values in row["values"])

    async def select(self, measurement: str) -> Sequence[Point]:
        """Return every point of a measurement, in order of time."""
        return await self._select(measurement, await self._columns(measurement))

    async def rewrite(self, part: str, change: Callable[[str], str]) -> int:
        """Change every text that has this part in it, and count the points. It takes minutes where much is kept.

        A point that is written again takes the place of the one that is there: queries know only the new text. The old
        one is in the files until the server compacts them.

        What is older than the retention can be read as long as its shard is there, and can't be written. Such points
        raise BrokenPromise, when all others have been changed.
        """
        done, refused = 0, list[Rejected]()
        for row in await self._query("SHOW MEASUREMENTS", ERASE_TIMEOUT_S):
            for (measurement,) in row["values"]:
                async for points in self._with(measurement, part):
                    changed = [point for point in (_changed(point, change) for point in points) if point.fields]
                    for start in range(0, len(changed), ERASE_POINTS):
                        refused += await self.write(changed[start : start + ERASE_POINTS])
                    done += len(changed)
        if refused:  # one word each: what the server says more has the new text in it, beside whom it stands for
            why = ", ".join(sorted({one.reason for one in refused}))
            raise BrokenPromise(f"InfluxDB refuses to change {len(refused)} of {done} points that have it: {why}")
        return done

    async def _with(self, measurement: str, part: str) -> AsyncIterator[Sequence[Point]]:
        """Find the points that have this part in a text, day by day."""
        columns = await self._columns(measurement, ERASE_TIMEOUT_S)
        texts = [name for name, kind in columns.fields.items() if kind is str]
        oldest, newest = [await self._time_of_one(measurement, order) for order in ("ASC", "DESC")]
        if not texts or oldest is None or newest is None:
            return
        pattern = re.escape(part).replace("/", "\\/")
        has_part = " OR ".join(f"{_quoted(name)} =~ /{pattern}/" for name in texts)
        for start in range(oldest, newest + 1, ERASE_STEP_NS):
            where = f" WHERE ({has_part}) AND time >= {start} AND time < {start + ERASE_STEP_NS}"
            yield await self._select(measurement, columns, where, ERASE_TIMEOUT_S)

    async def _time_of_one(self, measurement: str, order: str) -> int | None:
        """Return the time of the oldest or newest point in ns, or None if there is none."""
        query = f"SELECT * {self._from(measurement)} ORDER BY time {order} LIMIT 1"
        series = await self._query(query, ERASE_TIMEOUT_S)
        return next((int(values[0]) for row in series for values in row["values"]), None)  # time is the first column

    async def _columns(self, measurement: str, timeout_s: float | None = None) -> _Columns:
        tags = await self._query(f"SHOW TAG KEYS {self._from(measurement)}", timeout_s)
        kinds = await self._query(f"SHOW FIELD KEYS {self._from(measurement)}", timeout_s)
        return _Columns(
            sorted(key for row in tags for (key,) in row["values"]),
            {name: _COERCE[kind] for row in kinds for name, kind in row["values"]},
        )

    async def _select(
        self, measurement: str, columns: _Columns, where: str = "", timeout_s: float | None = None
    ) -> Sequence[Point]:
        # Not GROUP BY *: 1.6.7 puts points of {k=k1} and {k1=k1} into one group, though it keeps them apart.
        series = await self._query(f"SELECT * {self._from(measurement)}{where}", timeout_s)
        return [point for row in series for point in _points(row, columns)]

    async def _send(self, lines: Sequence[tuple[int, str]]) -> list[Rejected]:
        if not lines:
            return []
        refusal = await self._post_lines([text for _, text in lines])
        if refusal is None:
            return []
        if len(lines) == 1 or _dropped(refusal) == len(lines):
            # If any line was refused for another reason, the server tells that one.
            reason = BEYOND_RETENTION if _TOO_OLD.search(refusal) else "refused"
            return [Rejected(index, reason, refusal) for index, _ in lines]
        half = len(lines) // 2
        return await self._send(lines[:half]) + await self._send(lines[half:])

    async def _post_lines(self, lines: Sequence[str]) -> str | None:
        """Send lines; return None when all are durable, or why some of them are not."""
        address = self._address
        place = {"db": address.database, "rp": address.retention, "precision": "ns"}
        body = "\n".join(lines).encode()
        timeout_s = address.timeout_s + len(body) / SLOWEST_BYTES_PER_S
        status, text = await self._post("write", place, io.BytesIO(body), timeout_s)
        return None if status == 204 else self._refusal(status, text)  # noqa: PLR2004 - No Content

    async def _query(self, influxql: str, timeout_s: float | None = None) -> list[dict[str, Any]]:
        form = {"q": influxql, "db": self._address.database, "epoch": "ns"}
        status, text = await self._post("query", {}, form, timeout_s)
        if status != 200:  # noqa: PLR2004 - OK
            raise BrokenPromise(f"InfluxDB does not understand {influxql}: {self._refusal(status, text)}")
        result = msgspec.json.decode(text)["results"][0]
        if "error" in result:
            raise BrokenPromise(f"InfluxDB refuses {influxql}: {result['error']}")
        series: list[dict[str, Any]] = result.get("series", [])
        return series

    async def _post(
        self,
        path: str,
        place: Mapping[str, str],
        body: io.BytesIO | dict[str, str],
        timeout_s: float | None = None,
    ) -> tuple[int, str]:
        timeout = aiohttp.ClientTimeout(total=timeout_s or self._address.timeout_s)
        try:
            async with self._session.post(self._url / path, params=place, data=body, timeout=timeout) as response:
                return response.status, await response.text(errors="replace")
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise Busy(f"InfluxDB at {self._url} can't be reached: {_why(error)}") from error

    async def _is_1x(self) -> bool:
        """Ask for the version, and with it whether the server is there at all."""
        try:
            async with self._session.get(self._url / "ping") as response:
                return response.headers.get("X-Influxdb-Version", "").lstrip("v").startswith("1.")
        except (aiohttp.ClientError, OSError) as error:
            raise Busy(f"InfluxDB at {self._url} can't be reached: {_why(error)}") from error

    async def _has_policy(self) -> bool:
        series = await self._query(f"SHOW RETENTION POLICIES ON {_quoted(self._address.database)}")
        return any(row[0] == self._address.retention for rows in series for row in rows.get("values", ()))

    def _from(self, measurement: str) -> str:
        return f"FROM {_quoted(self._address.retention)}.{_quoted(measurement)}"

    def _refusal(self, status: int, text: str) -> str:
        """Return why a request was refused if its content is to blame; raise for everything else."""
        said = _said(text)
        if status in {401, 403}:
            raise BrokenPromise(
                f"InfluxDB at {self._url} refuses {self._address.user!r}: check history_user and history_password "
                f"(on 2.x an API token is the password): {said}"
            )
        if status == 404 or "retention policy not found" in said:  # noqa: PLR2004 - 1.6.7 says 500 to the latter
            raise BrokenPromise(self._missing(said))
        if status in {400, 413, 422} or "partial write" in said:  # 2.0 said 500 to a partial write
            return said
        if status in {408, 429} or status >= 500:  # noqa: PLR2004 - a proxy's patience, too many, its own trouble
            raise Busy(f"InfluxDB at {self._url} answers {status}: {said}")
        raise BrokenPromise(f"InfluxDB at {self._url} answers {status}: check history_url: {said}")

    def _missing(self, said: str) -> str:
        database, policy = self._address.database, self._address.retention
        return (
            f"InfluxDB at {self._url} has no history_retention {policy!r} in history_database {database!r} "
            f"(on 2.x: no bucket {database}/{policy}, or the token may not read it): {said}"
        )


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__  # a timeout has nothing to say


def _said(text: str) -> str:
    try:
        answer = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text.strip()[-DETAIL_CHARACTERS:]
    told = (answer.get("error") or answer.get("message")) if isinstance(answer, dict) else None
    return str(told or text)[-DETAIL_CHARACTERS:]


def _dropped(refusal: str) -> int | None:
    """Return how many points the server says it dropped.

    It counts points that it could parse but not store, and tells the reason of the first.
    """
    match = re.search(r"dropped=(\d+)$|dropped (\d+) points outside retention policy", refusal)
    return int(match[1] or match[2]) if match else None


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _changed(point: Point, change: Callable[[str], str]) -> Point:
    """Return a point with the fields alone that change."""
    texts = {name: change(value) for name, value in point.fields.items() if isinstance(value, str)}
    return Point(
        point.measurement,
        point.tags,
        {name: text for name, text in texts.items() if text != point.fields[name]},
        point.t_ns,
    )


def _points(row: Mapping[str, Any], columns: _Columns) -> Iterator[Point]:
    for values in row["values"]:
        told = {name: value for name, value in zip(row["columns"], values, strict=True) if value is not None}
        tags = tuple((key, told[key]) for key in columns.tags if key in told)
        fields = {name: kind(told[name]) for name, kind in columns.fields.items() if name in told}
        yield Point(row["name"], tags, fields, told["time"])
