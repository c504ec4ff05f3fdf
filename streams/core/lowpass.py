"""Low-pass: a zero-lag Butterworth filter over many signals at once (science.md 2.2).

A signal is cut into blocks, and every block of a batch goes through the same matrix in tiles of the same shape, so what
comes out of one signal doesn't depend on the others beside it, to the last bit.
"""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np

from streams.core.ragged import TILE, FloatArray, IntArray

N = TypeVar("N", float, FloatArray)

PAD = 50
"""Longest padding on each side, in samples."""

BLOCK = 32
"""Samples that one matrix product takes at once: half as many cost twice the products, twice as many twice the sums."""

_NEGLIGIBLE = 1e-20
_FEW = 16  # series up to which plain numbers are faster than arrays of them
_NEXT_TWO = np.array([[1], [2]])
_DISTANCE = np.arange(1, PAD + 1)
_MAX_DESIGNS = 32  # machines sample at a handful of rates; a fleet of more pays 0.3 ms a design


class Section(NamedTuple):
    """One second-order section: b0 (1 + 2 z + zz) / (1 + a1 z + a2 zz), z being a delay of one sample."""

    b0: float
    a1: float
    a2: float


def design(fc_hz: float, fs_hz: float) -> Section:
    """Design a Butterworth section that, run forward and backward, has a gain of 1/sqrt(2) at `fc_hz`.

    Examples
    --------
    >>> [round(c, 10) for c in design(6.0, 100.0)]
    [0.0405946814, -1.3547488152, 0.517127541]
    """
    k = math.tan(math.pi * fc_hz / fs_hz) / (math.sqrt(2.0) - 1.0) ** 0.25
    d = 1.0 + math.sqrt(2.0) * k + k * k
    return Section(k * k / d, 2.0 * (k * k - 1.0) / d, (1.0 - math.sqrt(2.0) * k + k * k) / d)


def zero_lag(x: FloatArray, n: IntArray, fc_hz: float, fs_hz: float) -> FloatArray:
    """Low-pass signals forward and backward, so that nothing is delayed (science.md 2.2).

    Away from a sample, what it adds to the output is a decaying oscillation, whose two numbers are the state of the
    filter. So a block of output is a matrix times the same block of input, plus what two numbers from the left and two
    from the right say of all other blocks. The reverse pass begins as if the last forward value had lasted for ever;
    two samples behind the padding are chosen to have just that effect.

    Parameters
    ----------
    x : array, shape (series, time)
        Samples, series as rows.
    n : array, shape (series,)
        How many samples of each row count, at least 1; what comes behind them is not read.
    fc_hz, fs_hz : float
        Cut-off and sampling rate in Hz.

    Returns
    -------
    array, shape (series, time)
        Filtered; meaningless behind the end of a row.

    Examples
    --------
    >>> zero_lag(np.array([[1.0, 1.0, 1.0]]), np.array([3]), fc_hz=6.0, fs_hz=100.0)
    array([[1., 1., 1.]])
    """
    filter_ = _filter(fc_hz, fs_hz)
    tiles, y, first = _padded(x, n)
    stop = PAD + n - 1 + np.minimum(PAD, n - 1)
    ahead = _states(tiles @ filter_.ahead, y.shape, filter_.turn)
    _prolong(y, stop, ahead, filter_)
    behind = _states(tiles @ filter_.behind, y.shape, filter_.turn, backward=True)
    states = np.zeros((tiles.shape[0] * TILE, 4))
    states[: ahead.shape[0] * ahead.shape[1], :2] = ahead.reshape(-1, 2)
    states[: ahead.shape[0] * ahead.shape[1], 2:] = behind.reshape(-1, 2)
    filtered = tiles @ filter_.within
    filtered += states.reshape(-1, TILE, 4) @ filter_.beyond
    return filtered.reshape(-1)[: y.size].reshape(y.shape)[:, PAD : PAD + x.shape[1]] + first


class _Filter(NamedTuple):
    """The zero-lag filter by blocks.

    Parameters
    ----------
    within : array, shape (BLOCK, BLOCK)
        What the samples of a block add to its own output.
    ahead, behind : array, shape (BLOCK, 2)
        What they add to the state of the next block, and to that of the one before.
    beyond : array, shape (4, BLOCK)
        What the states from the left and from the right add to a block's output.
    turn : tuple of float
        Cosine and sine part by which a state decays and turns over a block.
    modes : array, shape (2, BLOCK + 1)
        The same over 0, 1 .. BLOCK samples.
    fading : array, shape (BLOCK + 1, 2, BLOCK)
        What each sample of a block adds to the state in front of its sample 0, 1 .. BLOCK.
    ending : array, shape (3, 2, 1)
        The two samples to put behind the end, for the state of the forward pass there and the last sample.
    """

    within: FloatArray
    ahead: FloatArray
    behind: FloatArray
    beyond: FloatArray
    turn: tuple[float, float]
    modes: FloatArray
    fading: FloatArray
    ending: FloatArray


