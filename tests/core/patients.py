"""A patient who comes to the clinic: facts for the planner, day by day, and what it answers."""

from typing import Any

import msgspec
from msgspec.structs import replace

from streams.core import muscles, planner
from streams.core.commands import Command
from streams.core.diary import DAY_MS
from streams.core.muscles import Catalogue
from streams.core.patient_state import PatientState
from streams.core.plans import PlanMade, PlanRecalled, ScreeningTold
from streams.core.policy import DEFAULT, Policy, digest
from streams.core.results import (
    Notice,
    PainReported,
    PatientAssessed,
    PatientFact,
    PatientScreened,
    PlanEdited,
    PlanRequested,
    SessionSummarised,
)
from streams.core.telemetry import Capabilities, Prescription

MACHINE = "acme/north/lumbar-1"
LUMBAR = Capabilities(
    model="lx-2",
    exercise="lumbar_extension",
    position_unit="rad",
    load_min_N=20.0,
    load_max_N=800.0,
    load_step_N=5.0,
    travel_lo=0.0,
    travel_hi=1.2,
)
BASE = Prescription(
    id="x", load_N=400.0, window_lo=0.1, window_hi=0.9, concentric_s=2.0, hold_s=1.0, eccentric_s=4.0, reps=10, sets=2
)
GOOD = {"rom_completeness_min_pct": 96.0, "tempo_error_median_pct": 8.0, "tul_last_set_s": 80.0}
"""Values of a paced session that earns progress together with one rep over the target."""

_DECODER = msgspec.msgpack.Decoder(PatientState)


def saved_and_restored(state: PatientState) -> PatientState:
    return _DECODER.decode(msgspec.msgpack.encode(state))


class Patient:
    """One patient's facts in order; the clock moves by hand, in days."""

    def __init__(self, policy: Policy = DEFAULT, machines: Catalogue = muscles.NONE, *, restarts: bool = False) -> None:
        self.state = planner.START
        self.day = 0.0
        self.facts: list[tuple[PatientFact, int]] = []
        self.said: list[PlanMade | Notice] = []
        self.assessed: list[PatientAssessed] = []
        self.screenings: list[ScreeningTold] = []
        self.recalls: list[PlanRecalled] = []
        self._policy = policy
        self._machines = machines
        self._restarts = restarts

    @property
    def now_ms(self) -> int:
        return 1_700_000_000_000 + round(self.day * DAY_MS)

    def take(self, fact: PatientFact, now_ms: int | None = None) -> tuple[PlanMade | Notice, ...]:
        at_ms = self.now_ms if now_ms is None else now_ms
        self.facts.append((fact, at_ms))
        state = saved_and_restored(self.state) if self._restarts else self.state
        self.state, outputs = planner.step(
            state, fact, fact.id, at_ms, self._policy, digest(self._policy), self._machines
        )
        self.assessed += [one for one in outputs if isinstance(one, PatientAssessed)]
        self.screenings += [one for one in outputs if isinstance(one, ScreeningTold)]
        self.recalls += [one for one in outputs if isinstance(one, PlanRecalled)]
        said = tuple(one for one in outputs if not isinstance(one, PatientAssessed | ScreeningTold | PlanRecalled))
        self.said += said
        return said

    def _usual(self, kind: str) -> dict[str, Any]:
        cause = f"{MACHINE}/b1/{len(self.facts)}"
        return {"id": f"{cause}/{kind}", "machine": MACHINE, "cause": cause, "at_ms": self.now_ms, "patient": "acme/p1"}

    def screen(self, outcome: Any = "clear") -> None:
        self.take(PatientScreened(**self._usual("screened"), outcome=outcome, by="dr-1"))

    def edit(self, prescription: Prescription | None = None, **fields: Any) -> None:
        usual = {"exercise": "lumbar_extension", "side": "both", "by": "dr-1", "load_cap_N": None, "guarded": None}
        self.take(PlanEdited(**(self._usual("edited") | usual | fields | {"prescription": prescription})))

    def hurts(self, pain_nrs: int, felt: Any = "next_morning") -> None:
        """Report a pain of this day."""
        self.take(PainReported(**self._usual("pain"), felt=felt, pain_nrs=pain_nrs))

    def ask(self, **fields: Any) -> tuple[PlanMade | Notice, ...]:
        usual = {
            "boot_id": "b1",
            "seq": len(self.facts),
            "session": f"s{len(self.facts)}",
            "exercise": "lumbar_extension",
            "side": "both",
            "intent": "paced",
            "settings": "seat-4",
            "capabilities": LUMBAR,
            "locked": False,
        }
        return self.take(PlanRequested(**(self._usual("requested") | usual | fields)))

    def plan(self, **fields: Any) -> Command:
        """Ask, and return the one command of the answer."""
        (made,) = [one for one in self.ask(**fields) if isinstance(one, PlanMade)]
        return made.command

    def train(self, load_N: float | None = 400.0, **fields: Any) -> None:
        """Train one good session that leaves room for more."""
        usual = {
            "session": f"s{len(self.facts)}",
            "exercise": "lumbar_extension",
            "side": "both",
            "intent": "paced",
            "settings": "seat-4",
            "prescription": BASE,
            "start_load_N": load_N,
            "load_N": load_N,
            "sets": 2,
            "reps": 21,
            "valid_reps": 21,
            "last_set_reps": 11,
            "all_sets_done": True,
            "incomplete": False,
            "pain_max": 1,
            "rpe_max": 6,
            "rules_fired": {},
            "ended_by": "done",
            "values": GOOD,
            "undefined": {"velocity_loss_max_pct": "wrong_intent"},
        }
        self.take(SessionSummarised(**(self._usual("session") | usual | fields)))

    def comes(self, days: float, **fields: Any) -> Command:
        """Come again after some days, ask, and do what is prescribed."""
        self.day += days
        command = self.plan()
        prescription = command.prescription
        assert prescription is not None
        told: dict[str, Any] = {"load_N": prescription.load_N, "prescription": prescription}
        self.train(**(told | {"last_set_reps": prescription.reps + 1} | fields))
        return command


def a_patient(cap_N: float | None = 600.0, base: Prescription = BASE, **fields: Any) -> Patient:
    """Return a patient who is screened and for whom a clinician has prescribed."""
    patient = Patient(**fields)
    patient.screen()
    patient.edit(base, load_cap_N=cap_N)
    return patient


def a_trained_patient(sessions: int = 3, **fields: Any) -> Patient:
    """Return a patient who has been through the learning phase with good sessions, two days apart."""
    patient = a_patient(**fields)
    for _ in range(sessions):
        patient.comes(2)
    patient.day += 2
    return patient


def load_of(command: Command) -> float:
    assert command.prescription is not None
    return command.prescription.load_N


def notices(outputs: tuple[PlanMade | Notice, ...]) -> list[str]:
    return [one.name for one in outputs if isinstance(one, Notice)]


def coarse(step_N: float) -> Capabilities:
    return replace(LUMBAR, load_step_N=step_N)
