"""Ledger: what the checker knows, from the messages that counted and the commands that came out, and nothing else."""

from collections.abc import Mapping
from typing import Literal

from loadtest.campaign.order import Order
from streams.core.commands import Change, Command
from streams.core.policy import Policy
from streams.core.telemetry import Capabilities, ClinicianEdited, Intent, Prescription, Screening, SessionStarted, Side

DAY_MS = 86_400_000

Values = dict[str, float | None]
QUANTITIES = (
    "load_N",
    "window_lo",
    "window_hi",
    "reps",
    "sets",
    "rest_s",
    "tul_s",
    "concentric_s",
    "hold_s",
    "eccentric_s",
)
EPS = 1e-6

EASIER: Mapping[str, Literal["less", "more", "same"]] = {
    "load_N": "less",
    "window_lo": "more",
    "window_hi": "less",
    "reps": "less",
    "sets": "less",
    "rest_s": "more",
    "tul_s": "less",
    "concentric_s": "same",
    "hold_s": "same",
    "eccentric_s": "same",
}
"""Where it gets easier. A tempo gets harder both ways: faster, or longer under load."""


def harder(quantity: str, old: float | None, new: float | None) -> bool:
    """Tell whether a value asks more than another; nothing said asks nothing.

    Examples
    --------
    >>> harder("load_N", 300.0, 305.0), harder("rest_s", 90.0, 60.0), harder("reps", None, 10)
    (True, True, False)
    """
    if old is None or new is None:
        return False
    match EASIER[quantity]:
        case "less":
            return new > old + EPS
        case "more":
            return new < old - EPS
    return abs(new - old) > EPS


def values_of(prescription: Prescription | None) -> Values:
    """Return what a prescription says of each quantity."""
    return {name: None if prescription is None else getattr(prescription, name) for name in QUANTITIES}


class SetSeen:
    """A set as it was told: its valid reps in order, their time under load, what was commanded in it."""

    def __init__(self, number: int, missing: int = 0) -> None:
        self.number = number
        self.received = self.invalid = 0
        self.missing = missing
        self.valid: list[str] = []
        self.peaks: list[float] = []
        self.tul_s = 0.0
        self.fired: list[str] = []
        self.is_ended = False

    def is_held(self, policy: Policy) -> bool:
        """Tell whether nothing may be decided from it (rule 4)."""
        many = self.received >= policy.hold_min_reps and self.invalid > policy.hold_invalid_fraction * self.received
        return many or self.missing > 0


class SessionSeen:
    """A session as it was told.

    `held` is what the machine says it holds; `window` the range without the limit that rule 5 sets for the day.
    """

    def __init__(self, name: str, exercise: str, side: Side, intent: Intent, settings: str) -> None:
        self.name, self.exercise, self.side, self.intent, self.settings = name, exercise, side, intent, settings
        self.patient: str | None = None
        self.started = False
        self.over = False
        self.held: Values = values_of(None)
        self.window: Values = {}
        self.told: Prescription | None = None
        self.pain: int | None = None
        self.rpe: int | None = None
        self.in_trouble = False
        self.missing = 0
        self.valid_reps = 0
        self.set: SetSeen | None = None
        self.between: list[str] = []
        self.tightened: dict[str, tuple[Change, ...]] = {}
        self.began_ms = 0

    @property
    def is_known(self) -> bool:
        """Whether its start was heard."""
        return self.started and self.patient is not None and self.told is not None

    def is_begun_by(self, message: SessionStarted) -> bool:
        """Tell whether a start is of this session: its name and patient and, once it was heard, its series."""
        mine, its = (self.exercise, self.side, self.intent, self.settings), message
        is_mine = self.name == its.session and self.patient in {None, its.patient}
        return is_mine and (not self.is_known or mine == (its.exercise, its.side, its.intent, its.settings))

    def hold(self, told: Prescription | None) -> None:
        """Take over the prescription that the machine says it holds."""
        self.told, self.held = told, values_of(told)
        self.window = dict(self.held)

    def change(self, command: Command) -> None:
        """Take over what the machine says it changed."""
        for one in command.changes:
            self.held[one.quantity] = one.new
            if command.rule != "rom_limit":
                self.window[one.quantity] = one.new


