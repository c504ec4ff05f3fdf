"""Pages: docs/metrics.md and docs/rules.md, written from the tables that compute and decide.

`python -m spineloop.pages` writes both (scripts/docs); a test compares them with what stands in docs/.
"""

import inspect
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

import msgspec
import numpy as np

from streams.core import assessment, foresight, plan_choice, segmentation, set_metrics, signals, summaries
from streams.core.catalogue import FORESEEN, METRICS, OF_REPS, Level, RepMetric, SummaryMetric
from streams.core.envelope import ENVELOPE
from streams.core.measure import FLAGS_IN_ORDER, INVALID_IN_ORDER
from streams.core.plan_rules import PLAN_RULES
from streams.core.policy import Policy
from streams.core.rule import Rule
from streams.core.session_rules import SESSION_RULES
from streams.core.telemetry import Rep

DOCS: Final = Path(__file__).parent.parent / "docs"

RULES: Final[tuple[Rule[Any], ...]] = (*SESSION_RULES, *PLAN_RULES)

LACKING: Final[Mapping[str, str]] = {"force": "no_channel", "no_gap": "gap", "velocity": "scale_mismatch"}
"""The reason that a need of the catalogue gives when it is not met, what is asked first first."""

_HINTS: Final = get_type_hints(Policy, include_extras=True)
_LEVELS: Final[Mapping[Level, str]] = {
    "rep": "a repetition",
    "set": "a set",
    "session": "a session",
    "patient": "a patient at one exercise, after a session",
}
_METRIC_HEAD: Final = ("name", "unit", "decimals", "formula", "undefined if", "section", "source", "computed by")


_METRICS_HEAD: Final = """\
# Metrics

<!-- Written by `scripts/docs` from `streams/core/catalogue.py` and `measure.py`: edit there. -->

A metric is a finite number, rounded to its decimals, or it stands under `undefined` with one reason: never NaN, never 0
for unknown. Of several reasons the first in the row counts. Metrics of a repetition are `invalid_rep` before anything
else, and `invalid_input` where nothing else explains a number that is not finite. Of two units the machine's position
unit chooses, m or rad. [science.md](science.md) has each formula in full, in the section named here, and says what
reasons (3) and sources (10, 11) mean."""

_RULES_HEAD: Final = """\
# Rules

<!-- Written by `scripts/docs` from the rules, `policy.py` and `envelope.py` of `streams/core/`: edit there. -->

At each moment the rules that name it are asked from top to bottom. The first that holds acts, what else holds is part
of its evidence, and every command passes the envelope last. How the tables are read, and what was chosen:
[science.md](science.md) 7. Reps are valid ones; two are consecutive if no valid one came between."""

_NO_RULES: Final = f"""\
Three more names stand under `rule` in commands. `{plan_choice.KEEP}`: a plan that repeats what is in force, because no
rule acts or the envelope refused what one asked for. `{plan_choice.RESTORE}`: a plan that gives back a set which rule 3
took ([science.md](science.md) 7.1). `resend`: a request to say messages again, which moves nothing."""

_POLICY_HEAD: Final = """\
## The policy

Clinicians edit these in a TOML file (`SPINELOOP_POLICY_FILE`). One with a value out of its bounds is refused, and one
with `vl_amber_pct` above `vl_stop_pct` or `pain_caution` above `pain_stop`. The digest of the whole policy stands in
every command. What a tag is worth: [science.md](science.md) 10. Parameters without a rule are for display, or times of
commands."""

_ENVELOPE_HEAD: Final = """\
## The envelope

Asked from top to bottom; a row lets a command pass, clamps it or refuses it. Invariants that are not here are duties of
others: [science.md](science.md) 7.4."""


def metrics_page() -> str:
    """Return docs/metrics.md: every metric by level, and the reasons for which a rep does not count."""
    lines = [_METRICS_HEAD]
    for level, title in _LEVELS.items():
        rows = [row for row in METRICS if row.level == level]
        lines += ["", f"## Of {title}", "", *_table(_METRIC_HEAD, map(_metric, rows))]
    lines += [
        "",
        "## Why a repetition does not count",
        "",
        f"**Invalid**, so without a metric and not done: {_names(INVALID_IN_ORDER)}.",
        "",
        f"**Flagged**, so measured and counted, but no baseline and no ground for progress: {_names(FLAGS_IN_ORDER)}.",
        "",
        "What each means: [science.md](science.md) 2.4 and 2.5.",
    ]
    return "\n".join(lines) + "\n"


def rules_page() -> str:
    """Return docs/rules.md: the decision table in the order in which it is asked, its parameters, and the envelope."""
    rows = [(row.id, row.says, _told(row.judge), f"`{_place(row.judge)}`") for row in ENVELOPE]
    parameters = ("parameter", "default", "bounds", "meaning", "rules", "tag")
    lines = [
        _RULES_HEAD,
        "",
        "## While a session runs",
        "",
        *_table(_RULE_HEAD, map(_rule, SESSION_RULES)),
        "",
        "## Before a session",
        "",
        *_table(_RULE_HEAD, map(_rule, PLAN_RULES)),
        "",
        _NO_RULES,
        "",
        _POLICY_HEAD,
        "",
        *_table(parameters, map(_parameter, msgspec.structs.fields(Policy))),
        "",
        _ENVELOPE_HEAD,
        "",
        *_table(("invariant", "guards", "in full", "code"), rows),
    ]
    return "\n".join(lines) + "\n"


