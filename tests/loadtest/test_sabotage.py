"""Sabotage: whoever changes the lines that keep a promise hears at once that its sabotage must follow."""

import ast

import pytest

from loadtest.chaos.sabotage import ROOT, SABOTAGES, Sabotage


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda one: one.promise)
def test_the_lines_of_each_promise_stand_where_it_says_and_without_them_it_is_still_python(sabotage: Sabotage) -> None:
    spoiled = sabotage.spoiled()
    assert spoiled != (ROOT / sabotage.file).read_text(encoding="utf-8")
    ast.parse(spoiled)
    assert all((ROOT / test).exists() for test in sabotage.tests)


def test_lines_that_stand_nowhere_are_told() -> None:
    gone = Sabotage("a promise", "streams/partition.py", "no such line", "", ())
    with pytest.raises(ValueError, match="no longer has the lines of 'a promise'"):
        gone.spoiled()