class SeriesSeen:
    """One exercise, side, setting and intent of a patient: what is in force, and how the sessions went.

    `is_heavier` says that the clinician's last word raised the load and nobody has trained with it yet.
    """

    def __init__(self, settled: Values) -> None:
        self.settled = settled
        self.proposed: Values | None = None
        self.is_widening = False
        self.is_heavier = False
        self.week: list[tuple[int, float]] = []
        self.sessions = 0
        self.clean = 0
        self.was_troubled = False
        self.trained_ms: int | None = None
        self.unknown: list[tuple[str, ...]] = []

    @property
    def in_force(self) -> Values:
        """The values of the last session, and less where less was prescribed since."""
        if self.proposed is None:
            return self.settled
        load_N, lower_N = self.settled["load_N"], self.proposed["load_N"]
        return self.settled | {"load_N": min(load_N or 0.0, lower_N or 0.0)}

    def week_low_N(self, now_ms: int) -> float:  # noqa: N802 - SI symbols keep their case
        """Return the lowest load in N prescribed in the last 7 days, or the one in force if it is lower."""
        return min([self.in_force["load_N"] or 0.0, *(load for at, load in self.week if at >= now_ms - 7 * DAY_MS)])


class PlanSeen:
    """What a clinician said about a patient, an exercise and a side."""

    def __init__(self) -> None:
        self.cap_N: float | None = None
        self.base: Prescription | None = None
        self.edited_ms: int | None = None
        self.reps_max: int | None = None
        self.tul_max_s: float | None = None
        self.series: dict[tuple[str, Intent], SeriesSeen] = {}

    def of(self, settings: str, intent: Intent) -> SeriesSeen:
        """Return a series; a new one begins no higher and no wider than the others have come down to."""
        found = self.series.get((settings, intent))
        if found is not None:
            return found
        values = values_of(self.base)
        for other in self.series.values():
            values["load_N"] = min(values["load_N"] or 0.0, other.in_force["load_N"] or 0.0)
            values = _within(values, other.settled)
        return SeriesSeen(values)

    def edited(self, message: ClinicianEdited, now_ms: int) -> None:
        """Take over a clinician's bounds; a prescription is in force at once, but a wider window is not."""
        for name, value in (("cap_N", message.load_cap_N), ("reps_max", message.reps_max)):
            if value is not None:
                setattr(self, name, value)
        if message.tul_max_s is not None:
            self.tul_max_s = message.tul_max_s
        if message.prescription is None:
            return
        self.base, self.edited_ms = message.prescription, now_ms
        for series in self.series.values():
            wanted = values_of(self.base)
            narrow = wanted if series.trained_ms is None else _within(wanted, series.settled)
            series.is_widening = narrow != wanted
            more = self.base.load_N > (series.in_force["load_N"] or 0.0)
            series.is_heavier = series.trained_ms is not None and (series.is_heavier or more)
            series.settled, series.proposed = narrow, None


def _within(values: Values, other: Values) -> Values:
    """Return values with the part of their window that lies within another one; all of it if nothing does."""
    lo, hi = values["window_lo"], values["window_hi"]
    its_lo, its_hi = other.get("window_lo"), other.get("window_hi")
    if its_lo is None or its_hi is None:
        return values
    if lo is None or hi is None:
        return values | {"window_lo": its_lo, "window_hi": its_hi}
    shared = (max(lo, its_lo), min(hi, its_hi))
    return values | {"window_lo": shared[0], "window_hi": shared[1]} if shared[0] < shared[1] else values


class MachineSeen:
    """A machine: its order, its lock, its session, and the commands that were sent to it.

    `boot_id` is the boot of the message that counts now: what waited of the last one counts before the next begins.
    `locked` is the place of the last STOP, which boot in order and where in it, and `stopped_in` that boot's name;
    `released` is where a clinician released it last.
    """

    def __init__(self, pain_stop: int) -> None:
        self.order = Order(pain_stop)
        self.boots = 0
        self.boot_id: str | None = None
        self.online = False
        self.capabilities: Capabilities | None = None
        self.locked: tuple[int, int] | None = None
        self.stopped_in = ""
        self.released = ("", -1)
        self.sequence = -1
        self.t_us: int | None = None
        self.session: SessionSeen | None = None
        self.pending: dict[str, Command] = {}
        self.asked: set[tuple[str, int]] = set()


