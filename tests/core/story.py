"""A story told by a machine: messages with their places in the boot, as the controller hears them."""

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any, TypeVar

import numpy as np

from streams.core import codec
from streams.core.commands import Command
from streams.core.controller import Controller
from streams.core.errors import Malformed
from streams.core.records import NewRecord, Record
from streams.core.results import Metric
from streams.core.session import MachineState
from streams.core.telemetry import (
    Capabilities,
    Online,
    Prescription,
    Rep,
    Screened,
    SessionStarted,
    SetStarted,
    Telemetry,
)
from streams.core.topics import COMMAND, METRIC, TELEMETRY

M = TypeVar("M")
MACHINE = "acme/north/lumbar-1"
PATIENT = "acme/p1"
CAPABILITIES = Capabilities(
    model="test",
    exercise="lumbar_extension",
    position_unit="rad",
    load_min_N=50.0,
    load_max_N=900.0,
    load_step_N=5.0,
    travel_lo=-0.2,
    travel_hi=1.4,
)
PRESCRIPTION = Prescription(id="p1", load_N=300.0, window_lo=0.0, window_hi=1.0, reps=10, sets=2)


class Machine:
    """Says things with `boot_id`, `seq` and `t_us` in order."""

    def __init__(self, boot_id: str = "b1") -> None:
        self.boot_id = boot_id
        self._seq = count()
        self.t_us = 1_000_000

    def say(self, kind: Callable[..., M], **fields: Any) -> M:
        self.t_us += 2_000_000
        return kind(boot_id=self.boot_id, seq=next(self._seq), t_us=self.t_us, **fields)

    def online(self) -> Telemetry:
        return Online(boot_id=self.boot_id, capabilities=CAPABILITIES)

    def rep(self, number: int, v_mps: float = 0.5, *, set_number: int = 1, peak_N: float = 330.0, **fields: Any) -> Rep:
        """One clean rep over the whole window, whose concentric lasts as long as its mean velocity says."""
        position = minimum_jerk_rep(concentric_s=1.0 / v_mps, eccentric_s=1.2)
        force = np.full(len(position), 300.0)
        force[len(force) // 3] = peak_N
        told: dict[str, Any] = {
            "session": "s1",
            "set_number": set_number,
            "rep_number": number,
            "exercise": "lumbar_extension",
            "intent": "max",
            "load_N": 300.0,
            "settings": "h1",
            "fs_hz": 100.0,
            "samples": len(position),
            "force": np.round(force / 0.1).astype("<i2").tobytes(),
            "force_scale_N": 0.1,
            "position": np.round(position / 1e-4).astype("<i2").tobytes(),
            "position_scale": 1e-4,
            "position_unit": "rad",
            "prescription": PRESCRIPTION,
        }
        return self.say(Rep, **(told | fields))

    def begin(self, intent: str = "max", **fields: Any) -> list[Telemetry]:
        """Come online, be screened, start a session and its first set."""
        told: dict[str, Any] = {
            "session": "s1",
            "patient": PATIENT,
            "exercise": "lumbar_extension",
            "intent": intent,
            "settings": "h1",
            "prescription": PRESCRIPTION,
            "pain_nrs": 0,
        }
        return [
            self.online(),
            self.say(Screened, patient=PATIENT, outcome="clear", by="physio-1"),
            self.say(SessionStarted, **(told | fields)),
            self.say(SetStarted, session="s1", set_number=1, load_N=300.0),
        ]


def minimum_jerk_rep(concentric_s: float, eccentric_s: float, rom: float = 1.0) -> np.ndarray:
    """Positions at 100 Hz, shape (n,): rest 0.5 s, there, back, rest 0.5 s."""

    def stroke(duration_s: float) -> np.ndarray:
        u = np.arange(round(duration_s * 100)) / round(duration_s * 100)
        return 10 * u**3 - 15 * u**4 + 6 * u**5

    rest = np.zeros(50)
    return rom * np.concatenate([rest, stroke(concentric_s), 1.0 - stroke(eccentric_s), rest])


def records(messages: Iterable[Telemetry], *, start_ms: int = 1_000_000, step_ms: int = 2_000) -> list[Record]:
    """Put messages into the log, one after the other."""
    return [
        Record(TELEMETRY, 0, offset, MACHINE.encode(), codec.encode(message), start_ms + step_ms * offset)
        for offset, message in enumerate(messages)
    ]


def run(
    told: Sequence[Record], state: MachineState | None = None, stage: Controller | None = None
) -> tuple[MachineState, list[NewRecord]]:
    """Let the controller hear records; every one must be understood."""
    controller = Controller() if stage is None else stage
    state = controller.start(MACHINE.encode()) if state is None else state
    said: list[NewRecord] = []
    for record, item in zip(told, controller.prepare(told), strict=True):
        assert not isinstance(item, Malformed), item
        state, outputs = controller.step(state, item, record.timestamp_ms)
        said += outputs
    return state, said


def commands(said: Iterable[NewRecord]) -> list[Command]:
    return [codec.decode_command(record.value or b"") for record in said if record.topic == COMMAND]


def metrics(said: Iterable[NewRecord], kind: type[Metric] | None = None) -> list[Any]:
    found = [codec.decode_metric(record.value or b"") for record in said if record.topic == METRIC]
    return [one for one in found if kind is None or isinstance(one, kind)]
