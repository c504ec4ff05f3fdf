"""Account: what was sent against what was found. A run in which they differ measured something else, and is void."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

_Id = TypeVar("_Id", bound=Hashable)


def differences(sent: Iterable[_Id], found: Iterable[_Id]) -> tuple[str, ...]:
    """Say what was lost, doubled, or never sent; nothing if every id was found exactly once.

    Examples
    --------
    >>> differences(["a", "b"], ["b", "a"])
    ()
    >>> differences(["a", "b", "c"], ["a", "a", "d"])
    ('2 of 3 lost, b for one', '1 doubled, a for one', '1 never sent, d for one')
    """
    wanted, there = Counter(sent), Counter(found)
    lost = [one for one in wanted if one not in there]
    doubled = [one for one in there if one in wanted and there[one] > wanted[one]]
    strange = [one for one in there if one not in wanted]
    told = ((f" of {len(wanted)} lost", lost), (" doubled", doubled), (" never sent", strange))
    return tuple(f"{len(some)}{what}, {some[0]} for one" for what, some in told if some)


def out_of_order(sent: Iterable[tuple[str, _Id]], found: Iterable[tuple[str, _Id]]) -> tuple[str, ...]:
    """Say in how many keys the ids that were found are not in the order in which they were sent.

    Examples
    --------
    >>> out_of_order([("m1", 1), ("m1", 2), ("m2", 1)], [("m2", 1), ("m1", 2), ("m1", 1)])
    ('1 keys out of order, m1 for one',)
    """
    wanted, there = _by_key(sent), _by_key(found)
    wrong = [key for key in wanted if key in there and there[key] != wanted[key]]
    return (f"{len(wrong)} keys out of order, {wrong[0]} for one",) if wrong else ()


def _by_key(pairs: Iterable[tuple[str, _Id]]) -> dict[str, Sequence[_Id]]:
    ids: defaultdict[str, list[_Id]] = defaultdict(list)
    for key, one in pairs:
        ids[key].append(one)
    return dict(ids)
