"""Table: what was seen, what it may be at most or must be at least, and whether that is met."""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
from rich.table import Table


class Limit(msgspec.Struct, frozen=True):
    """A bound: `<=`, `<` or `>=` a value, or `in` a closed interval from `value` to `most`."""

    how: Literal["<=", "<", ">=", "in"]
    value: float
    most: float = math.inf

    def holds(self, seen: float) -> bool:
        """Tell whether a value keeps it; what is not a number never does.

        Examples
        --------
        >>> Limit("<", 2.0).holds(2.0), Limit("in", 85.0, 95.0).holds(85.0), Limit("<=", 1.0).holds(math.nan)
        (False, True, False)
        """
        match self.how:
            case "<=":
                return seen <= self.value
            case "<":
                return seen < self.value
            case ">=":
                return seen >= self.value
            case "in":
                return self.value <= seen <= self.most

    def __str__(self) -> str:
        """Write it as in a table."""
        return f"{self.value:g} to {self.most:g}" if self.how == "in" else f"{self.how} {self.value:g}"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line: what was scored, over how many cases, what was seen in which unit, and the limit if there is one.

    `seen` None says that there was nothing to score, which misses a limit. `beside` holds further figures of the same
    cases, by name, and `footnote` the key of the definition.
    """

    what: str
    unit: str
    seen: float | None
    limit: Limit | None = None
    cases: int = 0
    beside: dict[str, float] = {}
    footnote: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the limit is kept; None without a limit."""
        return None if self.limit is None else self.seen is not None and self.limit.holds(self.seen)


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """One run: the seed, how many patients, how long it took in s, its rows, and what its words mean."""

    seed: int
    patients: int
    seconds: float
    rows: tuple[Row, ...]
    footnotes: dict[str, str]

    @property
    def missed(self) -> tuple[str, ...]:
        """The rows whose limit is missed."""
        return tuple(row.what for row in self.rows if row.met is False)

    def json(self) -> bytes:
        """Write it down, each row with its verdict.

        Examples
        --------
        >>> row = Row(what="range", unit="%", seen=3.0, limit=Limit("<=", 2.0))
        >>> b'"met": false' in Score(seed=7, patients=1, seconds=0.0, rows=(row,), footnotes={}).json()
        True
        """
        told = msgspec.to_builtins(self)
        for row, each in zip(told["rows"], self.rows, strict=True):
            row["limit"] = None if each.limit is None else str(each.limit)
            row["met"] = each.met
        told["missed"] = list(self.missed)
        return msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n"


def drawn(score: Score) -> Table:
    """Draw a score for a person."""
    title = f"truth, seed {score.seed}, {score.patients} simulated patients, {score.seconds:.0f} s"
    table = Table(title=title, title_justify="left", caption_justify="left", caption=_caption(score))
    for name in ("what", "cases", "seen", "limit", "met", "beside it"):
        table.add_column(name, justify="left" if name in {"what", "beside it"} else "right")
    for row in score.rows:
        beside = ", ".join(f"{name} {_figure(value)}" for name, value in row.beside.items())
        seen = "nothing" if row.seen is None else f"{_figure(row.seen)} {row.unit}"
        verdict = "" if row.met is None else "yes" if row.met else "[bold red]NO[/]"
        mark = f" ({row.footnote})" if row.footnote else ""
        table.add_row(f"{row.what}{mark}", f"{row.cases:,}", seen, "" if row.limit is None else str(row.limit), verdict,
                      beside)  # fmt: skip
    return table


def _caption(score: Score) -> str:
    return "\n".join(f"({key}) {text}" for key, text in score.footnotes.items())


def _figure(value: float) -> str:
    return f"{value:.4g}" if abs(value) >= 0.001 or not value else f"{value:.1e}"


def median(values: Sequence[float]) -> float | None:
    """Return the median; None of nothing."""
    return percentile(values, 50.0)


def percentile(values: Sequence[float], share_pct: float) -> float | None:
    """Return the smallest value that at least this share of all does not exceed; None of nothing.

    Examples
    --------
    >>> percentile([4.0, 1.0, 3.0, 2.0], 50.0), percentile([], 95.0)
    (2.0, None)
    """
    rising = sorted(values)
    return rising[max(0, math.ceil(share_pct / 100.0 * len(rising)) - 1)] if rising else None


def share_pct(count: int, of: int) -> float | None:
    """Return a share in percent; None of nothing.

    Examples
    --------
    >>> share_pct(1, 4), share_pct(0, 0)
    (25.0, None)
    """
    return 100.0 * count / of if of else None
