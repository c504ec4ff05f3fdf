"""Curves: the mean of force curves that come one by one, each 101 little-endian float32."""

import numpy as np

_ONE = "<f4"
_SUM = "<f8"


def added(sum_: bytes | None, curve: bytes) -> bytes:
    """Add a curve to a sum of curves, which is float64; None is the empty sum.

    Examples
    --------
    >>> one = np.array([1.0, 2.0], "<f4").tobytes()
    >>> np.frombuffer(added(added(None, one), one), "<f8")
    array([2., 4.])
    """
    new = np.frombuffer(curve, _ONE).astype(_SUM)
    return (new if sum_ is None else new + np.frombuffer(sum_, _SUM)).tobytes()


def mean(sum_: bytes, count: int) -> bytes:
    """Return the mean curve of a sum of `count` curves.

    Examples
    --------
    >>> np.frombuffer(mean(np.array([2.0, 4.0], "<f8").tobytes(), 2), "<f4")
    array([1., 2.], dtype=float32)
    """
    return (np.frombuffer(sum_, _SUM) / count).astype(_ONE).tobytes()
