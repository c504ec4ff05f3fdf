"""Campaign: a fleet trains while the faults of a seed happen to everything; then the books are balanced."""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import ClientError

from loadtest import oracle
from loadtest.bench.processes import peak_bytes
from loadtest.chaos.faults import FAULTS, Blow, Strikes, schedule
from loadtest.chaos.ground import GUESTS, Ground, beside, prepared
from loadtest.chaos.pages import Page, pages
from loadtest.chaos.reconcile import Books, Finding, reconciled
from loadtest.chaos.tally import named_in_history, reps_in_history
from loadtest.clocks import Clocks
from loadtest.disturbance import Rates
from loadtest.fleet import Fleet, FleetSettings
from loadtest.kept import KeptOnDisk
from loadtest.stack import PARTITIONS
from loadtest.truth import Ledger
from spineloop import wiring
from streams.core.controller import Controller
from streams.core.errors import Busy
from streams.core.planning import Planner
from streams.core.topics import COMMAND

VISIT = (1.0, 3.0)
"""Shortest and longest time that a guest stays, or stays away, in mean pauses between two faults: each coming and going
is a rebalance."""

HELP_AFTER_S = 120.0
"""After so long an operator looks why workers are not ready, and restarts Kafka: after a crash one of its coordinators
may stay broken until then (docs/operations.md)."""

SETTLE_S = 600.0
"""Longest wait in s, once everything is whole again, until everything that was said is dealt with: what waits after an
hour of faults is not known beforehand, only that it must end."""

KEPT = 2_000
"""Messages that a machine of this fleet keeps: it says some ten a second, and is asked within a minute."""

FINISH_S = 180.0
"""Longest time in s until every machine has said what waits in it, on two cores that have other things to do."""

WAITING = 200
"""Messages that wait in a machine of this fleet before its time stands still: those of the longest outage, and some."""

MAX_FINDINGS = 10_000
"""Findings in a report; all are counted."""

LOOK_S = 0.5
SETTLE_LOOK_S = 2.0

Progress = Callable[[str, float], None]
"""Told what happens now, and which share of the time is over."""


class Report(msgspec.Struct, kw_only=True):
    """What a campaign brought. Memory in MB, times in s; `fleet` is this process, with its proxies and its books.

    A blow of the schedule fell so many seconds after `began_ms`. `unheard` counts the commands in the log that reached
    no machine: it was away until they had expired, or for good.
    """

    seed: int
    seconds: float
    rate: float
    began_ms: int = 0
    rate_reached: float = 0.0
    reps: int = 0
    messages: int = 0
    commands: int = 0
    unheard: int = 0
    kills: int = 0
    faults: dict[str, int] = {}
    rebalances: int = 0
    lost: int = 0
    doubled: int = 0
    stale: int = 0
    out_of_order: int = 0
    differing: int = 0
    unsaid: int = 0
    repaired: int = 0
    withheld: int = 0
    duplicates_in_log: int = 0
    clocks_off_s: float = 0.0
    kafka_restarted: int = 0
    settled_after_s: float = 0.0
    books_s: float = 0.0
    cpu_us_a_rep: dict[str, float] = {}
    answers: dict[str, int] = {}
    ended_by_themselves: dict[str, list[int]] = {}
    peak_MB: dict[str, float] = {}
    disk: str = ""
    failed: str = ""
    schedule: Sequence[Blow] = ()
    findings: list[Finding] = []
    tails: str = ""

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.findings or self.unsaid or self.failed)

    def write(self, path: Path) -> None:
        """Write it down as JSON."""
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")


