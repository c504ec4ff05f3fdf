"""Limits of every value that crosses the wire, as types that the decoder enforces.

A value outside its limit makes the whole message malformed. The limits are wide: they stop nonsense and attacks,
not unusual patients. NaN and infinity fail every one of them, because each has two ends.
"""

from typing import Annotated, Literal

from msgspec import Meta

MAX_MESSAGE_BYTES = 262_144
"""Largest payload in bytes, either way; the broker refuses more, and so does the decoder."""

MAX_SAMPLES = 40_000
"""Samples of one channel in one rep: 30 s of movement and its context at 1,000 Hz, with room."""

NAME = "[a-z0-9][a-z0-9_-]{0,62}"
"""What a tenant, a site, a machine or a pseudonym may be called; the pattern of a part of a text."""

_END = r"$(?!\n)"
"""The end of a text: `$` alone would let a line feed pass behind it."""

NAME_PATTERN = f"^{NAME}{_END}"

Name = Annotated[str, Meta(pattern=NAME_PATTERN, description="Lower-case name, at most 63 characters.")]
Token = Annotated[
    str, Meta(pattern=f"^[A-Za-z0-9][A-Za-z0-9_.:-]{{0,63}}{_END}", description="Opaque id, at most 64 characters.")
]
PatientKey = Annotated[
    str,
    Meta(
        pattern=f"^{NAME}/{NAME}{_END}",
        description="`tenant/pseudonym`; never a name, a birth date or a record number.",
    ),
]
MachineKey = Annotated[
    str,
    Meta(
        pattern=f"^{NAME}/{NAME}/{NAME}{_END}",
        description="`tenant/site/machine`.",
    ),
]
Id = Annotated[
    str, Meta(min_length=1, max_length=512, pattern=rf"^[\x21-\x7e]+{_END}", description="Derived id, ASCII.")
]

Counter64 = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Seq = Annotated[
    int,
    Meta(
        ge=0,
        le=2**53 - 1,
        description="0, 1, 2 within a boot; up to 2^53 - 1, which any JSON reader knows.",
    ),
]
SchemaVersion = Literal[1]

Force = Annotated[float, Meta(ge=-50_000.0, le=50_000.0, description="N, or N m where position is in rad.")]
Load = Annotated[float, Meta(ge=0.0, le=50_000.0, description="N, or N m where position is in rad.")]
LoadStep = Annotated[float, Meta(gt=0.0, le=10_000.0, description="N, or N m where position is in rad.")]
Position = Annotated[float, Meta(ge=-10.0, le=10.0, description="m or rad.")]
Scale = Annotated[float, Meta(gt=0.0, le=1_000.0, description="Physical units per count.")]
SampleRate = Annotated[float, Meta(ge=1.0, le=2_000.0, description="Hz.")]
Seconds = Annotated[float, Meta(ge=0.0, le=3_600.0, description="s.")]
SampleCount = Annotated[int, Meta(ge=2, le=MAX_SAMPLES)]
SampleIndex = Annotated[int, Meta(ge=0, le=MAX_SAMPLES)]
SetNumber = Annotated[int, Meta(ge=1, le=100)]
RepNumber = Annotated[int, Meta(ge=1, le=1_000)]
RepCount = Annotated[int, Meta(ge=0, le=1_000)]
RepTarget = Annotated[int, Meta(ge=1, le=200)]
SetTarget = Annotated[int, Meta(ge=1, le=20)]
Rating = Annotated[int, Meta(ge=0, le=10, description="0-10, as the patient said it.")]
Mass = Annotated[float, Meta(gt=0.0, le=10_000.0, description="kg, or kg m2 where position is in rad.")]
Speed = Annotated[float, Meta(gt=0.0, le=20.0, description="m/s or rad/s.")]
PerWeek = Annotated[float, Meta(gt=0.0, le=14.0, description="Sessions a week.")]
Days = Annotated[int, Meta(ge=1, le=365, description="Days.")]
Samples = Annotated[bytes, Meta(max_length=2 * MAX_SAMPLES, description="Little-endian int16.")]
