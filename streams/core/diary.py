"""Diary: the pain that a patient reports between sessions, and whether it rose over a night or over a week.

One entry a day and kind, the highest that was said: of two reports that contradict each other the worse one counts.
"""

from collections.abc import Iterable
from statistics import fmean

import msgspec
from msgspec.structs import replace

from streams.core.policy import Policy

DAY_MS = 86_400_000
WEEK_DAYS = 7

MAX_ENTRIES = 42
"""Two weeks, one value a day and one on the morning after a session, or two where UTC's midnight is in the morning."""

MORNING_MS = 36 * 3_600_000
"""How long after a session a morning is the one after it, in ms [default]: from an early session to a late riser."""

VALID_MS = 2 * WEEK_DAYS * DAY_MS
"""How long a rise of pain still asks for its cut, in ms [default]; after that rule 17 cuts for the absence."""

MIN_DAYS = 3
"""Days with an entry that make the mean of a week [default]."""

KEPT_MS = VALID_MS + MORNING_MS
"""How long a visit is kept, in ms: no morning that still asks for a cut is the one after an older one."""

MAX_VISITS = KEPT_MS // DAY_MS + 2 + MAX_ENTRIES
"""Visits at most: one on each of the days that are kept, and one more for each morning between two of a day."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """The highest pain of a day, 0-10, and when it was said; `day` counts from 1970."""

    day: int
    is_morning: bool
    pain: int
    at_ms: int


class Visit(msgspec.Struct, frozen=True, array_like=True):
    """When the last of a day's sessions began, in ms, and the least pain before one, None where nobody knows."""

    at_ms: int
    before: int | None


class Diary(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a patient's pain between sessions, in the order of days."""

    entries: tuple[Entry, ...] = ()
    visits: tuple[Visit, ...] = ()


class Rise(msgspec.Struct, frozen=True):
    """Pain, or its mean, now and before."""

    now: float
    before: float


def with_pain(diary: Diary, pain: int, now_ms: int, *, is_morning: bool) -> Diary:
    """Write down a pain of today; a lower one than was said today already changes nothing.

    Days are those of UTC, and where its midnight falls into the morning two mornings may be of one day: what was said
    of the morning before a session and of that after it are two.

    Examples
    --------
    >>> with_pain(with_pain(Diary(), 5, 100, is_morning=True), 2, 200, is_morning=True).entries
    (Entry(day=0, is_morning=True, pain=5, at_ms=100),)
    """
    new = Entry(now_ms // DAY_MS, is_morning, pain, now_ms)
    trained_ms = max((one.at_ms for one in diary.visits if one.at_ms <= now_ms), default=0)
    same = [
        one
        for one in diary.entries
        if (one.day, one.is_morning) == (new.day, new.is_morning) and not (is_morning and one.at_ms < trained_ms)
    ]
    if same and same[0].pain >= pain:
        return diary
    entries = sorted([*(one for one in diary.entries if one not in same), new], key=lambda one: one.day)
    return replace(diary, entries=tuple(entries[-MAX_ENTRIES:]))


def with_visit(diary: Diary, pain_start: int | None, now_ms: int) -> Diary:
    """Note a session with the pain at its start; if it was not asked, the last one of the diary stands for it.

    The sessions of a day are one visit. Nothing else is made one: a pain of long ago is not that before a later day.
    """
    known = [one.pain for one in diary.entries if 0 <= now_ms - one.at_ms <= WEEK_DAYS * DAY_MS]
    before = pain_start if pain_start is not None else known[-1] if known else None
    told = sorted((*diary.visits, Visit(now_ms, before)), key=lambda one: one.at_ms)
    visits: list[Visit] = []
    for one in told:
        if visits and _is_one_visit(diary, visits[-1], one):
            visits[-1] = _both(visits[-1], one)
        elif told[-1].at_ms - one.at_ms <= KEPT_MS:
            visits.append(one)
    return replace(diary, visits=tuple(visits))


def _is_one_visit(diary: Diary, one: Visit, other: Visit) -> bool:
    """Tell whether two visits are of one day, and no morning is after the one and before the other."""
    mornings = (entry.at_ms for entry in diary.entries if entry.is_morning)
    return one.at_ms // DAY_MS == other.at_ms // DAY_MS and not any(one.at_ms <= at < other.at_ms for at in mornings)


def _both(one: Visit, other: Visit) -> Visit:
    """Make one visit of two of a day, at the time of the later one and with the least pain before."""
    least = min((pain for pain in (one.before, other.before) if pain is not None), default=None)
    return Visit(max(one.at_ms, other.at_ms), least)


def over_night(diary: Diary, now_ms: int, since_ms: int, policy: Policy) -> Rise | None:
    """Return the largest rise from before a session to the morning after it, told later than `since_ms`.

    Of several sessions on one day the one with the least pain before it counts.

    Examples
    --------
    >>> from streams.core.policy import DEFAULT
    >>> diary = with_pain(with_visit(Diary(), 2, 1_000), 3, 60_000_000, is_morning=True)
    >>> over_night(diary, 70_000_000, 0, DEFAULT)
    Rise(now=3, before=2)
    """
    rises = []
    for entry in diary.entries:
        if not entry.is_morning or entry.at_ms <= since_ms or now_ms - entry.at_ms > VALID_MS:
            continue
        told = [one.before for one in diary.visits if 0 <= entry.at_ms - one.at_ms <= MORNING_MS]
        before = min((pain for pain in told if pain is not None), default=None)
        if before is not None and entry.pain - before >= policy.morning_rise:
            rises.append(Rise(entry.pain, before))
    return max(rises, key=lambda one: one.now - one.before, default=None)


def over_weeks(diary: Diary, now_ms: int, policy: Policy, since_ms: int = 0) -> Rise | None:
    """Return the means of the last 7 days and of the 7 before, if the pain rose from week to week.

    What was told later than `since_ms` must have risen by as much, too.
    """
    today = now_ms // DAY_MS
    last_days = range(today - WEEK_DAYS + 1, today + 1)
    now = _mean(diary.entries, last_days)
    later = _mean((one for one in diary.entries if one.at_ms > since_ms), last_days)
    before = _mean(diary.entries, range(today - 2 * WEEK_DAYS + 1, today - WEEK_DAYS + 1))
    if now is None or later is None or before is None or round(min(now, later) - before, 6) < policy.week_rise:
        return None
    return Rise(round(now, 6), round(before, 6))


def _mean(entries: Iterable[Entry], days: range) -> float | None:
    """Average the highest pain of each day; None if too few days are known."""
    highest: dict[int, int] = {}
    for one in entries:
        if one.day in days:
            highest[one.day] = max(one.pain, highest.get(one.day, 0))
    return fmean(highest.values()) if len(highest) >= MIN_DAYS else None
