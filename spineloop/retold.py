"""Retold: a cut recording as what a machine would have said of it, and what the controller makes of that."""

from collections.abc import Iterator, Sequence

import msgspec
from msgspec.structs import replace

from streams.core import codec
from streams.core import telemetry as told
from streams.core.controller import Controller
from streams.core.errors import BrokenPromise, Malformed
from streams.core.excursions import Cut, Cuts, prescription
from streams.core.recording import UNNAMED, Protocol
from streams.core.records import Record
from streams.core.results import RepMeasured, SetSummarised
from streams.core.telemetry import Capabilities, Side
from streams.core.topics import METRIC, TELEMETRY

Said = told.Rep | told.Event

_LEAD_S = 1.0  # from the start of a set to that of its first rep


class Teller(msgspec.Struct, frozen=True, kw_only=True):
    """Who tells: machine and boot, patient, session, and a hash of how the machine was set."""

    machine: str = f"{UNNAMED}/{UNNAMED}/{UNNAMED}"
    boot_id: str = UNNAMED
    patient: str = f"{UNNAMED}/{UNNAMED}"
    session: str = UNNAMED
    settings: str = UNNAMED


def capabilities(cuts: Cuts, protocol: Protocol) -> Capabilities:
    """Describe a machine that can do just what was recorded."""
    travel = cuts.uniform.filtered[0]
    load_N = protocol.load_N or 1.0
    return Capabilities(
        model=UNNAMED,
        exercise=protocol.exercise,
        position_unit=cuts.position_unit,
        load_min_N=load_N,
        load_max_N=load_N,
        load_step_N=1.0,
        travel_lo=round(float(travel.min()), 3),
        travel_hi=round(float(travel.max()), 3),
    )


def sendable(cuts: Sequence[Cut]) -> list[Cut]:
    """Return what may go over the wire: not what is rejected whatever its message says."""
    return [one for one in cuts if one.reason is None]


def session(cuts: Cuts, reps: Sequence[Cut], protocol: Protocol, teller: Teller) -> list[Said]:
    """Tell a session of these reps, in the order of the device clock, which `t_us` shows; who sends it numbers it.

    A set begins before its first rep and ends with the message of its last one.
    """
    said = list(_session(cuts, reps, protocol, teller))
    latest_us, in_order = 0, []
    for message in said:
        latest_us = max(latest_us, message.t_us)
        in_order.append(replace(message, boot_id=teller.boot_id, t_us=latest_us))
    return in_order


def _session(cuts: Cuts, reps: Sequence[Cut], protocol: Protocol, teller: Teller) -> Iterator[Said]:
    sides = {one.rep.side for one in reps}
    side: Side = sides.pop() if len(sides) == 1 else "both"
    yield told.SessionStarted(
        boot_id="",
        seq=0,
        t_us=0,
        session=teller.session,
        patient=teller.patient,
        exercise=protocol.exercise,
        side=side,
        intent=protocol.intent,
        settings=teller.settings,
        prescription=prescription(protocol),
    )
    now_us = 0
    for one in cuts.sets:
        mine = [each for each in sendable(reps) if each.rep.set_number == one.number]
        if mine:
            now_us = mine[0].rep.t_us - round(1e6 * (mine[0].end_s - mine[0].start_s + _LEAD_S))
        yield told.SetStarted(
            boot_id="",
            seq=0,
            t_us=max(0, now_us),
            session=teller.session,
            set_number=one.number,
            load_N=protocol.load_N or 0.0,
        )
        for each in mine:
            yield replace(each.rep, session=teller.session, settings=teller.settings)
        now_us = mine[-1].rep.t_us if mine else now_us
        yield told.SetEnded(
            boot_id="",
            seq=0,
            t_us=max(0, now_us),
            session=teller.session,
            set_number=one.number,
            reps_done=len(mine),
        )
    yield told.SessionEnded(boot_id="", seq=0, t_us=max(0, now_us), session=teller.session)


class Heard(msgspec.Struct, frozen=True):
    """What the controller says of a session: of each rep, by set and number, and of its sets."""

    reps: dict[tuple[int, int], RepMeasured]
    sets: dict[int, SetSummarised]


def heard(cuts: Cuts, reps: Sequence[Cut], protocol: Protocol) -> Heard:
    """Let a controller of its own hear the session: its numbers are those of a live stream."""
    teller = Teller()
    controller = Controller()
    said = [replace(message, seq=seq) for seq, message in enumerate(session(cuts, reps, protocol, teller))]
    key = teller.machine.encode()
    records = [
        Record(TELEMETRY, 0, offset, key, codec.encode(message), message.t_us // 1_000)
        for offset, message in enumerate(said)
    ]
    state, answers = controller.start(key), []
    for record, item in zip(records, controller.prepare(records), strict=True):
        if isinstance(item, Malformed):
            raise BrokenPromise(f"a recording became a message that nobody accepts: {item}")
        state, new = controller.step(state, item, record.timestamp_ms)
        answers += [codec.decode_metric(one.value or b"") for one in new if one.topic == METRIC]
    return Heard(
        {(one.set_number, one.rep_number): one for one in answers if isinstance(one, RepMeasured)},
        {one.set_number: one for one in answers if isinstance(one, SetSummarised)},
    )
