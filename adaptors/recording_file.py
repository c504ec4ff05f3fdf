"""Recording file: CSV to the columns of a recording. What is wrong with it is one line that names line and column."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streams.core.ragged import FloatArray, IntArray
from streams.core.recording import Columns, WrongRecording
from streams.core.telemetry import PositionUnit, Side

TIME, FORCE, VELOCITY, SET, SIDE = "t_s", "force_N", "velocity", "set", "side"
POSITIONS: Mapping[str, PositionUnit] = {"position_m": "m", "position_rad": "rad"}

MAX_SET = 100
"""Largest number of a set."""

_ASKED = f"a recording needs {TIME}, {FORCE} and one of {' or '.join(POSITIONS)}"
_NOT_THERE = frozenset({"", "nan", "na", "n/a", "null", "none", "-"})
_SIDES: Mapping[str, Side] = {
    "": "both", "both": "both", "b": "both", "left": "left", "l": "left", "right": "right", "r": "right",
}  # fmt: skip
_DELIMITERS = ";\t,"  # a comma may be a decimal point, so the others are looked for first


class _Cells(NamedTuple):
    """A table of text: columns by name, the line of the file that each row stands in, and whether commas are points."""

    columns: Mapping[str, Sequence[str]]
    lines: Sequence[int]
    has_decimal_commas: bool


def read_recording(path: Path) -> Columns:
    """Read a recording from a file. Raises WrongRecording and OSError."""
    return parse_recording(path.read_text(encoding="utf-8-sig", errors="replace"))


def parse_recording(text: str) -> Columns:
    r"""Read a recording from the text of a CSV file. Raises WrongRecording.

    Examples
    --------
    >>> parse_recording("t_s;force_N;position_m\n0,00;400,5;0,1\n0,01;;0,2\n").force
    array([400.5,   nan])
    """
    cells = _cells(text)
    position = _position(cells.columns)
    if not cells.lines:
        raise WrongRecording("there is a header and no row")
    t_s = _numbers(cells, TIME)
    _check_time(t_s, cells)
    return Columns(
        t_s=t_s,
        force=_numbers(cells, FORCE),
        position=_numbers(cells, position),
        velocity=_numbers(cells, VELOCITY) if VELOCITY in cells.columns else None,
        set_number=_sets(cells) if SET in cells.columns else None,
        side=_sides(cells) if SIDE in cells.columns else None,
        position_unit=POSITIONS[position],
    )


def _cells(text: str) -> _Cells:
    """Split text into columns; lines without anything in them, or that begin with #, don't count."""
    lines = text.splitlines()
    told = [(number, line) for number, line in enumerate(lines, 1) if line.strip(" \t;,") and line[0] != "#"]
    if not told:
        raise WrongRecording("the file is empty")
    delimiter = next((sign for sign in _DELIMITERS if sign in told[0][1]), ",")
    try:
        head, *rows = csv.reader((line for _, line in told), delimiter=delimiter)
    except csv.Error as error:
        raise WrongRecording(f"not CSV: {error}") from None
    names = [_known(name.strip()) for name in head]
    _check_names(names, told[0][0])
    numbers = [number for number, _ in told[1:]]
    for number, row in zip(numbers, rows, strict=False):
        if len(row) != len(names):
            raise WrongRecording(f"line {number}: {len(row)} cells, the header has {len(names)}")
    columns = zip(*rows, strict=True) if rows else ((),) * len(names)
    return _Cells(dict(zip(names, columns, strict=True)), numbers[: len(rows)], delimiter != ",")


_KNOWN = {name.casefold(): name for name in (TIME, FORCE, VELOCITY, SET, SIDE, *POSITIONS)}


def _known(name: str) -> str:
    """Write a known name as it is known, whatever its case."""
    return _KNOWN.get(name.casefold(), name)


