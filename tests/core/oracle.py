"""The oracle: what may and must follow in a patient's story, as docs/science.md, section 7, says it.

It is told what happens in the clinic's own words, and sees every command that comes out. It knows nothing of how the
loop decides: it imports records and the policy's numbers, never a rule. What the page leaves open it does not judge.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from streams.core.commands import Command
from streams.core.policy import DEFAULT as POLICY
from streams.core.telemetry import Capabilities, Intent, Prescription, Side

DAY_MS = 86_400_000
MORNING_MS = 36 * 3_600_000
ASKS_FOR_ITS_CUT_MS = 14 * DAY_MS
WIDENED_RAD = math.radians(5.0)
OVER_BASE = 5
"""Reps above the clinician's target that rule 15 may ask for."""

UNANSWERED = frozenset({"machine_locked", "not_screened", "no_prescription", "not_permitted"})
MORE_IS_EASIER = frozenset({"window_lo", "rest_s", "concentric_s", "eccentric_s"})
SAME_RAD = 1e-6
SAME_N = 1e-6

Window = tuple[float, float]


class Key(NamedTuple):
    """What is compared with itself only: an exercise and a side, in one seat, done with one intent."""

    exercise: str
    side: Side
    settings: str
    intent: Intent


class Broken(AssertionError):
    """A law does not hold."""


class Series(msgspec.Struct):
    """A series: what is in force as its last session left it, and what it has earned."""

    held: Prescription
    window: Window
    target: Window
    """The window that a clinician wants, which may be wider than the one in force."""
    ceiling_N: float = math.inf
    """The least load that a plan asked for since, whether its session came about or not."""
    asked: list[tuple[int, float]] = []
    """Time in ms and load in N of each plan."""
    clean: int = 0
    good: int = 0
    since: int = 0
    """Sessions since a clinician's prescription, or since an absence after which all begins anew."""
    trained: int = 0
    last_ms: int | None = None
    unharmed_ms: int = -1
    """When its last session without strong pain had ended."""
    sets_owed: int = 0
    paid_ms: int = -1
    """When the rise of pain was told whose cut is paid."""
    is_known: bool = True
    """Whether the page says to the newton what is in force: not so after a session that nobody has ended, say."""


class Plan(msgspec.Struct):
    """What a clinician decided for an exercise and a side."""

    base: Prescription
    cap_N: float
    edited_ms: int
    last_ms: int | None = None
    is_open: bool = False
    """Whether it was decided while a session of the exercise was not summed up."""


class Course(msgspec.Struct):
    """A session, from its request to its end, and how it goes."""

    key: Key
    began_ms: int
    last_ms: int | None
    """When the session before began."""
    plan: Prescription | None = None
    load_N: float = 0.0
    window: Window = (0.0, 0.0)
    pain_start: int | None = None
    pains: list[int] = []
    rpe_max: int | None = None
    speeds: list[float] = []
    sets: list[int] = []
    """Reps of each set at the prescribed load."""
    is_running: bool = False
    is_over: bool = False
    is_troubled: bool = False
    is_hurt: bool = False
    """Whether there was pain in it, or a STOP."""
    is_held: bool = False
    """Whether a rep of the running set was lost."""
    has_ended_set: bool = False
    is_eased: bool = False
    """Whether pain has taken off load in this set."""