@lru_cache(maxsize=_MAX_DESIGNS)
def _filter(fc_hz: float, fs_hz: float) -> _Filter:
    """Work out the matrices from the poles: radius r and angle w make r**n cos(w n) and r**n sin(w n)."""
    section = design(fc_hz, fs_hz)
    radius = math.sqrt(section.a2)
    poles = (radius, math.acos(-section.a1 / (2.0 * radius)))
    once = _impulse_response(section, poles)
    twice = np.array([once[: len(once) - lag] @ once[lag:] for lag in range(BLOCK + 3)])
    weight = _weights(twice, poles)
    block = np.arange(BLOCK)
    from_left, from_right = (_spread(weight, _mode(poles, distance)) for distance in (block, block[::-1]))
    cosine, sine = _mode(poles, np.array([BLOCK]))[:, 0]
    return _Filter(
        within=twice[np.abs(block[:, None] - block)],
        ahead=np.ascontiguousarray(_mode(poles, BLOCK - block).T),
        behind=np.ascontiguousarray(_mode(poles, block + 1).T),
        beyond=np.concatenate((from_left, from_right)),
        turn=(float(cosine), float(sine)),
        modes=_mode(poles, np.arange(BLOCK + 1)),
        fading=np.where(block < np.arange(BLOCK + 1)[:, None], _mode(poles, np.arange(BLOCK + 1)[:, None] - block), 0.0)
        .transpose(1, 0, 2)
        .copy(),
        ending=_ending(once, weight, poles).T[:, :, None],
    )


def _mode(poles: tuple[float, float], distance: IntArray) -> FloatArray:
    """Return r**n cos(w n) and r**n sin(w n), shape (2, ...), at distances of n samples."""
    radius, angle = poles
    mode: FloatArray = radius**distance * np.stack((np.cos(angle * distance), np.sin(angle * distance)))
    return mode


def _spread(weight: FloatArray, mode: FloatArray) -> FloatArray:
    """Return what a unit of each number of a state amounts to, given the mode from it on: addition of angles."""
    (cosine, sine), (along, across) = weight, mode
    return np.stack((cosine * along + sine * across, sine * along - cosine * across))


def _weights(response: FloatArray, poles: tuple[float, float]) -> FloatArray:
    """Write an impulse response as a mixture of the two modes, by its values at distances 1 and 2."""
    return _solved(_mode(poles, np.array([1, 2])).T, response[1:3])


def _impulse_response(section: Section, poles: tuple[float, float]) -> FloatArray:
    """Return the response of one pass, until nothing is left of it."""
    b0, a1, a2 = section
    second = (2.0 - a1) * b0
    start = np.array([b0, second, b0 - a1 * second - a2 * b0])
    length = math.ceil(math.log(_NEGLIGIBLE) / math.log(poles[0])) + BLOCK + 3
    response: FloatArray = _weights(start, poles) @ _mode(poles, np.arange(length))
    response[0] = b0
    return response


def _ending(once: FloatArray, weight: FloatArray, poles: tuple[float, float]) -> FloatArray:
    """Find the two samples behind the end for each number known there.

    These are the state as the sample behind the end would feel it, and the last sample. Behind the end the forward
    pass would fade; what the reverse pass must get instead is its last value, so the difference of the two, run
    backward, is what the two samples must make.
    """
    single = _weights(once, poles)
    steps = np.arange(1, len(once))
    known = np.eye(3)
    fading = _spread(single, _mode(poles, steps - 1)).T @ known[:2]
    last = _spread(single, _mode(poles, np.array([-1]))).T @ known[:2] + (once[0] - single[0]) * known[2]
    felt = _mode(poles, steps) @ (last - fading)
    as_output = np.array([[single[0], single[1]], [single[1], -single[0]]]) @ felt
    wanted = np.array([[weight[0], weight[1]], [weight[1], -weight[0]]]) @ as_output / (weight @ weight)
    return _solved(_mode(poles, np.array([1, 2])), wanted)


