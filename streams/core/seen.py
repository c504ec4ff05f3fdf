"""Seen: what a machine is doing, said when that changes and once in each minute of its own clock."""

from streams.core.results import MachineMode, MachineSeen
from streams.core.session import MachineState
from streams.core.turn import Turn

MINUTE_US = 60_000_000
"""How often a machine that does nothing new is told of, in us of the device clock. By the log's clock two runs of the
same messages would differ; by the machine's own, silence stays silence."""


def mode(state: MachineState) -> MachineMode:
    """Tell what a machine is doing; what is most urgent comes first.

    Examples
    --------
    >>> mode(MachineState("acme/north/m1")), mode(MachineState("acme/north/m1", online=True))
    ('offline', 'idle')
    """
    session = state.session
    if state.locked:
        return "locked"
    if not state.online:
        return "offline"
    if session is None:
        return "idle"
    if not session.started:
        return "requested"
    return "resting" if session.set is None else "lifting"


def tell(turn: Turn, before: MachineState, cause: str, key: str = "") -> None:
    """Say what the machine is doing if that is new since `before`, or if a minute of its clock has passed.

    `key` tells causes apart that have no `seq` of their own.
    """
    state, session = turn.state, turn.session
    if state is before or state.boot is None or _shown(state) == _shown(before):
        return
    turn.say(
        MachineSeen(
            id=f"{cause}/seen/{mode(state)}{key and '/'}{key}",
            machine=state.machine,
            cause=cause,
            at_ms=turn.now_ms,
            mode=mode(state),
            online=state.online,
            boot_id=state.boot.boot_id,
            session=None if session is None else session.id,
            patient=None if session is None else session.patient,
        )
    )


def _shown(state: MachineState) -> tuple[MachineMode, bool, int]:
    boot = state.boot
    minute = 0 if boot is None or boot.t_us is None else boot.t_us // MINUTE_US
    return mode(state), state.online, minute
