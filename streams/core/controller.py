"""The controller: everything that one machine says, reduced to metrics, summaries and commands.

`prepare` decodes and measures a whole poll at once. `step` puts the messages of a machine into order (`boots`), lets
each change the session (`visit`, `reps`), asks the rules (`session_rules`) and lets the envelope judge every command
(`turn`); acknowledgements close them (`acknowledgements`).
"""

import zlib
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from streams.core import acknowledgements, boots, codec, policy, repair, visit
from streams.core.errors import Malformed
from streams.core.measure import Measured, measure
from streams.core.operators import OperatorAsked
from streams.core.outputs import quarantine_notice
from streams.core.plans import Answer, PlanMade, PlanRecalled, ScreeningTold
from streams.core.policy import Policy
from streams.core.records import Header, NewRecord, Record
from streams.core.session import Heard, MachineState
from streams.core.telemetry import Offline, Online, Rep, Telemetry
from streams.core.topics import CONTROLLER_STATE, TELEMETRY
from streams.core.turn import Turn

LARGE_BYTES = 16_384
"""A state above it is compressed, in bytes: half of what a state may have, and more than nearly all have."""

ZLIB_MARK = b"x"


class Arrival(msgspec.Struct, frozen=True):
    """One telemetry record, understood: its machine, its id, what it says, a rep's measurements, trace headers."""

    machine: str
    id: str
    message: Telemetry | Answer | OperatorAsked
    measured: Measured | None = None
    trace: tuple[Header, ...] = ()


class Controller:
    """The stage keyed by machine. Pure: it holds nothing but the policy."""

    name = "control"
    topic = TELEMETRY
    state_topic = CONTROLLER_STATE

    def __init__(self, chosen: Policy = policy.DEFAULT) -> None:
        self._policy = chosen
        self._digest = policy.digest(chosen)
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(MachineState).decode

    def prepare(self, records: Sequence[Record]) -> Sequence[Arrival | Malformed]:
        """Decode every record and measure all reps among them together."""
        arrivals = [_understand(record) for record in records]
        places = [n for n, one in enumerate(arrivals) if isinstance(one, Arrival) and isinstance(one.message, Rep)]
        reps: list[Rep] = [arrivals[n].message for n in places]  # type: ignore[union-attr, misc]  # just selected
        numbers = measure(reps, self._policy.tempo_fast_fraction)
        for n, rep, measured in zip(places, reps, numbers, strict=True):
            arrivals[n] = replace(arrivals[n], message=_without_samples(rep), measured=measured)  # type: ignore[type-var]
        return arrivals

    def start(self, key: bytes) -> MachineState:
        """Know nothing of a machine."""
        return MachineState(key.decode())

    def step(self, state: MachineState, item: Arrival, now_ms: int) -> tuple[MachineState, Sequence[NewRecord]]:
        """Reduce one arrival."""
        turn = Turn(state, now_ms, self._policy, self._digest, item.trace)
        match item.message:
            case Online() | Offline():
                boots.presence(turn, item.id, item.message)
            case PlanMade():
                boots.planned(turn, item.message)
            case ScreeningTold():
                boots.screening_told(turn, item.message)
            case PlanRecalled():
                visit.recalled(turn, item.message)
            case OperatorAsked():
                boots.asked(turn, item.message)
            case _:
                boots.ordered(turn, Heard(item.id, item.message, item.measured))
        visit.look_after_recalled(turn)
        acknowledgements.look_after_pending(turn, item.id)
        repair.look_after(turn, item.id)
        return turn.state, turn.records

    def save(self, state: MachineState) -> bytes:
        """Write a state; a large one is compressed, for most of it are ids that repeat each other."""
        saved = self._encode(state)
        return zlib.compress(saved) if len(saved) > LARGE_BYTES else saved

    def restore(self, saved: bytes) -> MachineState:
        """Read a state; a compressed one begins with its own mark, which no MessagePack array begins with."""
        return self._decode(zlib.decompress(saved) if saved[:1] == ZLIB_MARK else saved)

    def alarm(self, record: Record, detail: str) -> Sequence[NewRecord]:
        """Tell the operator that a machine's state is frozen."""
        return quarantine_notice(record, detail)


def _understand(record: Record) -> Arrival | Malformed:
    try:
        machine = record.key.decode()
        message = codec.decode_telemetry(machine, record.value or b"")
        trace = tuple(item for item in record.headers if item[0] == "traceparent")
        return Arrival(machine, _identity(machine, message), message, None, trace)
    except UnicodeDecodeError as error:
        return Malformed("bad_key", str(error))
    except Malformed as malformed:
        return malformed


def _identity(machine: str, message: Telemetry | Answer | OperatorAsked) -> str:
    match message:
        case PlanMade(command=command):
            return command.cause
        case ScreeningTold(cause=cause) | PlanRecalled(cause=cause) | OperatorAsked(cause=cause):
            return cause
        case _:
            return codec.message_id(machine, message)


def _without_samples(rep: Rep) -> Rep:
    return replace(rep, force=b"", position=b"", force_left=None, force_right=None)
