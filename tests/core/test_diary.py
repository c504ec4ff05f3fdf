"""The diary of pain: one value a day and kind, the worse of two that contradict each other, and never too many."""

from hypothesis import given
from hypothesis import strategies as st

from streams.core import diary
from streams.core.diary import DAY_MS, MAX_ENTRIES, MAX_VISITS, Diary, Rise
from streams.core.policy import DEFAULT

TOLD = st.lists(st.tuples(st.floats(0.0, 60.0), st.integers(0, 10), st.booleans()), max_size=80)


def written(told: list[tuple[float, int, bool]]) -> Diary:
    book = Diary()
    for days, pain, is_morning in told:
        book = diary.with_pain(book, pain, round(days * DAY_MS), is_morning=is_morning)
    return book


@given(told=TOLD)
def test_a_diary_has_one_value_a_day_and_kind_in_order_of_days(told: list[tuple[float, int, bool]]) -> None:
    entries = written(told).entries
    assert len(entries) <= MAX_ENTRIES
    assert [one.day for one in entries] == sorted(one.day for one in entries)
    assert len({(one.day, one.is_morning) for one in entries}) == len(entries)


@given(told=TOLD, data=st.data())
def test_the_order_of_reports_within_the_bound_does_not_matter(
    told: list[tuple[float, int, bool]], data: st.DataObject
) -> None:
    told = told[: MAX_ENTRIES // 2]
    other = written(data.draw(st.permutations(told)))
    seen = {(one.day, one.is_morning): one.pain for one in written(told).entries}
    assert {(one.day, one.is_morning): one.pain for one in other.entries} == seen


@given(told=TOLD)
def test_writing_the_same_again_changes_nothing(told: list[tuple[float, int, bool]]) -> None:
    told = [(days, pain, morning) for days, pain, morning in told if days < 13.0]
    assert written(told + told) == written(told)


def test_a_diary_of_two_weeks_is_kept_whole() -> None:
    book = written([(float(day), day % 10, morning) for day in range(30) for morning in (True, False)])
    assert [one.day for one in book.entries] == sorted([*range(9, 30)] * 2)


@given(told=st.lists(st.tuples(st.floats(0.0, 60.0), st.booleans()), max_size=200))
def test_visits_are_bounded(told: list[tuple[float, bool]]) -> None:
    book = Diary()
    for days, is_visit in told:
        at_ms = round(days * DAY_MS)
        book = diary.with_visit(book, 1, at_ms) if is_visit else diary.with_pain(book, 1, at_ms, is_morning=True)
    assert len(book.visits) <= MAX_VISITS


def test_the_sessions_of_a_day_are_one_visit_and_older_ones_than_a_morning_can_ask_about_are_forgotten() -> None:
    book = Diary()
    for day in range(100):
        for number in range(6):
            book = diary.with_visit(book, 1 + number, day * DAY_MS + number * 600_000)
    assert [(one.at_ms // DAY_MS, one.before) for one in book.visits] == [(day, 1) for day in range(84, 100)]


def test_a_morning_between_two_sessions_of_a_day_is_that_after_the_first_one_only() -> None:
    book = diary.with_visit(Diary(), 3, 2 * 3_600_000)
    book = diary.with_pain(book, 4, 14 * 3_600_000, is_morning=True)
    book = diary.with_visit(book, 0, 16 * 3_600_000)
    assert diary.over_night(book, DAY_MS, 0, DEFAULT) == Rise(now=4, before=3)


def test_a_pain_of_last_week_does_not_stand_for_the_one_before_a_session() -> None:
    book = diary.with_visit(written([(0.0, 4, False)]), None, 8 * DAY_MS)
    assert book.visits[-1].before is None


def test_a_rise_is_forgotten_after_two_weeks() -> None:
    book = diary.with_visit(Diary(), 1, 0)
    book = diary.with_pain(book, 5, DAY_MS, is_morning=True)
    assert diary.over_night(book, 15 * DAY_MS, 0, DEFAULT) is not None
    assert diary.over_night(book, 15 * DAY_MS + 1, 0, DEFAULT) is None