class PatientSeen:
    """A patient: the last screening, the plans, and the sessions that named them."""

    def __init__(self) -> None:
        self.screening: Screening | None = None
        self.screened_at: str | None = None
        self.plans: dict[tuple[str, Side], PlanSeen] = {}
        self.clean_since_trouble: int | None = None

    def screen(self, outcome: Screening, machine: str) -> None:
        """Take over a screening, and at which machine it was told."""
        self.screening, self.screened_at = outcome, machine

    def trouble(self) -> None:
        """Start counting clean sessions, everywhere and from nothing."""
        self.clean_since_trouble = 0
        for plan in self.plans.values():
            for series in plan.series.values():
                series.clean, series.was_troubled = 0, True

    def series(self, plan: PlanSeen, settings: str, intent: Intent) -> SeriesSeen:
        """Return a series of a plan, and keep it; a new one is not free of what went wrong in others."""
        key = (settings, intent)
        if key not in plan.series:
            plan.series[key] = plan.of(settings, intent)
            plan.series[key].was_troubled = self.clean_since_trouble is not None and self.clean_since_trouble < 2
        return plan.series[key]

    def finished(self, session: SessionSeen, now_ms: int, policy: Policy) -> None:
        """Learn from a session that is over: what is in force, whether it was clean."""
        plan = self.plans.get((session.exercise, session.side))
        if plan is None or plan.base is None:
            return
        series = self.series(plan, session.settings, session.intent)
        if plan.edited_ms is None or plan.edited_ms < session.began_ms:
            _settle(series, session)  # an edit in the meantime stands above what the session shows
        trained_ms = session.began_ms or now_ms  # one that nobody ended may be over weeks later
        if series.trained_ms is not None and trained_ms - series.trained_ms > policy.gap_days[2] * DAY_MS:
            series.sessions, series.unknown = 0, []
        if session.valid_reps:
            series.sessions += 1
            series.trained_ms = max(trained_ms, series.trained_ms or trained_ms)
        calm = session.pain is not None and session.pain <= 2
        is_clean = calm and not session.missing and session.valid_reps > 0 and not session.in_trouble
        series.clean = series.clean + 1 if is_clean else 0
        if self.clean_since_trouble is not None:
            self.clean_since_trouble = self.clean_since_trouble + 1 if is_clean else 0
        unknown = {"pain": session.pain is None, "exertion": session.rpe is None, "messages": session.missing > 0}
        series.unknown = [*series.unknown, tuple(name for name, holds in unknown.items() if holds)][-2:]


def _settle(series: SeriesSeen, session: SessionSeen) -> None:
    """Put in force what was proposed, as far as the session shows that it was taken up."""
    asked = series.proposed or series.settled
    told = values_of(session.told)
    settled = dict(asked)
    for name in ("reps", "sets", "tul_s", "rest_s"):
        taken_up = told[name] is not None and not harder(name, told[name], asked[name])
        if harder(name, series.settled[name], asked[name]) and not taken_up:
            settled[name] = series.settled[name]
    shown_N = session.held["load_N"]
    was_N = series.settled["load_N"]
    settled["load_N"] = min(asked["load_N"] or 0.0, (was_N if shown_N is None else shown_N) or 0.0)
    if session.valid_reps:
        series.is_heavier = False
    narrowed = _within(settled, session.window)
    if narrowed != settled:
        series.is_widening = False
    series.settled, series.proposed = narrowed, None


def began(message: SessionStarted, asked: SessionSeen | None, now_ms: int) -> SessionSeen:
    """Return the session that begins, or goes on; what went wrong while it was waited for went wrong in it."""
    if asked is not None and asked.is_known:
        asked.pain = max((one for one in (asked.pain, message.pain_nrs) if one is not None), default=None)
        return asked
    session = SessionSeen(message.session, message.exercise, message.side, message.intent, message.settings)
    session.patient, session.started, session.began_ms = message.patient, True, now_ms
    session.hold(message.prescription)
    session.pain = message.pain_nrs
    if asked is not None:
        session.in_trouble, session.between, session.over = asked.in_trouble, asked.between, asked.over
        session.pain = max((one for one in (asked.pain, message.pain_nrs) if one is not None), default=None)
        session.rpe = asked.rpe
    return session
