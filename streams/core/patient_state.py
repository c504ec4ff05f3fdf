"""Patient state: what the planner remembers of one patient. How each fact changes it stands in patient_facts.py.

A *plan* is what a clinician decided for an exercise and a side; a *series* is how it goes with one machine setting and
one intent (science.md 5). Increases live per series; trouble anywhere takes the clean sessions of all series away.
The pain between sessions and the balance of pairs belong to the patient as a whole.
"""

import hashlib
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from streams.core.adaptive import Model
from streams.core.balance_record import Records
from streams.core.baseline import Baseline
from streams.core.course import Course, Window
from streams.core.diary import DAY_MS, Diary
from streams.core.results import PlanRequested
from streams.core.telemetry import Intent, Prescription, Screening, Side

WEEK_MS = 7 * DAY_MS

MAX_BYTES = 24_576
"""Largest state in bytes, three quarters of what a stage may keep of one key; about a dozen series fit with all that
was learned of them. When it is reached, the oldest series of the plan that was used least recently is forgotten, and
forgetting only ever lowers a load."""

MAX_SEEN = 128
"""Facts that are remembered as seen; a restart repeats those of the last 250 ms, which is a handful."""


class PastSession(msgspec.Struct, frozen=True, array_like=True):
    """What rule 14 asks about a session; None is unknown. `fired` counts the commands of rules 0-4 and 8-11."""

    session: str
    all_sets_done: bool
    incomplete: bool
    last_set_reps: int
    target_reps: int | None
    pain_max: int | None
    rpe_max: int | None
    fired: int
    rom_completeness_min_pct: float | None = None
    tempo_error_median_pct: float | None = None
    velocity_loss_max_pct: float | None = None
    tul_last_set_s: float | None = None


