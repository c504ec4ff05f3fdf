"""Waveform: one signal, as the public kernels of one phase take it."""

import math

import numpy as np
from numpy.typing import ArrayLike

from streams.core.ragged import FloatArray
from streams.core.undefined import Undefined


def waveform(signal: ArrayLike, fs_hz: float) -> FloatArray:
    """Return a signal as an array of shape (N,), N >= 1. Raises `Undefined` for anything that is none.

    Examples
    --------
    >>> waveform([1, 2], fs_hz=100.0)
    array([1., 2.])
    """
    x = np.asarray(signal, np.float64)
    if x.ndim != 1 or not np.isfinite(x).all() or not (math.isfinite(fs_hz) and fs_hz > 0.0):
        raise Undefined("invalid_input")
    if not x.size:
        raise Undefined("phase_too_short")
    return x
