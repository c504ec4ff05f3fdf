"""Draws: machines, prescriptions and policies, sensible ones and absurd ones within the limits of the wire."""

from collections.abc import Mapping
from random import Random
from typing import Any, get_args, get_origin, get_type_hints

from msgspec import Meta
from msgspec.structs import fields, replace

from streams.core.policy import DEFAULT, Policy
from streams.core.telemetry import Capabilities, Intent, Prescription, Side

INTENTS: tuple[Intent, ...] = ("max", "paced", "unknown")

MACHINES: tuple[Capabilities, ...] = (
    Capabilities(
        model="lx-2",
        exercise="lumbar_extension",
        position_unit="rad",
        load_min_N=20.0,
        load_max_N=800.0,
        load_step_N=5.0,
        travel_lo=0.0,
        travel_hi=1.2,
    ),
    Capabilities(
        model="row-1",
        exercise="seated_row",
        position_unit="m",
        load_min_N=10.0,
        load_max_N=1_500.0,
        load_step_N=1.0,
        travel_lo=0.0,
        travel_hi=0.75,
    ),
    Capabilities(
        model="rot-1",
        exercise="torso_rotation",
        position_unit="rad",
        load_min_N=5.0,
        load_max_N=300.0,
        load_step_N=2.5,
        travel_lo=-0.9,
        travel_hi=0.9,
    ),
)
"""One machine of each kind; the rotation is trained side by side."""

STEPS_N = (0.001, 0.1, 0.5, 12.5, 25.0, 40.0, 100.0, 400.0, 10_000.0)
"""Load steps in N that are too fine, uneven or too coarse for a rise of 5 %."""


def sides_of(machine: Capabilities) -> tuple[Side, ...]:
    """Return the sides that a machine trains."""
    return ("left", "right") if machine.exercise == "torso_rotation" else ("both",)


def machine(rng: Random, kind: Capabilities, *, is_odd: bool) -> Capabilities:
    """Return a machine of a kind, an odd one with another grid or another range of loads."""
    if not is_odd:
        return kind
    changes: dict[str, Any] = {"load_step_N": rng.choice(STEPS_N)}
    if rng.random() < 0.2:
        changes["load_min_N"] = round(rng.uniform(0.0, 300.0), 1)
    if rng.random() < 0.2:
        changes["load_max_N"] = round(rng.uniform(100.0, 50_000.0), 1)
    return replace(kind, **changes)


def order(rng: Random, held: Capabilities) -> Prescription:
    """Return what a clinician would prescribe: a load on the grid, a window within the travel, few reps."""
    span_N = min(held.load_max_N - held.load_min_N, 1_000.0)
    steps = int(rng.uniform(0.2, 0.6) * max(span_N, 0.0) / held.load_step_N)
    travel = held.travel_hi - held.travel_lo
    paced = rng.random() < 0.7
    return Prescription(
        id="order",
        load_N=round(held.load_min_N + steps * held.load_step_N, 3),
        window_lo=round(held.travel_lo + travel * rng.choice((0.0, 0.1, 0.2)), 3),
        window_hi=round(held.travel_hi - travel * rng.choice((0.0, 0.1, 0.25)), 3),
        concentric_s=2.0 if paced else None,
        hold_s=1.0 if paced else None,
        eccentric_s=3.0 if paced else None,
        reps=rng.choice((3, 3, 3, 4, 5)),
        sets=rng.choice((1, 1, 1, 2)),
        rest_s=rng.choice((60.0, 90.0, 170.0)),
        tul_s=rng.choice((None, None, 60.0)),
    )


_ABSURD: Mapping[str, tuple[float | None, ...]] = {
    "load_N": (0.0, 0.001, 1.0, 49_999.999, 50_000.0),
    "window_lo": (None, -10.0, 0.3, 10.0),
    "window_hi": (None, -10.0, 0.35, 10.0),
    "concentric_s": (None, 0.0, 0.01, 3_600.0),
    "hold_s": (None, 0.0, 3_600.0),
    "eccentric_s": (None, 0.0, 3_600.0),
    "reps": (1, 200),
    "sets": (1, 20),
    "rest_s": (0.0, 179.0, 181.0, 3_600.0),
    "tul_s": (None, 0.0, 180.0, 3_600.0),
}
"""Values at the limits of the wire."""


def absurd(rng: Random, sensible: Prescription) -> Prescription:
    """Return a prescription with up to three values that the wire admits and nobody means."""
    names = rng.sample(sorted(_ABSURD), rng.randint(1, 3))
    return replace(sensible, **{name: rng.choice(_ABSURD[name]) for name in names})


def _bounds(hint: Any) -> tuple[type, float, float] | None:  # noqa: ANN401 - a type hint
    """Return kind, lowest and highest of an annotated number, None for anything else."""
    kind, *told = get_args(hint)
    meta = next((one for one in told if isinstance(one, Meta) and one.ge is not None and one.le is not None), None)
    if get_origin(kind) is not None or meta is None or meta.ge is None or meta.le is None:
        return None
    return kind, meta.ge, meta.le


_HINTS = get_type_hints(Policy, include_extras=True)
_NUMBERS = {one.name: bounds for one in fields(Policy) if (bounds := _bounds(_HINTS[one.name])) is not None}


def policy(rng: Random) -> Policy:
    """Return the shipped policy, or one with up to half of its numbers anywhere within their bounds."""
    if rng.random() < 0.5:
        return DEFAULT
    while True:
        names = rng.sample(sorted(_NUMBERS), rng.randint(1, len(_NUMBERS) // 2))
        changes: dict[str, Any] = {name: _between(rng, *_NUMBERS[name]) for name in names}
        if rng.random() < 0.3:
            changes["gap_days"] = tuple(sorted(rng.sample(range(3, 57), 3)))
        try:
            return replace(DEFAULT, **changes)
        except ValueError:  # bounds out of order: draw again
            continue


def _between(rng: Random, kind: type, least: float, most: float) -> float:
    if rng.random() < 0.3:
        return kind(rng.choice((least, most)))  # type: ignore[no-any-return]  # int or float
    return rng.randint(int(least), int(most)) if kind is int else round(rng.uniform(least, most), 3)
