"""A clinic for the operator page: what machines say, and what the real controller makes of it, as log records."""

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from streams.core import codec
from streams.core.controller import Controller
from streams.core.errors import Malformed
from streams.core.records import MSGPACK_TYPE, NewRecord, Record, cloud_event
from streams.core.telemetry import (
    ButtonPressed,
    Heartbeat,
    Offline,
    Online,
    SessionEnded,
    SetEnded,
    Telemetry,
)
from streams.core.topics import TELEMETRY
from tests.core.story import CAPABILITIES, Machine

NOW_MS = 1_800_000_000_000
TIRING = (0.50, 0.55, 0.52, 0.50, 0.38, 0.36)
STEADY = (0.50, 0.55, 0.52, 0.51, 0.50)
Told = Sequence[tuple[str, Telemetry, int]]
"""Machine, message and log time in ms, in the order of the log."""


def spoken(told: Told) -> list[NewRecord]:
    """Write down what machines say, as the bridge does."""
    return [
        NewRecord(
            TELEMETRY,
            machine.encode(),
            codec.encode(message),
            at_ms,
            cloud_event(
                ce_id=codec.message_id(machine, message),
                ce_type=codec.ce_type(message),
                source=machine,
                time_ms=at_ms,
                content_type=MSGPACK_TYPE,
            ),
        )
        for machine, message, at_ms in told
    ]


def concluded(records: Iterable[NewRecord]) -> list[NewRecord]:
    """Let the controller hear records; return what it says."""
    controller, states, said = Controller(), dict[bytes, Any](), list[NewRecord]()
    stored = placed(records)
    for record, item in zip(stored, controller.prepare(stored), strict=True):
        assert not isinstance(item, Malformed), item
        state = states.get(record.key) or controller.start(record.key)
        states[record.key], outputs = controller.step(state, item, record.timestamp_ms)
        said += outputs
    return said


def placed(records: Iterable[NewRecord]) -> list[Record]:
    """Give records their places in the log."""
    return [
        Record(one.topic, 0, offset, one.key, one.value, one.timestamp_ms, one.headers)
        for offset, one in enumerate(records)
    ]


def whole(told: Told) -> list[NewRecord]:
    """Write down what machines say, and what follows."""
    records = spoken(told)
    return records + concluded(records)


def session(
    key: str,
    velocities: Sequence[float] = STEADY,
    *,
    end: bool = False,
    stop: bool = False,
    patient: str = "acme/p1",
    until_ms: int = NOW_MS,
    **fields: Any,
) -> list[tuple[str, Telemetry, int]]:
    """Tell a session of one set, of which the last word is at `until_ms`."""
    machine = Machine()
    told: list[Telemetry] = machine.begin(patient=patient, **fields)
    told[1] = replace(told[1], patient=patient)
    intent = fields.get("intent", "max")
    told += [machine.rep(n, v, intent=intent) for n, v in enumerate(velocities, start=1)]
    if stop:
        told.append(machine.say(ButtonPressed, button="stop"))
    if end:
        told += [
            machine.say(SetEnded, session="s1", set_number=1, reps_done=len(velocities), rpe=7),
            machine.say(SessionEnded, session="s1"),
        ]
    return timed(key, told, until_ms)


def timed(key: str, told: Sequence[Telemetry], until_ms: int = NOW_MS) -> list[tuple[str, Telemetry, int]]:
    """Let a machine say its words two seconds apart, the last one at `until_ms`."""
    return [(key, message, until_ms - 2_000 * (len(told) - n)) for n, message in enumerate(told, start=1)]


KINDS = ("lumbar", "flexion", "rotation", "press", "row")


def fleet(count: int, until_ms: int = NOW_MS) -> list[tuple[str, Telemetry, int]]:
    """Tell of a fleet at several sites: most train, some rest or are free, a few are stopped, silent or gone."""
    told: list[tuple[str, Telemetry, int]] = []
    for n in range(count):
        key = f"acme/{('north', 'south', 'harbour')[n % 3]}/{KINDS[n % 5]}-{n // 15 + 1:02}"
        patient = f"acme/p{n:04}"
        match n % 20:
            case 0 | 1:
                told += timed(key, [Online(boot_id="b1", capabilities=CAPABILITIES), *_beats(1)], until_ms)
            case 2:
                gone = [Online(boot_id="b1", capabilities=CAPABILITIES), *_beats(1), Offline(boot_id="b1")]
                told += timed(key, gone, until_ms)
            case 3:
                told += session(key, STEADY[:3], patient=patient, until_ms=until_ms - 60_000)
            case 4:
                told += session(key, STEADY, patient=patient, end=True, until_ms=until_ms)
            case 5 if n % 100 == 5:
                told += session(key, STEADY, patient=patient, stop=True, until_ms=until_ms)
            case 6 | 7 | 8:
                told += session(key, TIRING, patient=patient, until_ms=until_ms)
            case 9 | 10:
                told += session(key, STEADY, patient=patient, intent="paced", until_ms=until_ms)
            case kind:
                told += session(key, (STEADY + STEADY)[: 2 + kind % 7], patient=patient, until_ms=until_ms)
    return told


def _beats(count: int) -> list[Telemetry]:
    return [Heartbeat(boot_id="b1", seq=n, t_us=5_000_000 * n) for n in range(count)]
