"""Stories: what a simulated fleet says while nobody answers, in the order of its clocks, with reps as in the budgets.

The fleet's own reps follow a calm tempo: 550 samples on average, on some machines of four channels. The budgets speak
of reps of 300 samples and 1.3 kB, so here everybody moves 2.25 times as fast, and both sides share one load cell.
"""

import heapq
from collections.abc import Iterator
from itertools import islice

import msgspec
import numpy as np
from msgspec.structs import replace

from loadtest.movement import CONTEXT_SAMPLES
from loadtest.roster import assemble
from loadtest.truth import Ledger
from streams.core import codec
from streams.core.records import MSGPACK_TYPE, NewRecord, cloud_event
from streams.core.telemetry import ClinicianEdited, Prescription, Rep, SessionStarted, Telemetry
from streams.core.topics import TELEMETRY

QUICKER = 2.25


class Said(msgspec.Struct, frozen=True):
    """One message, its machine and the log time at which it comes, in ms."""

    machine: str
    message: Telemetry
    at_ms: int


def story(seed: int, machines: int, tenant: str, start_ms: int = 0, spread_s: float = 0.0) -> Iterator[Said]:
    """Tell what the machines of a tenant say from `start_ms` on, in ms since 1970, for ever.

    They begin one after the other within `spread_s`, in s; those that begin at once rest at the same time.

    Examples
    --------
    >>> [said.machine for said in islice(story(seed=7, machines=2, tenant="acme"), 2)]
    ['acme/site-1/lumbar-01', 'acme/site-1/flexion-01']
    """
    fleet = assemble(seed, machines, Ledger(), tenant=tenant)
    moments = [(spread_s * number / machines, number) for number in range(machines)]
    while moments:
        at_s, number = moments[0]
        step = fleet[number].step()
        heapq.heapreplace(moments, (at_s + step.delay_s, number))
        if step.message is not None:
            yield Said(fleet[number].key, quickened(step.message), start_ms + round(1_000 * at_s))


def record(said: Said) -> NewRecord:
    """Write a message into the log as the bridge does."""
    headers = cloud_event(
        ce_id=codec.message_id(said.machine, said.message),
        ce_type=codec.ce_type(said.message),
        source=said.machine,
        time_ms=said.at_ms,
        content_type=MSGPACK_TYPE,
    )
    return NewRecord(TELEMETRY, said.machine.encode(), codec.encode(said.message), said.at_ms, headers)


def reps(seed: int, count: int) -> list[Rep]:
    """Return the first reps of a story of a hundred machines."""
    told = (said.message for said in story(seed, machines=100, tenant="demo"))
    return list(islice((message for message in told if isinstance(message, Rep)), count))


def quickened(message: Telemetry) -> Telemetry:
    """Let a message tell of a movement that was `QUICKER`, and prescribed so; its context stays 0.5 s on both sides."""
    if isinstance(message, Rep):
        return _quickened_rep(message)
    if isinstance(message, SessionStarted | ClinicianEdited):
        return replace(message, prescription=_quickened_tempo(message.prescription))
    return message


def _quickened_rep(rep: Rep) -> Rep:
    last = rep.samples - 1
    within = np.arange(CONTEXT_SAMPLES, last - CONTEXT_SAMPLES, QUICKER)
    at = np.concatenate((np.arange(CONTEXT_SAMPLES), within, np.arange(last - CONTEXT_SAMPLES + 1, last + 1)))
    return replace(
        rep,
        samples=len(at),
        force=_picked(rep.force, at),
        position=_picked(rep.position, at),
        force_left=None,
        force_right=None,
        marks=None if rep.marks is None else tuple(int(np.searchsorted(at, mark)) for mark in rep.marks),
        prescription=_quickened_tempo(rep.prescription),
    )


def _picked(channel: bytes, at: np.ndarray[tuple[int], np.dtype[np.float64]]) -> bytes:
    counts = np.frombuffer(channel, "<i2")
    picked: bytes = np.rint(np.interp(at, np.arange(len(counts)), counts)).astype("<i2").tobytes()
    return picked


def _quickened_tempo(ordered: Prescription | None) -> Prescription | None:
    if ordered is None:
        return None
    times_s = {name: getattr(ordered, name) for name in ("concentric_s", "hold_s", "eccentric_s")}
    return replace(ordered, **{name: time_s and time_s / QUICKER for name, time_s in times_s.items()})
