"""Campaign: a fleet trains while the faults of a seed happen to everything; then the books are balanced."""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from loadtest import oracle
from loadtest.chaos.faults import FAULTS, Blow, Strikes, schedule
from loadtest.chaos.ground import GUESTS, Ground, prepared
from loadtest.chaos.reconcile import Books, Finding, reconciled
from loadtest.disturbance import Rates
from loadtest.fleet import Fleet, FleetSettings
from loadtest.kept import KeptOnDisk
from spineloop import wiring
from spineloop.wiring import Sink
from streams.core.controller import Controller
from streams.core.planning import Planner
from streams.core.records import header
from streams.core.topics import COMMAND, METRIC, PATIENT, TELEMETRY
from streams.log import Log

VISIT_S = (2.0, 6.0)
"""Shortest and longest time in s that a guest stays, or stays away: each coming and going is a rebalance."""

SETTLE_S = 120.0
"""Longest wait in s, once everything is whole again, until everything that was said is dealt with."""

PREPARED_TOGETHER = 500

LOOK_S = 0.5

Progress = Callable[[str, float], None]
"""Told what happens now, and which share of the time is over."""


class Report(msgspec.Struct, kw_only=True):
    """What a campaign brought. Memory in MB, times in s."""

    seed: int
    seconds: float
    rate: float
    reps: int = 0
    messages: int = 0
    commands: int = 0
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
    settled_after_s: float = 0.0
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


async def run(seed: int, seconds: float, rate: float, told: Progress) -> Report:
    """Let a fleet bring `rate` reps a second for so many seconds, while the faults of a seed happen.

    It ends within `seconds` and about five minutes, whatever happens.
    """
    blows = schedule(seed, seconds)
    report = Report(seed=seed, seconds=seconds, rate=rate, schedule=blows)
    told("starting servers and workers", 0.0)
    async with prepared() as ground:
        report.disk = ground.disk.kind
        fleet = _fleet(ground, seed, seconds, rate)
        training = asyncio.create_task(fleet.run())
        telling = asyncio.create_task(_tell(fleet, seconds, told))
        strikes = Strikes(ground)
        guests = asyncio.create_task(_visit(ground, random.Random(f"{seed}/guests"), report))
        try:
            await strikes.run(blows)
            guests.cancel()
            fleet.finish()
            try:
                await training
            except (ExceptionGroup, TimeoutError) as error:
                report.failed = f"the fleet did not end: {error!r}"
        finally:
            for task in (training, telling, guests):
                task.cancel()
            await asyncio.gather(training, telling, guests, return_exceptions=True)
        report.unsaid = fleet.unsaid
        told("everything is whole again; waiting until all is dealt with", 1.0)
        await _balance(ground, fleet, report)
        _count(report, ground, strikes.done)
        if not report.is_clean:
            report.tails = ground.stack.tails()
    return report


def _fleet(ground: Ground, seed: int, seconds: float, rate: float) -> Fleet[Any]:
    settings = FleetSettings(
        machines=max(20, round(rate / 3)),
        seed=seed,
        run=f"chaos-{seed}",
        reps_per_s=rate,
        max_s=seconds + 300.0,
        rates=Rates(),
    )
    at_machines = ground.stack.settings(mqtt_url=ground.at_machines.url)
    kept = KeptOnDisk(ground.stack.folder / "machines.sqlite")
    return Fleet(settings, wiring.machine_connect(at_machines), now_ms=wiring.wall_clock_ms, kept=kept)


async def _tell(fleet: Fleet[Any], seconds: float, told: Progress) -> None:
    start_s = time.monotonic()
    while True:
        share = min(1.0, (time.monotonic() - start_s) / seconds)
        told(f"{fleet.timings.reps} reps", share)
        await asyncio.sleep(LOOK_S)


async def _visit(ground: Ground, dice: random.Random, report: Report) -> None:
    """Let workers join and leave, so that partitions are shared out anew again and again."""
    names = [f"{role}-{number}" for role, number in GUESTS]
    while True:
        await asyncio.sleep(dice.uniform(*VISIT_S))
        guest = ground.workers[dice.choice(names)]
        report.rebalances += 1
        if guest.is_wanted:
            await guest.stop()
        else:
            guest.is_wanted = True


async def _balance(ground: Ground, fleet: Fleet[Any], report: Report) -> None:
    """Wait until everything is dealt with, and compare the books."""
    settings = ground.stack.settings()
    controller, planner = Controller(), Planner(machines=settings.machine_catalogue())
    start_s = time.monotonic()
    async with oracle.log_of(ground.stack) as log, wiring.open_history(settings) as history:
        reps = fleet.ledger.reps_published

        async def is_dealt_with() -> bool:
            return (
                await oracle.is_covered(log, controller)
                and await oracle.is_covered(log, planner)
                and await history.count("rep") >= reps
            )

        await _until(is_dealt_with, report)
        report.settled_after_s = round(time.monotonic() - start_s, 1)
        books = await _books(log, history, fleet, controller, planner)
    found = list(reconciled(books))
    counts = Counter(finding.kind for finding in found)
    report.findings = found
    report.lost, report.doubled, report.stale = counts["lost"], counts["doubled"], counts["stale"]
    report.out_of_order, report.differing = counts["out_of_order"], counts["differing"]
    report.reps, report.messages = reps, len(fleet.ledger.published)
    report.commands = sum(topic == COMMAND for topic, _ in books.outputs)
    report.repaired, report.withheld = len(fleet.ledger.repaired), len(fleet.ledger.withheld)
    report.duplicates_in_log = len(books.telemetry) - len({header(each, "ce_id") for each in books.telemetry})


async def _until(holds: Callable[[], Awaitable[bool]], report: Report) -> None:
    """Wait; what does not come in time is found missing in the books."""
    try:
        await oracle.until(holds, limit_s=SETTLE_S)
    except TimeoutError:
        report.failed = report.failed or f"not all was dealt with {SETTLE_S:.0f} s after everything was whole again"


async def _books(log: Log, history: Sink, fleet: Fleet[Any], controller: Controller, planner: Planner) -> Books:
    telemetry, patients = await oracle.everything(log, TELEMETRY), await oracle.everything(log, PATIENT)
    metrics = await oracle.everything(log, METRIC)
    outputs: defaultdict[tuple[str, str | None], set[bytes | None]] = defaultdict(set)
    for record in (*metrics, *patients, *await oracle.everything(log, COMMAND)):
        outputs[record.topic, header(record, "ce_id")].add(record.value)
    expected = oracle.recomputed(telemetry, controller, PREPARED_TOGETHER)
    plans = oracle.recomputed(patients, planner, PREPARED_TOGETHER)
    for record in telemetry:  # plans go back to the controller
        if (TELEMETRY, header(record, "ce_id")) in plans:
            outputs[TELEMETRY, header(record, "ce_id")].add(record.value)
    return Books(
        ledger=fleet.ledger,
        skew_ms={},
        telemetry=telemetry,
        metrics=metrics,
        outputs={key: frozenset(values) for key, values in outputs.items()},
        expected=expected | plans,
        reps_in_history=await history.count("rep"),
    )


def _count(report: Report, ground: Ground, done: Sequence[Blow]) -> None:
    report.faults = dict(sorted(Counter(blow.fault for blow in done).items()))
    report.kills = sum(FAULTS[blow.fault].kills for blow in done)
    report.ended_by_themselves = {name: worker.ended for name, worker in ground.workers.items() if worker.ended}
    report.peak_MB = {name: round(worker.peak_bytes / 1e6, 1) for name, worker in ground.workers.items()}