class Oracle:
    """What is known of one patient, and of the machines on which this patient trains."""

    def __init__(self, machine: Capabilities) -> None:
        self.machine = machine
        self.now_ms = 0
        self.plans: dict[tuple[str, Side], Plan] = {}
        self.series: dict[Key, Series] = {}
        self.courses: dict[str, Course] = {}
        self.left: dict[str, Key] = {}
        """Sessions that nobody has ended, by machine, until the next one is asked for."""
        self.locked: set[str] = set()
        self.strong_ms: dict[str, int] = {}
        self.rose_ms = -1
        self.is_rise_paid = True
        self.visit_ms = 0
        self.visit_pain: int | None = None
        self.judged: Counter[str] = Counter()

    def law(self, holds: object, name: str, *told: object) -> None:
        """Insist on a law."""
        self.judged[name] += 1
        if not holds:
            raise Broken(f"{name}: {', '.join(map(str, told))}")

    def grid(self, load_N: float) -> float:
        """Round down to the machine's grid, never below its minimum (7.1)."""
        steps = math.floor((load_N - self.machine.load_min_N) / self.machine.load_step_N + 1e-9)
        return self.machine.load_min_N + max(steps, 0) * self.machine.load_step_N

    # --- what happens ------------------------------------------------------------------------------------------------

    def edits(self, exercise: str, side: Side, base: Prescription, cap_N: float) -> None:
        """Hear of a clinician's prescription: it replaces what was in force, and forgets an owed cut (5)."""
        plan = self.plans.setdefault((exercise, side), Plan(base, cap_N, self.now_ms))
        plan.base, plan.cap_N, plan.edited_ms = base, cap_N, self.now_ms
        plan.is_open = is_open = exercise in {
            key.exercise for key in (*self.left.values(), *(one.key for one in self.courses.values()))
        }
        for key, one in self.series.items():
            if key[:2] == (exercise, side):
                one.held, one.ceiling_N, one.sets_owed, one.since = base, math.inf, 0, 0
                one.is_known = not is_open
                one.target = window_of(base)
                one.window = one.target if is_open or one.trained == 0 else overlap(one.window, one.target)

    def of(self, key: Key) -> Series:
        """Return a series; a new one begins with the clinician's load, or what the others came down to (5)."""
        if key not in self.series:
            base = self.plans[key[:2]].base
            others = [one for other, one in self.series.items() if other[:2] == key[:2]]
            ceiling_N = min((min(one.held.load_N, one.ceiling_N) for one in others), default=math.inf)
            window = window_of(base)
            self.series[key] = Series(
                base, window, window, ceiling_N, is_known=not others and not self.plans[key[:2]].is_open
            )
        return self.series[key]

    def asks(self, machine: str, key: Key) -> None:
        """Hear that the patient wants to begin, after an absence that a prescription may have taken into account."""
        before, series = self.courses.get(machine), self.of(key)
        if self.left.pop(machine, None) is not None or (before is not None and before.pains):
            self._waits_to_be_summed_up()
        plan = self.plans[key[:2]]
        series.is_known &= series.trained > 0 or plan.last_ms is None
        last_ms = plan.last_ms if series.last_ms is None else series.last_ms
        self.courses[machine] = Course(key, self.now_ms, last_ms)

    def away_days(self, course: Course) -> float:
        """Return for how long the patient had been away, which a prescription since then has taken into account."""
        if course.last_ms is None:
            return 0.0
        seen_ms = max(course.last_ms, self.plans[course.key[:2]].edited_ms)
        return (self.now_ms - seen_ms) / DAY_MS

    def _waits_to_be_summed_up(self) -> None:
        """Demand no increase for a while: the page says not how a session counts that is summed up late."""
        for one in self.series.values():
            one.since = -1

    def starts(self, machine: str, held: Prescription, pain: int | None) -> None:
        """Hear that a session starts under what its machine holds."""
        course = self.courses[machine]
        course.plan, course.load_N, course.window = held, held.load_N, window_of(held)
        course.is_running, course.pain_start = True, pain
        self.of(course.key).last_ms = self.plans[course.key[:2]].last_ms = course.began_ms
        if pain is None:
            self.visit_pain = None
            return
        is_same_visit = self.visit_pain is not None and self.now_ms // DAY_MS == self.visit_ms // DAY_MS
        self.visit_pain = min(pain, self.visit_pain or 0) if is_same_visit else pain
        self.visit_ms = self.now_ms
        self.hurts(machine, pain)

    def hurts(self, machine: str, pain: int) -> None:
        """Hear of a pain of a session that waits, runs, or is just over."""
        course = self.courses[machine]
        course.pains.append(pain)
        if not course.is_running:
            self.of(course.key).is_known = False
            self._waits_to_be_summed_up()
        if pain > POLICY.pain_stop:
            self.strong_ms[course.key.exercise] = self.now_ms
        if is_pain(course, pain):
            course.is_hurt = True
            self.troubles(machine)

    def hurts_after(self, key: Key, pain: int) -> None:
        """Hear of a pain that is told when its session is over."""
        if pain > POLICY.pain_stop:
            self.strong_ms[key.exercise] = self.now_ms
        if pain > POLICY.pain_ok:
            self.troubles()

    def wakes_up(self, pain: int) -> None:
        """Hear of the pain of the morning after: a rise over the least before a session asks for its cut (rule 3)."""
        is_after = self.visit_pain is not None and self.now_ms - self.visit_ms <= MORNING_MS
        has_risen = is_after and pain >= (self.visit_pain or 0) + POLICY.morning_rise
        if has_risen:
            self.rose_ms, self.is_rise_paid = self.now_ms, False
        if has_risen or pain > POLICY.pain_ok:
            self.troubles()
        self.visit_pain = None

    def troubles(self, machine: str | None = None) -> None:
        """Hear of trouble: every count of clean sessions begins anew, whatever the machine (5)."""
        if machine is not None:
            self.courses[machine].is_troubled = True
        for one in self.series.values():
            one.clean = one.good = 0

    def begins_set(self, machine: str) -> None:
        """Hear that a set begins."""
        course = self.courses[machine]
        course.speeds, course.is_held, course.has_ended_set, course.is_eased = [], False, False, False
        course.sets.append(0)

    def loses(self, machine: str) -> None:
        """Hear nothing of a rep, for ever: its set decides nothing, its session earns nothing (rule 4)."""
        self.courses[machine].is_held = True
        self.troubles(machine)

    def lifts(self, machine: str, v_mps: float) -> None:
        """Hear of a rep over the whole window, with a mean velocity."""
        course = self.courses[machine]
        course.speeds.append(v_mps)
        course.sets[-1] += course.plan is not None and course.load_N >= course.plan.load_N

    def presses_stop(self, machine: str) -> None:
        """Hear of danger."""
        self.locked.add(machine)
        if machine in self.courses:
            self.courses[machine].is_over = self.courses[machine].is_hurt = True
            self.troubles(machine)

    def leaves(self, machine: str) -> None:
        """See the patient go, and nobody end the session: the page says only what may follow at most."""
        self.left[machine] = self.courses[machine].key
        self.ends(machine)
        self.of(self.left[machine]).is_known = False

    def ends(self, machine: str) -> None:
        """Hear that a session is over, or that another begins without it: what it leaves is in force (5)."""
        course = self.courses.pop(machine)
        if not course.is_running or course.plan is None:
            return
        series, plan = self.of(course.key), course.plan
        series.is_known = True
        series.window = overlap(course.window, window_of(plan))
        if series.window != window_of(plan):  # pain has narrowed it, and nothing gives that back by itself
            series.target = series.window
        series.sets_owed = max(series.sets_owed + series.held.sets - plan.sets, 0)
        held = replace(plan, load_N=min(plan.load_N, course.load_N))
        if course.is_hurt:  # what it was asked more of is not taken up (7.2)
            least_N = min(held.load_N, series.held.load_N)
            held = replace(held, load_N=least_N, reps=min(held.reps, series.held.reps))
        series.held = held
        series.ceiling_N = series.held.load_N
        if self.away_days(course) > POLICY.gap_days[2]:
            series.trained, series.since = 0, min(series.since, 0)
        series.trained += bool(course.sets)
        is_clean = course.pains and max(course.pains) <= POLICY.pain_ok and not course.is_troubled
        series.clean = series.clean + 1 if is_clean and course.sets else 0
        series.since += 1
        series.good = series.good + 1 if is_clean and is_good(course) else 0
        if self.strong_ms.get(course.key.exercise, -1) < course.began_ms:
            series.unharmed_ms = self.now_ms

    # --- what follows ------------------------------------------------------------------------------------------------

    def says(self, machine: str, command: Command) -> None:
        """See a command, and judge it by what every command owes."""
        if command.action == "resend":
            return
        course = self.courses.get(machine)
        is_stop = command.action == "stop"
        self.law(is_stop or machine not in self.locked, "S8: after STOP nothing moves until a release", command.rule)
        if is_stop or course is None:
            self.law(is_stop, "only STOP comes without a session", command.rule)
        elif command.action == "prescribe":
            self._plans(machine, course, command)
        else:
            before = command.action == "end_exercise"
            self.law(course.is_running or before, "nothing is eased before the start", command.rule)
            self.law(not course.is_held or command.rule.startswith("pain"), "S13: held data decide nothing", command)
            if command.rule == "pain_reduce":
                self._eases(course, command)
            for change in command.changes:
                easier = change.new > change.old if change.quantity in MORE_IS_EASIER else change.new < change.old
                self.law(easier, "S1: a session only gets easier", change)
                self.law(change.quantity != "rest_s" or change.new <= 180.0, "S21: rest has an end", change)

    def _eases(self, course: Course, command: Command) -> None:
        """Judge what rule 2 takes off, and take it off: machines in these stories obey."""
        new = {change.quantity: change.new for change in command.changes}
        due_N = self.grid(course.load_N * (1.0 - POLICY.pain_cut_pct / 100.0))
        self.law(new.get("load_N", course.load_N) == due_N, "rule 2: pain takes off a tenth", course.load_N, command)
        course.load_N = due_N
        course.window = new.get("window_lo", course.window[0]), new.get("window_hi", course.window[1])

    def requested(self, machine: str, plans: int, notices: Sequence[str]) -> None:
        """See the answer to a request: one plan, or one word to whoever stands there why there is none (7.1)."""
        told = [name for name in notices if name in UNANSWERED]
        self.law(plans + len(told) == 1, "a request is answered once", plans, notices)
        self.law(bool(plans) == (machine not in self.locked), "a locked machine gets no plan", plans, notices)

    def answered(self, machine: str, pain: int, said: Sequence[Command]) -> None:
        """See what was said to a pain of a running session: rules 1 and 2 answer each pain once, no pain twice."""
        course = self.courses[machine]
        stops = [one for one in said if one.rule == "pain_stop"]
        cuts = [one for one in said if one.rule == "pain_reduce"]
        if course.is_over or machine in self.locked:
            self.law(not cuts, "what is over is not eased", pain, cuts)
        elif pain > POLICY.pain_stop:
            self.law([one.action for one in stops] == ["end_exercise"], "rule 1: strong pain ends the exercise", said)
            course.is_over = True
        else:
            is_due = is_pain(course, pain) and not course.is_eased
            is_least = course.load_N <= self.machine.load_min_N and not cuts  # nothing is left to take off
            self.law((is_least or len(cuts) == is_due) and not stops, "rule 2: pain is answered once a set", pain, said)
            course.is_eased = course.is_eased or is_due

    def after_rep(self, machine: str, said: Sequence[Command]) -> None:
        """See what was said to a rep: velocity lost twice in a row ends a set of who tries to be fast (rule 6)."""
        course = self.courses[machine]
        losses = [robust_loss_pct(course.speeds[:n]) for n in range(3, len(course.speeds) + 1)]
        has_lost = len(course.speeds) >= POLICY.vl_min_reps and min(losses[-2:]) >= POLICY.vl_stop_pct
        is_free = not (course.is_held or course.has_ended_set or course.is_over or machine in self.locked)
        is_due = has_lost and is_free and course.key.intent == "max"
        ended = [one for one in said if one.action == "end_set"]
        self.law(len(ended) == is_due, "rule 6: a set ends when velocity is lost, and not before", losses, said)
        course.has_ended_set = course.has_ended_set or is_due

    def stopped(self, said: Sequence[Command]) -> None:
        """See what was said to danger."""
        self.law([one.action for one in said] == ["stop"], "S2: danger is answered by one STOP", said)

    def _cuts(self, course: Course, *, has_easier: bool) -> dict[str, float]:
        """Return the shares of the load in force that rules 1, 3 and 17 ask for."""
        key, plan, series = course.key, self.plans[course.key[:2]], self.of(course.key)
        shares = {}
        # a new series begins where the others of its plan came down to, and owes no more than they
        paid = [one.unharmed_ms for other, one in self.series.items() if other[:2] == key[:2]]
        unharmed_ms = series.unharmed_ms if series.trained else max(paid)
        if self.strong_ms.get(key.exercise, -1) > max(unharmed_ms, plan.edited_ms):
            shares["pain_stop"] = 1.0 - POLICY.pain_resume_cut_pct / 100.0
        is_fresh = self.now_ms - self.rose_ms <= ASKS_FOR_ITS_CUT_MS
        if self.rose_ms > max(series.paid_ms, plan.edited_ms) and is_fresh and (not self.is_rise_paid or has_easier):
            shares["pain_next_morning"] = 0.9
        for days, cut_pct in zip(POLICY.gap_days, POLICY.gap_cut_pct, strict=False):
            if self.away_days(course) >= days:
                shares["return_after_gap"] = 1.0 - cut_pct / 100.0
        return shares

    def _plans(self, machine: str, course: Course, command: Command) -> None:
        """Judge a plan."""
        asked, series, plan = command.prescription, self.of(course.key), self.plans[course.key[:2]]
        self.law(asked is not None and not course.is_running, "a plan comes whole, and before the start", command)
        if asked is None:
            return
        held = series.held
        cuts = self._cuts(course, has_easier=asked.load_N <= self.grid(0.9 * held.load_N))
        most_N = min(plan.cap_N, self.machine.load_max_N)
        due_N = self.grid(min(most_N, held.load_N, series.ceiling_N))
        for rule, share in cuts.items():
            cut_N = self.grid(share * held.load_N)
            self.law(asked.load_N <= cut_N, f"{rule} takes its cut", held.load_N, command)
            due_N = min(due_N, cut_N)
        self.law(asked.load_N <= most_N, "S5: within machine and cap", most_N, asked)
        self.law(self.grid(asked.load_N) == asked.load_N, "S5: on the grid", asked)
        self._window(series, asked)
        harder = harder_than(asked, replace(held, load_N=due_N))
        self.law(harder <= {"load_N", "reps", "sets"}, "nothing else gets harder", harder, asked)
        if harder:
            self._raises(machine, course, command, harder, due_N)
        elif series.is_known and (not cuts or series.ceiling_N >= held.load_N):
            self.law(asked.load_N == due_N, "no cut is paid twice", cuts, held.load_N, due_N, command)
            self.law(not self._is_due(course, cuts, due_N), "who has earned more is asked for more", command)
            series.ceiling_N = min(series.ceiling_N, asked.load_N)
        series.asked.append((self.now_ms, asked.load_N))
        if "pain_next_morning" in cuts:
            series.paid_ms, self.is_rise_paid = self.rose_ms, True
            self.troubles()

    def _is_due(self, course: Course, cuts: Mapping[str, float], due_N: float) -> bool:
        """Tell whether an increase must come (rules 14 and 15)."""
        series, plan = self.of(course.key), self.plans[course.key[:2]]
        is_earned = min(series.good, series.clean, series.since) >= POLICY.progress_sessions
        is_free = not cuts and series.window == series.target and not course.pains
        has_room = due_N + self.machine.load_step_N <= min(plan.cap_N, self._most_of_week(series))
        has_reps = series.held.reps < plan.base.reps + OVER_BASE
        return is_earned and is_free and due_N == series.held.load_N and has_room and has_reps

    def _most_of_week(self, series: Series) -> float:
        """Return what no automatic increase exceeds within 7 days (S4)."""
        return min(
            (1.1 * load_N for at_ms, load_N in series.asked if self.now_ms - at_ms <= 7 * DAY_MS), default=math.inf
        )

    def _raises(self, machine: str, course: Course, command: Command, harder: set[str], due_N: float) -> None:
        """Judge an increase: two clean sessions, not too much, never in pain, and only with a confirmation."""
        series, asked, held = self.of(course.key), command.prescription, self.of(course.key).held
        clean = POLICY.progress_sessions
        self.law(series.clean >= clean, "S7: two clean sessions before more", machine, harder, due_N, command)
        self.law(
            self.away_days(course) < POLICY.gap_days[0],
            "nothing rises after an absence",
            self.away_days(course),
            command,
        )
        self.law(command.confirm, "S20: an increase is confirmed", command)
        self.law(len(harder) == 1, "one thing rises at a time", harder, command)
        if asked is None or harder == {"sets"}:
            self.law(series.sets_owed > 0, "only a set that pain took comes back", command)
            return
        self.law(series.good >= clean, "rules 14, 15: an increase is earned", harder, command)
        self.law(asked.reps <= held.reps + POLICY.rep_step, "one rep more at most", held.reps, command)
        if harder == {"load_N"}:
            self.law(series.trained >= POLICY.learning_sessions, "S18: no more load while learning", command)
            most_N = min(due_N * 1.05, due_N + self.machine.load_step_N)
            self.law(
                asked.load_N <= self._most_of_week(series) + SAME_N, "S4: at most 10 % in 7 days", series.asked, command
            )
            self.law(asked.load_N <= most_N + SAME_N, "S3: at most 5 % and one increment", due_N, command)

    def _window(self, series: Series, asked: Prescription) -> None:
        """S6: nothing widens but towards what a clinician has asked for, by 5 degrees, and never with more load."""
        lo, hi = window_of(asked)
        (old_lo, old_hi), (least, most) = series.window, series.target
        wider_rad = max(old_lo - lo, hi - old_hi)
        is_wider = series.trained > 0 and wider_rad > SAME_RAD  # the first session takes it whole
        self.law(not is_wider or series.target != series.window, "S6: no automatic widening", series, asked)
        self.law(least - SAME_RAD <= lo and hi <= most + SAME_RAD, "S6: within the prescribed window", series, asked)
        if not is_wider:
            return
        self.law(wider_rad <= WIDENED_RAD + SAME_RAD, "S6: 5 degrees wider at most", series, asked)
        before_N = series.asked[-1][1] if series.asked else series.held.load_N
        self.law(asked.load_N <= before_N, "S6: wider or heavier, never both", before_N, asked)


