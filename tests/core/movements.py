"""Movements: synthetic reps whose truth is known, as messages: minimum-jerk phases, seeded noise, gaps on demand."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from msgspec.structs import replace
from numpy.typing import NDArray

from streams.core.signals import NO_SAMPLE
from streams.core.telemetry import Prescription, Rep

Array = NDArray[np.float64]

SCALE = 2e-5
SCALE_N = 0.05
LOAD_N = 300.0


def minimum_jerk(seconds: float, fs_hz: float = 100.0) -> Array:
    """Return the way from 0 to 1 in so many seconds, without its last sample."""
    u = np.arange(round(seconds * fs_hz)) / round(seconds * fs_hz)
    way: Array = u**3 * (10.0 - 15.0 * u + 6.0 * u**2)
    return way


def path(
    *, rom: float = 0.4, con_s: float = 1.0, hold_s: float = 0.3, ecc_s: float = 1.2,
    before_s: float = 0.6, after_s: float = 0.6, fs_hz: float = 100.0,
) -> Array:  # fmt: skip
    """Return the positions of one rep in m, from rest at 0 to rest at 0."""
    rest = [np.zeros(round(seconds * fs_hz)) for seconds in (before_s, after_s)]
    up, hold, down = minimum_jerk(con_s, fs_hz), np.ones(round(hold_s * fs_hz)), 1.0 - minimum_jerk(ecc_s, fs_hz)
    return rom * np.concatenate((rest[0], up, hold, down, rest[1]))


def message(position: Array, force: Array | float = LOAD_N, **changes: Any) -> Rep:
    """Put positions in m and forces in N into a rep message; NaN becomes a missing sample."""
    rep = Rep(
        boot_id="b1",
        seq=1,
        t_us=0,
        session="s1",
        set_number=1,
        rep_number=1,
        exercise="lumbar-extension",
        intent="paced",
        load_N=LOAD_N,
        settings="seat-4",
        fs_hz=100.0,
        samples=len(position),
        force=b"",
        force_scale_N=SCALE_N,
        position=b"",
        position_scale=SCALE,
    )
    rep = replace(rep, **changes)
    force = np.broadcast_to(force, position.shape)
    return replace(rep, position=counts(position / rep.position_scale), force=counts(force / rep.force_scale_N))


def counts(x: Array) -> bytes:
    """Round to counts, as int16 on the wire; NaN is a missing sample, too large is at the limit."""
    whole = np.where(np.isnan(x), NO_SAMPLE, np.clip(np.rint(x), -32_767, 32_767))
    return whole.astype("<i2").tobytes()


def ordered(**changes: Any) -> Prescription:
    """Return a prescription of 0.4 m at 1 s up and 1.2 s down."""
    usual = Prescription(id="p1", load_N=LOAD_N, window_lo=0.0, window_hi=0.4, concentric_s=1.0, eccentric_s=1.2)
    return replace(usual, **changes)


@st.composite
def reps(draw: st.DrawFn, rates: tuple[float, ...] = (100.0,)) -> Rep:
    """Draw reps of every kind: with and without context, noise, holds, gaps, neighbours, windows, load cells."""
    fs_hz = draw(st.sampled_from(rates))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rom, some = draw(st.sampled_from((0.4, 0.39, 0.3, 0.2, 0.1))), st.sampled_from((0.0, 0.05, 0.2, 0.5, 0.7))
    one = path(
        rom=rom,
        con_s=draw(st.sampled_from((0.15, 0.4, 0.7, 1.0, 1.6))),
        hold_s=draw(st.sampled_from((0.0, 0.1, 0.3))),
        ecc_s=draw(st.sampled_from((0.2, 0.6, 1.2))),
        before_s=draw(some),
        after_s=draw(some),
        fs_hz=fs_hz,
    )
    neighbour = rom * minimum_jerk(0.8, fs_hz)
    shown = draw(st.sampled_from((0.0, 0.3, 0.5)))
    cut = round(shown * fs_hz)
    x = np.concatenate((neighbour[::-1][len(neighbour) - cut :], one, neighbour[:cut]))
    force = LOAD_N * draw(st.sampled_from((1.0, 1.0, 1.0, 0.02))) * (1.0 + 0.1 * rng.standard_normal(len(x)))
    if draw(st.booleans()):
        x = x - 0.02 * np.exp(-(((np.arange(len(x)) - cut) * 25.0 / fs_hz) ** 2))  # a knock at the turnaround
    x = x + draw(st.sampled_from((2e-5, 2e-4, 2e-3))) * rng.standard_normal(len(x))
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 3)))):
        first = int(rng.integers(len(x)))
        lost = slice(first, first + round(draw(st.sampled_from((3, 6, 10, 11, 30))) * fs_hz / 100.0))
        (x if rng.random() < 0.5 else force)[lost] = np.nan
    if draw(st.integers(0, 9)) == 0:
        force[:] = np.nan
    sign = draw(st.sampled_from((1, -1)))
    prescription = draw(
        st.sampled_from((None, ordered(), ordered(window_hi=0.35, concentric_s=None), ordered(window_lo=None)))
    )
    return message(
        sign * x,
        force,
        fs_hz=fs_hz,
        concentric_sign=sign * draw(st.sampled_from((1, 1, 1, 1, -1))),
        intent=draw(st.sampled_from(("max", "paced", "unknown"))),
        warm_up=draw(st.booleans()),
        prescription=prescription,
        **draw(further(x, force, sign, fs_hz)),
    )


@st.composite
def further(draw: st.DrawFn, x: Array, force: Array, sign: int, fs_hz: float) -> dict[str, Any]:
    """Draw what only some machines say: sides, velocity, marks, mass, calibration, an angle for a position."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    said: dict[str, Any] = {}
    if draw(st.booleans()):
        sides = [force * share + rng.standard_normal(len(x)) for share in (0.45, draw(st.sampled_from((0.55, -0.6))))]
        if draw(st.integers(0, 3)) == 0:
            sides[0][40:][: draw(st.sampled_from((3, 12, len(x))))] = np.nan
        said |= {name: counts(side / SCALE_N) for name, side in zip(("force_left", "force_right"), sides, strict=True)}
    if draw(st.integers(0, 2)) == 0:
        told = np.gradient(np.nan_to_num(x)) * fs_hz * draw(st.sampled_from((1.0, 1.0, 1.0, 1.03, 1.2, -1.0, 0.0)))
        told[50 : 50 + draw(st.sampled_from((0, 3)))] = np.nan
        said |= {"velocity": counts(sign * told / 5e-4), "velocity_scale": 5e-4}
    if draw(st.booleans()):
        some = np.sort(rng.integers(0, len(x), 4)).tolist()
        near, early = ([int(mark * fs_hz / 100.0) for mark in at] for at in ((60, 155, 195, 305), (50, 60, 70, 80)))
        said["marks"] = tuple(draw(st.sampled_from((near, early, some))))
    if draw(st.booleans()):
        said |= {"effective_mass_kg": 40.0, "calibrated": draw(st.sampled_from(((0.0, 0.45), (0.2, 0.2))))}
    if draw(st.booleans()):
        said["position_unit"] = "rad"
    if draw(st.integers(0, 9)) == 0:
        said |= {"settings": "unknown"} if draw(st.booleans()) else {"voluntary_pause": True}
    return said
