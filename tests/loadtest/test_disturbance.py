"""Disturbance: as rough as its rates say, repeatable, and written down."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from loadtest.disturbance import UNDISTURBED, Disturbance, Disturbed, Rates, in_order_of_arrival
from loadtest.roster import assemble
from loadtest.truth import Ledger
from streams.core import telemetry as told
from streams.core.codec import encode, message_id
from streams.core.telemetry import Telemetry


def disturbed(rates: Rates, ledger: Ledger, seed: int = 7, steps: int = 2_000) -> list[Disturbed]:
    disturbance = Disturbance(assemble(seed, 1, ledger)[0], rates, seed, ledger)
    return [disturbance.step() for _ in range(steps)]


def arrivals(rates: Rates, ledger: Ledger, seed: int = 7, steps: int = 2_000) -> list[Telemetry]:
    return list(in_order_of_arrival(disturbed(rates, ledger, seed, steps)))


def sequence(words: list[Telemetry]) -> list[int]:
    return [word.seq for word in words if not isinstance(word, told.Presence)]


def test_undisturbed_messages_arrive_once_and_in_order() -> None:
    ledger = Ledger()
    words = arrivals(UNDISTURBED, ledger)
    assert sequence(words) == list(range(len(words) - 1))  # and one word of presence
    assert not ledger.withheld
    assert not ledger.duplicated
    assert not ledger.delayed


@given(seed=st.integers(0, 1_000))
@settings(max_examples=10, deadline=None)
def test_the_same_seed_disturbs_the_same_way(seed: int) -> None:
    rough = Rates(duplicate=0.1, reorder=0.1, late=0.1, lost=0.1, reboot=0.01, offline=0.01)
    one, two = (arrivals(rough, Ledger(), seed, steps=300) for _ in range(2))
    assert [encode(word) for word in one] == [encode(word) for word in two]


@given(seed=st.integers(0, 1_000))
@settings(max_examples=10, deadline=None)
def test_every_message_is_either_published_or_withheld_and_arrives_accordingly(seed: int) -> None:
    ledger = Ledger()
    words = arrivals(Rates(duplicate=0.1, reorder=0.1, late=0.1, lost=0.1, reboot=0.01), ledger, seed, steps=500)
    machine = "demo/site-1/lumbar-01"
    times = Counter(message_id(machine, word) for word in words if not isinstance(word, told.Presence))
    assert set(times) == set(ledger.published)
    assert {name for name, count in times.items() if count == 2} == ledger.duplicated
    assert not ledger.withheld.keys() & ledger.published.keys()
    assert set(times.values()) <= {1, 2}


@pytest.mark.parametrize("kind", ["duplicate", "reorder", "late", "lost"])
def test_each_kind_of_disturbance_is_as_frequent_as_its_rate(kind: str) -> None:
    ledger = Ledger()
    disturbed(replace(UNDISTURBED, **{kind: 0.05}), ledger, steps=10_000)
    counts = {
        "duplicate": len(ledger.duplicated),
        "reorder": len(ledger.delayed),
        "late": len(ledger.delayed),
        "lost": len(ledger.withheld),
    }
    assert 0.04 < counts[kind] / (len(ledger.published) + len(ledger.withheld)) < 0.06


def test_a_lost_message_is_a_hole_in_the_sequence() -> None:
    ledger = Ledger()
    seen = sequence(arrivals(replace(UNDISTURBED, lost=0.02), ledger))
    holes = set(range(max(seen))) - set(seen)
    assert holes
    assert holes <= {int(name.rsplit("/", 1)[-1]) for name in ledger.withheld}


def test_a_reordered_message_is_overtaken_by_a_few_others() -> None:
    seen = sequence(arrivals(replace(UNDISTURBED, reorder=0.02), Ledger()))
    assert sorted(seen) == list(range(len(seen)))
    overtaken_by = [abs(place - number) for place, number in enumerate(seen)]
    assert 1 <= max(overtaken_by) <= 12


def test_a_reboot_starts_a_boot_and_announces_it() -> None:
    ledger = Ledger()
    words = arrivals(replace(UNDISTURBED, reboot=0.01), ledger)
    boots = [word.boot_id for word in words if isinstance(word, told.Online)]
    assert len(boots) == 1 + ledger.reboots["demo/site-1/lumbar-01"] > 1
    assert len(set(boots)) == len(boots)


def test_while_the_link_is_down_messages_wait_and_then_come_in_order() -> None:
    ledger = Ledger()
    seen = sequence(arrivals(replace(UNDISTURBED, offline=0.01), ledger))
    assert seen == sorted(seen)
    assert ledger.delayed


def test_a_machine_goes_offline_when_all_that_it_had_to_say_is_out() -> None:
    ledger = Ledger()
    machine = assemble(7, 1, ledger)[0]
    disturbance = Disturbance(machine, Rates(late=0.5), seed=7, ledger=ledger)
    steps = [disturbance.step() for _ in range(50)]
    machine.finish()
    while not machine.done:
        steps.append(disturbance.step())
    assert isinstance(list(in_order_of_arrival(steps))[-1], told.Offline)


def test_the_default_rates_are_those_of_a_bad_day() -> None:
    rates = Rates()
    assert (rates.duplicate, rates.reorder, rates.late, rates.lost) == (0.01, 0.01, 0.005, 0.001)
