"""Timings: when each message was sent, and how long its machine waited for the command that it caused."""

import math
from collections import Counter, OrderedDict

from streams.core.commands import Command

MAX_SENT = 100_000
"""Messages whose time is remembered: at 10,000 a second, ten seconds in which their command can come."""


class Timings:
    """What only a watch can tell; all times are those of one monotonic clock, in s.

    Attributes
    ----------
    confirmed : Counter of str
        Messages that the broker has confirmed, by type; a copy counts again.
    refused : int
        Tries to send or to connect that had to be repeated.
    latencies_ms : dict of str to list of float
        By action: from the moment a message was first given to the client until the command that it caused arrived.

    Examples
    --------
    >>> timings = Timings()
    >>> timings.send("m/b/1", 10.0)
    >>> timings.percentile_ms(0.5) is None
    True
    """

    def __init__(self) -> None:
        self.confirmed: Counter[str] = Counter()
        self.refused = 0
        self.latencies_ms: dict[str, list[float]] = {}
        self._sent_s = OrderedDict[str, float]()  # a dict walks over all that it has lost at its front

    @property
    def reps(self) -> int:
        """Reps that the broker has confirmed."""
        return self.confirmed["rep"]

    def send(self, name: str, now_s: float) -> None:
        """Note that a message is given to the client; only the first time counts."""
        self._sent_s.setdefault(name, now_s)
        if len(self._sent_s) > MAX_SENT:
            self._sent_s.popitem(last=False)

    def receive(self, command: Command, now_s: float) -> None:
        """Note that a command has come; what caused it is taken off the list, so that a repetition is not measured."""
        sent_s = self._sent_s.pop(command.cause, None)
        if sent_s is not None:
            self.latencies_ms.setdefault(command.action, []).append(1_000.0 * (now_s - sent_s))

    def percentile_ms(self, share: float, action: str | None = None) -> float | None:
        """Return the latency in ms that this share of the commands did not exceed; None if there are none.

        Examples
        --------
        >>> timings = Timings()
        >>> timings.latencies_ms["stop"] = [3.0, 1.0, 2.0]
        >>> timings.percentile_ms(0.5), timings.percentile_ms(1.0, "stop")
        (2.0, 3.0)
        """
        chosen = [self.latencies_ms.get(action, [])] if action else self.latencies_ms.values()
        latencies = sorted(latency for each in chosen for latency in each)
        return latencies[max(0, math.ceil(share * len(latencies)) - 1)] if latencies else None