async def run(seed: int, seconds: float, rate: float, told: Progress, kills: int | None = None) -> Report:
    """Let a fleet bring `rate` reps a second for so many seconds, while the faults of a seed happen.

    It ends about `SETTLE_S` after `seconds` at the latest, and the time of the books: 1 ms a rep on one core.
    """
    blows = schedule(seed, seconds, kills)
    report = Report(seed=seed, seconds=seconds, rate=rate, schedule=blows)
    told("starting servers and workers", 0.0)
    async with prepared(clocks=Clocks(seed)) as ground:
        report.disk = ground.disk.kind
        fleet = _fleet(ground, seed, seconds, rate)
        start_s, report.began_ms = time.monotonic(), wiring.wall_clock_ms()
        training = asyncio.create_task(fleet.run())
        telling = asyncio.create_task(_tell(fleet, seconds, told))
        strikes = Strikes(ground)
        guests = asyncio.create_task(_visit(ground, random.Random(f"{seed}/guests"), seconds / len(blows), report))
        try:
            await strikes.run(blows)
            report.failed = "; ".join(strikes.failed)
            guests.cancel()
            report.rate_reached = round(fleet.timings.reps / max(time.monotonic() - start_s, 1e-9), 1)
            fleet.finish()
            with _noted(report, "the fleet did not end"):
                await training
        finally:
            for task in (training, telling, guests):
                task.cancel()
            await asyncio.gather(training, telling, guests, return_exceptions=True)
        report.unsaid = fleet.unsaid
        report.reps = fleet.ledger.reps_published
        _count(report, ground, strikes.done)
        with _noted(report, "the books could not be made"):
            await _balance(ground, fleet, report, told)
        if not report.is_clean:
            report.tails = ground.stack.tails()
    return report


@contextmanager
def _noted(report: Report, what: str) -> Iterator[None]:
    """Go on after a failure, so that an hour's figures are not lost with it; the report says so."""
    try:
        yield
    except (ExceptionGroup, Busy, OSError, ValueError, ClientError) as error:
        report.failed = report.failed or f"{what}: {error!r}"


def _fleet(ground: Ground, seed: int, seconds: float, rate: float) -> Fleet[Any]:
    settings = FleetSettings(
        machines=max(20, round(rate / 3)),
        seed=seed,
        run=f"chaos-{seed}",
        reps_per_s=rate,
        max_s=seconds + 300.0,
        rates=Rates(),
        max_waiting=WAITING,
        finish_s=FINISH_S,
    )
    at_machines = ground.stack.settings(mqtt_url=ground.at_machines.url)
    return Fleet(
        settings,
        wiring.machine_connect(at_machines),
        now_ms=wiring.wall_clock_ms,
        kept=KeptOnDisk(ground.stack.folder / "machines.sqlite", max_count=KEPT),
        ledger=Ledger(wiring.wall_clock_ms, keeps_truths=False),
        clocks=ground.clocks,
    )


async def _tell(fleet: Fleet[Any], seconds: float, told: Progress) -> None:
    start_s = time.monotonic()
    while True:
        share = min(1.0, (time.monotonic() - start_s) / seconds)
        told(f"{fleet.timings.reps} reps", share)
        await asyncio.sleep(LOOK_S)


async def _visit(ground: Ground, dice: random.Random, pause_s: float, report: Report) -> None:
    """Let workers join and leave, so that partitions are shared out anew again and again."""
    names = [f"{role}-{number}" for role, number in GUESTS]
    while True:
        await asyncio.sleep(pause_s * dice.uniform(*VISIT))
        guest = ground.workers[dice.choice(names)]
        report.rebalances += 1
        if guest.is_wanted:
            await guest.stop()
        else:
            guest.is_wanted = True