def _solved(matrix: FloatArray, right: FloatArray) -> FloatArray:
    """Solve two equations with two unknowns."""
    (a, b), (c, d) = matrix
    solved: FloatArray = np.stack((d * right[0] - b * right[1], a * right[1] - c * right[0])) / (a * d - b * c)
    return solved


def _padded(x: FloatArray, n: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Pad by odd reflection, less what the signal begins with, so that the filter starts from rest.

    Returns the blocks in tiles, shape (tiles, TILE, BLOCK), the same memory as rows, shape (series, blocks of time),
    and what was taken away, shape (series, 1).
    """
    series, width = x.shape
    blocks = -(-(width + 2 * PAD + 2) // BLOCK)
    memory = np.zeros((-(-series * blocks // TILE), TILE, BLOCK))
    y = memory.reshape(-1)[: series * blocks * BLOCK].reshape(series, -1)
    row, last = np.arange(series)[:, None], n[:, None] - 1
    pad, samples, start, end = np.minimum(PAD, last), x.reshape(-1), row * width, row * width + last
    reach = np.minimum(_DISTANCE, pad)  # beyond a short padding its outermost value goes on
    twice = 2.0 * x[:, :1]
    first = twice - samples.take(start + pad)
    y[:, PAD - 1 :: -1] = (twice - first) - samples.take(start + reach)
    np.subtract(x, first, out=y[:, PAD : PAD + width])
    shortest = int(n.min())
    y[:, PAD + shortest : PAD + width][np.arange(shortest, width) > last] = 0.0
    mirrored = (2.0 * samples.take(end) - first) - samples.take(end - reach)
    mirrored[pad < _DISTANCE] = 0.0
    y.reshape(-1)[row * y.shape[1] + PAD + last + _DISTANCE] = mirrored
    return memory, y, first


def _states(
    added: FloatArray, shape: tuple[int, ...], turn: tuple[float, float], *, backward: bool = False
) -> FloatArray:
    """Add up what all blocks to the left, or to the right, of each block say of it, shape (series, blocks, 2).

    `added` is what each block says to its neighbour.
    """
    series, blocks = shape[0], shape[1] // BLOCK
    told = added.reshape(-1, 2)[: series * blocks].reshape(series, blocks, 2)
    if backward:
        told = told[:, ::-1]
    if series <= _FEW:
        states = np.array([_carried(one, 0.0, turn) for one in told.tolist()]).reshape(series, blocks, 2)
    else:
        many = _carried(told.transpose(1, 2, 0).copy(), np.zeros(series), turn)
        states = np.array(many).T.reshape(series, blocks, 2)
    return states[:, ::-1] if backward else states


def _carried(told: Iterable[Sequence[N]], rest: N, turn: tuple[float, float]) -> list[N]:
    """Return the two numbers of the state that each block begins with, one behind the other.

    Of one series in numbers or of many in arrays: the same bits.
    """
    cosine, sine = turn
    along, across = rest, rest
    states: list[N] = []
    for told_along, told_across in told:
        states += (along, across)
        along, across = (
            cosine * along + told_along - sine * across,
            cosine * across + told_across + sine * along,
        )
    return states


def _prolong(y: FloatArray, stop: IntArray, ahead: FloatArray, filter_: _Filter) -> None:
    """Put the two samples behind the last one, `stop`, of each row."""
    samples, last = y.reshape(-1), np.arange(len(y)) * y.shape[1] + stop
    block, inside = last // BLOCK, stop % BLOCK + 1
    along, across = (filter_.fading[inside] * y.reshape(-1, 1, BLOCK)[block]).sum(axis=2).T
    cosine, sine = filter_.modes[:, inside]
    before_along, before_across = ahead.reshape(-1, 2)[block].T
    along += cosine * before_along - sine * before_across
    across += sine * before_along + cosine * before_across
    by_along, by_across, by_last = filter_.ending
    samples[last + _NEXT_TWO] = by_along * along + by_across * across + by_last * samples[last]


def noise_gain(fc_hz: float, fs_hz: float) -> float:
    """Return the standard deviation, per s, that white noise of 1 a sample leaves in the filtered velocity.

    Examples
    --------
    >>> round(noise_gain(6.0, 100.0), 3)
    9.055
    """
    impulse = np.zeros((1, 401))
    impulse[0, 200] = 1.0
    response = zero_lag(impulse, np.array([401]), fc_hz, fs_hz)[0]
    return float(np.sqrt(np.sum(((response[2:] - response[:-2]) * fs_hz / 2.0) ** 2)))
