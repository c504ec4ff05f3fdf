"""Trouble: after what nothing rises until two clean sessions have followed (S7)."""

PAIN_CLEAN = 2
"""Highest pain that is no trouble."""

RULES = frozenset({"emergency_stop", "pain_stop", "pain_reduce"})
"""Rules 0-2: they speak of trouble, whether the session has started or not."""


def is_painful(pain_nrs: int | None) -> bool:
    """Tell whether a pain of 0-10 is trouble; one that nobody told is none.

    Examples
    --------
    >>> is_painful(3), is_painful(2), is_painful(None)
    (True, False, False)
    """
    return pain_nrs is not None and pain_nrs > PAIN_CLEAN
