"""A story told by a machine: messages with their places in the boot, as the controller hears them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any, TypeVar

import numpy as np
from msgspec.structs import replace

from streams.core import codec
from streams.core.commands import Command
from streams.core.controller import Arrival, Controller
from streams.core.errors import Malformed
from streams.core.measure import Measured
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
from streams.core.topics import PATIENT as PATIENT_TOPIC

M = TypeVar("M")
F = TypeVar("F")
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


Numbers = Mapping[str, float]
"""Values of metrics that a story wants of a rep, whatever its samples say."""


def run(
    told: Sequence[Record],
    state: MachineState | None = None,
    stage: Controller | None = None,
    *,
    values: Callable[[Rep], Numbers] | None = None,
    reasons: Callable[[Rep], tuple[str, ...]] | None = None,
    curve: Callable[[Rep], bytes | None] | None = None,
) -> tuple[MachineState, list[NewRecord]]:
    """Let the controller hear records; every one must be understood.

    `values`, `reasons` and `curve` say what shall be measured of a rep in place of what is.
    """
    controller = Controller() if stage is None else stage
    state = controller.start(MACHINE.encode()) if state is None else state
    said: list[NewRecord] = []
    for record, item in zip(told, controller.prepare(told), strict=True):
        assert not isinstance(item, Malformed), item
        if isinstance(item.message, Rep) and item.measured is not None:
            item = _as_told(item, item.message, item.measured, values, reasons, curve)  # noqa: PLW2901
        state, outputs = controller.step(state, item, record.timestamp_ms)
        said += outputs
    return state, said


def _as_told(  # noqa: PLR0917 - one for each keyword of run
    item: Arrival,
    rep: Rep,
    measured: Measured,
    values: Callable[[Rep], Numbers] | None,
    reasons: Callable[[Rep], tuple[str, ...]] | None,
    curve: Callable[[Rep], bytes | None] | None,
) -> Arrival:
    if values is not None:
        measured = replace(measured, values={**measured.values, **values(rep)})
    if reasons is not None:
        measured = replace(measured, reasons=reasons(rep))
    if curve is not None:
        measured = replace(measured, curve=curve(rep))
    return replace(item, measured=measured)


def by_number(**told: Sequence[float | None]) -> Callable[[Rep], Numbers]:
    """Say a metric of each rep of a set in turn: of rep n, the n-th value; None and what is beyond stay as measured."""

    def of(rep: Rep) -> Numbers:
        nth = rep.rep_number - 1
        return {
            name: value for name, values in told.items() if nth < len(values) and (value := values[nth]) is not None
        }

    return of


def commands(said: Iterable[NewRecord]) -> list[Command]:
    """Return the commands that a patient may notice."""
    return [one for one in _all_commands(said) if one.action != "resend"]


def resends(said: Iterable[NewRecord]) -> list[Command]:
    """Return the requests to say again what never came."""
    return [one for one in _all_commands(said) if one.action == "resend"]


def _all_commands(said: Iterable[NewRecord]) -> list[Command]:
    return [codec.decode_command(record.value or b"") for record in said if record.topic == COMMAND]


def facts(said: Iterable[NewRecord], kind: type[F]) -> list[F]:
    found = [codec.decode_patient_fact(record.value or b"") for record in said if record.topic == PATIENT_TOPIC]
    return [one for one in found if isinstance(one, kind)]


def metrics(said: Iterable[NewRecord], kind: type[Metric] | None = None) -> list[Any]:
    found = [codec.decode_metric(record.value or b"") for record in said if record.topic == METRIC]
    return [one for one in found if kind is None or isinstance(one, kind)]
