"""Plan choice: what is to be prescribed. The first rule that holds names it; the lowest load that one asks for counts.

What eases is taken together from all rules that ask for it; what makes a session harder comes from one rule alone.
"""

from collections.abc import Iterable

import msgspec

from streams.core import progress_rules
from streams.core.commands import Change, Evidence
from streams.core.envelope import Known
from streams.core.invariants import CLEAN_SESSIONS
from streams.core.known import is_harder
from streams.core.plan_rules import PLAN_RULES
from streams.core.plan_situation import PlanSituation
from streams.core.policy import Policy
from streams.core.review_rules import strength_told
from streams.core.rule import Match
from streams.core.telemetry import Prescription

KEEP = "keep"
"""The rule's name when none holds: the next session is as the last one."""

RESTORE = "restore_sets"
"""The rule's name when a set that rule 3 took away comes back: it did so for one session, and S7 says when."""

DECREASES = frozenset({"pain_stop", "pain_next_morning", "return_after_gap"})
"""Rules 1, 3 and 17. Whatever one of them asks for counts, whichever names the plan."""


class Ask(msgspec.Struct, frozen=True):
    """One request with all that its answer depends on."""

    situation: PlanSituation
    now: Prescription
    policy: Policy
    digest: str
    known: Known


class Choice(msgspec.Struct, frozen=True):
    """What is to be prescribed: the rule, its evidence, what changes; and the rules that only propose something."""

    rule: str
    evidence: tuple[Evidence, ...]
    changes: tuple[Change, ...] = ()
    proposals: tuple[tuple[str, Match], ...] = ()
    eases_pain: bool = False

    @property
    def is_increase(self) -> bool:
        """Whether anything becomes harder."""
        return any(is_harder(one.quantity, one.old, one.new) for one in self.changes)


def choose(ask: Ask) -> Choice:
    """Ask every rule; those that propose are passed on, of the others the first acts and the rest are recorded."""
    held = [(row.id, match) for row in PLAN_RULES if (match := row.match(ask.situation, ask.policy)) is not None]
    proposals = tuple((name, match) for name, match in held if match.action is None)
    acting = [(name, match) for name, match in held if match.action is not None]
    decreases = [match.changes for name, match in acting if name in DECREASES]
    restored = () if decreases else _one_set_back(ask)
    if restored or not acting:
        evidence = (*kept(ask).evidence, *_also_true(ask, (name for name, _ in held)))
        return Choice(RESTORE if restored else KEEP, evidence, restored, proposals)
    rule, match = acting[0]
    also = _also_true(ask, (name for name, _ in held if name != rule))
    return Choice(
        rule,
        (*match.evidence, *strength_told(ask.situation, ask.policy), *also),
        _easiest(decreases) if decreases else match.changes,
        proposals,
        eases_pain=any(name == "pain_next_morning" for name, _ in acting),
    )


def _also_true(ask: Ask, names: Iterable[str]) -> tuple[Evidence, ...]:
    return tuple(Evidence(ask.situation.request.id, "also_true", name) for name in names)


def _easiest(asked: Iterable[tuple[Change, ...]]) -> tuple[Change, ...]:
    """Of all changes that ease, keep the one that eases most, for each quantity; less is easier for load and sets."""
    easiest: dict[str, Change] = {}
    for change in (one for changes in asked for one in changes):
        if change.quantity not in easiest or change.new < easiest[change.quantity].new:
            easiest[change.quantity] = change
    return tuple(easiest.values())


def _one_set_back(ask: Ask) -> tuple[Change, ...]:
    """Give back a set that the clinician prescribed and pain took away, after two clean sessions (S7)."""
    series, base = ask.situation.series, ask.situation.plan.base
    sets = series.sets
    if base is None or sets >= base.sets or series.clean < CLEAN_SESSIONS or series.goal is not None:
        return ()
    return (Change(quantity="sets", old=float(sets), new=float(sets + 1), bound=float(base.sets)),)


def kept(ask: Ask, why: tuple[Evidence, ...] = ()) -> Choice:
    """Choose what is in force, and show which conditions for more the last session did not meet."""
    situation, series = ask.situation, ask.situation.series
    told = situation.told(load_N=ask.now.load_N, sessions=float(series.sessions))
    for session in series.past[-1:]:
        unmet = progress_rules.unmet(session, series, ask.policy)
        told += tuple(Evidence(session.session, "unmet", name) for name in unmet)
    return Choice(KEEP, (*told, *strength_told(situation, ask.policy), *why))
