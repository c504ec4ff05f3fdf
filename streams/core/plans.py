"""Plans: what the planner proposes to the controller, which alone issues commands (docs/decisions/0004)."""

import msgspec

from streams.core.adaptive import Model
from streams.core.baseline import Baseline
from streams.core.commands import Command
from streams.core.envelope import Known
from streams.core.limits import SchemaVersion
from streams.core.telemetry import Screening

FOR_SCREENING = "/screening"
"""Ends the id of a request that wants no plan, only to know how the patient was screened."""

OF_REQUEST = "/prescription"
"""Ends the id of a prescription; the request that it answers stands before it."""


class PlanMade(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="plan_made"):
    """The planner's answer to a session request: the command it wishes, and what it knows of the patient.

    `known` holds the planner's half of the facts that the envelope judges by; the controller adds the machine's half.
    `baseline` is what the patient's own accepted reps were like so far, at this load and tempo, `model` what
    the adaptive model has learned of them.
    """

    boot_id: str
    command: Command
    known: Known
    baseline: Baseline | None = None
    model: Model | None = None
    machine: str | None = None
    schema_version: SchemaVersion = 1

    @property
    def patient(self) -> None:
        """No patient is named: the session tells."""
        return


class ScreeningTold(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="screening_told"):
    """The planner's answer where it has no plan: how the patient of a session was screened (S23).

    Without it the controller allowed nothing but STOP, although a clinician has cleared the patient.
    """

    id: str
    boot_id: str
    machine: str
    cause: str
    session: str
    patient: str
    outcome: Screening
    schema_version: SchemaVersion = 1


class PlanRecalled(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="plan_recalled"):
    """The planner's word that the plan it made for `request` asks more than the patient may be asked by now.

    There was trouble since, here or at another machine. If its session still waits, the controller asks anew.
    """

    id: str
    machine: str
    cause: str
    request: str
    schema_version: SchemaVersion = 1

    @property
    def patient(self) -> None:
        """No patient is named: the session tells."""
        return


Answer = PlanMade | ScreeningTold | PlanRecalled
"""What the planner says to a controller, in the telemetry between what machines said."""
