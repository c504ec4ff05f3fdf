"""Order: puts the messages of one boot back into the order in which they were said.

Order and repetition are judged by `seq` alone, never by arrival. A message that comes too early waits a little for the
earlier one; when it has waited too long, or too many wait, the missing ones count as lost.
"""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from streams.core.session import LATE_MS, MAX_AHEAD, MAX_HELD, MAX_HOLES, Boot, Heard, Held


class Hole(msgspec.Struct, frozen=True):
    """So many messages before the one of that id were said and never came: those of the stretches [first, next)."""

    before: str
    count: int
    gaps: tuple[tuple[int, int], ...]


def is_repeated(boot: Boot, seq: int) -> bool:
    """Tell whether this place in the boot's sequence has been heard before."""
    if seq < boot.due:
        return not is_given_up(boot, seq)
    return seq in boot.ahead or any(held.heard.message.seq == seq for held in boot.held)


def is_given_up(boot: Boot, seq: int) -> bool:
    """Tell whether a message with this place was given up as lost."""
    return any(first <= seq < after for first, after in boot.holes)


def latest(boot: Boot) -> int:
    """Return the last place in the boot's sequence that was heard of, in turn or not; -1 before the first.

    Examples
    --------
    >>> latest(Boot("b1")), latest(Boot("b1", due=3, ahead=(7,)))
    (-1, 7)
    """
    return max(boot.due - 1, *boot.ahead, *(held.heard.message.seq for held in boot.held), -1)


def fill(boot: Boot, seq: int) -> Boot:
    """Note that a message which was given up has come after all."""
    holes: list[tuple[int, int]] = []
    for first, after in boot.holes:
        parts = [(first, seq), (seq + 1, after)] if first <= seq < after else [(first, after)]
        holes += [(start, stop) for start, stop in parts if start < stop]
    return replace(boot, holes=tuple(holes[-MAX_HOLES:]))


def is_next(boot: Boot, seq: int) -> bool:
    """Tell whether a message is the one that is due and nothing else waits, as nearly always."""
    return seq == boot.due and not boot.held and not boot.ahead


def place(boot: Boot, heard: Heard, now_ms: int) -> tuple[Boot, Sequence[Heard | Hole]]:
    """Take a message in; return what is due now, in order, with holes where messages were lost.

    Parameters
    ----------
    boot : Boot
        The order so far; `heard` must be neither a repetition nor given up.
    heard : Heard
        The message.
    now_ms : int
        Log time in ms.
    """
    if is_next(boot, heard.message.seq):
        return replace(boot, due=boot.due + 1), (heard,)
    waiting = sorted((*boot.held, Held(now_ms, heard)), key=lambda held: held.heard.message.seq)
    return release(replace(boot, held=tuple(waiting)), now_ms)


def place_now(boot: Boot, heard: Heard) -> tuple[Boot, Sequence[Hole]]:
    """Note that a message is acted on at once, ahead of what is missing before it; too many ahead give that up."""
    ahead = sorted((*boot.ahead, heard.message.seq))
    due, gaps = boot.due, list[tuple[int, int]]()
    while ahead and (ahead[0] <= due or len(ahead) > MAX_AHEAD):
        first = ahead.pop(0)
        if first > due:
            gaps += _gaps(due, first, [held.heard.message.seq for held in boot.held])
        due = max(due, first + 1)
    told = replace(boot, due=due, ahead=tuple(ahead), holes=(*boot.holes, *gaps)[-MAX_HOLES:])
    return told, _holes(heard, gaps)


def step_over(boot: Boot, heard: Heard) -> tuple[Boot, Sequence[Hole]]:
    """Take in a message of a boot that is over: nothing waits there, and what is missing before it is given up."""
    seq = heard.message.seq
    gaps = _gaps(boot.due, seq, boot.ahead)
    ahead = tuple(n for n in boot.ahead if n > seq)
    return replace(boot, due=seq + 1, ahead=ahead, holes=(*boot.holes, *gaps)[-MAX_HOLES:]), _holes(heard, gaps)


def _holes(before: Heard, gaps: Sequence[tuple[int, int]]) -> Sequence[Hole]:
    return [Hole(before.id, sum(after - first for first, after in gaps), tuple(gaps))] if gaps else []


def release(boot: Boot, now_ms: int, *, all_of_it: bool = False) -> tuple[Boot, Sequence[Heard | Hole]]:
    """Return what is due; with `all_of_it` nothing waits any longer."""
    held, due, holes, out = list(boot.held), boot.due, list(boot.holes), list[Heard | Hole]()
    while held:
        seq = held[0].heard.message.seq
        gaps = _gaps(due, seq, boot.ahead)
        if gaps:
            late = now_ms - min(one.since_ms for one in held) >= LATE_MS
            if not (late or len(held) > MAX_HELD or all_of_it):
                break
            out += _holes(held[0].heard, gaps)
            holes += gaps
        out.append(held.pop(0).heard)
        due = max(due, seq + 1)
    while due in boot.ahead:
        due += 1
    ahead = tuple(n for n in boot.ahead if n >= due)
    return replace(boot, held=tuple(held), due=due, ahead=ahead, holes=tuple(holes[-MAX_HOLES:])), out


def _gaps(due: int, seq: int, ahead: Sequence[int]) -> list[tuple[int, int]]:
    """Return the stretches from `due` up to `seq` that nobody has heard."""
    ends = [n for n in ahead if due <= n < seq] + [seq]
    starts = [due, *(n + 1 for n in ends[:-1])]
    return [(first, after) for first, after in zip(starts, ends, strict=True) if first < after]
