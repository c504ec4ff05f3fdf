"""Ragged rows: slices of different length in one padded array, reduced and searched without a loop over rows.

Arrays have shape (R, W), row by row; slices are half-open and given as two arrays of shape (R,). What is found in a row
depends on its slice alone, to the last digit: not on the padding and not on the other rows. `Slices` cuts the slices
out, one behind the other, for whoever computes more than one thing from them.
"""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

TILE = 32
"""Rows that a matrix product takes at once, always: how a product is cut depends on its shape, so with one shape a row
comes out the same, to the last bit, wherever and with whatever it stands in a batch."""


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


def extremes(x: FloatArray, start: IntArray, stop: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return the smallest and the largest of x[row, start:stop] of every row."""
    flat, bounds = x.reshape(-1), _bounds(x, start, stop)
    return np.minimum.reduceat(flat, bounds)[::2], np.maximum.reduceat(flat, bounds)[::2]


def _reduce(ufunc: np.ufunc, x: FloatArray, start: IntArray, stop: IntArray) -> FloatArray:
    reduced: FloatArray = ufunc.reduceat(x.reshape(-1), _bounds(x, start, stop))[::2]
    return reduced


def _bounds(x: FloatArray, start: IntArray, stop: IntArray) -> IntArray:
    row, bounds = rows(x), np.empty(2 * len(x), np.int64)
    np.add(row, start, out=bounds[::2])
    np.add(row, stop, out=bounds[1::2])
    return bounds


def rows(x: NDArray[Any]) -> IntArray:
    """Return where each row of an array begins, counted row by row."""
    return np.arange(0, x.size, x.shape[1])


def at(x: FloatArray, index: IntArray) -> FloatArray:
    """Return x[row, index] of every row."""
    picked: FloatArray = x.reshape(-1).take(rows(x) + index)
    return picked


def lowest(x: FloatArray, start: IntArray, last: IntArray, reach: int, tie: FloatArray) -> IntArray:
    """Return where x[row, start] to x[row, last], both included and at most `reach` samples, first is lowest.

    What is no more than `tie` above the minimum counts as lowest. `start` and `last`, shape (..., R), may ask for
    several windows of each row.

    Examples
    --------
    >>> lowest(np.array([[3.0, 1.5, 1.0, 0.0]]), np.array([0]), np.array([2]), reach=5, tie=np.array([0.5]))
    array([1])
    """
    column = np.minimum(start[..., None] + np.arange(reach), last[..., None])
    window = x.reshape(-1).take(rows(x)[:, None] + column)
    steps: IntArray = (window <= (window.min(axis=-1) + tie)[..., None]).argmax(axis=-1)
    return start + steps


def changes(mask: BoolArray) -> IntArray:
    """Return, counted row by row, where a mask is not what it was a sample before; before the first it was false."""
    flat = mask.reshape(-1)
    is_new = flat.copy()
    np.not_equal(flat[1:], flat[:-1], out=is_new[1:])
    return is_new.nonzero()[0]


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
        size, width = shape[0] * shape[1], shape[1]
        self._places = np.empty(len(places) + 2, np.int64)
        self._places[0], self._places[1:-1], self._places[-1] = -1, places, size  # there is always a neighbour
        self._row = np.arange(0, size, width)

    def first(self, start: IntArray, stop: IntArray) -> IntArray:
        """Return the first marked sample of each slice, `stop` where there is none."""
        found: IntArray = self._places.take(self._places.searchsorted(self._row + start)) - self._row
        return np.minimum(found, stop)

    def last(self, start: IntArray, stop: IntArray) -> IntArray:
        """Return the last marked sample of each slice, `start` - 1 where there is none."""
        found: IntArray = self._places.take(self._places.searchsorted(self._row + stop) - 1) - self._row
        return np.maximum(found, start - 1)

    def count(self, start: IntArray, stop: IntArray) -> IntArray:
        """Count the marked samples of each slice."""
        before: IntArray = self._places.searchsorted(self._row + start)
        return self._places.searchsorted(self._row + stop) - before


def where(mask: BoolArray) -> Marked:
    """Mark the samples that are true."""
    return Marked(mask.reshape(-1).nonzero()[0], mask.shape)


def ranges(start: IntArray, length: IntArray) -> IntArray:
    """Return start, start + 1 .. of each range, `length` of them, one range behind the other.

    Examples
    --------
    >>> ranges(np.array([5, 20]), np.array([3, 2]))
    array([ 5,  6,  7, 20, 21])
    """
    end = length.cumsum()
    return _counted(start, end - length, length, int(end[-1]) if end.size else 0)


def _counted(start: IntArray, begin: IntArray, length: IntArray, total: int) -> IntArray:
    """Return the ranges, given where each begins in what is returned, and how much that is."""
    return np.arange(total) + (start - begin).repeat(length)


class Slices:
    """Slices of the rows of an array of shape (R, W), cut out and laid one behind the other: "flat".

    A slice that is empty becomes one sample, so that every row has something to reduce; a row that `used` leaves out
    does, too, so that it costs nothing.

    Parameters
    ----------
    start, stop : array, shape (R,)
        Half-open slices; `start` must be a column.
    width : int
        W.
    used : array, shape (R,), optional
        Rows whose slices are wanted.

    Examples
    --------
    >>> slices = Slices(np.array([0, 1]), np.array([2, 4]), width=4)
    >>> flat = slices.of(np.array([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]))
    >>> flat, slices.total(flat), slices.largest(flat)
    (array([1., 2., 6., 7., 8.]), array([ 3., 21.]), array([2., 8.]))
    """

    def __init__(self, start: IntArray, stop: IntArray, width: int, used: BoolArray | None = None) -> None:
        length = np.maximum(stop - start, 1)
        self.length = length if used is None else np.where(used, length, 1)
        self.start = start
        end = self.length.cumsum()
        self.first = end - self.length
        self.last = end - 1
        self.size = int(end[-1])
        self.width = width

    @cached_property
    def places(self) -> IntArray:
        """Where each sample is in the array, counted row by row."""
        row = np.arange(len(self.start)) * self.width
        return _counted(row + self.start, self.first, self.length, self.size)

    def of(self, x: FloatArray, shift: int = 0) -> FloatArray:
        """Cut the slices out of an array of shape (R, W), `shift` samples later."""
        flat: FloatArray = x.reshape(-1).take(self.places + shift if shift else self.places, mode="wrap")
        return flat

    def total(self, flat: FloatArray) -> FloatArray:
        """Add up each slice, in an order that depends on its length only."""
        sums: FloatArray = np.add.reduceat(flat, self.first)
        return sums

    def mean(self, flat: FloatArray) -> FloatArray:
        """Return the mean of each slice."""
        return self.total(flat) / self.length

    def largest(self, flat: FloatArray) -> FloatArray:
        """Return the largest of each slice."""
        found: FloatArray = np.maximum.reduceat(flat, self.first)
        return found

    def mean_where(self, flat: FloatArray, mask: BoolArray) -> tuple[FloatArray, BoolArray]:
        """Return the mean of the samples of each slice that are true, and which slices have none."""
        count = self.total(mask.astype(np.float64))
        return self.total(np.where(mask, flat, 0.0)) / np.maximum(count, 1.0), count == 0.0

    def spread(self, per_row: FloatArray) -> FloatArray:
        """Give each sample the number of its row."""
        return per_row.repeat(self.length)

    def within(self, skip: IntArray, length: IntArray) -> "Slices":
        """Return slices of these slices: `skip` samples later and of another length."""
        start = self.start + skip
        return Slices(start, start + length, self.width)
