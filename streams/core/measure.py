"""Measure: repetitions in, numbers out. A whole batch at once, and each rep as if it had been alone.

The reasons are those of science.md 2.5, those of metrics the ones of its section 3.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import compress
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.core import force_curve, kinematics, momentum, segmentation, signals
from streams.core.catalogue import OF_REPS
from streams.core.policy import DEFAULT
from streams.core.ragged import FloatArray
from streams.core.segmentation import Phases
from streams.core.telemetry import Rep

CodeArray = NDArray[np.int8]

INVALID_IN_ORDER = (
    "gap_over_100ms",
    "below_min_rom",
    "too_short",
    "too_long",
    "unloaded",
    "saturated",
    "non_finite",
    "sign_mismatch",
    "unknown_settings",
    "open_at_end",
    "rate_too_low",
)
FLAGS_IN_ORDER = (
    "partial_rom",
    "double_crossing",
    "bounce",
    "tempo_fast",
    "gap",
    "no_context",
    "warm_up",
    "voluntary_pause",
    "scale_mismatch",
)
_IN_ORDER = INVALID_IN_ORDER + FLAGS_IN_ORDER
INVALID = frozenset(INVALID_IN_ORDER)
"""Reasons for which a rep gets no metric and does not count as done."""

FLAGS = frozenset(FLAGS_IN_ORDER)
"""Reasons for which a rep counts, but is no baseline, no reference and no ground for progression."""

PARTIAL_PCT = 80.0
"""Completeness below which a rep is flagged as partial, in percent [literature/default]."""


_KEPT = 2_097_152
"""Floats, 16 MB, that are asked for and dropped before a batch, untouched.

