"""Board: the tiles of all machines, written once for everybody who looks, and what has changed since one looked."""

from collections import Counter, deque
from typing import Any

import msgspec

from dashboards.live import shown
from dashboards.live.view import View

AGAIN_MS = 1_000
"""How often a machine is looked at although nothing came from it: it may have fallen silent."""

MAX_GONE = 5_000
"""Machines that are told to have gone, the last ones; a browser hears of each within seconds, or else begins anew."""

_encode = msgspec.json.encode


class Board:
    """What everybody sees of the fleet.

    Attributes
    ----------
    version : int
        Grows with every change; what a browser has seen is named by it.
    """

    def __init__(self, view: View) -> None:
        self.version = 0
        self.states: Counter[str] = Counter()
        self._view = view
        self._tiles: dict[str, tuple[int, msgspec.Raw]] = {}
        self._gone: deque[tuple[int, str]] = deque(maxlen=MAX_GONE)
        self._alarms: tuple[int, msgspec.Raw, int] = (0, msgspec.Raw(b"[]"), 0)
        self._folded = -1
        self._all_ms = 0

    def refresh(self, now_ms: int) -> None:
        """Write the tiles that changed; from time to time look at all."""
        view = self._view
        is_due = abs(now_ms - self._all_ms) >= AGAIN_MS
        if view.version == self._folded and not is_due:
            return
        self.version += 1
        for one in view:
            if is_due or view.version_of(one.key) > self._folded:
                self._write(one.key, shown.tile(one, now_ms, view.policy))
        if is_due:
            self._all_ms = now_ms
            self.states = Counter(one.state(now_ms) for one in view)
            self._forget()
        listed, count = shown.alarms(view)
        raw = msgspec.Raw(_encode(listed))
        if raw != self._alarms[1] or count != self._alarms[2]:
            self._alarms = (self.version, raw, count)
        self._folded = view.version

    def _write(self, key: str, tile: dict[str, Any]) -> None:
        raw = msgspec.Raw(_encode(tile))
        if key not in self._tiles or self._tiles[key][1] != raw:
            self._tiles[key] = (self.version, raw)

    def _forget(self) -> None:
        """Drop the tiles of machines that the view has dropped."""
        for key in [key for key in self._tiles if key not in self._view]:
            del self._tiles[key]
            self._gone.append((self.version, key))

    def since(self, version: int) -> dict[str, Any]:
        """Return what has changed since a version; since 0 everything has."""
        tiles = [raw for changed, raw in self._tiles.values() if changed > version]
        told: dict[str, Any] = {"tiles": tiles} if tiles else {}
        gone = [key for changed, key in self._gone if changed > version > 0]
        if gone:
            told["gone"] = gone  # before the tiles: a machine may have come back
        changed, listed, count = self._alarms
        if changed > version or version == 0:
            told |= {"alarms": listed, "alarm_count": count}
        return told
