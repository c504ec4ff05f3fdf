"""Requests: what the checker demands of a request to say messages again (S25)."""

from collections.abc import Iterator

from loadtest.campaign import grounds
from loadtest.campaign.scene import Scene, Violation


def violations(scene: Scene) -> Iterator[Violation]:
    """Judge a request that was sent for the first time, and note what it asks for."""
    for wrong in (*grounds.complete(scene), *grounds.policy(scene), *_moves(scene), *_asks(scene)):
        yield Violation("S25", f"{wrong}: {scene.command.command_id}")


def _moves(scene: Scene) -> Iterator[str]:
    command = scene.command
    if command.changes or command.prescription is not None or command.cue is not None or command.confirm:
        yield "it does something"
    if command.sequence:
        yield f"it has the sequence {command.sequence}"
    if command.expires_ms <= scene.now_ms:
        yield "expired when it was sent"


def _asks(scene: Scene) -> Iterator[str]:
    """Exactly what was given up is asked for, whole stretches of it, and once."""
    command, order = scene.command, scene.machine.order
    if command.missing is None:
        yield "it names no stretch"
        return
    first, last = command.missing.first_seq, command.missing.last_seq
    asked = {(command.boot_id, seq) for seq in range(first, last + 1)}
    if asked & scene.machine.asked:
        yield "asked for twice"
    scene.machine.asked |= asked
    if (first, last) not in order.gaps(command.boot_id):
        yield f"{first}..{last} is no stretch that was given up"
