"""Saying: when a machine said what, by its own watch. By that it knows how old the reason of a command is.

A machine's clock may be wrong by minutes, and set while it runs, so it does not hold a command's expiry against the
time of day, nor measure with it: its watch is the clock that it stamps messages with, which nobody sets. It said the
message that caused the command before anybody could decide anything from it; so the command is at most as old as that.
"""

from collections import OrderedDict

from streams.core.commands import Command

MAX_SAID = 4_096
"""Messages whose time is remembered: more than a machine says within the longest expiry of a command that moves it."""


class Saying:
    """The times in ms, by its own watch, at which one machine said its last messages. They survive a reboot."""

    def __init__(self) -> None:
        self._at_ms = OrderedDict[str, int]()  # a dict walks over all that it has lost at its front

    def note(self, message: str, watch_ms: int) -> None:
        """Remember when a message was said."""
        self._at_ms.setdefault(message, watch_ms)
        if len(self._at_ms) > MAX_SAID:
            self._at_ms.popitem(last=False)

    def log_time(self, command: Command, now_ms: int, watch_ms: int) -> int:
        """Return the latest that it can be now by the log's clock, in ms, as far as a command's cause tells.

        Of a cause that was not said here, or that nobody noted, the machine's own clock has to do; one that is
        forgotten is too old.

        Examples
        --------
        >>> from streams.core.commands import Evidence
        >>> saying = Saying()
        >>> saying.note("m/b1/7", watch_ms=1_000_000)  # by a watch that began anywhere
        >>> command = Command(
        ...     command_id="m/b1/7/rule", machine="a/b/m", boot_id="b1", sequence=56, action="lower_load", rule="rule",
        ...     cause="m/b1/7", evidence=(Evidence("m/b1/7", "n", 1),), policy="p",
        ...     issued_ms=100_000, expires_ms=130_000,
        ... )
        >>> saying.log_time(command, 0, watch_ms=1_029_000), saying.log_time(command, 0, watch_ms=1_030_000)
        (129000, 130000)
        """
        said_ms = self._at_ms.get(command.cause)
        if said_ms is not None:
            return command.issued_ms + watch_ms - said_ms
        return max(now_ms, command.expires_ms) if len(self._at_ms) >= MAX_SAID else now_ms
