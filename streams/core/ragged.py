"""Ragged rows: slices of different length in one padded array, reduced and searched without a loop over rows.

Arrays have shape (R, W), row by row; slices are half-open and given as two arrays of shape (R,). What is found in a row
depends on its slice alone, to the last digit: not on the padding and not on the other rows.
"""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


def total(x: FloatArray, start: IntArray, stop: IntArray) -> FloatArray:
    """Add up x[row, start:stop] of every row; 0 where the slice is empty.

    `reduceat` adds exactly the samples of a slice, in an order that depends on their number only.

    Examples
    --------
    >>> total(np.array([[1.0, 2.0, 4.0, 0.0], [8.0, 16.0, 32.0, 0.0]]), np.array([0, 1]), np.array([2, 3]))
    array([ 3., 48.])
    """
    return np.where(stop > start, _reduce(np.add, x, start, stop), 0.0)


def largest(x: FloatArray, start: IntArray, stop: IntArray) -> FloatArray:
    """Return the largest of x[row, start:stop] of every row; x[row, start] where the slice is empty."""
    return _reduce(np.maximum, x, start, stop)


def smallest(x: FloatArray, start: IntArray, stop: IntArray) -> FloatArray:
    """Return the smallest of x[row, start:stop] of every row; x[row, start] where the slice is empty."""
    return _reduce(np.minimum, x, start, stop)


def _reduce(ufunc: np.ufunc, x: FloatArray, start: IntArray, stop: IntArray) -> FloatArray:
    row = np.arange(len(x)) * x.shape[1]
    bounds = np.empty(2 * len(x), np.int64)
    bounds[::2], bounds[1::2] = row + start, row + stop
    reduced: FloatArray = ufunc.reduceat(x.reshape(-1), bounds)[::2]
    return reduced


def at(x: FloatArray, index: IntArray) -> FloatArray:
    """Return x[row, index] of every row."""
    picked: FloatArray = x[np.arange(len(x)), index]
    return picked


def lowest(x: FloatArray, start: IntArray, last: IntArray, reach: int, tie: FloatArray) -> IntArray:
    """Return where x[row, start] to x[row, last], both included and at most `reach` samples, first is lowest.

    What is no more than `tie` above the minimum counts as lowest.

    Examples
    --------
    >>> lowest(np.array([[3.0, 1.5, 1.0, 0.0]]), np.array([0]), np.array([2]), reach=5, tie=np.array([0.5]))
    array([1])
    """
    column = np.minimum(start[:, None] + np.arange(reach), last[:, None])
    window = np.take_along_axis(x, column, axis=1)
    steps: IntArray = (window <= (window.min(axis=1) + tie)[:, None]).argmax(axis=1)
    return start + steps


class Marked:
    """Samples marked in an array of shape (R, W), to be asked for the first or last one of a slice, or their number.

    Parameters
    ----------
    places : array
        Row times W plus column of each marked sample, rising.
    shape : tuple of int
        R and W.

    Examples
    --------
    >>> marked = where(np.array([[True, False, True, False]]))
    >>> start, stop = np.array([1]), np.array([4])
    >>> marked.first(start, stop), marked.last(start, stop), marked.count(start, stop)
    (array([2]), array([2]), array([1]))
    """

    def __init__(self, places: IntArray, shape: tuple[int, ...]) -> None:
        rows, width = shape
        self._places = np.concatenate(([-1], places, [rows * width]))  # sentinels: there is always a neighbour
        self._row = np.arange(rows) * width

    def first(self, start: IntArray, stop: IntArray) -> IntArray:
        """Return the first marked sample of each slice, `stop` where there is none."""
        found = self._places[np.searchsorted(self._places, self._row + start)] - self._row
        return np.where(found < stop, found, stop)

    def last(self, start: IntArray, stop: IntArray) -> IntArray:
        """Return the last marked sample of each slice, `start` - 1 where there is none."""
        found = self._places[np.searchsorted(self._places, self._row + stop) - 1] - self._row
        return np.where(found >= start, found, start - 1)

    def count(self, start: IntArray, stop: IntArray) -> IntArray:
        """Count the marked samples of each slice."""
        before: IntArray = np.searchsorted(self._places, self._row + start)
        return np.searchsorted(self._places, self._row + stop) - before


def where(mask: BoolArray) -> Marked:
    """Mark the samples that are true."""
    return Marked(np.flatnonzero(mask), mask.shape)
