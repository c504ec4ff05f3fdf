"""Recorded: days of a small clinic on a bad network, kept as a file, so that every release can be asked the same.

The simulated machines, controller and planner make it together, from one seed and in simulated time:
`python -m tests.core.recorded` writes it again. Then the digest that test_recorded.py names changes too, so it is done
only when the recording itself is to be another one.
"""

import heapq
import lzma
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from loadtest.bench.stories import quickened
from loadtest.disturbance import Disturbance, Rates
from loadtest.machine import Machine
from loadtest.roster import assemble
from loadtest.truth import Ledger
from loadtest.visit import Habits
from streams.checkpoint import State
from streams.core import codec
from streams.core.controller import Controller
from streams.core.operators import OperatorAsked
from streams.core.planning import Planner
from streams.core.records import Header, NewRecord, Record
from streams.core.stage import Stage
from streams.core.telemetry import Telemetry
from streams.core.topics import COMMAND, PATIENT, TELEMETRY
from streams.reducer import Reducer

FILE = Path(__file__).with_name("recorded.msgpack.xz")
TRACE: Header = ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")

SEED, MACHINES, MESSAGES = 7, 10, 1_500
START_MS = 1_790_000_000_000
DAY_MS, DAY_MESSAGES = 86_400_000, 250
"""The log's clock goes on by a day so often: progress takes days, and a recording of whole days would be large."""

RATES = Rates(
    duplicate=0.03, reorder=0.03, late=0.01, lost=0.004, reboot=0.0015, offline=0.001, offline_s=(30.0, 200.0)
)
STOPPED_AFTER, SEEN_AFTER = 900, 910
"""When an operator stops a machine, and sees an alarm at another one; in messages."""


class Silent:
    """A witness to whom a defect is one."""

    def stepped(self) -> None: ...

    def put_aside(self, record: Record, reason: str) -> None:
        raise AssertionError(f"{reason}: {record.value!r}")

    def froze(self, record: Record, trace: str) -> None:
        raise AssertionError(f"{record.key.decode()}: {trace}")


class Ear:
    """A stage that hears one record after the other, or a slice at a time."""

    def __init__(self, stage: Stage[Any, Any]) -> None:
        self._reducer = Reducer(stage, State(stage), Silent())
        self._heard = 0

    def hear(self, records: Sequence[NewRecord]) -> list[NewRecord]:
        """Return what records lead to."""
        placed = [
            Record(one.topic, 0, self._heard + nth, one.key, one.value, one.timestamp_ms, one.headers)
            for nth, one in enumerate(records)
        ]
        self._heard += len(records)
        return [output for _, outputs in self._reducer.take(placed) for output in outputs]


class Clinic:
    """Machines behind a bad network, and both stages, which answer at once."""

    def __init__(self) -> None:
        ledger = Ledger()
        self._fleet = assemble(SEED, MACHINES, ledger, tenant="acme", habits=Habits(run="rec", heartbeat_s=15.0))
        self._network = [Disturbance(machine, RATES, SEED, ledger) for machine in self._fleet]
        self._control, self._plan = Ear(Controller()), Ear(Planner())
        self._nth = count()
        self._on_the_way: list[tuple[float, int, Machine, Telemetry]] = []
        self._now_s, self._heard = 0.0, 0
        self.said: list[NewRecord] = []

    def live(self) -> list[NewRecord]:
        """Let machines live until so many messages were heard; return them with the plans between them."""
        moments = [(0.0, number) for number in range(len(self._fleet))]
        asked = {STOPPED_AFTER: self._stop, SEEN_AFTER: self._see}
        while self._heard < MESSAGES:
            at_s, number = heapq.heappop(moments)
            while self._on_the_way and self._on_the_way[0][0] <= at_s:
                self._now_s, _, machine, message = heapq.heappop(self._on_the_way)
                self._hear(machine.key, quickened(message))
                self._heard += 1
                if self._heard in asked:
                    asked[self._heard]()
            self._now_s = at_s
            step = self._network[number].step()
            for delivery in step.deliveries:
                self._send(self._fleet[number], delivery.message, delivery.delay_s)
            heapq.heappush(moments, (at_s + step.delay_s, number))
        return self.said

    @property
    def _now_ms(self) -> int:
        return START_MS + round(1_000 * self._now_s) + DAY_MS * (self._heard // DAY_MESSAGES)

    def _send(self, machine: Machine, message: Telemetry, delay_s: float) -> None:
        heapq.heappush(self._on_the_way, (self._now_s + delay_s, next(self._nth), machine, message))

    def _hear(self, key: str, message: Telemetry | OperatorAsked) -> None:
        self._take(NewRecord(TELEMETRY, key.encode(), codec.encode(message), self._now_ms, (TRACE,)))

    def _take(self, record: NewRecord) -> None:
        self.said.append(record)
        for output in self._control.hear([record]):
            if output.topic == COMMAND:
                self._obey(codec.decode_command(output.value or b""))
            elif output.topic == PATIENT:
                for planned in self._plan.hear([output]):
                    if planned.topic == TELEMETRY:
                        self._take(planned)

    def _obey(self, command: Any) -> None:
        number = next(n for n, machine in enumerate(self._fleet) if machine.key == command.machine)
        if self._network[number].is_offline:
            return
        for ack in self._fleet[number].receive(command, self._now_ms):
            for delivery in self._network[number].disturb(ack):
                self._send(self._fleet[number], delivery.message, delivery.delay_s)

    def _stop(self) -> None:
        key = self._fleet[2].key
        self._hear(key, OperatorAsked(machine=key, id="5" * 32, by="Kim", reason="seen to sway", action="stop"))

    def _see(self) -> None:
        key = self._fleet[4].key
        alarm = f"{key}/rec-b1/9/notice/x"
        told = OperatorAsked(machine=key, id="6" * 32, by="Kim", reason="on my way", action="acknowledge", alarm=alarm)
        self._hear(key, told)


def packed(records: Sequence[NewRecord]) -> bytes:
    """Write telemetry as one file: key, value and time of each record."""
    told = [(record.key, record.value, record.timestamp_ms, record.headers) for record in records]
    return lzma.compress(msgspec.msgpack.encode(told), preset=9 | lzma.PRESET_EXTREME)


def kept() -> list[NewRecord]:
    """Read the recording."""
    told = msgspec.msgpack.decode(
        lzma.decompress(FILE.read_bytes()), type=list[tuple[bytes, bytes, int, tuple[Header, ...]]]
    )
    return [NewRecord(TELEMETRY, *one) for one in told]


def answered(told: Sequence[NewRecord], slice_records: int = 500) -> Iterator[NewRecord]:
    """Let both stages hear a recording, the planner what the controller says of patients; yield all that they say."""
    facts: list[NewRecord] = []
    for stage, heard in ((Controller(), told), (Planner(), facts)):
        ear = Ear(stage)
        for start in range(0, len(heard), slice_records):
            for output in ear.hear(heard[start : start + slice_records]):
                if output.topic == PATIENT:
                    facts.append(output)
                yield output


if __name__ == "__main__":
    FILE.write_bytes(packed(Clinic().live()))