An allocator that has seen a block of this size freed keeps what the batch frees for the next one (glibc). Otherwise it
hands every page back and takes it again, which costs as much as the filter: 53 instead of 33 us a rep [measured].
"""


class Measured(msgspec.Struct, frozen=True):
    """One rep in numbers.

    Parameters
    ----------
    valid : bool
        Whether it counts.
    reasons : tuple of str
        Why it is invalid, or the flags of a valid one, in the order of science.md 2.5.
    values : dict
        Defined metrics in the order of the catalogue, rounded to its precision.
    undefined : dict
        Every other metric of the catalogue, and why it is undefined.
    curve : bytes or None
        Force over the concentric, 101 little-endian float32, equally spaced in position; None without force.
    torque_by_bin : tuple or None
        Largest torque in N m of the concentric in each 12 degrees from 0 on, seven of them, None where the movement
        did not come; None as a whole where position is not an angle or there is no force.
    marks_off_s : float or None
        By how much the machine's own phase marks differ from the limits found here, in s, if by more than 0.1 s. The
        limits found here count.
    dwell_s : float or None
        Rest at the turnaround out of which the rep bounces, in s; None if it doesn't.
    """

    valid: bool
    reasons: tuple[str, ...]
    values: dict[str, float]
    undefined: dict[str, str]
    curve: bytes | None = None
    torque_by_bin: tuple[float | None, ...] | None = None
    marks_off_s: float | None = None
    dwell_s: float | None = None


def measure(reps: Sequence[Rep], tempo_fast_fraction: float = DEFAULT.tempo_fast_fraction) -> list[Measured]:
    """Measure reps, in order. No input raises; how they are cut into batches does not show in a single byte.

    Of the policy nothing is asked but when a phase is too fast: what rule 9 counts must be flagged.
    """
    np.empty(_KEPT)
    unreadable = {index: why for index, rep in enumerate(reps) if (why := signals.why_unreadable(rep))}
    measured = {index: _invalid(why) for index, why in unreadable.items()}
    readable = [index for index in range(len(reps)) if index not in unreadable]
    with np.errstate(all="ignore"):  # what is not finite in the end gets its reason
        for chunk in signals.chunks([reps[index] for index in readable]):
            places = [readable[index] for index in chunk]
            measured.update(zip(places, _measure([reps[index] for index in places], tempo_fast_fraction), strict=True))
    return [measured[index] for index in range(len(reps))]


def is_accepted(measured: Measured) -> bool:
    """Tell whether a rep may become a reference: valid and without a flag.

    Examples
    --------
    >>> is_accepted(Measured(True, ("warm_up",), {}, {}))
    False
    """
    return measured.valid and not measured.reasons


def _invalid(reason: str) -> Measured:
    return Measured(valid=False, reasons=(reason,), values={}, undefined={row.name: "invalid_rep" for row in OF_REPS})


def _measure(reps: Sequence[Rep], tempo_fast_fraction: float) -> list[Measured]:
    phases = segmentation.segment(signals.read(reps))
    values, whys = _columns(phases)
    held = _reasons(phases, values[:, _COMPLETENESS], tempo_fast_fraction)
    curves, torques = force_curve.curves(phases), force_curve.torques_by_bin(phases)
    off_s = segmentation.marks_off_s(phases)
    dwells_s = [None if math.isnan(dwell_s) else dwell_s for dwell_s in phases.once(momentum.dwell_of_bounce).tolist()]
    codes = np.concatenate((held, whys), axis=1)
    written, size = codes.tobytes(), codes.shape[1]
    measured = []
    for place, row in enumerate(values.tolist()):
        kind = _kind(written[place * size : (place + 1) * size])
        numbers = dict(compress(zip(_NAMES, row, strict=True), kind.defined))
        measured.append(
            Measured(
                kind.valid,
                kind.reasons,
                numbers,
                kind.undefined.copy(),
                curves[place],
                torques[place],
                off_s[place],
                dwells_s[place],
            )
        )
    return measured


_WHY = (
    "",
    "invalid_input",
    "no_reference",
    "open_at_end",
    "phase_too_short",
    "no_movement",
    "zero_jerk",
    "degenerate_spectrum",
    "zero_denominator",
    "not_calibrated",
    "scale_mismatch",
    "gap",
    "no_channel",
    "invalid_rep",
)
"""Why a metric can be undefined; the place in here stands for the reason while it is a number among many."""

_CODE = {why: np.int8(code) for code, why in enumerate(_WHY)}
_NAMES = tuple(metric.name for metric in OF_REPS)
_COMPLETENESS = _NAMES.index("rom_completeness_pct")
_PRECISION = 10.0 ** np.array([metric.decimals for metric in OF_REPS])


def _columns(phases: Phases) -> tuple[FloatArray, CodeArray]:
    """Compute every metric, rounded, shape (R, metrics), and the places in `_WHY` of what keeps it from being defined.

    What is written last counts: an invalid rep over a missing need, and that over what the metric itself says.
    """
    columns = [phases.once(metric.kernel) for metric in OF_REPS]
    raw = np.concatenate([column for column, _ in columns]).reshape(len(columns), -1).T
    values = np.rint(raw * _PRECISION) / _PRECISION + 0.0  # no -0.0
    whys = np.where(np.isfinite(values), np.int8(0), _CODE["invalid_input"])
    lacking = {
        "velocity": ("scale_mismatch", phases.flagged["scale_mismatch"]),
        "no_gap": ("gap", phases.flagged["gap"]),
        "force": ("no_channel", ~phases.signals.has_force),
    }
    said = [
        (place, reason, holds)
        for place, (metric, (_, undefined)) in enumerate(zip(OF_REPS, columns, strict=True))
        for reason, holds in (
            *reversed(tuple(undefined.items())),
            *(lacking[need] for need in lacking if need in metric.needs),
        )
    ]
    is_ever = np.logical_or.reduce(np.concatenate([holds for _, _, holds in said]).reshape(len(said), -1), axis=1)
    for place, reason, holds in compress(said, is_ever):  # few of them hold for any rep
        whys[holds, place] = _CODE[reason]
    whys[phases.is_invalid] = _CODE["invalid_rep"]
    return values, whys


def _reasons(phases: Phases, completeness_pct: FloatArray, tempo_fast_fraction: float) -> CodeArray:
    """Return which reasons hold, shape (R, reasons); flags are judged on valid reps only."""
    flagged = {
        "partial_rom": completeness_pct < PARTIAL_PCT,
        "bounce": momentum.is_bounced(phases),
        "tempo_fast": kinematics.is_tempo_fast(phases, tempo_fast_fraction),
        **phases.flagged,
    }
    never = np.zeros(len(completeness_pct), np.bool_)
    invalid = [phases.invalid.get(reason, never) for reason in INVALID_IN_ORDER]
    held = np.concatenate([*invalid, *(flagged[reason] for reason in FLAGS_IN_ORDER)]).reshape(len(_IN_ORDER), -1)
    held[len(invalid) :] &= ~phases.is_invalid
    return held.T.astype(np.int8)


class _Kind(NamedTuple):
    """What reps with the same reasons and the same metrics undefined have in common."""

    valid: bool
    reasons: tuple[str, ...]
    defined: tuple[bool, ...]
    undefined: dict[str, str]


@lru_cache(maxsize=256)  # reps are of a handful of kinds
def _kind(key: bytes) -> _Kind:
    """Name what a rep is by its row of codes: reasons that hold, and whys."""
    held, whys = key[: len(_IN_ORDER)], key[len(_IN_ORDER) :]
    reasons = tuple(reason for reason, holds in zip(_IN_ORDER, held, strict=True) if holds)
    return _Kind(
        valid=INVALID.isdisjoint(reasons),
        reasons=reasons,
        defined=tuple(not why for why in whys),
        undefined={name: _WHY[why] for name, why in zip(_NAMES, whys, strict=True) if why},
    )
