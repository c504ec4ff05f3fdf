"""Arc length: how long the line is that the amplitude spectrum of a movement draws (science.md 3.2).

`of_one` computes the whole spectrum. `of_each` does the same for a batch and computes little of it.

A spectrum of 16 N bins for each phase is far more than SPARC looks at: the bins up to 10 Hz from the first to the
last with a twentieth of the largest amplitude. No bin at f can be larger than the differences of the signal allow,
  |X(f)| <= (|v_0| + |v_N-1|) / (2 s) + (|d_0| + |d_N-2| + sum of |second differences|) / (4 s s),  s = sin(pi f/fs),
d being first differences, and this falls with f. So above some bin nothing counts, and where it falls below the
largest of the low bins before 10 Hz, the largest amplitude of all is among the low bins. The phases of the others
get their whole spectrum, as in `sparc`. The low bins are products with cosines and sines about the middle of the
signal, where a shift in time doesn't change amplitudes, so that half of each is enough.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from streams.core.ragged import BoolArray, FloatArray, IntArray, Slices
from streams.core.signals import FS_HZ

PAD_LEVEL = 4
"""Powers of two by which the spectrum is finer than the number of samples asks for [literature]."""

PADDING = 1 << PAD_LEVEL

MAX_HZ = 10.0
"""Highest frequency that counts, in Hz [literature]."""

MIN_AMPLITUDE = 0.05
"""Share of the largest amplitude from which on a frequency counts [literature]."""

SHORTEST_BY_PRODUCT, LONGEST_BY_PRODUCT = 16, 512
"""Padded samples between which the low end of a spectrum is a matrix product: shorter ones have no eighths, and the
matrices of longer ones would not be small."""

_BINS = (4, 6, 8, 13)
"""Choices of how many low bins to compute, in eighths of the padded length; 13 are all up to 10 Hz."""

_TWICE_SINE = 2.0 * np.sin(np.pi * np.array(_BINS)[:, None] / (8 * PADDING))
_LARGEST_PRODUCT = 262_144  # multiplications up to which the library works alone: other threads would cost more
_LARGEST_TILE = 16  # a group of spectra is seldom larger, and what is missing in its last tile is computed in vain
_LAST_BIT = 1e-9


def of_one(v: FloatArray, fs_hz: float) -> float:
    """Return the arc length of one spectrum, NaN where fewer than two frequencies count."""
    size = 1 << max(len(v) - 1, 0).bit_length() + PAD_LEVEL
    amplitude = np.abs(np.fft.rfft(v, size))  # the other half mirrors it
    frequency = np.arange(len(amplitude)) * fs_hz / size
    shares = (amplitude / amplitude.max())[frequency <= MAX_HZ]
    counts = np.flatnonzero(shares >= MIN_AMPLITUDE)
    if not counts.size or counts[0] == counts[-1]:
        return math.nan
    first, last = counts[0], counts[-1]
    steps = np.diff(frequency[first : last + 1]) / (frequency[last] - frequency[first])
    return float(np.sum(np.hypot(steps, np.diff(shares[first : last + 1]))))


def of_each(flat: FloatArray, slices: Slices, wanted: BoolArray) -> FloatArray:
    """Return the arc length of each slice that is wanted, NaN where fewer than two frequencies count."""
    ceiling = _ceilings(flat, slices)
    at_zero = np.abs(slices.total(flat))
    choice = (ceiling[:-1] >= (1.0 - _LAST_BIT) * MIN_AMPLITUDE * at_zero).sum(axis=0)
    padded = 1 << np.frexp(slices.length - 1)[1].astype(np.int64)
    is_usual = wanted & (padded >= SHORTEST_BY_PRODUCT) & (padded <= LONGEST_BY_PRODUCT)
    group = np.where(is_usual, len(_BINS) * padded + choice, 0)
    groups = [(one, (group == one).nonzero()[0]) for one in sorted({*group.tolist()} - {0})]
    lengths, is_open = np.full(len(wanted), np.nan), wanted.copy()
    if groups:
        amplitudes = [
            _low_amplitudes(flat, slices, row, one // len(_BINS), _BINS[one % len(_BINS)]) for one, row in groups
        ]
        rows = np.concatenate([row for _, row in groups])
        largest = np.concatenate([amplitude.max(axis=1) for amplitude in amplitudes])
        lengths[rows] = _arcs(amplitudes, largest, (MAX_HZ / FS_HZ * PADDING * padded[rows]).astype(np.int64) + 1)
        is_open[rows] = ceiling[choice[rows], rows] >= (1.0 - _LAST_BIT) * largest
    for place in is_open.nonzero()[0].tolist():
        first = slices.first[place]
        lengths[place] = of_one(flat[first : first + slices.length[place]], FS_HZ)
    return lengths


def _ceilings(flat: FloatArray, slices: Slices) -> FloatArray:
    """Return, shape (choices, R), what no amplitude beyond the bins of each choice exceeds."""
    step, bend = np.zeros(len(flat)), np.zeros(len(flat))
    np.subtract(flat[1:], flat[:-1], out=step[:-1])
    np.subtract(step[1:], step[:-1], out=bend[:-1])
    first, last = slices.first, slices.last
    before = np.maximum(last - 1, first)
    bend[last] = bend[before] = 0.0
    edges = np.abs(flat[first]) + np.abs(flat[last])
    steps = np.abs(step[first]) + np.abs(step[before])
    ceilings: FloatArray = edges / _TWICE_SINE + (steps + slices.total(np.abs(bend))) / _TWICE_SINE**2
    return ceilings


class _Waves(NamedTuple):
    """Cosines and sines about the middle of a signal, shape (padded / 2, bins), and how many rows they take at once."""

    cosines: FloatArray
    sines: FloatArray
    tile: int


@lru_cache(maxsize=32)  # 6 padded lengths and 4 choices: 24
def _waves(padded: int, eighths: int) -> _Waves:
    half, bins = padded // 2, padded * eighths // 8
    angle = np.pi / (PADDING * padded) * (2 * np.arange(half)[:, None] + 1) * np.arange(bins)
    tile = max(1, min(_LARGEST_TILE, 1 << (_LARGEST_PRODUCT // (half * bins)).bit_length() - 1))
    return _Waves(np.cos(angle), np.sin(angle), tile)


def _low_amplitudes(flat: FloatArray, slices: Slices, row: IntArray, padded: int, eighths: int) -> FloatArray:
    """Return the amplitudes of the low bins, shape (rows, bins)."""
    cosines, sines, tile = _waves(padded, eighths)
    tiles = np.zeros((-(-len(row) // tile) * tile, padded))
    for place, (first, length) in enumerate(zip(slices.first[row].tolist(), slices.length[row].tolist(), strict=True)):
        left_out = (padded - length) // 2
        tiles[place, left_out : left_out + length] = flat[first : first + length]
    left, right = tiles[:, padded // 2 - 1 :: -1], tiles[:, padded // 2 :]
    real = ((right + left).reshape(-1, tile, padded // 2) @ cosines).reshape(len(tiles), -1)[: len(row)]
    imaginary = ((right - left).reshape(-1, tile, padded // 2) @ sines).reshape(len(tiles), -1)[: len(row)]
    real *= real
    imaginary *= imaginary
    real += imaginary
    return np.sqrt(real, out=real)


def _arcs(amplitudes: Sequence[FloatArray], largest: FloatArray, counting: IntArray) -> FloatArray:
    """Return the arc length of each row, NaN where fewer than two amplitudes count.

    `largest` is the largest amplitude of each row, `counting` how many of its amplitudes are up to 10 Hz.
    """
    flat = np.concatenate([amplitude.reshape(-1) for amplitude in amplitudes])
    bins = np.array([amplitude.shape[1] for amplitude in amplitudes]).repeat([len(one) for one in amplitudes])
    end = bins.cumsum()
    begin = end - bins
    counts = (flat >= (MIN_AMPLITUDE * largest).repeat(bins)).nonzero()[0]
    from_, to = counts.searchsorted(begin), counts.searchsorted(begin + np.minimum(bins, counting))
    is_arc = to - from_ > 1
    first, last = (np.where(is_arc, counts.take(place, mode="clip"), 0) for place in (from_, to - 1))
    step, arc = 1.0 / np.maximum(last - first, 1), Slices(first, last, 0)
    scale = arc.spread(largest)
    arcs = arc.of(flat, 1) / scale - arc.of(flat) / scale
    arcs *= arcs
    arcs += arc.spread(step * step)
    return np.where(is_arc, arc.total(np.sqrt(arcs, out=arcs)), np.nan)