_RULE_HEAD: Final = ("priority", "rule", "asked at", "what it says", "parameters", "source")


def _metric(row: RepMetric | SummaryMetric) -> tuple[str, ...]:
    return (
        f"`{row.name}`", row.unit.replace("|", ", "), str(row.decimals), row.formula, _names(reasons(row)), row.section,
        row.source, f"`{_place(computed_by(row))}`",
    )  # fmt: skip


def reasons(row: RepMetric | SummaryMetric) -> tuple[str, ...]:
    """Return why a metric can be undefined, what counts first first; a kernel is asked itself.

    Examples
    --------
    >>> from streams.core.catalogue import metric
    >>> reasons(metric("mean_velocity", "rep"))
    ('gap', 'scale_mismatch', 'no_movement')
    """
    if isinstance(row, SummaryMetric):
        return row.undefined
    needed = [reason for need, reason in LACKING.items() if need in row.needs]
    return tuple(dict.fromkeys((*needed, *_reasons_of_kernels()[row.name])))


def _reasons_of_kernels() -> Mapping[str, tuple[str, ...]]:
    """Let every kernel compute one plain rep: beside the value it tells which reasons it knows."""
    with np.errstate(all="ignore"):  # the rep lacks what some of them need
        phases = segmentation.segment(signals.read([_PLAIN]))
        return {row.name: tuple(row.kernel(phases)[1]) for row in OF_REPS}


_WAY: Final = (*[0] * 60, *range(0, 10_000, 100), *range(10_000, 0, -100), *[0] * 60)

_PLAIN: Final = Rep(
    boot_id="b", seq=0, t_us=0, session="s", set_number=1, rep_number=1, exercise="any", load_N=100.0, settings="any",
    fs_hz=100.0, samples=len(_WAY), force=struct.pack(f"<{len(_WAY)}h", *[100] * len(_WAY)), force_scale_N=1.0,
    position=struct.pack(f"<{len(_WAY)}h", *_WAY), position_scale=1e-4,
)  # fmt: skip
"""Up for a second and down for another, at constant force."""


_SUMMARISES: Final[Mapping[Level, Callable[..., object]]] = {
    "set": set_metrics.set_values,
    "session": summaries.summarise_session,
    "patient": assessment.assessed,
}


def computed_by(row: RepMetric | SummaryMetric) -> Callable[..., object]:
    """Return the function that a metric comes from."""
    if isinstance(row, RepMetric):
        return row.kernel
    if row in FORESEEN:
        return foresight.of_rep if row.level == "rep" else foresight.of_set
    return _SUMMARISES[row.level]


def _rule(rule: Rule[Any]) -> tuple[str, ...]:
    asked = ", ".join(rule.moments).replace("_", " ")
    return (str(rule.priority), f"`{rule.id}`", asked, _told(rule.match), _names(rule.parameters), rule.source)


def _parameter(field: Any) -> tuple[str, ...]:  # noqa: ANN401 - msgspec names no type for it
    users = dict.fromkeys(str(rule.priority) for rule in RULES if field.name in rule.parameters)
    meta = get_args(_HINTS[field.name])[1]
    default = field.default if isinstance(field.default, tuple) else (field.default,)
    return (
        f"`{field.name}`", ", ".join(map(_number, default)), bounds(field.name), meta.extra["description"],
        ", ".join(users) or "-", f"[{meta.extra['tag']}]",
    )  # fmt: skip


def bounds(parameter: str) -> str:
    """Return between which values a parameter of the policy may be; of several, how they must follow each other.

    Examples
    --------
    >>> bounds("vl_stop_pct"), bounds("gap_days"), bounds("gap_cut_pct")
    ('15-30', '1-56, rising', '0-100, not falling')
    """
    type_, meta = get_args(_HINTS[parameter])
    if meta.ge is not None:
        return f"{_number(meta.ge)}-{_number(meta.le)}"
    first, *others = getattr(Policy(), parameter)
    order = "rising" if _is_refused(parameter, (first, first, *others[1:])) else "not falling"
    of_each = get_args(get_args(type_)[0])[1]
    return f"{_number(of_each.ge)}-{_number(of_each.le)}, {order}"


def _is_refused(parameter: str, value: object) -> bool:
    try:
        msgspec.structs.replace(Policy(), **{parameter: value})
    except ValueError:
        return True
    return False


def _number(value: float) -> str:
    return f"{value:g}"


def _told(function: Callable[..., object]) -> str:
    """Return a function's docstring on one line, without the number that it begins with."""
    text = " ".join((inspect.getdoc(function) or "").split()).partition(": ")[2]
    return text[:1].upper() + text[1:]


def _place(function: Callable[..., object]) -> str:
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "-"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]


PAGES: Final[Mapping[str, Callable[[], str]]] = {"metrics.md": metrics_page, "rules.md": rules_page}


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
