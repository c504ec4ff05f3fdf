"""Workout: how long a session takes. Told to people, acted on by nobody."""

from streams.core.telemetry import Intent, Prescription

TYPICAL_REP_S = 4.0
"""Length of a repetition without a prescribed tempo in s: as fast as possible up, controlled down [default]."""

LONGEST_S = 3_600.0
"""Longest time that a prescription can tell, in s."""


def rep_s(prescription: Prescription, intent: Intent) -> float:
    """Return how long one repetition takes in s: its tempo, or the typical one where there is none.

    Examples
    --------
    >>> rep_s(Prescription(id="p", load_N=400.0, concentric_s=2.0, hold_s=1.0, eccentric_s=4.0), "paced")
    7.0
    """
    phases_s = (prescription.concentric_s, prescription.eccentric_s)
    if intent == "max" or None in phases_s:
        return TYPICAL_REP_S
    return sum(phase_s for phase_s in (*phases_s, prescription.hold_s) if phase_s is not None)


def session_s(prescription: Prescription, intent: Intent) -> float:
    """Return how long the sets of a prescription take in s, with the rests between them.

    A set lasts as long as its repetitions, or as long as the time under load that is aimed at.

    Parameters
    ----------
    prescription : Prescription
        Reps, sets, rest, and tempo or time under load.
    intent : str
        As fast as possible has no tempo.

    Examples
    --------
    >>> ten_twice = Prescription(id="p", load_N=400.0, reps=10, sets=2, rest_s=90.0)
    >>> session_s(ten_twice, "max")
    170.0
    """
    set_s = prescription.tul_s if prescription.tul_s is not None else prescription.reps * rep_s(prescription, intent)
    total_s = prescription.sets * set_s + (prescription.sets - 1) * prescription.rest_s
    return round(min(total_s, LONGEST_S), 1)
