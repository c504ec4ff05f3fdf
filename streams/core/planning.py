"""Planning: the planner as a stage, keyed by patient across machines."""

from collections.abc import Sequence

import msgspec

from streams.core import codec, muscles, patient_state, planner, policy
from streams.core.errors import Malformed
from streams.core.muscles import Catalogue
from streams.core.outputs import quarantine_notice, to_records
from streams.core.patient_state import PatientState
from streams.core.policy import Policy
from streams.core.records import Header, NewRecord, Record
from streams.core.results import PatientFact
from streams.core.topics import PATIENT, PLANNER_STATE


class Learned(msgspec.Struct, frozen=True):
    """One record of the patient topic, understood, with its trace headers."""

    fact: PatientFact
    trace: tuple[Header, ...] = ()


class Planner:
    """The stage keyed by patient. Pure: it holds nothing but the policy and what is known of machines."""

    name = "plan"
    topic = PATIENT
    state_topic = PLANNER_STATE

    def __init__(self, chosen: Policy = policy.DEFAULT, machines: Catalogue = muscles.NONE) -> None:
        self._policy = chosen
        self._machines = machines
        self._digest = policy.digest(chosen)
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(PatientState).decode

    def prepare(self, records: Sequence[Record]) -> Sequence[Learned | Malformed]:
        """Decode every record."""
        return [_understand(record) for record in records]

    def start(self, key: bytes) -> PatientState:  # noqa: ARG002 - every patient starts unknown
        """Know nothing of a patient."""
        return patient_state.START

    def step(self, state: PatientState, item: Learned, now_ms: int) -> tuple[PatientState, Sequence[NewRecord]]:
        """Take in one fact."""
        fact = item.fact
        state, outputs = planner.step(state, fact, fact.id, now_ms, self._policy, self._digest, self._machines)
        return state, [record for output in outputs for record in to_records(output, now_ms, item.trace)]

    def save(self, state: PatientState) -> bytes:
        """Write a state."""
        return self._encode(state)

    def restore(self, saved: bytes) -> PatientState:
        """Read a state."""
        return self._decode(saved)

    def alarm(self, record: Record, detail: str) -> Sequence[NewRecord]:
        """Tell the operator that a patient's state is frozen, at the machine that the fact came from.

        What can't be decoded names none: then its dead letter has to tell it.
        """
        try:
            (learned,) = self.prepare([record])
        except Exception:  # noqa: BLE001 - that may be the defect
            return ()
        return quarantine_notice(record, detail, learned.fact.machine) if isinstance(learned, Learned) else ()


def _understand(record: Record) -> Learned | Malformed:
    try:
        fact = codec.decode_patient_fact(record.value or b"")
    except Malformed as malformed:
        return malformed
    if fact.patient is None or fact.patient.encode() != record.key:
        return Malformed("foreign_patient", f"{fact.patient} under the key {record.key!r}")
    return Learned(fact, tuple(item for item in record.headers if item[0] == "traceparent"))
