"""Course: how a patient's strength went from session to session in one series, in percent of the own baseline.

The first session is for learning the movement; the second one's value is the baseline. A window that changed by more
than 5 %, or a force that is corrected where it was not before, begins a new course (science.md 5).
"""

import msgspec
from msgspec.structs import replace

from streams.core import strength
from streams.core.policy import Policy
from streams.core.strength import Changed, NoDetectableChange, Trend

BASELINE_SESSION = 2
"""Which accepted session is the baseline: a second test tells more than a first one [literature: Kienbacher 2016]."""

WINDOW_BAND = 0.05
"""Share of its width by which the window may change within one course [default]."""

MAX_MARKS = 13
"""Sessions whose trend is kept: the most that `plateau_sessions` can ask for, and the one before them."""

DECIMALS = 6

Window = tuple[float, float]


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """Where the trend stood after a session, in percent of the baseline, and when that was, in ms."""

    at_ms: int
    trend_pct: float


class Course(msgspec.Struct, frozen=True, array_like=True):
    """Strength over sessions.

    `window` in m or rad and `corrected` are those of all its sessions. `sessions` counts the accepted ones that had a
    value, `baseline` is the value of the second in N or N m.
    """

    window: Window | None = None
    corrected: bool | None = None
    sessions: int = 0
    baseline: float | None = None
    trend: Trend = Trend()
    marks: tuple[Mark, ...] = ()

    @property
    def trend_pct(self) -> float | None:
        """The trend in percent of the baseline; None before there is one."""
        return self.marks[-1].trend_pct if self.marks else None


def is_same_window(one: Window | None, other: Window | None) -> bool:
    """Tell whether two windows are of one course.

    Examples
    --------
    >>> is_same_window((0.0, 1.0), (0.0, 1.05)), is_same_window((0.0, 1.0), (0.02, 1.04)), is_same_window(None, None)
    (True, False, True)
    """
    if one is None or other is None:
        return one is other
    moved = abs(other[0] - one[0]) + abs(other[1] - one[1])
    return round(moved - WINDOW_BAND * abs(one[1] - one[0]), DECIMALS) <= 0.0


def resumed(course: Course | None, window: Window | None, *, corrected: bool | None) -> Course:
    """Return the course that a session belongs to: the one so far, or a new one.

    A session that does not know whether its force is corrected had no accepted rep: it ends no course.
    """
    if course is not None and corrected in {None, course.corrected} and is_same_window(course.window, window):
        return course
    return Course(window, corrected)


def followed(course: Course, value: float, now_ms: int, typical_error_pct: float, policy: Policy) -> Course:
    """Add the strength of an accepted session; while the patient learns, the trend does not go down (S18).

    Parameters
    ----------
    course : Course
        The course so far.
    value : float
        Best peak force of the session's accepted reps, in N or N m.
    now_ms : int
        Log time in ms.
    typical_error_pct : float
        How much values scatter from day to day, in percent.
    policy : Policy
        Drift and learning.

    Examples
    --------
    >>> from streams.core.policy import DEFAULT
    >>> course = Course()
    >>> for force_N in (380.0, 400.0, 416.0, 412.0):
    ...     course = followed(course, force_N, 0, 6.0, DEFAULT)
    >>> course.baseline, [round(mark.trend_pct, 6) for mark in course.marks]
    (400.0, [100.0, 102.060606, 102.404562])
    """
    if value <= 0.0:
        return course
    course = replace(course, sessions=course.sessions + 1)
    if course.sessions < BASELINE_SESSION:
        return course
    baseline = value if course.baseline is None else course.baseline
    value_pct = 100.0 * value / baseline
    is_falling = bool(course.marks) and value_pct < course.trend.x
    if is_falling and course.sessions <= policy.learning_sessions:
        return course
    trend = course.trend.updated(value_pct, typical_error_pct, policy.trend_drift_pct)
    marks = (*course.marks, Mark(now_ms, round(trend.x, DECIMALS)))[-MAX_MARKS:]
    return replace(course, baseline=baseline, trend=trend, marks=marks)


def change(course: Course, typical_error_pct: float) -> Changed | NoDetectableChange | None:
    """Compare the trend with the baseline, in percent of it; None as long as nothing but the baseline is known."""
    if course.trend.n < BASELINE_SESSION:
        return None
    mdc_pct = strength.minimal_detectable_change(typical_error_pct)
    return strength.compared(course.trend_pct, 100.0, mdc_pct)
