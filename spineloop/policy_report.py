"""Policy report: two policies side by side, as tables for a terminal and as one HTML file that needs nothing else."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any

import msgspec
from rich.table import Table

from streams.core.policy import Policy
from streams.decisions import Decided, Difference
from streams.what_if import SideBySide, Tally

SHOWN_IN_TERMINAL = 12
"""Differences, and patients, that fit on a screen; the HTML file has all that were kept."""

DRAWN_PATIENTS = 30
"""Patients that are drawn, those first of whom most differs; all who differ are told of in words."""

CAVEAT = (
    "The repetitions are those that were done. What a patient would have done otherwise, nobody knows: "
    "a set that another policy ends later has no repetitions to decide from."
)

ACTIONS: Mapping[str, str] = {
    "stop": "stops the machine",
    "end_exercise": "ends the exercise",
    "end_set": "ends the set",
    "lower_load": "lowers the load",
    "tighten_range": "takes back range",
    "extend_rest": "lengthens the rest",
    "drop_set": "drops a set",
    "cue": "gives a cue",
    "prescribe": "prescribes",
    "resend": "asks for lost messages",
}
QUANTITIES: Mapping[str, str] = {
    "load_N": "load",
    "window_lo": "lower end of the range",
    "window_hi": "upper end of the range",
    "rest_s": "rest in s",
    "tul_s": "time under load in s",
    "concentric_s": "concentric time in s",
    "hold_s": "hold in s",
    "eccentric_s": "eccentric time in s",
}


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


def meaning(name: str) -> str:
    """Say what a parameter is.

    Examples
    --------
    >>> meaning("vl_stop_pct")
    'velocity loss that ends a set'
    """
    info = msgspec.inspect.type_info(Policy)
    if isinstance(info, msgspec.inspect.StructType):
        for field in info.fields:
            if field.name == name and isinstance(field.type, msgspec.inspect.Metadata):
                return str((field.type.extra or {}).get("description", ""))
    return ""


def sentence(one: Difference) -> str:
    """Say one difference in words.

    Examples
    --------
    >>> def end(rep: int) -> Decided:
    ...     return Decided(machine="a/b/m1", patient="a/p1", session="s", set_number=2, rep_number=rep, on="rep",
    ...                    at_ms=0, cause=f"m/b/{rep}", rule="velocity_loss_stop", action="end_set")
    >>> sentence(Difference(end(7), end(9)))
    'set 2: ends the set at rep 9 instead of rep 7 (velocity_loss_stop)'
    >>> sentence(Difference(end(7), None))
    'set 2: no longer ends the set at rep 7 (velocity_loss_stop)'
    >>> sentence(Difference(None, end(9)))
    'set 2: now ends the set at rep 9 (velocity_loss_stop)'
    """
    before, after = one.before, one.after
    if before is None or after is None:
        word = "now" if before is None else "no longer"
        return f"{_where(one.side)}: {word} {_what(one.side)} {_when(one.side)} ({one.side.rule})"
    told = f"{_where(after)}: {_what(after)} {_when(after)}"
    if before.rule != after.rule:
        return f"{told} by {after.rule} instead of {_when(before)} by {before.rule}"
    if before.cause != after.cause:
        return f"{told} instead of {_when(before).removeprefix('at ')} ({after.rule})"
    return f"{told}, instead of {_changes(before) or 'as it was'} ({after.rule})"


def _where(one: Decided) -> str:
    if one.set_number is not None:
        return f"set {one.set_number}"
    return "before the session" if one.action == "prescribe" else "between sets"


def _when(one: Decided) -> str:
    return f"at rep {one.rep_number}" if one.rep_number is not None else f"on {one.on.replace('_', ' ')}"


def _what(one: Decided) -> str:
    what = ACTIONS.get(one.action, one.action.replace("_", " "))
    if one.cue is not None:
        what = f"{what}: {one.cue.replace('_', ' ')}"
    changes = _changes(one)
    return f"{what} ({changes})" if changes else what


def _changes(one: Decided) -> str:
    return ", ".join(f"{QUANTITIES.get(name, name)} {old:g} to {new:g}" for name, old, new in one.changes)


def in_words(found: SideBySide) -> dict[str, list[str]]:
    """Tell for each patient, in the order of time, what would have been decided otherwise."""
    told: dict[str, list[str]] = {}
    for one in found.shown:
        line = f"{at(one.side.at_ms)}, {one.side.machine}, {sentence(one)}"
        told.setdefault(one.side.patient or "unknown", []).append(line)
    return dict(sorted(told.items()))


def at(time_ms: int) -> str:
    """Write a time to the minute, in UTC.

    Examples
    --------
    >>> at(1_793_491_200_000)
    '2026-11-01 00:00'
    """
    return datetime.fromtimestamp(time_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M")


def tables(found: SideBySide) -> Iterable[Table]:
    """Put the comparison into tables for a terminal: rules, patients of whom something differs, first differences."""
    patients = _most_differing(found.patients)
    yield _table("Per rule", "rule", found.rules)
    if patients:
        shown = dict(list(patients.items())[:SHOWN_IN_TERMINAL])
        yield _table(f"Per patient: {len(shown)} of {len(patients)} who differ", "patient", shown)
    if found.shown:
        some = found.shown[:SHOWN_IN_TERMINAL]
        table = Table(
            "patient",
            "machine",
            "what",
            title=f"{len(some)} of {found.differences:,} differences",
            title_justify="left",
        )
        for one in some:
            table.add_row(one.side.patient or "unknown", one.side.machine, sentence(one))
        yield table


def _table(title: str, name: str, tallies: Mapping[str, Tally]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(name)
    for column in ("before", "after", "same"):
        table.add_column(column, justify="right")
    for row, tally in tallies.items():
        table.add_row(row, f"{tally.before:,}", f"{tally.after:,}", f"{tally.same:,}")
    return table


def _most_differing(patients: Mapping[str, Tally]) -> dict[str, Tally]:
    differing = {name: tally for name, tally in patients.items() if not tally.is_same}
    return dict(sorted(differing.items(), key=lambda row: (2 * row[1].same - row[1].before - row[1].after, row[0])))


def html(found: SideBySide, before: Policy, after: Policy, stretch: str) -> str:
    """Return the report as one file, pictures included."""
    changed = "".join(
        f'<tr><td><code>{escape(name)}</code></td><td>{escape(meaning(name))}</td><td class="number">{escape(str(old))}'
        f'</td><td class="number">{escape(str(new))}</td></tr>'
        for name, old, new in changed_parameters(before, after)
    )
    patients = _most_differing(found.patients)
    drawn = dict(list(patients.items())[:DRAWN_PATIENTS])
    more = f"<p>{len(patients) - len(drawn):,} more differ.</p>" if len(patients) > len(drawn) else ""
    return _PAGE.format(
        stretch=escape(stretch),
        records=f"{found.records:,}",
        sessions=f"{found.sessions:,}",
        differences=f"{found.differences:,}",
        patients_differing=f"{len(patients):,}",
        patients_all=f"{len(found.patients):,}",
        caveat=escape(CAVEAT),
        changed=changed or '<tr><td colspan="4">Nothing: both policies are the same.</td></tr>',
        rules=bars(found.rules, "Commands per rule"),
        patients=(bars(drawn, "Commands per patient") + more) if drawn else "<p>Nothing differs for any patient.</p>",
        words="".join(_words(patient, lines) for patient, lines in in_words(found).items()),
        shown=f"{len(found.shown):,} of {found.differences:,}",
        rows="".join(_row(one) for one in found.shown),
        digest=found.digest_after,
    )


_ROW, _BAR, _LEFT, _LONGEST, _WIDTH = 46, 14, 210, 420, 760
"""Heights and widths of the drawing, in its own units."""


def bars(tallies: Mapping[str, Tally], title: str) -> str:
    """Draw two bars a name, before above after; the number stands beside, so that colour is never the only sign."""
    if not tallies:
        return "<p>No command under either policy.</p>"
    most = max(max(tally.before, tally.after, 1) for tally in tallies.values())
    lines = []
    for place, (name, tally) in enumerate(tallies.items()):
        top = _ROW * place
        lines.append(f'<text x="0" y="{top + 24}">{escape(name)}</text>')
        for row, (side, count) in enumerate((("before", tally.before), ("after", tally.after))):
            y, length = top + 4 + (_BAR + 3) * row, _LONGEST * count / most
            lines.append(
                f'<rect class="{side}" x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR}" rx="2"/>'
                f'<text class="count" x="{_LEFT + 8 + length:.1f}" y="{y + 11}">{side} {count:,}</text>'
            )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_ROW * len(tallies)}" role="img" aria-label="{escape(title)}, before and after">'
        f"<title>{escape(title)}, before and after</title>{''.join(lines)}</svg>"
    )


def _words(patient: str, lines: Iterable[str]) -> str:
    told = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<h3>{escape(patient)}</h3><ul>{told}</ul>"


def _row(one: Difference) -> str:
    side = one.side
    words = sentence(one)
    cells = (side.patient or "unknown", side.machine, words, _evidence(one.before), _evidence(one.after))
    return (
        f'<tr><td class="time">{at(side.at_ms)}</td>' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
    )


def _evidence(one: Decided | None) -> str:
    if one is None:
        return "no command"
    return ", ".join(f"{name} {_short(value)}" for _, name, value in one.evidence if value is not None) or "-"


def _short(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>What if: two policies side by side</title>
<style>
:root {{ color-scheme: light dark; --before: #8a6d00; --after: #0a6ebd; --line: #8885; --note: #8881; }}
@media (prefers-color-scheme: dark) {{ :root {{ --before: #d9b23c; --after: #5cb0f2; }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; margin-bottom: .3rem; }}
h2 {{ font-size: 1.2rem; margin-top: 2.2rem; }}
h3 {{ font-size: 1rem; margin-bottom: .2rem; }}
ul {{ margin-top: 0; padding-left: 1.3rem; }}
.note {{ background: var(--note); border-left: 4px solid var(--before); padding: .6rem 1rem; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-size: .9rem; }}
td, th {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }}
.number {{ text-align: right; }}
.number, .time {{ white-space: nowrap; }}
svg {{ width: 100%; max-width: 900px; height: auto; display: block; }}
svg text {{ font-size: 13px; fill: currentColor; }}
svg .count {{ font-size: 11px; }}
.before {{ fill: var(--before); }}
.after {{ fill: var(--after); }}
code {{ overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>What if: two policies side by side</h1>
<p>{stretch}: {records} records, {sessions} sessions.
<strong>{differences} decisions differ</strong>, for {patients_differing} of {patients_all} patients.</p>
<p class="note">{caveat}</p>
<h2>What was changed</h2>
<div class="wide"><table>
<thead><tr><th>parameter</th><th>meaning</th><th class="number">before</th><th class="number">after</th></tr></thead>
<tbody>{changed}</tbody>
</table></div>
<h2>Commands per rule</h2>
{rules}
<h2>Commands per patient</h2>
{patients}
<h2>What changes for whom</h2>
<p>Times are UTC. Each line says what the policy after does, compared with the one before.</p>
{words}
<h2>Differences and their evidence ({shown})</h2>
<div class="wide"><table>
<thead>
<tr><th>time</th><th>patient</th><th>machine</th><th>what</th><th>evidence before</th><th>evidence after</th></tr>
</thead>
<tbody>{rows}</tbody>
</table></div>
<p>Digest of the policy after: <code>{digest}</code></p>
</body>
</html>
"""
