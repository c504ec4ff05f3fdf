"""Exposition: the meters of this process for Prometheus, and whether it is alive and ready, over HTTP."""

import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from errno import EACCES, EADDRINUSE

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector

from adaptors.meter_points import Reading
from dashboards.live.door import listening
from dashboards.live.guard import IDLE_S, Guard
from spineloop.settings import PREFIX, WrongSetting
from streams.core.meters import METERS, MeterName

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Bounds of every histogram in s; the budgets (20, 50 and 150 ms) are among them."""


MEMORY = "process_resident_memory_bytes"
"""What the operating system says of this process; the only such meter that goes into history."""

MAX_CONNECTIONS = 64
"""Connections that are open at once: Prometheus, whoever asks `/healthz` and `/readyz`, and a person need a handful.
With thousands that ask nothing a role would have no file left for Kafka or the broker."""


class Exposition:
    """Counts what the shell did; a registry of its own, so that two in one process can't meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._used = {MEMORY}
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for name, meter in METERS.items():
            match meter.kind:
                case "counter":
                    self._counters[name] = Counter(name, meter.meaning, meter.labels, registry=self.registry)
                case "gauge":
                    self._gauges[name] = Gauge(name, meter.meaning, meter.labels, registry=self.registry)
                case "histogram":
                    self._histograms[name] = Histogram(
                        name, meter.meaning, meter.labels, registry=self.registry, buckets=SECONDS
                    )

    def count(self, name: MeterName, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter."""
        counter = self._counters[name]
        self._used.add(name)
        (counter.labels(**labels) if labels else counter).inc(amount)

    def set(self, name: MeterName, value: float, **labels: str) -> None:
        """Set a gauge."""
        gauge = self._gauges[name]
        self._used.add(name)
        (gauge.labels(**labels) if labels else gauge).set(value)

    def observe(self, name: MeterName, value: float, **labels: str) -> None:
        """Add an observation to a histogram."""
        histogram = self._histograms[name]
        self._used.add(name)
        (histogram.labels(**labels) if labels else histogram).observe(value)

    def text(self) -> bytes:
        """Write all meters as Prometheus reads them."""
        return generate_latest(self.registry)

    def readings(self) -> list[Reading]:
        """Read every meter that this process has used, for history."""
        return [one for one in _readings(self.registry.collect()) if one.name in self._used]


def _readings(families: Iterable[Metric]) -> Iterator[Reading]:
    for family in families:
        match family.type:
            case "histogram":
                yield from _histograms(family)
            case "counter":
                for sample in family.samples:
                    if sample.name.endswith("_total"):
                        yield Reading(sample.name, "counter", tuple(sorted(sample.labels.items())), sample.value)
            case _:
                for sample in family.samples:
                    yield Reading(sample.name, "gauge", tuple(sorted(sample.labels.items())), sample.value)


def _histograms(family: Metric) -> Iterator[Reading]:
    buckets: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    for sample in family.samples:
        if sample.name.endswith("_bucket"):
            labels = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
            buckets.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
    for labels, told in buckets.items():
        yield Reading(family.name, "histogram", labels, told[-1][1], tuple(told))


@asynccontextmanager
async def served(
    exposition: Exposition, host: str, port: int, is_ready: Callable[[], bool], token: str = ""
) -> AsyncIterator[None]:
    """Answer `/metrics`, `/healthz` (alive) and `/readyz` (200 once `is_ready`, else 503) while the block runs.

    With a token, `/metrics` are for whoever shows it as a bearer, as Prometheus does. The others are asked by whatever
    keeps this process alive, tell one word, and ask for nothing. Port 0 answers nobody. Who comes while there are
    `MAX_CONNECTIONS` is closed at once. Raises WrongSetting if the port can't be had.
    """
    if port == 0:
        yield
        return

    async def metrics(request: web.Request) -> web.Response:
        # one for each request: one for all tires of wrong tokens, and would keep Prometheus out as long as somebody
        # tells such. The page rests so that nobody guesses; a token of that length nobody can guess at any rate
        guard = Guard(token, time.monotonic)
        if not (guard.is_our_host(request.headers) and guard.lets_in(request.headers, {})):
            return web.Response(text="not for you\n", status=401, headers={"WWW-Authenticate": "Bearer"})
        return web.Response(body=exposition.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ready\n") if is_ready() else web.Response(text="not ready\n", status=503)

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=IDLE_S)
    await runner.setup()
    async with AsyncExitStack() as stops:
        stops.push_async_callback(runner.cleanup)
        try:
            await stops.enter_async_context(listening(runner, host, port, MAX_CONNECTIONS))
        except OSError as error:
            raise unheard("HTTP", error) from error
        yield


def unheard(name: str, error: OSError) -> WrongSetting:
    """Say which setting is to blame if nobody can listen there.

    Examples
    --------
    >>> str(unheard("PAGE", OSError(EADDRINUSE, "address already in use")))
    'SPINELOOP_PAGE_PORT: [Errno 98] address already in use; each process here needs its own, or 0'
    >>> str(unheard("HTTP", OSError(-2, "Name or service not known")))
    'SPINELOOP_HTTP_HOST: [Errno -2] Name or service not known'
    """
    if error.errno == EADDRINUSE:
        return WrongSetting(f"{PREFIX}{name}_PORT: {error}; each process here needs its own, or 0")
    return WrongSetting(f"{PREFIX}{name}_{'PORT' if error.errno == EACCES else 'HOST'}: {error}")