class Series(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One exercise with one setting and one intent.

    `settled` is in force as the last session left it or a clinician edited it; `proposed` was prescribed since, and a
    session has yet to show, by its id, what became of it. `edited` says that no prescription followed the last edit.
    `goal` is a wider window that a clinician set and that is being approached. `sessions` counts for the learning
    phase, `clean` for S7. `pain_session` still asks for its cut (rule 1), `paying` is the one whose cut is proposed,
    `paid` has had it. `week` holds prescribed loads with their times in ms. `heavier` says that a clinician raised the
    load and nobody has trained with it yet. `proposed_at` is the machine that asked for the proposal, unless
    that was recalled since. `moved_from` was in force before a clinician moved the window to where nobody has trained.
    """

    settings: str
    intent: Intent
    settled: Prescription
    proposed: Prescription | None = None
    edited: bool = False
    goal: Window | None = None
    trained_ms: int | None = None
    sessions: int = 0
    clean: int = 0
    past: tuple[PastSession, ...] = ()
    pain_session: str | None = None
    week: tuple[tuple[int, float], ...] = ()
    easing_ms: int | None = None
    eased_ms: int | None = None
    extra_set: bool = False
    course: Course | None = None
    baseline: Baseline | None = None
    model: Model | None = None
    paid: str | None = None
    heavier: bool = False
    paying: str | None = None
    proposed_at: str | None = None
    moved_from: Prescription | None = None

    @property
    def load_N(self) -> float:  # noqa: N802 - SI symbols keep their case
        """The load in force: what is settled, or less if less was prescribed since."""
        return self.settled.load_N if self.proposed is None else min(self.settled.load_N, self.proposed.load_N)

    @property
    def sets(self) -> int:
        """The sets in force: fewer that were prescribed stay fewer, trained or not (S7)."""
        return self.settled.sets if self.proposed is None else min(self.settled.sets, self.proposed.sets)

    def week_low_N(self, now_ms: int) -> float:  # noqa: N802 - SI symbols keep their case
        """Return the lowest load in N prescribed in the last 7 days; the load in force counts as prescribed."""
        return min([self.load_N, *(load_N for at_ms, load_N in self.week if at_ms >= now_ms - WEEK_MS)])


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a clinician decided for an exercise and a side, and its series, the one used last at the end.

    `times` are those of its last sessions in ms, for attendance, `work` the concentric work of the sessions of the last
    7 days in J, None where it is unknown, with their times in ms.
    """

    exercise: str
    side: Side
    load_cap_N: float | None = None
    base: Prescription | None = None
    guarded: bool = False
    edited_ms: int | None = None
    series: tuple[Series, ...] = ()
    pain_session: str | None = None
    reps_max: int | None = None
    tul_max_s: float | None = None
    per_week: float | None = None
    goal_load_N: float | None = None
    mvt: float | None = None
    times: tuple[int, ...] = ()
    work: tuple[tuple[int, float | None], ...] = ()

    def work_J(self, now_ms: int) -> float | None:  # noqa: N802 - SI symbols keep their case
        """Return the concentric work of the last 7 days in J; None if that of a session is unknown."""
        week_J = [work_J for at_ms, work_J in self.work if at_ms >= now_ms - WEEK_MS]
        known_J = [work_J for work_J in week_J if work_J is not None]
        return sum(known_J) if len(known_J) == len(week_J) else None


class PatientState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Screening, plans (the one used last at the end), pain, balance, and the digests of the facts seen last.

    `troubled_ms` is the log time in ms of the last trouble: no session that had begun by then is clean (S7).
    """

    screening: Screening | None = None
    plans: tuple[Plan, ...] = ()
    diary: Diary = Diary()
    records: Records = ()
    seen: tuple[bytes, ...] = ()
    troubled_ms: int | None = None


START = PatientState()
"""A patient of whom nothing is known."""


def window_of(prescription: Prescription) -> Window | None:
    """Return the window of a prescription in m or rad, None if it has none or only half of one."""
    lo, hi = prescription.window_lo, prescription.window_hi
    return None if lo is None or hi is None else (lo, hi)


def with_window(prescription: Prescription, window: Window | None) -> Prescription:
    """Return a prescription with another window; None leaves it as it is."""
    return prescription if window is None else replace(prescription, window_lo=window[0], window_hi=window[1])


def overlap(one: Window | None, other: Window | None) -> Window | None:
    """Return what two windows share; the first where they share nothing, the known one where one is None.

    Examples
    --------
    >>> overlap((0.0, 1.0), (0.2, 1.4)), overlap((0.0, 1.0), None), overlap((0.0, 1.0), (2.0, 3.0))
    ((0.2, 1.0), (0.0, 1.0), (0.0, 1.0))
    """
    if one is None or other is None:
        return other if one is None else one
    shared = (max(one[0], other[0]), min(one[1], other[1]))
    return shared if shared[0] < shared[1] else one


def share_nothing(one: Window | None, other: Window | None) -> bool:
    """Tell whether two windows are known and have no range in common.

    Examples
    --------
    >>> share_nothing((0.0, 1.0), (1.0, 3.0)), share_nothing((0.0, 1.0), (0.2, 1.4)), share_nothing((0.0, 1.0), None)
    (True, False, False)
    """
    return one is not None and other is not None and max(one[0], other[0]) >= min(one[1], other[1])


def is_seen(state: PatientState, fact_id: str) -> bool:
    """Tell whether a fact of this id was taken in before."""
    return _mark(fact_id) in state.seen


def note_seen(state: PatientState, fact_id: str) -> PatientState:
    """Remember a fact's id, by 8 bytes of its digest: an id may have 512 characters."""
    return replace(state, seen=(*state.seen, _mark(fact_id))[-MAX_SEEN:])


def _mark(fact_id: str) -> bytes:
    return hashlib.blake2b(fact_id.encode(), digest_size=8).digest()


def find_plan(state: PatientState, exercise: str, side: Side) -> Plan | None:
    """Return the plan of an exercise and a side."""
    return next((plan for plan in state.plans if (plan.exercise, plan.side) == (exercise, side)), None)


def find_series(plan: Plan, settings: str, intent: Intent) -> Series | None:
    """Return the series of a setting and an intent."""
    return next((one for one in plan.series if (one.settings, one.intent) == (settings, intent)), None)


def open_series(plan: Plan, base: Prescription, settings: str, intent: Intent) -> Series:
    """Begin a series: with the clinician's prescription, but never above what the plan's other series came down to."""
    paid = {None, *(other.paid for other in plan.series)}
    owed = [one for one in (plan.pain_session, *(other.pain_session for other in plan.series)) if one not in paid]
    settled = beside(base, plan.series)
    return Series(settings=settings, intent=intent, settled=settled, pain_session=owed[0] if owed else None)


def beside(wanted: Prescription, others: Iterable[Series]) -> Prescription:
    """Return a prescription with no more load, sets and range than the other series of the plan came down to."""
    load_N, sets, window = wanted.load_N, wanted.sets, window_of(wanted)
    for other in others:
        load_N, sets = min(load_N, other.load_N), min(sets, other.settled.sets)
        window = overlap(window, window_of(other.settled))
    return with_window(replace(wanted, load_N=load_N, sets=sets), window)


def put_series(state: PatientState, plan: Plan, series: Series) -> PatientState:
    """Store a series as the one used last of its plan, and the plan as the one used last."""
    others = tuple(one for one in plan.series if (one.settings, one.intent) != (series.settings, series.intent))
    return put_plan(state, replace(plan, series=(*others, series)))


def put_plan(state: PatientState, plan: Plan) -> PatientState:
    """Store a plan as the one used last."""
    others = tuple(one for one in state.plans if (one.exercise, one.side) != (plan.exercise, plan.side))
    return replace(state, plans=(*others, plan))


def of_request(state: PatientState, request: PlanRequested) -> tuple[Plan, Series] | None:
    """Return plan and series of a session request; None if nobody has prescribed anything for it."""
    plan = find_plan(state, request.exercise, request.side)
    if plan is None or plan.base is None:
        return None
    series = find_series(plan, request.settings, request.intent)
    if series is None:
        return plan, open_series(plan, plan.base, request.settings, request.intent)
    if series.trained_ms is None:  # planned for, but never trained: the others may have come down since
        others = (one for one in plan.series if one is not series)
        series = replace(series, settled=beside(series.settled, others))
    return plan, series


def bounded(state: PatientState) -> PatientState:
    """Forget the oldest series of the plan used least recently until the state fits into `MAX_BYTES`."""
    while state.plans and len(msgspec.msgpack.encode(state)) > MAX_BYTES:
        oldest, *others = state.plans
        state = replace(state, plans=(_without_oldest(oldest), *others) if oldest.series else tuple(others))
    return state


def _without_oldest(plan: Plan) -> Plan:
    """Forget a series; what it came down to, and the cut that it owes, stay with the plan."""
    gone, *others = plan.series
    base = plan.base
    if base is not None:
        kept = overlap(window_of(base), window_of(gone.settled))
        lower = replace(base, load_N=min(base.load_N, gone.load_N), sets=min(base.sets, gone.settled.sets))
        base = with_window(lower, kept)
    owed = plan.pain_session if gone.pain_session is None else gone.pain_session
    return replace(plan, base=base, series=tuple(others), pain_session=owed)