async def _balance(ground: Ground, fleet: Fleet[Any], report: Report, told: Progress) -> None:
    """Wait until everything is dealt with, and compare the books."""
    settings, reps = ground.stack.settings(), fleet.ledger.reps_published
    controller, planner = Controller(), Planner(machines=settings.machine_catalogue())
    start_s = time.monotonic()
    async with oracle.log_of(ground.stack) as log:

        async def is_dealt_with() -> bool:
            in_history = await reps_in_history(ground.stack)
            told(f"everything is whole again; {in_history} of {reps} reps in history", 1.0)
            if in_history < reps and not fleet.unsaid:
                return False
            return await oracle.is_covered(log, controller) and await oracle.is_covered(log, planner)

        async with beside(_help(ground, report)):
            await _until(is_dealt_with, report)
        report.settled_after_s = round(time.monotonic() - start_s, 1)
    start_s = time.monotonic()
    for worker in ground.workers.values():  # the books have the machine for themselves
        await worker.stop()
    told("reading what stands in history", 1.0)
    in_history = await named_in_history(
        ground.stack, sorted({name.rsplit("/", 2)[0] for name in fleet.ledger.published})
    )
    read: list[Page] = []
    told("recomputing what the log leads to", 1.0)
    async for page in pages(ground.stack.environment(), PARTITIONS):
        read.append(page)
        told(f"recomputing what the log leads to; {len(read)} of {PARTITIONS} partitions", 1.0)
    _compare(Books(ledger=fleet.ledger, pages=read, in_history=in_history), report)
    report.books_s = round(time.monotonic() - start_s, 1)
    report.peak_MB["fleet"] = round(peak_bytes(os.getpid()) / 1e6, 1)


async def _help(ground: Ground, report: Report) -> None:
    """Restart Kafka once, if workers do not come together though everything is whole again."""
    await asyncio.sleep(HELP_AFTER_S)
    ready = [await one.child.program.answers() for one in ground.workers.values() if one.is_wanted]
    if not all(ready):
        await ground.servers["kafka"].restart()
        report.kafka_restarted += 1


def _compare(books: Books, report: Report) -> None:
    """Write down what the books say, and what they don't agree on."""
    found, ledger = reconciled(books), books.ledger
    counts = Counter(finding.kind for finding in found)
    report.findings = list(found[:MAX_FINDINGS])
    report.lost, report.doubled, report.stale = counts["lost"], counts["doubled"], counts["stale"]
    report.out_of_order, report.differing = counts["out_of_order"], counts["differing"]
    report.reps, report.messages = ledger.reps_published, len(ledger.published)
    report.commands = sum(len(page.outputs.get(COMMAND, {})) for page in books.pages)
    report.repaired, report.withheld = len(ledger.repaired), len(ledger.withheld)
    report.answers = dict(sorted(ledger.outcomes().items()))
    heard = {command_id for _, command_id in ledger.received}
    issued = {name.partition("#")[0] for page in books.pages for name in page.outputs.get(COMMAND, ())}
    report.unheard = len(issued - heard)
    report.duplicates_in_log = sum(len(page.heard) - len(set(page.heard)) for page in books.pages)


async def _until(holds: Callable[[], Awaitable[bool]], report: Report) -> None:
    """Wait; what does not come in time is found missing in the books. Who is too busy to answer is asked again."""
    why = ""
    try:
        async with asyncio.timeout(SETTLE_S):
            while True:
                try:
                    if await holds():
                        return
                except (Busy, ClientError) as busy:
                    why = f": {busy}"
                await asyncio.sleep(SETTLE_LOOK_S)
    except TimeoutError:
        late = f"not all was dealt with {SETTLE_S:.0f} s after everything was whole again{why}"
        report.failed = report.failed or late


def _count(report: Report, ground: Ground, done: Sequence[Blow]) -> None:
    report.faults = dict(sorted(Counter(blow.fault for blow in done).items()))
    report.kills = sum(FAULTS[blow.fault].kills for blow in done)
    report.ended_by_themselves = {name: worker.ended for name, worker in ground.workers.items() if worker.ended}
    report.peak_MB = {name: round(worker.peak_bytes / 1e6, 1) for name, worker in ground.workers.items()}
    report.clocks_off_s = max(abs(ground.clocks.skew_ms(each)) for each in ground.clocks.machines) / 1e3
    spent_s = {**ground.spent.total_s(), "fleet": time.process_time()}
    reps = max(1, report.reps)
    report.cpu_us_a_rep = {name: round(1e6 * each_s / reps, 1) for name, each_s in spent_s.items()}
