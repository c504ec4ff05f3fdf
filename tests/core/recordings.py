"""Recordings whose truth is known: minimum-jerk repetitions with rests between, seeded noise, flaws on demand."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loadtest.movement import FS_HZ, Movement, rep_signal
from loadtest.truth import RepTruth
from streams.core.recording import Columns

Array = NDArray[np.float64]

BOTTOM_M, ROM_M, LOAD_N = 0.05, 0.45, 400.0
REST_S = 1.0


class Recorded(NamedTuple):
    """Samples at 100 Hz, and what is true of each repetition: its concentric start in s, and the rest."""

    t_s: Array
    force: Array
    position: Array
    starts_s: list[float]
    truths: list[RepTruth]

    def columns(self, keep: Sequence[bool] | NDArray[np.bool_] | None = None, **changes: Any) -> Columns:
        """Return the rows that are kept, and other columns instead of these."""
        told: dict[str, Any] = {"t_s": self.t_s, "force": self.force, "position": self.position} | changes
        kept = slice(None) if keep is None else np.asarray(keep)
        rows: dict[str, Any] = {name: x[kept] if isinstance(x, np.ndarray) else x for name, x in told.items()}
        return Columns(**rows)

    def csv(self, keep: NDArray[np.bool_] | None = None, **changes: Array) -> str:
        """Return the text of a file."""
        told = {"t_s": self.t_s, "force_N": self.force, "position_m": self.position} | changes
        kept = np.ones(len(self.t_s), np.bool_) if keep is None else keep
        rows = zip(*(np.round(x[kept], 6).tolist() for x in told.values()), strict=True)
        return "\n".join([",".join(told), *(",".join(map(repr, row)) for row in rows), ""])


def lift(**changes: float) -> Movement:
    """Return a usual repetition: 0.45 m up in 0.8 s, held for 0.3 s, down in 1.4 s, 400 N, 40 kg."""
    usual: dict[str, Any] = {
        "start": BOTTOM_M,
        "rom": ROM_M,
        "concentric_s": 0.8,
        "hold_s": 0.3,
        "eccentric_s": 1.4,
        "load_N": LOAD_N,
        "inertia": 40.0,
    }
    return Movement(**usual | changes)


def recorded(*movements: Movement, rest_s: float = REST_S, seed: int | None = None) -> Recorded:
    """Record movements one after the other, with rests of this length in s; without a seed, free of noise."""
    rng = None if seed is None else np.random.default_rng(seed)
    force, position, starts_s, truths = [], [], [], []
    samples = 0
    for movement in movements:
        signal = rep_signal(movement, rng)
        rest = np.zeros(round(rest_s * FS_HZ)) if rng is None else rng.standard_normal(round(rest_s * FS_HZ))
        starts_s.append((samples + signal.truth.marks[0]) / FS_HZ)
        truths.append(signal.truth)
        force += [signal.force, movement.load_N + 1.2 * rest]
        position += [signal.position, movement.start + 7e-5 * rest]
        samples += len(signal.force) + len(rest)
    return Recorded(np.arange(samples) / FS_HZ, np.concatenate(force), np.concatenate(position), starts_s, truths)


def tiring(reps: int = 8, seed: int | None = 1) -> Recorded:
    """Record a set in which each repetition is slower than the one before: 30 % in all."""
    return recorded(*(lift(concentric_s=0.8 / (1.0 - 0.3 * i / (reps - 1))) for i in range(reps)), seed=seed)
