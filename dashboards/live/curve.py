"""Curve: force over the concentric of one rep, drawn only for a machine that somebody looks at."""

import struct
from collections.abc import Sequence

import msgspec

from streams.core import codec
from streams.core.errors import Malformed
from streams.core.force_curve import POINTS
from streams.core.measure import measure
from streams.core.telemetry import Rep

DECIMALS = 1


class Curve(msgspec.Struct, frozen=True):
    """Force in N or N m at 101 places, from the start of the concentric to its end; `why` there is none."""

    rep_number: int
    set_number: int
    force: tuple[float, ...] = ()
    why: str = ""
    corrected: bool = False


def points(curve: bytes | None) -> tuple[float, ...]:
    """Read a curve as the log carries it: 101 little-endian float32.

    Examples
    --------
    >>> points(None), points(struct.pack("<101f", *[300.04] * 101))[:2]
    ((), (300.0, 300.0))
    """
    if curve is None or len(curve) != 4 * POINTS:
        return ()
    return _rounded(struct.unpack(f"<{POINTS}f", curve))


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, DECIMALS) for value in values)


def of(machine: str, payload: bytes) -> Curve | None:
    """Measure one rep as it stands in the telemetry topic; None if it is none."""
    try:
        rep = codec.decode_telemetry(machine, payload)
    except Malformed:
        return None
    if not isinstance(rep, Rep):
        return None
    (measured,) = measure([rep])
    force = points(measured.curve)
    if force:
        return Curve(rep.rep_number, rep.set_number, force, corrected=rep.corrected)
    why = measured.reasons[0].replace("_", " ") if not measured.valid and measured.reasons else "no load cell"
    return Curve(rep.rep_number, rep.set_number, why=why)
