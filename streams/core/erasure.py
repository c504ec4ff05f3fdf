"""Erasure: a patient's pseudonym in whatever mentions it, put out and replaced by a name that stands for nobody.

What was measured stays what it was: only the name changes, everywhere to the same, so that what is recomputed from it
is what was decided. Names are looked at as they are written: `acme/p1` is not in `acme/p10`, but it is in the id
`acme/p1/press/2`. So the machines of a site `acme/p1`, and a machine `umbra/acme/p1`, would be taken for the patient:
whoever erases looks for one first.
"""

import re
from typing import Any

import msgspec

from streams.core import codec
from streams.core.records import Header

_BEFORE, _AFTER = r"(?<![A-Za-z0-9_-])", r"(?![A-Za-z0-9_-])"


class Erasure:
    r"""One pseudonym, and what stands in its place from now on.

    Parameters
    ----------
    patient, alias : str
        `tenant/patient` both; the alias has to be one that nobody can take for another patient.

    Examples
    --------
    >>> erasure = Erasure("acme/p1", "acme/erased-0")
    >>> erasure.text("acme/p1 and acme/p10, acme/p1/press/2, /acme/p1")
    'acme/erased-0 and acme/p10, acme/erased-0/press/2, /acme/erased-0'
    >>> erasure.payload(b'{"patient":"acme\\/p1","pain":3}')
    b'{"patient":"acme/erased-0","pain":3}'
    """

    def __init__(self, patient: str, alias: str) -> None:
        self.patient, self.alias = patient, alias
        self._in_text = re.compile(_BEFORE + re.escape(patient) + _AFTER)
        self._in_bytes = re.compile((_BEFORE + re.escape(patient).replace("/", r"\\?/") + _AFTER).encode())
        self._name = patient.rpartition("/")[2].encode()

    def text(self, text: str) -> str:
        """Replace it in a text."""
        return self._in_text.sub(self.alias, text)

    def raw(self, some: bytes) -> bytes:
        """Replace it in bytes of which nothing else is known; some writers of JSON escape its slash."""
        return self._in_bytes.sub(self.alias.encode(), some)

    def payload(self, payload: bytes) -> bytes:
        """Replace it in a message of either encoding, or in what was to be one; all else keeps its bytes."""
        is_json = codec.is_json(payload)
        if self._name not in payload and not (is_json and b"\\" in payload):  # an escape could hide it
            return payload
        coder: Any = msgspec.json if is_json else msgspec.msgpack
        try:
            told = coder.decode(payload)
            new = self.anywhere(told)
            # A field that is told twice hides the first one: what is written anew has it once.
            return payload if new == told and self.raw(payload) == payload else bytes(coder.encode(new))
        except (ValueError, TypeError, RecursionError):  # no message: it came to the dead letters as it was
            return self.raw(payload)

    def headers(self, headers: tuple[Header, ...]) -> tuple[Header, ...]:
        """Replace it in the headers of a record."""
        return tuple((name, self.raw(value)) for name, value in headers)

    def anywhere(self, told: Any) -> Any:  # noqa: ANN401 - whatever a message or a state is made of
        """Replace it in every text inside a value; nothing is changed in place."""
        new: Any = told  # samples, numbers
        match told:
            case str():
                new = self.text(told)
            case dict():
                new = {self.anywhere(key): self.anywhere(value) for key, value in told.items()}
            case list():
                new = [self.anywhere(one) for one in told]
            case tuple():
                new = tuple(self.anywhere(one) for one in told)
            case msgspec.Struct():
                now = {field: getattr(told, field) for field in told.__struct_fields__}
                then = {field: self.anywhere(value) for field, value in now.items()}
                changed = {field: value for field, value in then.items() if value != now[field]}
                new = msgspec.structs.replace(told, **changed) if changed else told
        return new