def is_pain(course: Course, pain: int) -> bool:
    """Tell whether rules 1 and 2 act on a pain: it is a lot, or a lot more than at the start."""
    has_risen = course.pain_start is not None and pain >= course.pain_start + POLICY.pain_rise
    return pain >= POLICY.pain_caution or has_risen


def is_good(course: Course) -> bool:
    """Tell whether a session is one of those that earn an increase (rule 14): all done, and a rep to spare."""
    plan = course.plan
    if (
        plan is None
        or course.rpe_max is None
        or course.rpe_max > POLICY.rpe_max
        or course.has_ended_set
        or not course.sets
    ):
        return False
    is_done = sum(reps >= plan.reps for reps in course.sets) >= plan.sets
    return is_done and course.sets[-1] >= plan.reps + POLICY.reps_over


def robust_loss_pct(v_mps: Sequence[float]) -> float:
    """Return the velocity loss of the last rep against the mean of the three fastest (3.6)."""
    return 100.0 * (1.0 - 3.0 * v_mps[-1] / sum(sorted(v_mps)[-3:]))


def harder_than(asked: Prescription, held: Prescription) -> set[str]:
    """Name what asks more of the patient (7.4), the window excepted."""
    more = {name for name in ("load_N", "reps", "sets") if getattr(asked, name) > getattr(held, name)}
    tempo = {name for name in ("concentric_s", "hold_s", "eccentric_s") if getattr(asked, name) != getattr(held, name)}
    return more | tempo | ({"rest_s"} if asked.rest_s < held.rest_s else set())


def window_of(told: Prescription) -> Window:
    """Return the window of a prescription, which always has one in these stories."""
    return told.window_lo or 0.0, told.window_hi or 0.0


def overlap(one: Window, other: Window) -> Window:
    """Return what two windows share."""
    return max(one[0], other[0]), min(one[1], other[1])
