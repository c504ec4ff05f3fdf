"""Wall: stop buttons and heartbeats of a tenant, while another one floods broker and bridge, and while it doesn't.

As root each scene (`loadtest.bench.neighbours`) has a network of its own, with packets as long as those of Ethernet:
loopback's of 64 kB are more than a connection brings at a time anywhere else. There it is done once more behind
the firewall.
"""

import asyncio
import json
import os
import shlex
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import cast

from loadtest.bench.report import Effort, Run
from loadtest.child import DidNotStart

ROUNDS, QUICK_ROUNDS = 8, 2

LIMIT_S = 240.0
"""Longest time in s for a scene; eight rounds need 90."""

NETWORK = "ip link set lo up mtu 1500"
"""What is said in a new network before anything starts there."""


async def wall(effort: Effort) -> AsyncGenerator[Run, None]:
    """Measure with one bridge for all and a bridge a tenant, without and with the firewall that is shipped."""
    bridges = {"one_bridge": "all", "own_bridge": "each"}
    firewalls = (False, True) if os.geteuid() == 0 else (False,)
    for _ in range(effort.runs):
        figures, wrong = dict[str, float](), list[str]()
        for firewall in firewalls:
            for which, bridge in bridges.items():
                name = f"{'firewall' if firewall else 'open'}_{which}"
                # What the open broker still holds of a flood would be in the next quiet phase, so there it comes once.
                rounds = 1 if not firewall else QUICK_ROUNDS if effort.quick else ROUNDS
                found = await _scene(str(rounds), bridge, *(["--firewall"] if firewall else []))
                figures |= {f"{name}_{figure}": value for figure, value in found.items()}
                # What the open flood does to others is what is measured; behind the firewall it may do nothing.
                if firewall:
                    lost = {what: found[what] for what in ("heartbeats_amiss", "unanswered") if found[what]}
                    wrong += [f"{name}: {what} {count:.0f}" for what, count in lost.items()]
        yield Run(figures, tuple(wrong))


async def _scene(*arguments: str) -> Mapping[str, float]:
    """Run a scene to its end, as root in a network of its own."""
    command: Sequence[str] = (sys.executable, "-m", "loadtest.bench.neighbours", *arguments)
    if os.geteuid() == 0:
        command = ("unshare", "--net", "bash", "-c", f"{NETWORK} && exec {shlex.join(command)}")
    scene = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        told, _ = await asyncio.wait_for(scene.communicate(), LIMIT_S)
    finally:
        if scene.returncode is None:
            scene.terminate()
            await scene.wait()
    if scene.returncode:
        raise DidNotStart(f"{shlex.join(arguments)}: the scene ended with {scene.returncode}")
    return cast("Mapping[str, float]", json.loads(told))
