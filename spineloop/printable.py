"""Printable: text of a sender as a terminal may have it; what is not printable could move the cursor or set a title."""

import json


def printable(text: str, keep: str = "") -> str:
    r"""Write what is not printable as its escape, except for the characters of `keep`.

    Examples
    --------
    >>> print(printable("a\x1b]0;title\x07 b\u202e"))
    a\x1b]0;title\x07 b\u202e
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else one.encode("unicode_escape").decode() for one in text)


def printable_json(raw: bytes) -> str:
    r"""Write JSON that means the same with escapes for what is not printable; line feeds between its parts stay.

    Examples
    --------
    >>> print(printable_json('{"a":"\x9b1m"}'.encode()))
    {"a":"\u009b1m"}
    """
    text = raw.decode()
    return "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)
