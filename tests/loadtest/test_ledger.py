"""The ledger: what was lost, what took effect twice, how commands ended."""

from loadtest.truth import Ledger
from streams.core.telemetry import Ack, CommandApplied, CommandExpired, CommandRejected, Heartbeat, Rep

KEY = "demo/site-1/row-01"


def a_rep(seq: int) -> Rep:
    return Rep(
        boot_id="b1",
        seq=seq,
        t_us=seq,
        session="s1",
        set_number=1,
        rep_number=1,
        exercise="seated_row",
        load_N=100.0,
        settings="seat1",
        fs_hz=100.0,
        samples=2,
        force=b"0000",
        force_scale_N=0.1,
        position=b"0000",
        position_scale=1e-4,
    )


def test_a_rep_is_lost_if_it_was_published_and_never_measured() -> None:
    ledger = Ledger()
    for seq in (1, 2, 3):
        ledger.publish(KEY, a_rep(seq))
    ledger.publish(KEY, Heartbeat(boot_id="b1", seq=4, t_us=4))
    ledger.withhold(KEY, a_rep(5))
    assert ledger.reps_published == 3
    assert ledger.lost([f"{KEY}/b1/1", f"{KEY}/b1/3"]) == {f"{KEY}/b1/2"}


def test_a_duplicate_is_one_rep() -> None:
    ledger = Ledger()
    ledger.publish(KEY, a_rep(1))
    ledger.duplicate(KEY, a_rep(1))
    assert (ledger.reps_published, len(ledger.duplicated)) == (1, 1)


def test_an_effect_counts_as_duplicate_from_the_second_time_on() -> None:
    ledger = Ledger()
    ledger.effects.update({(KEY, "c1"): 1, (KEY, "c2"): 3})
    assert ledger.duplicate_effects == 1


def test_a_command_counts_once_by_its_first_answer() -> None:
    ledger = Ledger()
    acks: list[Ack] = [
        CommandApplied(boot_id="b1", seq=0, t_us=0, command_id="c1"),
        CommandApplied(boot_id="b1", seq=1, t_us=0, command_id="c1"),
        CommandRejected(boot_id="b1", seq=2, t_us=0, command_id="c2", reason="locked"),
        CommandExpired(boot_id="b1", seq=3, t_us=0, command_id="c3"),
    ]
    for ack in acks:
        ledger.answer(KEY, ack)
    assert ledger.outcomes() == {"applied": 1, "rejected: locked": 1, "expired": 1}
