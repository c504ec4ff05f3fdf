"""Errors, sorted by who must act."""


class Malformed(Exception):
    """The sender is wrong: keep the message as a dead letter, acknowledge it, go on."""

    def __init__(self, reason: str, detail: str = "") -> None:
        """Take the reason as one word of the field (``bad_topic``) and the detail as a sentence for a person."""
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Busy(Exception):
    """Not now: stop taking messages, then try the same one again."""


class BrokenPromise(Exception):
    """We are wrong: let the process end and restart from the last checkpoint."""