def _check_names(names: Sequence[str], line: int) -> None:
    """Refuse a header in which a column is missing, or stands twice."""
    _position(names)
    for name, kind in ((TIME, "t"), (FORCE, "force")):
        if name not in names:
            raise WrongRecording(f"no column {name}{_instead(kind, names)}; {_ASKED}")
    doubled = next((name for name in names if name and names.count(name) > 1), None)
    if doubled is not None:
        raise WrongRecording(f"line {line}, column {doubled}: it is there twice")


def _position(names: Iterable[str]) -> str:
    names = tuple(names)
    found = [name for name in POSITIONS if name in names]
    if len(found) > 1:
        raise WrongRecording(f"columns {' and '.join(found)}: one unit only")
    if not found:
        raise WrongRecording(f"no column {' or '.join(POSITIONS)}{_instead('position', names)}; {_ASKED}")
    return found[0]


def _instead(kind: str, names: Iterable[str]) -> str:
    """Name columns that were perhaps meant, in another unit."""
    similar = [name for name in names if name.casefold().startswith((f"{kind}_", f"{kind} ")) or name == kind]
    return f" but {', '.join(similar)}" if similar else ""


def _numbers(cells: _Cells, name: str) -> FloatArray:
    column = cells.columns[name]
    if cells.has_decimal_commas:
        column = [cell.replace(",", ".") for cell in column]
    try:
        return np.array(column, np.float64)  # all are numbers, which is usual and fast
    except ValueError:
        return np.array([_number(cell, name, line) for cell, line in zip(column, cells.lines, strict=True)])


def _number(cell: str, name: str, line: int) -> float:
    if cell.strip().casefold() in _NOT_THERE:
        return math.nan
    try:
        return float(cell)
    except ValueError:
        raise WrongRecording(f"line {line}, column {name}: {cell.strip()[:40]!r} is not a number") from None


def _check_time(t_s: FloatArray, cells: _Cells) -> None:
    """Refuse times that are none, that fall, or that never change."""
    unknown = np.flatnonzero(~np.isfinite(t_s))
    if unknown.size:
        cell = cells.columns[TIME][unknown[0]].strip()
        raise WrongRecording(f"line {cells.lines[unknown[0]]}, column {TIME}: {cell!r} is not a time")
    falls = np.flatnonzero(np.diff(t_s) < 0.0)
    if falls.size:
        before, after = (float(t) for t in t_s[falls[0] : falls[0] + 2])
        raise WrongRecording(
            f"line {cells.lines[falls[0] + 1]}, column {TIME}: {after:g} after {before:g}, and time never falls"
        )
    if t_s[0] == t_s[-1]:
        raise WrongRecording(f"column {TIME}: {'one row has' if len(t_s) == 1 else 'all rows have'} one time, no rate")


def _sets(cells: _Cells) -> IntArray:
    numbers = list(_whole_numbers(cells))
    for line, one, other in zip(cells.lines[1:], numbers, numbers[1:], strict=False):
        if other < one:
            raise WrongRecording(f"line {line}, column {SET}: {other} after {one}, and sets are in order")
    return np.array(numbers, np.int64)


def _whole_numbers(cells: _Cells) -> Iterator[int]:
    """Read the numbers of sets; a column has few different ones."""
    known: dict[str, int] = {}
    for line, cell in zip(cells.lines, cells.columns[SET], strict=True):
        if cell not in known:
            number = _number(cell, SET, line)
            if not (number == np.floor(number) and 1 <= number <= MAX_SET):
                raise WrongRecording(f"line {line}, column {SET}: {cell.strip()!r} is not a number from 1 to {MAX_SET}")
            known[cell] = int(number)
        yield known[cell]


def _sides(cells: _Cells) -> tuple[Side, ...]:
    for line, cell in zip(cells.lines, cells.columns[SIDE], strict=True):
        if cell.strip().casefold() not in _SIDES:
            raise WrongRecording(f"line {line}, column {SIDE}: {cell.strip()!r} is not left, right or both")
    return tuple(_SIDES[cell.strip().casefold()] for cell in cells.columns[SIDE])
