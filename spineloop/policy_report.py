"""Policy report: two policies side by side, as tables for a terminal and as one HTML file that needs nothing else."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import msgspec
from rich.table import Table

from streams.core.policy import Policy
from streams.what_if import Compared, Decided, Difference, Tally

SHOWN_IN_TERMINAL = 12
"""Differences that fit on a screen; the HTML file has all that were kept."""


def changed_parameters(before: Policy, after: Policy) -> list[tuple[str, Any, Any]]:
    """Return name, value before and value after of every parameter that is not the same.

    Examples
    --------
    >>> changed_parameters(Policy(), Policy(vl_stop_pct=25.0))
    [('vl_stop_pct', 20.0, 25.0)]
    """
    names = [field.name for field in msgspec.structs.fields(Policy)]
    pairs = [(name, getattr(before, name), getattr(after, name)) for name in names]
    return [(name, old, new) for name, old, new in pairs if old != new]


def tables(found: Compared) -> Iterable[Table]:
    """Put the comparison into tables for a terminal."""
    for title, tallies in (("Per rule", found.rules), ("Per patient", found.patients)):
        table = Table(title=title, title_justify="left")
        for name in (title.removeprefix("Per ").capitalize(), "before", "after", "same"):
            table.add_column(name, justify="left" if not table.columns else "right")
        for name, tally in tallies.items():
            table.add_row(name, str(tally.before), str(tally.after), str(tally.same))
        yield table
    if found.shown:
        table = Table("machine", "set", "before", "after", title=_first_of(found), title_justify="left")
        for one in found.shown[:SHOWN_IN_TERMINAL]:
            side = one.before or one.after
            table.add_row(side.machine if side else "", _set(side), in_words(one.before), in_words(one.after))
        yield table


def _first_of(found: Compared) -> str:
    return f"{min(SHOWN_IN_TERMINAL, len(found.shown))} of {found.differences} differences"


def _set(decided: Decided | None) -> str:
    return "" if decided is None or decided.set_number is None else str(decided.set_number)


def in_words(decided: Decided | None) -> str:
    """Say a decision in one line.

    Examples
    --------
    >>> in_words(None)
    'nothing'
    """
    if decided is None:
        return "nothing"
    changes = ", ".join(f"{name} {old:g} to {new:g}" for name, old, new in decided.changes)
    return f"{decided.rule}: {decided.action.replace('_', ' ')}" + (f" ({changes})" if changes else "")


def html(found: Compared, before: Policy, after: Policy, stretch: str) -> str:
    """Return the report as one file, pictures included."""
    changed = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(str(old))}</td><td>{escape(str(new))}</td></tr>"
        for name, old, new in changed_parameters(before, after)
    )
    return _PAGE.format(
        stretch=escape(stretch),
        records=f"{found.records:,}",
        sessions=f"{found.sessions:,}",
        differences=f"{found.differences:,}",
        changed=changed or '<tr><td colspan="3">nothing: both policies are the same</td></tr>',
        rules=_bars(found.rules),
        patients=_bars(found.patients),
        shown=len(found.shown),
        rows="".join(_row(one) for one in found.shown),
    )


def _bars(tallies: Mapping[str, Tally]) -> str:
    """Draw two bars a name, before above after; the number stands beside, so that colour is never the only sign."""
    if not tallies:
        return "<p>No command under either policy.</p>"
    most = max(max(tally.before, tally.after, 1) for tally in tallies.values())
    lines, top = [], 0
    for name, tally in tallies.items():
        lines.append(f'<text x="0" y="{top + 22}">{escape(name)}</text>')
        for place, (side, count) in enumerate((("before", tally.before), ("after", tally.after))):
            y = top + 16 * place
            lines.append(f'<rect class="{side}" x="230" y="{y + 3}" width="{420 * count / most:.1f}" height="12"/>')
            lines.append(f'<text x="{236 + 420 * count / most:.1f}" y="{y + 13}">{side} {count:,}</text>')
        top += 44
    return f'<svg viewBox="0 0 780 {top}" role="img" aria-label="commands before and after">{"".join(lines)}</svg>'


def _row(one: Difference) -> str:
    side = one.before or one.after
    if side is None:
        return ""
    why = "; ".join(f"{name} {value}" for _, name, value in side.evidence if value is not None)
    cells = (side.patient or "", side.machine, _set(side), in_words(one.before), in_words(one.after), why)
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Two policies side by side</title>
<style>
:root {{ color-scheme: light dark; --before: #8a6d00; --after: #0a6ebd; --line: #8886; }}
body {{ font: 15px/1.45 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; }}
td, th {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }}
svg {{ width: 100%; height: auto; }}
svg text {{ font-size: 12px; fill: currentColor; }}
.before {{ fill: var(--before); }}
.after {{ fill: var(--after); }}
</style>
</head>
<body>
<h1>Two policies side by side</h1>
<p>{stretch}: {records} records, {sessions} sessions; <strong>{differences} decisions differ</strong>.
The repetitions are those that were done. What a patient would have done otherwise, nobody knows.</p>
<h2>What was changed</h2>
<table><thead><tr><th>parameter</th><th>before</th><th>after</th></tr></thead><tbody>{changed}</tbody></table>
<h2>Commands per rule</h2>
{rules}
<h2>Commands per patient</h2>
{patients}
<h2>Differences ({shown} shown)</h2>
<table>
<thead><tr><th>patient</th><th>machine</th><th>set</th><th>before</th><th>after</th><th>evidence</th></tr></thead>
<tbody>{rows}</tbody>
</table>
</body>
</html>
"""
